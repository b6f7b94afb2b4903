//! Nodes and clients of two zones, on simulated machines.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use broker::client::{Cluster, Settings};
use broker::config::Config;
use broker::{Node, NodeParts};
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use object_store::memory::InMemory;
use protocol::Response;
use protocol::messages::{
    DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, StrBytes,
};
use tokio::time::timeout;

const VOTERS: &str = "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093";
const PATIENCE: Duration = Duration::from_secs(120);
/// Of nodes 1, 2 and 3.
const RACKS: [&str; 3] = ["a", "b", "a"];

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

struct Nodes {
    network: SimNetwork,
    hosts: BTreeMap<u8, SimHost>,
    running: BTreeMap<u8, Node>,
    store: Arc<InMemory>,
}

// === impl Nodes ===

impl Nodes {
    async fn begun(seed: u64, more: &[(&str, &str)]) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let host = |node: u8| {
            let seed = seed * 100 + u64::from(node);
            SimHost::new(seed, &network, &format!("n{node}"), ip(node))
        };
        let mut nodes = Self {
            hosts: (1..=3).map(|node| (node, host(node))).collect(),
            network,
            running: BTreeMap::new(),
            store: Arc::default(),
        };
        for node in 1..=3 {
            nodes.start(node, more).await;
        }
        for node in nodes.running.values() {
            timeout(PATIENCE, node.ready()).await.unwrap().unwrap();
        }
        nodes
    }

    async fn start(&mut self, node: u8, more: &[(&str, &str)]) {
        let (id, admin) = (node.to_string(), format!("10.0.0.{node}:9644"));
        let listeners = format!("PLAINTEXT://10.0.0.{node}:9092,CONTROLLER://10.0.0.{node}:9093");
        let advertised = format!("PLAINTEXT@b://n{node}.b.example:1909{node}");
        let mut settings = vec![
            ("node.id", id.as_str()),
            ("broker.rack", RACKS[usize::from(node) - 1]),
            ("data.dir", "/data"),
            ("listeners", listeners.as_str()),
            ("advertised.listeners", advertised.as_str()),
            ("admin.listen", admin.as_str()),
            ("controller.quorum.voters", VOTERS),
            ("object.store.url", "/given/by/the/parts"),
            ("wal.backend", "object"),
            ("wal.object.puts.per.second", "1000"),
            ("offsets.topic.num.partitions", "5"),
            ("shutdown.timeout.ms", "10000"),
            ("balancer.enable", "false"),
        ];
        settings.extend_from_slice(more);
        let parts = NodeParts {
            store: Some((self.store.clone(), String::new())),
            ..NodeParts::default()
        };
        let config = Config::with(&settings).unwrap();
        let started = Node::start(self.hosts[&node].env(), config, parts).await;
        self.running.insert(node, started.unwrap());
    }

    /// A client that knows `node`, and calls itself `client_id`.
    fn client(&self, node: u8, client_id: &str) -> Cluster {
        let mut env = self.hosts[&node].env();
        env.net = self.network.host("client", IpAddr::from([10, 0, 1, 1]));
        let settings = Settings {
            client_id: client_id.to_owned(),
            timeout: Duration::from_secs(40),
        };
        Cluster::new(env, vec![SocketAddr::new(ip(node), 9092)], settings)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_zone_are_told_its_addresses() {
    let nodes = Nodes::begun(1, &[]).await;
    for node in 1..=3u8 {
        for (client_id, tagged) in [
            ("test", false),
            ("test,zone=a", false),
            ("test,zone=b", true),
        ] {
            let mut client = nodes.client(node, client_id);
            let told = |node: i32| match tagged {
                true => format!("n{node}.b.example:{}", 19090 + node),
                false => format!("10.0.0.{node}:9092"),
            };
            let request = DescribeClusterRequest::default();
            let Response::DescribeCluster(answer) = client.call(request).await.unwrap() else {
                panic!("another answer");
            };
            assert_eq!(answer.brokers.len(), 3);
            for broker in &answer.brokers {
                let id = broker.broker_id.0;
                assert_eq!(format!("{}:{}", &*broker.host, broker.port), told(id));
                assert_eq!(broker.rack.as_deref(), Some(RACKS[id as usize - 1]));
            }
            let request = MetadataRequest::default().with_topics(Some(Vec::new()));
            let Response::Metadata(answer) = client.call(request).await.unwrap() else {
                panic!("another answer");
            };
            assert_eq!(answer.brokers.len(), 3);
            for broker in &answer.brokers {
                let id = broker.node_id.0;
                assert_eq!(format!("{}:{}", &*broker.host, broker.port), told(id));
                assert_eq!(broker.rack.as_deref(), Some(RACKS[id as usize - 1]));
            }
            let request =
                FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
            let Response::FindCoordinator(answer) = client.call(request).await.unwrap() else {
                panic!("another answer");
            };
            let found = &answer.coordinators[0];
            assert_eq!(found.error_code, 0, "{:?}", found.error_message);
            assert_eq!(
                format!("{}:{}", &*found.host, found.port),
                told(found.node_id.0)
            );
        }
    }
}
