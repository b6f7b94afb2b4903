//! The world of one simulation: a machine whose node is restarted when it dies, clients, troubles,
//! and in the end a good day.

pub(crate) mod rot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::client::Cluster;
use broker::config::Config;
use broker::{Node, NodeParts};
use env::Env;
use env::sim::{NetworkFaults, SimClock, SimDisk, SimEntropy, SimHost, SimNetwork, SimThreads};
use protocol::Response;
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use storage::store::{ManagedStore, RequestSettings, StoreMetrics};
use tests::history::History;
use tests::simstore::SimStore;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clients::{self, ADMIN, IDEMPOTENT, MEMBERS, PLAIN, Shared, TOPIC, partition};
use crate::nemesis::{self, GOOD_DISK, good_store};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::{admin, members};
use rot::Rotten;

const BROKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const KAFKA: SocketAddr = SocketAddr::new(BROKER, 9092);
/// Within this after healing everything is served again (I9).
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Within this the group has read all there is: a session and a rebalance may have to run out.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// Between two processes on the machine.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// The machine that the node runs on, as troubles see it.
pub(crate) struct Machine {
    host: SimHost,
    network: SimNetwork,
    store: SimStore,
    trace: Trace,
    /// Told when the process shall die at once.
    die: Notify,
    /// Told when it shall stop in order.
    stop: Notify,
    /// True while no process is to be started.
    held: AtomicBool,
    running: AtomicBool,
    crashes: AtomicU64,
    faults: AtomicU64,
}

impl Machine {
    pub(crate) fn say(&self, what: &str) {
        self.trace.line(what);
    }

    pub(crate) fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.host.disk
    }

    pub(crate) fn clock(&self) -> &SimClock {
        &self.host.clock
    }

    pub(crate) fn threads(&self) -> &SimThreads {
        &self.host.threads
    }

    pub(crate) fn store(&self) -> &SimStore {
        &self.store
    }

    /// Ends the process at once; with the machine when `power` fails.
    pub(crate) fn kill(&self, power: bool) {
        if power {
            self.host.disk.power_loss();
        } else {
            self.host.disk.kill();
        }
        self.die.notify_one();
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) fn reset_connections(&self) {
        for client in client_addresses() {
            self.network.reset(BROKER, client);
        }
    }

    pub(crate) fn cut_clients(&self) {
        for client in client_addresses() {
            self.network.cut(BROKER, client);
        }
    }

    pub(crate) fn heal_network(&self) {
        self.network.heal_all();
    }

    /// Runs node after node on this machine, for ever.
    async fn supervise(&self, plan: &Plan) {
        loop {
            if !self.held.load(Ordering::Relaxed) {
                self.running.store(true, Ordering::Relaxed);
                self.one_process(plan).await;
                self.running.store(false, Ordering::Relaxed);
            }
            sleep(RESTART_PAUSE).await;
        }
    }

    async fn one_process(&self, plan: &Plan) {
        self.say("process starts");
        let running = async {
            let env = self.host.env();
            let parts = self.parts(&env);
            let node = match Node::start(env, config(plan), parts).await {
                Ok(node) => node,
                Err(error) => return self.say(&format!("process did not start: {error}")),
            };
            tokio::select! {
                biased;
                ended = node.ended() => return self.say(&format!("process ended: {ended:?}")),
                () = self.stop.notified() => {}
            }
            let stopped = node.stop().await;
            self.say(&format!("process stopped: {stopped:?}"));
        };
        tokio::select! {
            biased;
            () = self.die.notified() => {
                self.crashes.fetch_add(1, Ordering::Relaxed);
                self.say("process killed");
            }
            () = self.until_crashed() => {
                self.crashes.fetch_add(1, Ordering::Relaxed);
                self.host.disk.power_loss();
                self.say("machine lost power in the middle of a disk operation");
            }
            () = running => {}
        }
        self.network.kill_host(BROKER);
    }

    /// Resolves when the disk says that its process died in an operation.
    async fn until_crashed(&self) {
        while !self.host.disk.crashed() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The store behind what every node puts before a store: checks of what comes back, retries.
    fn parts(&self, env: &Env) -> NodeParts {
        let store = Arc::new(self.store.clone());
        let requests = RequestSettings::standard();
        let store = ManagedStore::new(env, store, StoreMetrics::default(), requests);
        NodeParts {
            store: Some((Arc::new(store), String::new())),
            ..NodeParts::default()
        }
    }
}

fn client_addresses() -> impl Iterator<Item = IpAddr> {
    (0..=20).map(|number| IpAddr::from([10, 0, 1, number]))
}

/// Small sizes, so that a short day sees many segments, uploads and objects.
fn config(plan: &Plan) -> Config {
    Config::with(&[
        ("data.dir", "/data"),
        ("listeners", "PLAINTEXT://10.0.0.1:9092"),
        ("admin.listen", "10.0.0.1:9644"),
        ("wal.backend", plan.backend),
        ("wal.segment.bytes", "1048576"),
        ("upload.bytes", "1048576"),
        ("upload.age.ms", "1500"),
        ("lease.ms", "3000"),
        ("controller.checkpoint.interval.ms", "4000"),
        ("shutdown.timeout.ms", "5000"),
        ("group.initial.rebalance.delay.ms", "500"),
        ("offsets.topic.num.partitions", "3"),
    ])
    .expect("the simulation's configuration is right")
}

/// All of one simulation.
pub(crate) struct World {
    plan: Plan,
    random: SimEntropy,
    machine: Arc<Machine>,
    shared: Shared,
    stop: watch::Sender<bool>,
    stop_group: watch::Sender<bool>,
    /// Who goes on when everything was read.
    others: JoinSet<Result<(), String>>,
    /// What came of damage.
    pub(crate) rotten: Rotten,
    /// Promises that were not kept.
    pub(crate) problems: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, trace: Trace) -> Self {
        let random = SimEntropy::new(seed);
        let network = SimNetwork::new(random.below(u64::MAX), NetworkFaults::QUIET);
        let host = SimHost::new(random.below(u64::MAX), &network, "broker", BROKER);
        host.threads.set_speed(GOOD_DISK);
        if let Some(op) = plan.crash_at {
            host.disk.crash_at(op);
        }
        if let Some(read) = plan.flip_read {
            host.disk.flip_read_at(read);
        }
        let store = SimStore::new(random.below(u64::MAX), good_store());
        let machine = Arc::new(Machine {
            host,
            network: network.clone(),
            store,
            trace: trace.clone(),
            die: Notify::new(),
            stop: Notify::new(),
            held: AtomicBool::new(false),
            running: AtomicBool::new(false),
            crashes: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let (stop_group, group_stopped) = watch::channel(false);
        let shared = Shared {
            history: Arc::new(Mutex::new(History::default())),
            trace,
            broker: KAFKA,
            network,
            partitions: plan.partitions,
            stop: stopped,
            group: Arc::default(),
            topics: Arc::default(),
            stop_group: group_stopped,
        };
        Self {
            plan,
            random,
            machine,
            shared,
            stop,
            stop_group,
            others: JoinSet::new(),
            rotten: Rotten::default(),
            problems: Vec::new(),
        }
    }

    /// Lives through the plan: work under trouble, heal, read everything.
    pub(crate) async fn live(&mut self) {
        let machine = self.machine.clone();
        let plan = self.plan.clone();
        let supervisor = machine.supervise(&plan);
        tokio::pin!(supervisor);
        tokio::select! {
            biased;
            () = self.life() => {}
            () = &mut supervisor => {}
        }
    }

    async fn life(&mut self) {
        if self.plan.rot {
            self.work_and_rot().await;
        } else {
            self.work().await;
        }
    }

    /// Clients at work under trouble, until all is healed and they have stopped.
    async fn work_until_healed(&mut self) {
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 0);
        self.create_topic(&mut cluster).await;
        let mut clients = self.spawn_clients();
        self.spawn_others();
        let troubles = SimEntropy::new(self.random.below(u64::MAX));
        let bad_day = nemesis::trouble(&self.machine, &self.plan.troubles, &troubles);
        // Over is over: a trouble that lasts is healed below.
        let _ = timeout(self.plan.length, bad_day).await;
        self.heal().await;
        self.stop.send_replace(true);
        if timeout(Duration::from_secs(120), join_all(&mut clients))
            .await
            .is_err()
        {
            self.problems.push("clients hang after healing".to_owned());
        }
    }

    async fn work(&mut self) {
        self.work_until_healed().await;
        self.read_everything().await;
        if self.plan.group {
            self.deliver_everything().await;
        }
        self.stop_group.send_replace(true);
        let mut others = std::mem::take(&mut self.others);
        let others = timeout(Duration::from_secs(240), join_all(&mut others)).await;
        match others {
            Ok(problems) => self.problems.extend(problems),
            Err(_) => {
                let hang = "members or administrator hang after healing";
                self.problems.push(hang.to_owned());
            }
        }
    }

    fn spawn_clients(&self) -> JoinSet<Result<(), String>> {
        let mut clients = JoinSet::new();
        for number in IDEMPOTENT.into_iter().chain([PLAIN]) {
            let seed = self.random.below(u64::MAX);
            let producing = clients::producer(self.shared.clone(), seed, number);
            clients.spawn(done(producing));
        }
        for index in 0..self.plan.partitions {
            let seed = self.random.below(u64::MAX);
            let number = 10 + index as u32;
            let reading = clients::reader(self.shared.clone(), seed, number, index);
            clients.spawn(done(reading));
        }
        clients
    }

    /// Those who go on when everything was read.
    fn spawn_others(&mut self) {
        if self.plan.group {
            for number in MEMBERS {
                let seed = self.random.below(u64::MAX);
                let member = members::member(self.shared.clone(), seed, number);
                self.others.spawn(done(member));
            }
        }
        if self.plan.admin {
            let seed = self.random.below(u64::MAX);
            let admin = admin::admin(self.shared.clone(), seed, ADMIN);
            self.others.spawn(admin);
        }
    }

    /// The group goes on until each acknowledged record was given to one of its members.
    async fn deliver_everything(&mut self) {
        let there = self.acknowledged();
        let group = Arc::clone(&self.shared.group);
        let left = move || {
            let group = group.lock().expect("no panic under this lock");
            let missing =
                |(index, offsets): (&i32, &BTreeSet<i64>)| group.undelivered(*index, offsets).len();
            there.iter().map(missing).sum::<usize>()
        };
        let delivering = async {
            while left() > 0 {
                sleep(Duration::from_millis(200)).await;
            }
        };
        if timeout(DELIVERED_WITHIN, delivering).await.is_err() {
            let left = left();
            let problem = format!("{left} records not delivered in {DELIVERED_WITHIN:?}");
            self.problems.push(problem);
        }
    }

    /// Offsets of acknowledged records, by partition.
    pub(crate) fn acknowledged(&self) -> BTreeMap<i32, BTreeSet<i64>> {
        let history = self.history();
        let offsets = |index| (index, history.acknowledged_offsets(&partition(index)));
        (0..self.plan.partitions).map(offsets).collect()
    }

    async fn create_topic(&mut self, cluster: &mut Cluster) {
        let topic = CreatableTopic::default()
            .with_name(protocol::messages::StrBytes::from_static_str(TOPIC).into())
            .with_num_partitions(self.plan.partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        loop {
            match cluster.call(request.clone()).await {
                Ok(Response::CreateTopics(answer)) => {
                    let code = answer.topics[0].error_code;
                    self.machine.say(&format!("create topic: {code}"));
                    // TOPIC_ALREADY_EXISTS: an earlier try did it and its answer was lost.
                    if code == 0 || code == 36 {
                        return;
                    }
                }
                Ok(other) => self.machine.say(&format!("create topic: {other:?}")),
                Err(error) => self.machine.say(&format!("create topic: {error}")),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// From here on the day is good.
    async fn heal(&mut self) {
        self.machine.say("HEAL");
        self.machine.heal_network();
        self.machine.threads().set_speed(GOOD_DISK);
        self.machine.store.set_faults(good_store());
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 18);
        let serving = async {
            while !is_serving(&mut cluster, self.plan.partitions).await {
                sleep(Duration::from_millis(200)).await;
            }
        };
        if timeout(HEALED_WITHIN, serving).await.is_err() {
            self.problems
                .push(format!("not serving {HEALED_WITHIN:?} after healing"));
        }
        // Clients go on for a while on the good day: progress is part of the promise.
        sleep(Duration::from_secs(2)).await;
    }

    async fn read_everything(&mut self) {
        // Once more through a restart, so that what is read comes from log and objects.
        self.machine.kill(true);
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 19);
        for index in 0..self.plan.partitions {
            let reading = async {
                loop {
                    match clients::read_all(&mut cluster, index).await {
                        Ok(records) => return records,
                        Err(error) => self.machine.say(&error),
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            };
            match timeout(Duration::from_secs(120), reading).await {
                Ok(records) => {
                    self.machine
                        .say(&format!("partition {index}: {} records", records.len()));
                    let partition = (TOPIC.to_owned(), index);
                    let mut history = self.shared.history.lock().expect("no panic");
                    history.read_finally(&partition, records);
                }
                Err(_) => self
                    .problems
                    .push(format!("partition {index} cannot be read")),
            }
        }
    }

    pub(crate) fn history(&self) -> History {
        self.shared
            .history
            .lock()
            .expect("no panic under this lock")
            .clone()
    }

    /// Anomalies of group and topics, in words.
    pub(crate) fn other_anomalies(&self) -> Vec<String> {
        let there = self.acknowledged();
        let group = self.shared.group.lock().expect("no panic");
        let topics = self.shared.topics.lock().expect("no panic");
        let mut found = Vec::new();
        if self.plan.group {
            let wrong = group.anomalies(&there);
            found.extend(wrong.iter().take(20).map(|one| format!("{one:?}")));
        }
        found.extend(topics.anomalies().iter().map(|one| format!("{one:?}")));
        found
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.machine.crashes.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> u64 {
        self.machine.faults.load(Ordering::Relaxed) + self.machine.store.injected()
    }

    pub(crate) fn disk_reads(&self) -> u64 {
        self.machine.host.disk.reads()
    }

    pub(crate) fn disk_ops(&self) -> u64 {
        self.machine.host.disk.ops()
    }
}

async fn done(work: impl Future<Output = ()>) -> Result<(), String> {
    work.await;
    Ok(())
}

/// What those who ended found wrong.
async fn join_all(clients: &mut JoinSet<Result<(), String>>) -> Vec<String> {
    let mut problems = Vec::new();
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(result) => problems.extend(result.err()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    problems
}

/// Whether every partition has a leader that answers.
async fn is_serving(cluster: &mut Cluster, partitions: i32) -> bool {
    let Ok(topic) = cluster.topic(TOPIC).await else {
        return false;
    };
    if topic.partitions.len() != partitions as usize {
        return false;
    }
    for partition in topic.partitions {
        let limits = broker::client::FetchLimits {
            max_wait_ms: 0,
            max_bytes: 1,
        };
        if cluster.fetch(TOPIC, partition, 0, limits).await.is_err() {
            return false;
        }
    }
    true
}
