//! Brokers die, others recover their logs from the object store: nodes on simulated machines.

#![allow(clippy::unwrap_used)]

#[path = "takeover/abandon.rs"]
mod abandon;
#[path = "takeover/gap.rs"]
mod gap;
#[path = "takeover/heirs.rs"]
mod heirs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::client::{Cluster, Error, FetchLimits, PartitionInfo, Settings};
use broker::config::Config;
use broker::{Node, NodeParts, Status};
use env::Network;
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use parking_lot::Mutex;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::{CreateTopicsRequest, StrBytes, TopicName};
use protocol::{BatchBuilder, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 10;
/// `lease.ms`, by default.
const LEASE: Duration = Duration::from_secs(6);

/// Where a request to the store hangs for ever, as that of a process which dies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Reading the dead one's log.
    Read,
    /// Storing an object of what was read: the log is sealed. So many objects are let through.
    Store(usize),
    /// It is stored, and nothing said of it.
    Stored,
}

#[derive(Debug, Default)]
struct Rules {
    stop: Option<Stop>,
    /// Node whose log the heir reads.
    dead: String,
    /// Nodes that came to the stop.
    stopped: BTreeSet<u8>,
    stored: usize,
    /// Nodes for which the store is away.
    away: BTreeSet<u8>,
    /// The first heir to store what it read loses the store there.
    shuts: bool,
    /// How long requests take for what lies in the logs of others.
    slow: Duration,
    /// Nodes whose logs others read.
    read: BTreeSet<String>,
    /// So many looks at the mark of the store fail.
    failing_marks: u32,
}

/// One node's way to the common store.
#[derive(Clone, Debug)]
struct Gate {
    node: u8,
    store: Arc<InMemory>,
    rules: Arc<Mutex<Rules>>,
}

impl Gate {
    fn check(&self) -> StoreResult<()> {
        if self.rules.lock().away.contains(&self.node) {
            return Err(object_store::Error::Generic {
                store: "gate",
                source: "away".into(),
            });
        }
        Ok(())
    }

    /// A request of another node than the owner for what lies in a log.
    async fn heir(&self, at: &Path) {
        let at = at.as_ref();
        let Some((_, rest)) = at.split_once("/wal/") else {
            return;
        };
        let owner = rest.split('/').next().unwrap();
        if owner == self.node.to_string() {
            return;
        }
        let slow = {
            let mut rules = self.rules.lock();
            rules.read.insert(owner.to_owned());
            rules.slow
        };
        sleep(slow).await;
    }

    async fn hang(&self) {
        self.rules.lock().stopped.insert(self.node);
        std::future::pending::<()>().await;
    }
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
        self.check()?;
        self.heir(at).await;
        let stop = {
            let mut rules = self.rules.lock();
            if rules.shuts && at.as_ref().contains("/data/") {
                rules.shuts = false;
                rules.away.insert(self.node);
                rules.stopped.insert(self.node);
                drop(rules);
                return self.check().map(|()| unreachable!("it is away"));
            }
            let data = at.as_ref().contains("/data/");
            let owners = self.node.to_string() == rules.dead;
            let heirs = data && !owners;
            let stop = rules.stop.filter(|_| heirs);
            rules.stored += usize::from(stop.is_some());
            // What is to be recovered is not uploaded by its owner.
            let owners = (data && owners).then_some((Stop::Store(0), 1));
            stop.map(|stop| (stop, rules.stored)).or(owners)
        };
        match stop {
            Some((Stop::Store(after), stored)) if stored > after => self.hang().await,
            Some((Stop::Stored, _)) => {
                self.store.put_opts(at, bytes, o).await?;
                self.hang().await;
                unreachable!("it hangs for ever");
            }
            _ => {}
        }
        self.store.put_opts(at, bytes, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.check()?;
        self.store.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, o: GetOptions) -> StoreResult<GetResult> {
        self.check()?;
        self.heir(at).await;
        if at.as_ref().ends_with("meta/home") {
            let mut rules = self.rules.lock();
            if let Some(left) = rules.failing_marks.checked_sub(1) {
                rules.failing_marks = left;
                return Err(object_store::Error::Generic {
                    store: "gate",
                    source: "once".into(),
                });
            }
        }
        // What asks for a part is no heir that reads.
        let hangs = o.range.is_none() && {
            let rules = self.rules.lock();
            let log = format!("/wal/{}/", rules.dead);
            rules.stop == Some(Stop::Read) && at.as_ref().contains(&log)
        };
        if hangs {
            self.hang().await;
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
        self.check()?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> StoreResult<()> {
        self.check()?;
        self.store.copy_opts(from, to, o).await
    }
}

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

/// The machines, and what runs on them: brokers, of which the first ones vote.
struct Nodes {
    voters: u8,
    network: SimNetwork,
    hosts: BTreeMap<u8, SimHost>,
    running: BTreeMap<u8, Node>,
    store: Arc<InMemory>,
    rules: Arc<Mutex<Rules>>,
    wal: &'static str,
}

// === impl Nodes ===

impl Nodes {
    async fn begun(seed: u64, count: u8, wal: &'static str) -> Self {
        Self::begun_with(seed, (count, count), wal).await
    }

    /// `count` brokers, and that many voters among them.
    async fn begun_with(seed: u64, (count, voters): (u8, u8), wal: &'static str) -> Self {
        let mut nodes = Self::none(seed, voters, wal);
        for node in 1..=count {
            nodes.start(node).await;
        }
        nodes.settled().await;
        nodes
    }

    /// Nobody runs yet.
    fn none(seed: u64, voters: u8, wal: &'static str) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let host = |node: u8| {
            let seed = seed * 100 + u64::from(node);
            SimHost::new(seed, &network, &format!("n{node}"), ip(node))
        };
        Self {
            voters,
            hosts: (1..=9).map(|node| (node, host(node))).collect(),
            network,
            running: BTreeMap::new(),
            store: Arc::default(),
            rules: Arc::default(),
            wal,
        }
    }

    /// All serve, the first look at closed logs and the like is over, and tethers stand.
    async fn settled(&self) {
        for node in self.running.keys() {
            self.ready(*node).await;
        }
        sleep(Duration::from_secs(3)).await;
    }

    async fn start(&mut self, node: u8) {
        self.start_with(node, &[]).await;
    }

    async fn start_with(&mut self, node: u8, more: &[(&str, &str)]) {
        let (id, admin) = (node.to_string(), format!("10.0.0.{node}:9644"));
        let votes = node <= self.voters;
        let mut listeners = format!("PLAINTEXT://10.0.0.{node}:9092");
        if votes {
            listeners += &format!(",CONTROLLER://10.0.0.{node}:9093");
        }
        let voters = (1..=self.voters).map(|node| format!("{node}@10.0.0.{node}:9093"));
        let voters = voters.collect::<Vec<_>>().join(",");
        let roles = if votes { "broker,controller" } else { "broker" };
        let mut settings = vec![
            ("process.roles", roles),
            ("node.id", id.as_str()),
            ("data.dir", "/data"),
            ("listeners", listeners.as_str()),
            ("admin.listen", admin.as_str()),
            ("controller.quorum.voters", voters.as_str()),
            ("object.store.url", "/given/by/the/parts"),
            ("wal.backend", self.wal),
            ("upload.bytes", "1048576"),
            ("upload.age.ms", "600000"),
            ("shutdown.timeout.ms", "3000"),
        ];
        settings.extend_from_slice(more);
        let gate = Gate {
            node,
            store: Arc::clone(&self.store),
            rules: Arc::clone(&self.rules),
        };
        let parts = NodeParts {
            store: Some((Arc::new(gate), String::new())),
            ..NodeParts::default()
        };
        let config = Config::with(&settings).unwrap();
        let started = Node::start(self.hosts[&node].env(), config, parts).await;
        self.running.insert(node, started.unwrap());
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

    /// The process dies; what it had synced stays.
    fn kill(&mut self, node: u8) {
        self.hosts[&node].disk.power_loss();
        self.network.kill_host(ip(node));
        self.running.remove(&node);
    }

    fn client(&self) -> Cluster {
        let mut env = self.hosts[&9].env();
        env.net = self.network.host("client", IpAddr::from([10, 0, 1, 1]));
        let settings = Settings {
            client_id: "test".to_owned(),
            timeout: Duration::from_secs(5),
        };
        let all = self.running.keys();
        let all = all.map(|node| SocketAddr::new(ip(*node), 9092));
        Cluster::new(env, all.collect(), settings)
    }

    /// A node that does not lead the controllers.
    fn follower(&self) -> u8 {
        let leader = self.running[&1].controllers_leader().unwrap().0;
        *self
            .running
            .keys()
            .find(|n| i32::from(**n) != leader)
            .unwrap()
    }

    async fn topic(&self) {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_num_partitions(PARTITIONS)
            .with_replication_factor(3);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let Response::CreateTopics(answer) = self.client().call(request).await.unwrap() else {
            panic!("another answer");
        };
        assert_eq!(answer.topics[0].error_code, 0);
    }

    async fn leaders(&self) -> Vec<PartitionInfo> {
        self.client().topic("t").await.unwrap().partitions
    }

    fn stop_at(&self, dead: u8, stop: Stop) {
        let mut rules = self.rules.lock();
        rules.dead = dead.to_string();
        rules.stop = Some(stop);
        rules.stored = 0;
        rules.stopped.clear();
    }

    /// Who came to the stop; nobody stops there any more.
    async fn stopped(&self) -> u8 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stopped = self.rules.lock().stopped.first().copied();
            if let Some(node) = stopped {
                self.rules.lock().stop = None;
                return node;
            }
            assert!(Instant::now() < deadline, "nobody came to the stop");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn batch(value: &str) -> bytes::Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(1, None, Some(value.as_bytes()), &[]);
    builder.build().unwrap()
}

async fn info(client: &mut Cluster, partition: i32) -> Result<PartitionInfo, Error> {
    let found = client.topic("t").await?;
    Ok(found.partitions[usize::try_from(partition).unwrap()])
}

async fn try_produce(client: &mut Cluster, partition: i32, value: &str) -> Result<i64, Error> {
    let info = info(client, partition).await?;
    client.produce("t", info, batch(value), 3_000).await
}

/// As clients do: again while the leader is not there yet.
async fn produce(client: &mut Cluster, partition: i32, value: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_produce(client, partition, value).await {
            Ok(offset) => return offset,
            Err(error) => assert!(Instant::now() < deadline, "t-{partition}: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Values by offset.
async fn read(client: &mut Cluster, partition: i32) -> BTreeMap<i64, String> {
    let limits = FetchLimits {
        max_wait_ms: 100,
        max_bytes: 8 << 20,
    };
    let mut values = BTreeMap::new();
    loop {
        let next = values.last_key_value().map_or(0, |(offset, _)| *offset + 1);
        let info = info(client, partition).await.unwrap();
        let fetched = client.fetch("t", info, next, limits).await.unwrap();
        let before = values.len();
        let each = |record: &protocol::Record<'_>| {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            values.insert(record.offset, value);
        };
        fetched.for_each(next, each).unwrap();
        if values.len() == before {
            return values;
        }
    }
}

/// What was acknowledged, and the longest time without an acknowledgement.
#[derive(Default)]
struct Acknowledged {
    values: BTreeMap<i64, String>,
    gap: Duration,
}

/// Producers, one for each partition.
struct Load {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Acknowledged>>,
}

impl Load {
    fn begin(nodes: &Nodes) -> Self {
        let stop = CancellationToken::new();
        let tasks = (0..PARTITIONS).map(|partition| {
            let (mut client, stop) = (nodes.client(), stop.clone());
            tokio::spawn(async move {
                let mut done = Acknowledged::default();
                let mut last = Instant::now();
                for n in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let value = format!("{partition}-{n}");
                    // A new value each time: one whose answer was lost may stand or not.
                    if let Ok(offset) = try_produce(&mut client, partition, &value).await {
                        let other = done.values.insert(offset, value);
                        assert_eq!(other, None, "{partition}: offset {offset} given twice");
                        done.gap = done.gap.max(last.elapsed());
                        last = Instant::now();
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                done
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    async fn end(self) -> Vec<Acknowledged> {
        self.stop.cancel();
        let mut all = Vec::new();
        for task in self.tasks {
            all.push(task.await.unwrap());
        }
        all
    }
}

async fn check(nodes: &Nodes, acknowledged: &[Acknowledged]) {
    let mut client = nodes.client();
    for (partition, done) in (0..).zip(acknowledged) {
        let stands = read(&mut client, partition).await;
        assert!(done.values.len() > 5, "{partition}: {}", done.values.len());
        for (offset, value) in &done.values {
            assert_eq!(stands.get(offset), Some(value), "{partition} at {offset}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_serve_what_a_dead_broker_acknowledged_and_only_its_partitions_move() {
    let mut nodes = Nodes::begun(1, 3, "object").await;
    nodes.topic().await;
    let dead = nodes.follower();
    let before = nodes.leaders().await;
    let load = Load::begin(&nodes);
    sleep(Duration::from_secs(5)).await;
    nodes.kill(dead);
    sleep(Duration::from_secs(15)).await;
    let acknowledged = load.end().await;
    let after = nodes.leaders().await;
    for ((was, is), done) in before.iter().zip(&after).zip(&acknowledged) {
        if was.leader == i32::from(dead) {
            assert_ne!(is.leader, was.leader);
            assert_eq!(is.leader_epoch, was.leader_epoch + 1);
            println!("t-{}: no write for {:?}", is.partition, done.gap);
            assert!(done.gap < Duration::from_secs(4), "{:?}", done.gap);
        } else {
            assert_eq!((is.leader, is.leader_epoch), (was.leader, was.leader_epoch));
        }
    }
    check(&nodes, &acknowledged).await;
    // Back again: it has nothing to recover, and serves.
    nodes.start(dead).await;
    nodes.ready(dead).await;
    check(&nodes, &acknowledged).await;
}

/// With the leader of the controllers goes whoever would fence its broker: the next one knows.
#[tokio::test(start_paused = true)]
async fn a_node_that_led_the_controllers_is_followed_as_soon_as_any_other() {
    let mut nodes = Nodes::begun(12, 3, "object").await;
    nodes.topic().await;
    for _ in 0..3 {
        let any = nodes.running.values().next().unwrap();
        let dead = any.controllers_leader().unwrap().0;
        let dead = u8::try_from(dead).unwrap();
        let before = nodes.leaders().await;
        let load = Load::begin(&nodes);
        sleep(Duration::from_secs(5)).await;
        nodes.kill(dead);
        sleep(Duration::from_secs(10)).await;
        let acknowledged = load.end().await;
        for (was, done) in before.iter().zip(&acknowledged) {
            let led = was.leader == i32::from(dead);
            println!(
                "t-{}: led {led}, no write for {:?}",
                was.partition, done.gap
            );
            assert!(done.gap < Duration::from_secs(2), "{:?}", done.gap);
        }
        check(&nodes, &acknowledged).await;
        nodes.start(dead).await;
        nodes.ready(dead).await;
        // It is given partitions again, and tethers stand.
        sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_die_at_once_are_followed_by_the_three_that_are_left() {
    let mut nodes = Nodes::begun(2, 5, "object").await;
    nodes.topic().await;
    let load = Load::begin(&nodes);
    sleep(Duration::from_secs(3)).await;
    let first = nodes.follower();
    let leader = nodes.running[&1].controllers_leader().unwrap().0;
    nodes.kill(first);
    nodes.kill(u8::try_from(leader).unwrap());
    sleep(Duration::from_secs(20)).await;
    let acknowledged = load.end().await;
    for info in nodes.leaders().await {
        let node = u8::try_from(info.leader).unwrap();
        assert!(nodes.running.contains_key(&node), "{info:?}");
    }
    check(&nodes, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn an_heir_that_dies_at_any_stage_is_followed_by_another() {
    // Five voters: two may die.
    let stages = [Stop::Read, Stop::Store(0), Stop::Store(1), Stop::Stored];
    for (seed, stop) in (10..).zip(stages) {
        let mut nodes = Nodes::begun(seed, 5, "object").await;
        nodes.topic().await;
        let dead = nodes.follower();
        let lost: Vec<i32> = {
            let all = nodes.leaders().await.into_iter();
            let of_dead = all.filter(|info| info.leader == i32::from(dead));
            of_dead.map(|info| info.partition).collect()
        };
        assert!(!lost.is_empty());
        // More than one upload round.
        nodes.rules.lock().dead = dead.to_string();
        let mut client = nodes.client();
        let mut wanted = Vec::new();
        for n in 0..4 {
            for partition in &lost {
                let value = format!("{n}-").repeat(100_000);
                let offset = produce(&mut client, *partition, &value).await;
                wanted.push((*partition, offset, value));
            }
        }
        nodes.stop_at(dead, stop);
        nodes.kill(dead);
        let heir = nodes.stopped().await;
        assert_ne!(heir, dead);
        nodes.kill(heir);
        for partition in &lost {
            produce(&mut client, *partition, "after").await;
        }
        for partition in lost {
            let stands = read(&mut nodes.client(), partition).await;
            for (_, offset, value) in wanted.iter().filter(|(of, _, _)| *of == partition) {
                assert!(
                    stands.get(offset) == Some(value),
                    "{stop:?}: t-{partition} at {offset}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_many_claims_is_waited_for() {
    let mut nodes = Nodes::begun(3, 3, "object").await;
    nodes.topic().await;
    let load = Load::begin(&nodes);
    sleep(Duration::from_secs(3)).await;
    let dead = nodes.follower();
    nodes.rules.lock().away.extend(1..=3);
    nodes.kill(dead);
    // Longer than five leases, with everybody's lease kept.
    sleep(Duration::from_secs(120)).await;
    for node in nodes.running.keys() {
        let status = nodes.status(*node, |_| true).await;
        assert_eq!(
            status,
            Status::Ready,
            "nobody surrenders when all are cut off"
        );
    }
    nodes.rules.lock().away.clear();
    sleep(Duration::from_secs(30)).await;
    let acknowledged = load.end().await;
    for partition in 0..PARTITIONS {
        produce(&mut nodes.client(), partition, "after").await;
    }
    check(&nodes, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_alone_loses_the_store_gives_up_to_the_others() {
    let nodes = Nodes::begun(6, 3, "object").await;
    nodes.topic().await;
    let load = Load::begin(&nodes);
    sleep(Duration::from_secs(3)).await;
    let alone = nodes.follower();
    let before = nodes.leaders().await;
    nodes.rules.lock().away.insert(alone);
    nodes
        .status(alone, |status| matches!(status, Status::Interrupted(_)))
        .await;
    sleep(Duration::from_secs(15)).await;
    for (was, is) in before.iter().zip(nodes.leaders().await) {
        if was.leader == i32::from(alone) {
            assert_ne!(is.leader, was.leader);
            assert_ne!(is.leader, -1);
        } else {
            assert_eq!((is.leader, is.leader_epoch), (was.leader, was.leader_epoch));
        }
    }
    nodes.rules.lock().away.clear();
    nodes.status(alone, |status| *status == Status::Ready).await;
    let acknowledged = load.end().await;
    check(&nodes, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_on_a_disk_waits_for_its_node_and_the_others_go_on() {
    let mut nodes = Nodes::begun(4, 3, "disk").await;
    nodes.topic().await;
    let load = Load::begin(&nodes);
    sleep(Duration::from_secs(3)).await;
    let dead = nodes.follower();
    let before = nodes.leaders().await;
    nodes.kill(dead);
    sleep(Duration::from_secs(20)).await;
    for (was, is) in before.iter().zip(nodes.leaders().await) {
        let offline = was.leader == i32::from(dead);
        assert_eq!(is.leader, if offline { -1 } else { was.leader });
    }
    nodes.start(dead).await;
    nodes.ready(dead).await;
    for partition in 0..PARTITIONS {
        produce(&mut nodes.client(), partition, "after").await;
    }
    let acknowledged = load.end().await;
    check(&nodes, &acknowledged).await;
}

/// Status and JSON that the admin listener of `node` answers to a POST.
async fn post(nodes: &Nodes, node: u8, path: &str, body: &str) -> (u16, String) {
    ask(nodes, node, &format!("POST {path}"), body).await
}

/// What it answers to a GET.
async fn get(nodes: &Nodes, node: u8, path: &str) -> String {
    let (code, answer) = ask(nodes, node, &format!("GET {path}"), "").await;
    assert_eq!(code, 200, "{answer}");
    answer
}

async fn ask(nodes: &Nodes, node: u8, request: &str, body: &str) -> (u16, String) {
    let net = nodes.network.host("operator", IpAddr::from([10, 0, 1, 2]));
    let at = SocketAddr::new(ip(node), 9644);
    let mut stream = net.connect(at).await.unwrap();
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n");
    let head = format!("{head}content-type: application/json\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_operator_gives_up_a_lost_disk_through_any_node() {
    let mut nodes = Nodes::begun(5, 3, "disk").await;
    nodes.topic().await;
    let mut client = nodes.client();
    for partition in 0..PARTITIONS {
        produce(&mut client, partition, "before").await;
    }
    let lost = nodes.follower();
    let before = nodes.leaders().await;
    nodes.kill(lost);
    sleep(Duration::from_secs(20)).await;
    let other = *nodes.running.keys().next().unwrap();
    // Its id, as /v1/cluster shows it, is not needed here: an unknown one is refused with it.
    let unknown = format!("/v1/wals/{}/abandon", uuid::Uuid::from_u128(1));
    let (code, _) = post(&nodes, other, &unknown, r#"{"by":"me","reason":"lost"}"#).await;
    assert_eq!(code, 404);
    let dir = std::path::Path::new("/data/wal");
    let logs = nodes.hosts[&lost].env().disk.read_dir(dir).unwrap();
    let id = logs[0].file_name().unwrap().to_str().unwrap().to_owned();
    let path = format!("/v1/wals/{id}/abandon");
    let (code, why) = post(&nodes, other, &path, r#"{"by":"me"}"#).await;
    assert_eq!(code, 400, "{why}");
    let (code, told) = post(&nodes, other, &path, r#"{"by":"me","reason":"lost"}"#).await;
    assert_eq!(code, 200, "{told}");
    assert!(told.contains(r#""done":false"#), "{told}");
    let yes = r#"{"by":"me","reason":"lost","yes":true}"#;
    let asked = Instant::now();
    let (code, told) = post(&nodes, other, &path, yes).await;
    assert_eq!(code, 200, "{told}");
    let waited = asked.elapsed();
    assert!(
        waited >= LEASE,
        "its owner might still acknowledge: {waited:?}"
    );
    for was in before {
        let offset = produce(&mut nodes.client(), was.partition, "after").await;
        match was.leader == i32::from(lost) {
            true => assert!((1_000_000..=1_000_001).contains(&offset), "{offset}"),
            false => assert_eq!(offset, 1),
        }
    }
    // Nothing is left to give up, and a live broker's log is not.
    let (code, _) = post(&nodes, other, &path, yes).await;
    assert_eq!(code, 404);
    let logs = nodes.hosts[&other].env().disk.read_dir(dir).unwrap();
    let live = logs[0].file_name().unwrap().to_str().unwrap().to_owned();
    let (code, why) = post(&nodes, other, &format!("/v1/wals/{live}/abandon"), yes).await;
    assert_eq!(code, 409, "{why}");
}
