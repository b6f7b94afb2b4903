//! Nodes and clients of two zones, on simulated machines.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::client::{Cluster, Error, FetchLimits, PartitionInfo, Settings};
use broker::config::Config;
use broker::{Node, NodeParts};
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use parking_lot::Mutex;
use protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DescribeClusterRequest,
    FetchRequest, FindCoordinatorRequest, MetadataRequest, StrBytes, TopicName,
};
use protocol::{BatchBuilder, Batches, ErrorCode, Response};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const VOTERS: &str = "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093";
const PATIENCE: Duration = Duration::from_secs(120);
/// Of nodes 1, 2 and 3.
const RACKS: [&str; 3] = ["a", "b", "a"];

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

/// One node's way to the common store.
#[derive(Clone, Debug)]
struct Gate {
    node: u8,
    store: Arc<InMemory>,
    /// Nodes whose reads fail.
    blind: Arc<Mutex<BTreeSet<u8>>>,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        at: &Path,
        bytes: PutPayload,
        o: PutOptions,
    ) -> StoreResult<PutResult> {
        self.store.put_opts(at, bytes, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, o: GetOptions) -> StoreResult<GetResult> {
        if self.blind.lock().contains(&self.node) {
            return Err(object_store::Error::Generic {
                store: "gate",
                source: "blind".into(),
            });
        }
        self.store.get_opts(at, o).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.store.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> StoreResult<()> {
        self.store.copy_opts(from, to, o).await
    }
}

struct Nodes {
    network: SimNetwork,
    hosts: BTreeMap<u8, SimHost>,
    running: BTreeMap<u8, Node>,
    store: Arc<InMemory>,
    blind: Arc<Mutex<BTreeSet<u8>>>,
    racks: [&'static str; 3],
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
            blind: Arc::default(),
            racks: RACKS,
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
            ("broker.rack", self.racks[usize::from(node) - 1]),
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
        let gate = Gate {
            node,
            store: Arc::clone(&self.store),
            blind: Arc::clone(&self.blind),
        };
        let parts = NodeParts {
            store: Some((Arc::new(gate), String::new())),
            ..NodeParts::default()
        };
        let config = Config::with(&settings).unwrap();
        let started = Node::start(self.hosts[&node].env(), config, parts).await;
        self.running.insert(node, started.unwrap());
    }

    /// The process dies; what it had synced stays.
    fn kill(&mut self, node: u8) {
        self.hosts[&node].disk.power_loss();
        self.network.kill_host(ip(node));
        self.running.remove(&node);
    }

    /// A client that asks `node` first, and calls itself `client_id`.
    fn client(&self, node: u8, client_id: &str) -> Cluster {
        let mut env = self.hosts[&node].env();
        env.net = self.network.host("client", IpAddr::from([10, 0, 1, 1]));
        let settings = Settings {
            client_id: client_id.to_owned(),
            timeout: Duration::from_secs(40),
        };
        let nodes = (0..3).map(|n| SocketAddr::new(ip((node - 1 + n) % 3 + 1), 9092));
        Cluster::new(env, nodes.collect(), settings)
    }

    /// A cluster that reads by zones, with the topic `t` of `partitions` partitions.
    async fn reading_by_zones(seed: u64, partitions: i32) -> Self {
        let nodes = Self::begun(seed, &READS_BY_ZONES).await;
        let topic = CreatableTopic::default()
            .with_name(TopicName(text("t")))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let answer = nodes.client(1, "test").call(request).await.unwrap();
        let Response::CreateTopics(answer) = answer else {
            panic!("another answer");
        };
        assert_eq!(answer.topics[0].error_code, 0);
        nodes
    }

    /// Writes `count` batches to a partition, each until it is acknowledged.
    fn write(&self, partition: i32, count: usize) -> JoinHandle<()> {
        let mut client = self.client(1, "writer");
        tokio::spawn(async move {
            for n in 0..count {
                let batch = batch(&format!("{partition}-{n}"));
                let deadline = Instant::now() + PATIENCE;
                loop {
                    let tried = match info(&mut client, partition).await {
                        Ok(info) => client.produce("t", info, batch.clone(), 10_000).await,
                        Err(error) => Err(error),
                    };
                    match tried {
                        Ok(_) => break,
                        Err(error) => assert!(Instant::now() < deadline, "{error}"),
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                sleep(Duration::from_millis(50)).await;
            }
        })
    }

    /// Starts a consumer in `zone`, which reads until it is told where the end is.
    fn consume(&self, zone: &'static str, partition: i32) -> Consumer {
        Consumer {
            client: self.client(1, "consumer"),
            zone,
            partition,
            preferred: None,
            stays: false,
            offset: 0,
            records: Vec::new(),
            sent: 0,
            beside: 0,
        }
    }
}

const READS_BY_ZONES: [(&str, &str); 4] = [
    ("replica.selector.class", "RackAwareReplicaSelector"),
    ("replica.selector.min.bytes", "20000"),
    ("upload.age.ms", "2000"),
    ("lease.ms", "3000"),
];

/// About 3 KB: three records, each of which names itself.
fn batch(name: &str) -> bytes::Bytes {
    let mut builder = BatchBuilder::new();
    for part in ["x", "y", "z"] {
        let value = format!("{name}-{part}-{}", "v".repeat(1000));
        builder.append(1, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

async fn info(client: &mut Cluster, partition: i32) -> Result<PartitionInfo, Error> {
    let found = client.topic("t").await?;
    Ok(found.partitions[usize::try_from(partition).unwrap()])
}

/// As a client of Kafka's that knows KIP-392 goes about it.
struct Consumer {
    client: Cluster,
    zone: &'static str,
    partition: i32,
    preferred: Option<i32>,
    /// Whether it comes again to where it was sent, whatever error it gets there, as franz-go does
    /// until it looks at its metadata again, after half an hour.
    stays: bool,
    offset: i64,
    records: Vec<(i64, String)>,
    /// How often it was sent elsewhere.
    sent: usize,
    /// Records that others than the leader gave.
    beside: usize,
}

// === impl Consumer ===

impl Consumer {
    async fn fetch(&mut self) -> Result<(bool, PartitionData), Error> {
        let info = info(&mut self.client, self.partition).await?;
        let asked = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(info.leader_epoch)
            .with_fetch_offset(self.offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(10_000);
        let topic = FetchTopic::default()
            .with_topic(TopicName(text("t")))
            .with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(10_000)
            .with_session_epoch(-1)
            .with_rack_id(text(self.zone))
            .with_topics(vec![topic]);
        let node = self.preferred.unwrap_or(info.leader);
        let Response::Fetch(answer) = self.client.call_node(node, request, 12).await? else {
            panic!("another answer");
        };
        assert_eq!(answer.error_code, 0);
        let data = answer.responses.into_iter().next().unwrap();
        let data = data.partitions.into_iter().next().unwrap();
        Ok((node != info.leader, data))
    }

    async fn step(&mut self) {
        let (beside, data) = match self.fetch().await {
            Ok(answer) => answer,
            Err(_) => {
                self.preferred = self.preferred.filter(|_| self.stays);
                return sleep(Duration::from_millis(100)).await;
            }
        };
        match ErrorCode::from_code(data.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) => {
                self.preferred = self.preferred.filter(|_| self.stays);
                return sleep(Duration::from_millis(100)).await;
            }
            Some(ErrorCode::UnknownLeaderEpoch) => return sleep(Duration::from_millis(100)).await,
            code => panic!("{code:?} in zone {} at {}", self.zone, self.offset),
        }
        let bytes = data.records.unwrap_or_default().to_bytes();
        if data.preferred_read_replica.0 >= 0 {
            assert!(bytes.is_empty(), "clients skip what comes with a replica");
            self.preferred = Some(data.preferred_read_replica.0);
            self.sent += 1;
            return;
        }
        for batch in Batches::new(&bytes) {
            let batch = batch.unwrap();
            batch.validate().unwrap();
            let payload = batch.decompress(1 << 20).unwrap();
            for record in batch.records(&payload) {
                let record = record.unwrap();
                if record.offset >= self.offset {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    self.records.push((record.offset, value));
                    self.beside += usize::from(beside);
                }
            }
            self.offset = self.offset.max(batch.next_offset());
        }
    }

    /// Reads up to `end`.
    async fn until(&mut self, end: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.offset < end {
            assert!(
                Instant::now() < deadline,
                "{} of {end}, zone {}",
                self.offset,
                self.zone
            );
            self.step().await;
        }
    }
}

/// All of a partition, from its leader.
async fn truth(nodes: &Nodes, partition: i32) -> Vec<(i64, String)> {
    let mut client = nodes.client(1, "reader");
    let limits = FetchLimits {
        max_wait_ms: 100,
        max_bytes: 1 << 20,
    };
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let info = info(&mut client, partition).await.unwrap();
        let fetched = client.fetch("t", info, next, limits).await.unwrap();
        let value = |record: &protocol::Record<'_>| {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            all.push((record.offset, value));
        };
        next = fetched.for_each(next, value).unwrap();
        if next >= fetched.high_watermark {
            return all;
        }
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

#[tokio::test(start_paused = true)]
async fn a_consumer_reads_in_its_zone_what_lies_in_the_store_and_the_rest_from_the_leader() {
    let nodes = Nodes::reading_by_zones(2, 3).await;
    for partition in 0..3 {
        nodes.write(partition, 60).await.unwrap();
    }
    sleep(Duration::from_secs(10)).await;
    for partition in 0..3 {
        let all = truth(&nodes, partition).await;
        assert_eq!(all.len(), 180);
        let mut client = nodes.client(2, "test");
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text("t"))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let Response::Metadata(answer) = client.call(request).await.unwrap() else {
            panic!("another answer");
        };
        let told = &answer.topics[0].partitions;
        let told = told
            .iter()
            .find(|one| one.partition_index == partition)
            .unwrap();
        let leader = told.leader_id.0;
        for zone in ["a", "b", "c"] {
            let own = RACKS[leader as usize - 1] == zone;
            let mut consumer = nodes.consume(zone, partition);
            consumer.step().await;
            if own || zone == "c" {
                assert_eq!(consumer.preferred, None, "zone {zone}, led by {leader}");
            } else {
                let reader = consumer.preferred.expect("it is sent to its zone");
                assert_eq!(RACKS[reader as usize - 1], zone);
                // Java goes to no replica that it was not told of.
                let expected = [BrokerId(leader), BrokerId(reader)];
                assert_eq!(
                    (&*told.replica_nodes, &*told.isr_nodes),
                    (&expected[..], &expected[..])
                );
            }
            consumer.until(180).await;
            assert_eq!(consumer.records, all, "zone {zone}, led by {leader}");
            let beside = if own || zone == "c" { 0 } else { 180 };
            assert_eq!(consumer.beside, beside, "zone {zone}, led by {leader}");
            // At the end it comes back to the leader, and stays.
            let sent = if beside == 0 { 0 } else { 2 };
            for _ in 0..5 {
                consumer.step().await;
            }
            assert_eq!(consumer.sent, sent);
            assert!([None, Some(leader)].contains(&consumer.preferred));
            // What is new, and little, is the leader's to give.
            assert_eq!(consumer.records.len(), 180);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_comes_once_while_leaders_move_and_die() {
    for seed in 3..5 {
        let mut nodes = Nodes::reading_by_zones(seed, 2).await;
        for partition in 0..2 {
            nodes.write(partition, 40).await.unwrap();
        }
        let mut consumers = Vec::new();
        for (zone, partition) in [("a", 0), ("b", 0), ("a", 1), ("b", 1)] {
            let mut consumer = nodes.consume(zone, partition);
            consumers.push(tokio::spawn(async move {
                // Slowly, so that it is behind for all of what happens.
                while consumer.offset < 400 {
                    consumer.step().await;
                    sleep(Duration::from_millis(150)).await;
                }
                consumer
            }));
        }
        let writers: Vec<_> = (0..2)
            .map(|partition| nodes.write(partition, 200))
            .collect();
        sleep(Duration::from_secs(3)).await;
        let leader = info(&mut nodes.client(1, "test"), 0).await.unwrap().leader;
        let moved = ReassignablePartition::default()
            .with_partition_index(0)
            .with_replicas(Some(vec![BrokerId(leader % 3 + 1)]));
        let topic = ReassignableTopic::default()
            .with_name(TopicName(text("t")))
            .with_partitions(vec![moved]);
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![topic]);
        nodes.client(1, "test").call(request).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let leader = info(&mut nodes.client(1, "test"), 1).await.unwrap().leader;
        let victim = u8::try_from(leader).unwrap();
        nodes.kill(victim);
        sleep(Duration::from_secs(8)).await;
        nodes.start(victim, &READS_BY_ZONES).await;
        for writer in writers {
            timeout(5 * PATIENCE, writer).await.unwrap().unwrap();
        }
        let mut beside = 0;
        for consumer in consumers {
            let consumer = timeout(5 * PATIENCE, consumer).await.unwrap();
            let mut consumer = consumer.unwrap();
            let all = truth(&nodes, consumer.partition).await;
            let end = all.last().unwrap().0 + 1;
            assert!(all.len() >= 720, "{}", all.len());
            consumer.until(end).await;
            let zone = consumer.zone;
            assert!(consumer.records == all, "zone {zone}, seed {seed}");
            // To the zone and back, at most for as much as is stated, and when brokers fail.
            let most = 2 * all.len() * 1000 / 20_000 + 10;
            assert!(consumer.sent <= most, "{} of {most}", consumer.sent);
            beside += consumer.beside;
        }
        assert!(beside > 100, "{beside}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_stays_where_it_was_sent_reads_on_when_that_broker_cannot_serve_it() {
    for moved in [false, true] {
        let mut nodes = Nodes::reading_by_zones(6, 3).await;
        let told = nodes.client(1, "test").topic("t").await.unwrap();
        let led = told.partitions.iter().find(|one| one.leader != 2).unwrap();
        nodes.write(led.partition, 60).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        let all = truth(&nodes, led.partition).await;
        let mut consumer = nodes.consume("b", led.partition);
        consumer.stays = true;
        consumer.step().await;
        assert_eq!(consumer.preferred, Some(2));
        if moved {
            // It stands in another zone now.
            nodes.kill(2);
            nodes.racks[1] = "c";
            nodes.start(2, &READS_BY_ZONES).await;
            let ready = nodes.running[&2].ready();
            timeout(PATIENCE, ready).await.unwrap().unwrap();
        } else {
            nodes.blind.lock().insert(2);
        }
        let begun = Instant::now();
        consumer.until(180).await;
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(consumer.records, all);
        assert_eq!((consumer.beside, consumer.sent), (0, 2), "moved: {moved}");
        assert_eq!(consumer.preferred, Some(led.leader));
    }
}

/// Whom Metadata names: with the topic `t`, or with none.
async fn named(client: &mut Cluster, topic: Option<&str>) -> BTreeSet<i32> {
    let name = |name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    let topics = topic.map(name).into_iter().collect();
    let request = MetadataRequest::default().with_topics(Some(topics));
    let Ok(Response::Metadata(answer)) = client.call(request).await else {
        return BTreeSet::new();
    };
    answer
        .brokers
        .iter()
        .map(|broker| broker.node_id.0)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_an_epoch_that_is_over_is_told_who_leads_now() {
    let mut nodes = Nodes::reading_by_zones(9, 1).await;
    let mut client = nodes.client(1, "test");
    let before = info(&mut client, 0).await.unwrap();
    let id = client.topic("t").await.unwrap().id;
    let to = before.leader % 3 + 1;
    let moved = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(to)]));
    let topic = ReassignableTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![moved]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    client.call(request).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let now = loop {
        let now = info(&mut client, 0).await.unwrap();
        if now.leader == to {
            break now;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        sleep(Duration::from_millis(100)).await;
    };
    // A consumer of any zone, at the broker that led before.
    for rack in ["a", "b", ""] {
        let asked = FetchPartition::default()
            .with_current_leader_epoch(before.leader_epoch)
            .with_last_fetched_epoch(-1)
            .with_partition_max_bytes(10_000);
        let topic = FetchTopic::default()
            .with_topic_id(id.0)
            .with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_max_wait_ms(0)
            .with_max_bytes(10_000)
            .with_session_epoch(-1)
            .with_rack_id(text(rack))
            .with_topics(vec![topic]);
        let answer = client.call_node(before.leader, request, 17).await.unwrap();
        let Response::Fetch(answer) = answer else {
            panic!("another answer");
        };
        let data = &answer.responses[0].partitions[0];
        let code = ErrorCode::from_code(data.error_code);
        let expected = match rack {
            "" => ErrorCode::NotLeaderOrFollower,
            _ => ErrorCode::FencedLeaderEpoch,
        };
        assert_eq!(code, Some(expected), "rack {rack:?}");
        assert_eq!(data.current_leader.leader_id.0, to);
        assert_eq!(data.current_leader.leader_epoch, now.leader_epoch);
        let told: Vec<_> = answer
            .node_endpoints
            .iter()
            .map(|one| one.node_id.0)
            .collect();
        assert_eq!(told, [to]);
    }
    // The dead are named beside topics only: who asks for none would wait for them.
    let dead = u8::try_from(to).unwrap();
    nodes.kill(dead);
    let mut client = nodes.client(dead % 3 + 1, "test");
    let others: BTreeSet<i32> = (1..=3).filter(|node| *node != to).collect();
    let deadline = Instant::now() + PATIENCE;
    while named(&mut client, None).await != others {
        assert!(Instant::now() < deadline, "nobody noticed");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        named(&mut client, Some("t")).await,
        BTreeSet::from([1, 2, 3])
    );
    assert_eq!(named(&mut client, None).await, others);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(named(&mut client, Some("t")).await, others);
}
