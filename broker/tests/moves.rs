//! Partitions that move between nodes of one cluster, on simulated machines, under load.

#![allow(clippy::unwrap_used)]

#[path = "moves/admin.rs"]
mod admin;
#[path = "moves/measured.rs"]
mod measured;
#[path = "moves/opening.rs"]
mod opening;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::client::{Cluster, FetchLimits, Settings};
use broker::config::Config;
use broker::{Node, NodeParts};
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, ElectLeadersRequest,
    GroupId, HeartbeatRequest, JoinGroupRequest, ListPartitionReassignmentsRequest, StrBytes,
    SyncGroupRequest, TopicName,
};
use protocol::{BatchBuilder, Response};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const VOTERS: &str = "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093";
const PATIENCE: Duration = Duration::from_secs(60);

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

struct Nodes {
    network: SimNetwork,
    hosts: BTreeMap<u8, SimHost>,
    running: BTreeMap<u8, Node>,
    /// Answers at once, until it is told otherwise.
    store: Arc<ThrottledStore<InMemory>>,
    balancer: &'static str,
}

// === impl Nodes ===

impl Nodes {
    async fn begun(seed: u64) -> Self {
        Self::balanced(seed, "false").await
    }

    async fn balanced(seed: u64, balancer: &'static str) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let host = |node: u8| {
            let seed = seed * 100 + u64::from(node);
            SimHost::new(seed, &network, &format!("n{node}"), ip(node))
        };
        let mut nodes = Self {
            hosts: (1..=3).map(|node| (node, host(node))).collect(),
            network,
            running: BTreeMap::new(),
            store: Arc::new(ThrottledStore::new(
                InMemory::new(),
                ThrottleConfig::default(),
            )),
            balancer,
        };
        for node in 1..=3 {
            nodes.start(node).await;
        }
        for node in nodes.running.values() {
            timeout(PATIENCE, node.ready()).await.unwrap().unwrap();
        }
        nodes
    }

    async fn start(&mut self, node: u8) {
        let (id, admin) = (node.to_string(), format!("10.0.0.{node}:9644"));
        let listeners = format!("PLAINTEXT://10.0.0.{node}:9092,CONTROLLER://10.0.0.{node}:9093");
        let settings = [
            ("node.id", id.as_str()),
            ("data.dir", "/data"),
            ("listeners", listeners.as_str()),
            ("admin.listen", admin.as_str()),
            ("controller.quorum.voters", VOTERS),
            ("object.store.url", "/given/by/the/parts"),
            ("wal.backend", "object"),
            ("wal.object.puts.per.second", "1000"),
            ("offsets.topic.num.partitions", "5"),
            ("shutdown.timeout.ms", "10000"),
            ("balancer.enable", self.balancer),
            ("balancer.interval.ms", "4000"),
        ];
        let parts = NodeParts {
            store: Some((self.store.clone(), String::new())),
            ..NodeParts::default()
        };
        let config = Config::with(&settings).unwrap();
        let started = Node::start(self.hosts[&node].env(), config, parts).await;
        self.running.insert(node, started.unwrap());
    }

    async fn stop(&mut self, node: u8) {
        let stopping = self.running.remove(&node).unwrap();
        timeout(PATIENCE, stopping.stop()).await.unwrap().unwrap();
    }

    async fn come_back(&mut self, node: u8) {
        self.start(node).await;
        let ready = self.running[&node].ready();
        timeout(PATIENCE, ready).await.unwrap().unwrap();
    }

    /// The process dies; what it had synced stays.
    fn kill(&mut self, node: u8) {
        self.hosts[&node].disk.power_loss();
        self.network.kill_host(ip(node));
        self.running.remove(&node);
    }

    fn client(&self, node: u8) -> Cluster {
        self.client_at(node, 1)
    }

    fn client_at(&self, node: u8, client: u8) -> Cluster {
        let mut env = self.hosts[&node].env();
        let at = IpAddr::from([10, 0, 1, client]);
        env.net = self.network.host(&format!("c{client}"), at);
        let settings = Settings {
            client_id: "test".to_owned(),
            timeout: Duration::from_secs(40),
        };
        let nodes = (0..3).map(|n| SocketAddr::new(ip((node - 1 + n) % 3 + 1), 9092));
        Cluster::new(env, nodes.collect(), settings)
    }

    async fn leaders(&self, topic: &str) -> BTreeSet<i32> {
        let found = self.client(1).topic(topic).await.unwrap();
        found.partitions.iter().map(|p| p.leader).collect()
    }

    /// Starts a writer for each partition, which writes one record after the other.
    fn write(&self, topic: &'static str, partitions: i32) -> Vec<Writer> {
        let writer = |partition: i32| {
            let client = self.client_at(1, 10 + u8::try_from(partition).unwrap());
            Writer::start(client, topic, partition)
        };
        (0..partitions).map(writer).collect()
    }
}

/// Writes numbers one after the other, as an idempotent producer would.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

struct Written {
    count: i32,
    longest: Duration,
}

impl Writer {
    fn start(mut client: Cluster, topic: &'static str, partition: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut count, mut longest) = (0, Duration::ZERO);
            let mut last = Instant::now();
            let mut known = None;
            while !told.load(Ordering::Relaxed) {
                let info = match known {
                    Some(info) => info,
                    None => match client.topic(topic).await {
                        Ok(found) => found.partitions[usize::try_from(partition).unwrap()],
                        Err(_) => {
                            sleep(Duration::from_millis(10)).await;
                            continue;
                        }
                    },
                };
                let mut batch = BatchBuilder::new().producer(1000 + i64::from(partition), 0, count);
                batch.append(1, None, Some(count.to_string().as_bytes()), &[]);
                let batch = batch.build().unwrap();
                match client.produce(topic, info, batch, 5_000).await {
                    Ok(offset) => {
                        assert_eq!(offset, i64::from(count), "nothing lost, nothing twice");
                        count += 1;
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        known = Some(info);
                        sleep(Duration::from_millis(2)).await;
                    }
                    Err(_) => {
                        known = None;
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            Written { count, longest }
        });
        Self { stop, task }
    }

    async fn end(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn create(client: &mut Cluster, name: &str, partitions: i32) {
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
    assert_eq!(answer.topics[0].error_code, 0);
}

/// Asks for a move of each; the error codes of the partitions.
async fn reassign(
    client: &mut Cluster,
    topic: &str,
    moves: impl Iterator<Item = (i32, Option<Vec<i32>>)>,
) -> Vec<i16> {
    let partition = |(index, replicas): (i32, Option<Vec<i32>>)| {
        let replicas = replicas.map(|r| r.into_iter().map(BrokerId).collect());
        ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas)
    };
    let topic = ReassignableTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(moves.map(partition).collect());
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![topic]);
    let Response::AlterPartitionReassignments(answer) = client.call(request).await.unwrap() else {
        panic!("another answer");
    };
    assert_eq!(answer.error_code, 0);
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| p.error_code).collect()
}

async fn ongoing(client: &mut Cluster) -> usize {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let Response::ListPartitionReassignments(answer) = client.call(request).await.unwrap() else {
        panic!("another answer");
    };
    answer.topics.iter().map(|t| t.partitions.len()).sum()
}

async fn none_moves(client: &mut Cluster) {
    let deadline = Instant::now() + PATIENCE;
    while ongoing(client).await > 0 {
        assert!(Instant::now() < deadline, "moves do not end");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn values(client: &mut Cluster, topic: &str, partition: i32) -> Vec<i32> {
    let mut values = Vec::new();
    loop {
        let found = client.topic(topic).await.unwrap();
        let info = found.partitions[usize::try_from(partition).unwrap()];
        let limits = FetchLimits {
            max_wait_ms: 10,
            max_bytes: 1 << 20,
        };
        let next = values.len() as i64;
        let fetched = client.fetch(topic, info, next, limits).await.unwrap();
        let before = values.len();
        let value = |record: &protocol::Record<'_>| {
            let text = std::str::from_utf8(record.value.unwrap()).unwrap();
            values.push(text.parse().unwrap());
        };
        fetched.for_each(next, value).unwrap();
        if values.len() == before {
            return values;
        }
    }
}

async fn all_there(nodes: &Nodes, topic: &str, writers: Vec<Writer>) -> Duration {
    let mut longest = Duration::ZERO;
    for (writer, partition) in writers.into_iter().zip(0..) {
        let written = writer.end().await;
        assert!(written.count > 10);
        longest = longest.max(written.longest);
        let read = values(&mut nodes.client(2), topic, partition).await;
        let expected: Vec<i32> = (0..written.count).collect();
        assert_eq!(read, expected, "{topic}-{partition}");
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn partitions_move_under_load_and_every_record_is_there_once() {
    let nodes = Nodes::begun(31).await;
    let mut client = nodes.client(2);
    create(&mut client, "t", 6).await;
    let writers = nodes.write("t", 6);
    sleep(Duration::from_millis(500)).await;
    let none = (0..1).map(|p| (p, None));
    assert_eq!(reassign(&mut client, "t", none).await, [85]);
    for round in 0..6 {
        let to = round % 3 + 1;
        let moves = (0..6).map(|p| (p, Some(vec![to, to % 3 + 1])));
        assert_eq!(reassign(&mut client, "t", moves).await, [0; 6]);
        none_moves(&mut client).await;
        assert_eq!(nodes.leaders("t").await, BTreeSet::from([to]));
        sleep(Duration::from_millis(300)).await;
    }
    let longest = all_there(&nodes, "t", writers).await;
    println!("longest write gap {longest:?}");
    assert!(longest <= Duration::from_millis(200), "{longest:?}");
    // What cannot be is refused, partition by partition.
    let moves = [
        (0, Some(vec![])),
        (1, Some(vec![9])),
        (2, Some(vec![1, 1])),
        (77, Some(vec![1])),
    ];
    let refused = reassign(&mut client, "t", moves.into_iter()).await;
    assert_eq!(refused, [39, 39, 39, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_everything_away_first() {
    let mut nodes = Nodes::begun(32).await;
    create(&mut nodes.client(2), "t", 9).await;
    let writers = nodes.write("t", 9);
    sleep(Duration::from_millis(500)).await;
    nodes.stop(3).await;
    assert_eq!(nodes.leaders("t").await, BTreeSet::from([1, 2]));
    sleep(Duration::from_millis(500)).await;
    let longest = all_there(&nodes, "t", writers).await;
    println!("longest write gap {longest:?}");
    assert!(longest <= Duration::from_millis(200), "{longest:?}");
    // It comes back, and is elected where an operator prefers it.
    nodes.come_back(3).await;
    let mut client = nodes.client(1);
    reassign(&mut client, "t", [(0, Some(vec![3]))].into_iter()).await;
    none_moves(&mut client).await;
    nodes.stop(3).await;
    let elect = || {
        ElectLeadersRequest::default()
            .with_topic_partitions(None)
            .with_timeout_ms(10_000)
    };
    let codes = |answer: Response| {
        let Response::ElectLeaders(answer) = answer else {
            panic!("another answer");
        };
        let results = answer.replica_election_results.into_iter();
        let results = results.flat_map(|topic| topic.partition_result);
        results
            .map(|p| (p.partition_id, p.error_code))
            .collect::<Vec<_>>()
    };
    let refused = codes(client.call(elect()).await.unwrap());
    assert_eq!(refused, [(0, 80)], "PREFERRED_LEADER_NOT_AVAILABLE");
    nodes.come_back(3).await;
    assert_eq!(codes(client.call(elect()).await.unwrap()), [(0, 0)]);
    assert!(nodes.leaders("t").await.contains(&3));
    assert_eq!(codes(client.call(elect()).await.unwrap()), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_fills_again_and_then_nothing_moves() {
    let mut nodes = Nodes::balanced(33, "true").await;
    create(&mut nodes.client(2), "t", 9).await;
    let writers = nodes.write("t", 3);
    nodes.stop(3).await;
    assert_eq!(nodes.leaders("t").await, BTreeSet::from([1, 2]));
    nodes.come_back(3).await;
    let counts = async || {
        let found = nodes.client(1).topic("t").await.unwrap();
        let led = |node| found.partitions.iter().filter(|p| p.leader == node).count();
        [led(1), led(2), led(3)]
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while counts().await.iter().any(|count| *count < 2) {
        assert!(Instant::now() < deadline, "{:?}", counts().await);
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(9)).await;
    let epochs = async || {
        let found = nodes.client(1).topic("t").await.unwrap();
        let epochs = found.partitions.iter().map(|p| p.leader_epoch);
        epochs.collect::<Vec<_>>()
    };
    let before = epochs().await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(epochs().await, before, "constant load, and nothing moves");
    all_there(&nodes, "t", writers).await;
}

/// A member of a group, as a client that does everything by hand.
struct Member {
    client: Cluster,
    group: &'static str,
    id: StrBytes,
    coordinator: i32,
}

impl Member {
    async fn join(mut client: Cluster, group: &'static str) -> Self {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(bytes::Bytes::from_static(b"m"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(20_000)
            .with_rebalance_timeout_ms(20_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let (id, coordinator) = loop {
            sleep(Duration::from_millis(100)).await;
            let Ok(coordinator) = client.coordinator(group).await else {
                continue;
            };
            let joined = client.call_node(coordinator, request.clone(), 3).await;
            if let Ok(Response::JoinGroup(joined)) = joined
                && joined.error_code == 0
            {
                assert_eq!(joined.generation_id, 1);
                break (joined.member_id, coordinator);
            }
        };
        let given = SyncGroupRequestAssignment::default()
            .with_member_id(id.clone())
            .with_assignment(bytes::Bytes::from_static(b"mine"));
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(1)
            .with_member_id(id.clone())
            .with_assignments(vec![given]);
        let Response::SyncGroup(synced) = client.call_node(coordinator, request, 3).await.unwrap()
        else {
            panic!("another answer");
        };
        assert_eq!(synced.error_code, 0);
        Self {
            client,
            group,
            id,
            coordinator,
        }
    }

    /// One heartbeat to whom it believes in; its error code.
    async fn beat(&mut self) -> Option<i16> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_generation_id(1)
            .with_member_id(self.id.clone());
        match self.client.call_node(self.coordinator, request, 3).await {
            Ok(Response::Heartbeat(answer)) => Some(answer.error_code),
            Ok(_) | Err(_) => None,
        }
    }

    /// As clients do: looks for the coordinator until a heartbeat is taken. No rebalance on the way.
    async fn goes_on(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(found) = self.client.coordinator(self.group).await {
                self.coordinator = found;
            }
            match self.beat().await {
                Some(0) => return,
                // COORDINATOR_LOAD_IN_PROGRESS, _NOT_AVAILABLE, NOT_COORDINATOR, or gone.
                Some(14..=16) | None => {}
                Some(other) => panic!("the generation is lost: {other}"),
            }
            assert!(Instant::now() < deadline, "no coordinator");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn groups_go_on_at_the_new_coordinator_without_a_rebalance() {
    let mut nodes = Nodes::begun(34).await;
    let mut member = Member::join(nodes.client_at(1, 40), "g").await;
    assert_eq!(member.beat().await, Some(0));
    // A move.
    let old = member.coordinator;
    let to = old % 3 + 1;
    let mut client = nodes.client_at(1, 41);
    let moves = (0..5).map(|p| (p, Some(vec![to])));
    assert_eq!(
        reassign(&mut client, "__consumer_offsets", moves).await,
        [0; 5]
    );
    none_moves(&mut client).await;
    assert_eq!(member.beat().await, Some(16), "NOT_COORDINATOR");
    member.goes_on().await;
    assert_eq!(member.coordinator, to);
    // Its timers run on: a member that is silent is put out, one that is not is not.
    for _ in 0..10 {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(member.beat().await, Some(0));
    }
    // An ordered stop of the coordinator.
    nodes.stop(u8::try_from(to).unwrap()).await;
    member.goes_on().await;
    assert_ne!(member.coordinator, to);
    nodes.come_back(u8::try_from(to).unwrap()).await;
    // A death.
    nodes.kill(u8::try_from(member.coordinator).unwrap());
    let died = member.coordinator;
    member.goes_on().await;
    assert_ne!(member.coordinator, died);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        member.beat().await,
        Some(25),
        "UNKNOWN_MEMBER_ID: its session ran out"
    );
}
