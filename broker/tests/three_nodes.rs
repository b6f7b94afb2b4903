//! Several nodes of one cluster on simulated machines, over one object store.

#![allow(clippy::unwrap_used)]

#[path = "three_nodes/quorum.rs"]
mod quorum;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use broker::client::{Cluster, Error, FetchLimits, PartitionInfo, Settings};
use broker::config::Config;
use broker::{Node, NodeParts, Status};
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use object_store::memory::InMemory;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, InitProducerIdRequest,
    StrBytes, TopicName,
};
use protocol::{BatchBuilder, Response};
use tokio::time::{Instant, sleep, timeout};

const VOTERS: &str = "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093";
const PATIENCE: Duration = Duration::from_secs(60);

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

/// The machines, and what runs on them.
struct Nodes {
    network: SimNetwork,
    hosts: BTreeMap<u8, SimHost>,
    running: BTreeMap<u8, Node>,
    store: Arc<InMemory>,
    /// Of those that have another one.
    stores: BTreeMap<u8, Arc<InMemory>>,
    wal: &'static str,
}

// === impl Nodes ===

impl Nodes {
    fn new(seed: u64, wal: &'static str) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let host = |node: u8| {
            let seed = seed * 100 + u64::from(node);
            SimHost::new(seed, &network, &format!("n{node}"), ip(node))
        };
        Self {
            hosts: (1..=5).map(|node| (node, host(node))).collect(),
            network,
            running: BTreeMap::new(),
            store: Arc::default(),
            stores: BTreeMap::new(),
            wal,
        }
    }

    async fn start(&mut self, node: u8) {
        self.start_with(node, &[]).await;
    }

    async fn start_with(&mut self, node: u8, more: &[(&str, &str)]) {
        let (id, admin) = (node.to_string(), format!("10.0.0.{node}:9644"));
        let listeners = format!("PLAINTEXT://10.0.0.{node}:9092,CONTROLLER://10.0.0.{node}:9093");
        let mut settings = vec![
            ("node.id", id.as_str()),
            ("data.dir", "/data"),
            ("listeners", listeners.as_str()),
            ("admin.listen", admin.as_str()),
            ("controller.quorum.voters", VOTERS),
            ("object.store.url", "/given/by/the/parts"),
            ("wal.backend", self.wal),
            ("offsets.topic.num.partitions", "5"),
            ("shutdown.timeout.ms", "3000"),
        ];
        if node > 3 {
            settings.retain(|(name, _)| *name != "controller.quorum.voters");
        }
        settings.extend_from_slice(more);
        let store = self.stores.get(&node).unwrap_or(&self.store);
        let parts = NodeParts {
            store: Some((store.clone(), String::new())),
            ..NodeParts::default()
        };
        let config = Config::with(&settings).unwrap();
        let started = Node::start(self.hosts[&node].env(), config, parts).await;
        self.running.insert(node, started.unwrap());
    }

    async fn begun(seed: u64, wal: &'static str) -> Self {
        let mut nodes = Self::new(seed, wal);
        for node in 1..=3 {
            nodes.start(node).await;
        }
        for node in nodes.running.values() {
            timeout(PATIENCE, node.ready()).await.unwrap().unwrap();
        }
        nodes
    }

    /// The process dies; what it had synced stays.
    fn kill(&mut self, node: u8) {
        self.hosts[&node].disk.power_loss();
        self.network.kill_host(ip(node));
        self.running.remove(&node);
    }

    async fn ready(&self, node: u8) {
        let ready = self.running[&node].ready();
        timeout(PATIENCE, ready).await.unwrap().unwrap();
    }

    async fn status(&self, node: u8, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.running[&node].status();
        let found = status.wait_for(|status| wanted(status));
        timeout(PATIENCE, found).await.unwrap().unwrap().clone()
    }

    /// A client that knows only `node`.
    fn client(&self, node: u8) -> Cluster {
        let mut env = self.hosts[&5].env();
        env.net = self.network.host("client", IpAddr::from([10, 0, 1, 1]));
        let settings = Settings {
            client_id: "test".to_owned(),
            timeout: Duration::from_secs(40),
        };
        Cluster::new(env, vec![SocketAddr::new(ip(node), 9092)], settings)
    }

    /// Which node leads the controllers: all must agree.
    fn controllers_leader(&self) -> u8 {
        let mut leaders = BTreeSet::new();
        for node in self.running.values() {
            leaders.extend(node.controllers_leader());
        }
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        u8::try_from(leaders.pop_first().unwrap().0).unwrap()
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn create(client: &mut Cluster, name: &str, partitions: i32) -> i16 {
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let Response::CreateTopics(answer) = client.call(request).await.unwrap() else {
        panic!("another answer");
    };
    answer.topics[0].error_code
}

fn batch(value: &str) -> bytes::Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(1, None, Some(value.as_bytes()), &[]);
    builder.build().unwrap()
}

/// As clients do: again while the leader is not there yet.
async fn produce(client: &mut Cluster, topic: &str, partition: i32, value: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tried = match info(client, topic, partition).await {
            Ok(info) => client.produce(topic, info, batch(value), 10_000).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(offset) => return offset,
            Err(error) => {
                assert!(Instant::now() < deadline, "{topic}-{partition}: {error}");
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn info(client: &mut Cluster, topic: &str, partition: i32) -> Result<PartitionInfo, Error> {
    let found = client.topic(topic).await?;
    Ok(found.partitions[usize::try_from(partition).unwrap()])
}

async fn read(client: &mut Cluster, topic: &str, partition: i32) -> Vec<String> {
    let info = info(client, topic, partition).await.unwrap();
    let limits = FetchLimits {
        max_wait_ms: 100,
        max_bytes: 1 << 20,
    };
    let fetched = client.fetch(topic, info, 0, limits).await.unwrap();
    let mut values = Vec::new();
    let value = |record: &protocol::Record<'_>| {
        values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    };
    fetched.for_each(0, value).unwrap();
    values
}

#[tokio::test(start_paused = true)]
async fn three_nodes_are_one_cluster() {
    for wal in ["disk", "object"] {
        let nodes = Nodes::begun(1, wal).await;
        let mut ids = BTreeSet::new();
        for node in 1..=3 {
            let mut client = nodes.client(node);
            let asked = client
                .call(DescribeClusterRequest::default())
                .await
                .unwrap();
            let Response::DescribeCluster(answer) = asked else {
                panic!("another answer");
            };
            let brokers: Vec<i32> = answer.brokers.iter().map(|b| b.broker_id.0).collect();
            assert_eq!(brokers, [1, 2, 3], "told by {node}");
            ids.insert(answer.cluster_id.to_string());
        }
        assert_eq!(ids.len(), 1, "{ids:?}");
        // Made through one, written and read through all.
        assert_eq!(create(&mut nodes.client(2), "t", 6).await, 0);
        let leaders: BTreeSet<i32> = {
            let topic = nodes.client(3).topic("t").await.unwrap();
            topic.partitions.iter().map(|p| p.leader).collect()
        };
        assert_eq!(leaders, BTreeSet::from([1, 2, 3]));
        for partition in 0..6 {
            let node = u8::try_from(partition % 3 + 1).unwrap();
            let mut client = nodes.client(node);
            let value = format!("{wal}-{partition}");
            assert_eq!(produce(&mut client, "t", partition, &value).await, 0);
            let mut client = nodes.client(node % 3 + 1);
            assert_eq!(read(&mut client, "t", partition).await, [value]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ids_names_and_coordinators_are_the_clusters() {
    let nodes = Nodes::begun(2, "object").await;
    let mut ids = BTreeSet::new();
    let mut coordinators = BTreeSet::new();
    for node in 1..=3 {
        let mut client = nodes.client(node);
        for _ in 0..3 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let Response::InitProducerId(answer) = client.call(request).await.unwrap() else {
                panic!("another answer");
            };
            assert_eq!(answer.error_code, 0);
            assert!(ids.insert(answer.producer_id.0), "given twice");
        }
        // Made by whoever is asked first, and known to all.
        for group in 0..20 {
            let coordinator = client.coordinator(&format!("g{group}")).await.unwrap();
            coordinators.insert((group, coordinator));
        }
        let again = create(&mut client, "t", 1).await;
        assert_eq!(
            again,
            if node == 1 { 0 } else { 36 },
            "TOPIC_ALREADY_EXISTS"
        );
    }
    assert_eq!(coordinators.len(), 20, "{coordinators:?}");
    let spread: BTreeSet<i32> = coordinators.iter().map(|(_, node)| *node).collect();
    assert_eq!(spread, BTreeSet::from([1, 2, 3]));
    // Deleted through one, gone for all.
    let topic = DeleteTopicState::default().with_name(Some(TopicName(text("t"))));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    nodes.client(2).call(request).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for node in 1..=3 {
        assert!(nodes.client(node).topic("t").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_the_others_and_says_so() {
    let mut nodes = Nodes::new(3, "disk");
    nodes.start(1).await;
    let says = |status: &Status| {
        matches!(status, Status::Starting(why)
            if why.contains("no quorum") && why.contains("voter 2"))
    };
    nodes.status(1, says).await;
    nodes.start(2).await;
    // All must answer before a cluster is made: none of them may belong to another.
    sleep(Duration::from_secs(30)).await;
    nodes
        .status(1, |status| matches!(status, Status::Starting(_)))
        .await;
    nodes.start(3).await;
    for node in 1..=3 {
        nodes.ready(node).await;
    }
    // One that is alone after a restart waits too, and goes on when a second one comes.
    for node in 1..=3 {
        nodes.kill(node);
    }
    nodes.start(2).await;
    sleep(Duration::from_secs(45)).await;
    let alone = nodes.status(2, |_| true).await;
    assert!(
        matches!(&alone, Status::Starting(why) if why.contains("no quorum")),
        "{alone:?}"
    );
    nodes.start(3).await;
    nodes.ready(2).await;
    nodes.ready(3).await;
}

#[tokio::test(start_paused = true)]
async fn commands_go_on_without_the_leader_of_the_controllers() {
    let mut nodes = Nodes::begun(4, "object").await;
    let leader = nodes.controllers_leader();
    nodes.kill(leader);
    let other = leader % 3 + 1;
    let mut client = nodes.client(other);
    let begun = Instant::now();
    assert_eq!(create(&mut client, "after", 1).await, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    nodes.start(leader).await;
    nodes.ready(leader).await;
    assert_eq!(produce(&mut nodes.client(leader), "after", 0, "x").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_quorum_is_waited_for_and_nothing_acknowledged_is_lost() {
    for wal in ["disk", "object"] {
        let mut nodes = Nodes::begun(5, wal).await;
        assert_eq!(create(&mut nodes.client(1), "t", 3).await, 0);
        for partition in 0..3 {
            produce(&mut nodes.client(1), "t", partition, "before").await;
        }
        nodes.kill(1);
        nodes.kill(2);
        let lapsed = |status: &Status| matches!(status, Status::Interrupted(_));
        nodes.status(3, lapsed).await;
        // For longer than anybody waits for one answer.
        sleep(Duration::from_secs(45)).await;
        let state = nodes.status(3, |_| true).await;
        assert!(
            matches!(state, Status::Interrupted(_) | Status::Starting(_)),
            "{state:?}"
        );
        nodes.start(1).await;
        nodes.start(2).await;
        for node in 1..=3 {
            nodes.ready(node).await;
        }
        for partition in 0..3 {
            let mut client = nodes.client(3);
            assert_eq!(produce(&mut client, "t", partition, "after").await, 1);
            assert_eq!(read(&mut client, "t", partition).await, ["before", "after"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_stop_in_order_and_come_back() {
    let mut nodes = Nodes::begun(6, "object").await;
    assert_eq!(create(&mut nodes.client(1), "t", 6).await, 0);
    for partition in 0..6 {
        produce(&mut nodes.client(2), "t", partition, "kept").await;
    }
    let stopping = std::mem::take(&mut nodes.running);
    let stopped = stopping.into_values().map(Node::stop);
    for stopped in futures::future::join_all(stopped).await {
        stopped.unwrap();
    }
    for node in 1..=3 {
        nodes.start(node).await;
    }
    for node in 1..=3 {
        nodes.ready(node).await;
    }
    for partition in 0..6 {
        assert_eq!(
            produce(&mut nodes.client(3), "t", partition, "more").await,
            1
        );
        assert_eq!(
            read(&mut nodes.client(3), "t", partition).await,
            ["kept", "more"]
        );
    }
}

/// Whoever stops last has nobody left to commit with: it waits for nobody, and loses nothing.
#[tokio::test(start_paused = true)]
async fn the_last_of_three_to_stop_waits_for_no_quorum() {
    for (seed, wal) in [(11, "disk"), (12, "object")] {
        for last in 1..=3 {
            let mut nodes = Nodes::new(seed, wal);
            for node in 1..=3 {
                nodes
                    .start_with(node, &[("shutdown.timeout.ms", "30000")])
                    .await;
            }
            for node in 1..=3 {
                nodes.ready(node).await;
            }
            assert_eq!(create(&mut nodes.client(1), "t", 6).await, 0);
            for partition in 0..6 {
                produce(&mut nodes.client(2), "t", partition, "kept").await;
            }
            let (dead, first) = (last % 3 + 1, (last + 1) % 3 + 1);
            nodes.kill(dead);
            let stopping = nodes.running.remove(&first).unwrap();
            stopping.stop().await.unwrap();
            let stopping = nodes.running.remove(&last).unwrap();
            let begun = Instant::now();
            stopping.stop().await.unwrap();
            let took = begun.elapsed();
            println!("{wal}, {last} last: {took:?}");
            assert!(took <= Duration::from_secs(2), "{took:?}");
            for node in 1..=3 {
                nodes.start(node).await;
            }
            for node in 1..=3 {
                nodes.ready(node).await;
            }
            let mut client = nodes.client(last);
            for partition in 0..6 {
                assert_eq!(produce(&mut client, "t", partition, "more").await, 1);
                assert_eq!(read(&mut client, "t", partition).await, ["kept", "more"]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_alone_votes_and_leads_nothing_else() {
    let mut nodes = Nodes::new(7, "object");
    nodes.start(1).await;
    nodes.start(2).await;
    let controller = ("process.roles", "controller");
    let listener = ("listeners", "CONTROLLER://10.0.0.3:9093");
    nodes.start_with(3, &[controller, listener]).await;
    for node in 1..=3 {
        nodes.ready(node).await;
    }
    assert!(nodes.running[&3].kafka().is_empty());
    let mut client = nodes.client(1);
    assert_eq!(create(&mut client, "t", 4).await, 0);
    let leaders: BTreeSet<i32> = {
        let topic = client.topic("t").await.unwrap();
        topic.partitions.iter().map(|p| p.leader).collect()
    };
    assert_eq!(leaders, BTreeSet::from([1, 2]));
    // With it, one broker and itself are a quorum.
    nodes.kill(1);
    assert_eq!(create(&mut nodes.client(2), "u", 1).await, 0);
    // Without the other, it says that there is none.
    nodes.kill(2);
    let lost = |status: &Status| matches!(status, Status::Interrupted(_));
    nodes.status(3, lost).await;
    nodes.start(2).await;
    nodes.ready(2).await;
    nodes.ready(3).await;
    let node = nodes.running.remove(&3).unwrap();
    timeout(PATIENCE, node.stop()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_with_another_store_takes_no_part() {
    let mut nodes = Nodes::new(8, "object");
    nodes.stores.insert(2, Arc::default());
    for node in 1..=3 {
        nodes.start(node).await;
    }
    nodes.ready(1).await;
    nodes.ready(3).await;
    let asks = |status: &Status| matches!(status, Status::Starting(why) if why.contains("object.store.url the same"));
    nodes.status(2, asks).await;
    // It recovers nobody, and votes all the same.
    assert_eq!(create(&mut nodes.client(1), "t", 4).await, 0);
    for partition in 0..4 {
        produce(&mut nodes.client(1), "t", partition, "kept").await;
    }
    nodes.kill(1);
    for partition in 0..4 {
        let mut client = nodes.client(3);
        assert_eq!(produce(&mut client, "t", partition, "more").await, 1);
        assert_eq!(read(&mut client, "t", partition).await, ["kept", "more"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_a_voter_serves_as_the_others_do() {
    let mut nodes = Nodes::begun(9, "object").await;
    let alone = [
        ("process.roles", "broker"),
        ("listeners", "PLAINTEXT://10.0.0.4:9092"),
        // One of them is not there.
        (
            "controller.quorum.bootstrap.servers",
            "10.0.0.9:9093,10.0.0.2:9093",
        ),
    ];
    nodes.start_with(4, &alone).await;
    nodes.ready(4).await;
    assert_eq!(nodes.running[&4].controller(), None);
    let mut client = nodes.client(4);
    assert_eq!(create(&mut client, "t", 8).await, 0);
    let topic = client.topic("t").await.unwrap();
    let leaders: BTreeSet<i32> = topic.partitions.iter().map(|p| p.leader).collect();
    assert_eq!(leaders, BTreeSet::from([1, 2, 3, 4]));
    for partition in 0..8 {
        assert_eq!(produce(&mut client, "t", partition, "a").await, 0);
    }
    // Whoever leads the controllers may die: it finds the next one.
    let leader = nodes.controllers_leader();
    nodes.kill(leader);
    assert_eq!(create(&mut client, "u", 1).await, 0);
    nodes.start(leader).await;
    nodes.ready(leader).await;
    // It waits for a quorum as voters do, and resumes.
    for node in 1..=3 {
        nodes.kill(node);
    }
    let lapsed = |status: &Status| matches!(status, Status::Interrupted(_));
    nodes.status(4, lapsed).await;
    sleep(Duration::from_secs(45)).await;
    for node in 1..=3 {
        nodes.start(node).await;
    }
    for node in 1..=4 {
        nodes.ready(node).await;
    }
    for partition in 0..8 {
        let mut client = nodes.client(4);
        assert_eq!(produce(&mut client, "t", partition, "b").await, 1);
        assert_eq!(read(&mut client, "t", partition).await, ["a", "b"]);
    }
    // Killed, and back with the same directory; then stopped in order.
    nodes.kill(4);
    nodes.start_with(4, &alone).await;
    nodes.ready(4).await;
    let node = nodes.running.remove(&4).unwrap();
    timeout(PATIENCE, node.stop()).await.unwrap().unwrap();
}
