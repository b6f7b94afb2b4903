//! A machine: disk, clock, threads and address of its own, node after node running on it, and what
//! can happen to it.

mod view;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use broker::config::Config;
use broker::{Node, NodeParts, Pace};
use controller::NEWEST_LEVEL;
use env::Env;
use env::sim::{SimClock, SimDisk, SimHost, SimNetwork, SimThreads};
use storage::StorageSettings;
use storage::store::{ManagedStore, RequestSettings, StoreMetrics};
use tests::simstore::SimStore;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::figures::Figures;
use crate::invariants::memory::Bounds;
use crate::nemesis::GOOD_DISK;
use crate::plan::{MachinePlan, Plan};
use crate::steps::Steps;
use crate::trace::Trace;
use view::{Counted, View};

/// Between two processes on the machine.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const KAFKA_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;
/// Where its admin pages are.
pub(crate) const ADMIN_PORT: u16 = 9644;
/// Between two looks at what a node counts of itself.
const LOOKS: Duration = Duration::from_millis(500);

/// A machine, as troubles see it.
pub(crate) struct Machine {
    /// What runs on it.
    pub(crate) plan: MachinePlan,
    pub(crate) host: SimHost,
    /// The store as this machine reaches it.
    pub(crate) store: View,
    network: SimNetwork,
    trace: Trace,
    settings: Vec<(&'static str, String)>,
    /// Told when the process shall die at once.
    die: Notify,
    /// Told when it shall stop in order.
    stop: Notify,
    /// True while no process is to be started.
    held: AtomicBool,
    running: AtomicBool,
    /// The newest level that the next process knows, and the one that runs or ran last.
    build: AtomicU16,
    runs: AtomicU16,
    crashes: AtomicU64,
    steps: Steps,
    pace: Pace,
    bounds: Bounds,
    figures: Mutex<Figures>,
}

/// The address of node `node`.
pub(crate) fn address(node: i32) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8])
}

/// Where clients find node `node`.
pub(crate) fn kafka(node: i32) -> SocketAddr {
    SocketAddr::new(address(node), KAFKA_PORT)
}

/// Where other nodes find node `node`.
pub(crate) fn controller(node: i32) -> SocketAddr {
    SocketAddr::new(address(node), CONTROLLER_PORT)
}

// === impl Machine ===

impl Machine {
    pub(crate) fn new(
        seed: u64,
        plan: &Plan,
        which: usize,
        network: &SimNetwork,
        store: &SimStore,
        (trace, steps): (&Trace, &Steps),
    ) -> Self {
        let machine = plan.machines[which].clone();
        let (node, drift) = (machine.node, machine.drift);
        let name = format!("node-{node}");
        let host = SimHost::drifting(seed, network, &name, address(node), drift);
        host.threads.set_speed(GOOD_DISK);
        if let Some(op) = plan.crash_at.filter(|_| which == 0) {
            host.disk.crash_at(op);
        }
        if let Some(read) = plan.flip_read.filter(|_| which == 0) {
            host.disk.flip_read_at(read);
        }
        let counted = Counted {
            node,
            steps: steps.clone(),
            disk: host.disk.clone(),
        };
        Self {
            settings: settings(plan, &machine),
            plan: machine,
            host,
            store: View::new(store.clone(), counted),
            steps: steps.clone(),
            pace: pace(plan),
            bounds: bounds(plan),
            figures: Mutex::new(Figures::of(node)),
            network: network.clone(),
            trace: trace.clone(),
            die: Notify::new(),
            stop: Notify::new(),
            held: AtomicBool::new(false),
            running: AtomicBool::new(false),
            build: AtomicU16::new(plan.build),
            runs: AtomicU16::new(plan.build),
            crashes: AtomicU64::new(0),
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        address(self.plan.node)
    }

    pub(crate) fn say(&self, what: &str) {
        self.trace.line(&format!("node {}: {what}", self.plan.node));
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

    pub(crate) fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// What its nodes counted of themselves.
    pub(crate) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().expect("no panic under this lock")
    }

    /// Whether its node led the controllers at the last look.
    pub(crate) fn leads(&self) -> bool {
        self.is_running() && self.figures().last().get("controller_is_leader") == Some(1.0)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
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

    /// The newest level that its next process knows.
    pub(crate) fn build(&self) -> u16 {
        self.build.load(Ordering::Relaxed)
    }

    pub(crate) fn set_build(&self, newest_level: u16) {
        self.build.store(newest_level, Ordering::Relaxed);
    }

    /// Whether a process runs that knows less than the newest level.
    pub(crate) fn runs_old_build(&self) -> bool {
        self.is_running() && self.runs.load(Ordering::Relaxed) < NEWEST_LEVEL
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.notify_one();
    }

    /// The process stands still, and nothing tells it so.
    pub(crate) fn pause(&self) {
        self.host.hold();
        self.store.hold();
    }

    /// It goes on where it was.
    pub(crate) fn resume(&self) {
        self.host.release();
        self.store.release();
    }

    /// Starts no process from now on, until [`Machine::wake`].
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    /// Waits until no process runs, and forgets what none heard.
    pub(crate) async fn ended(&self) {
        while self.is_running() {
            sleep(Duration::from_millis(10)).await;
        }
        for unheard in [&self.die, &self.stop] {
            let _ = tokio::time::timeout(Duration::ZERO, unheard.notified()).await;
        }
    }

    /// This machine's troubles are over.
    pub(crate) fn heal(&self) {
        self.resume();
        self.threads().set_speed(GOOD_DISK);
        self.disk().set_capacity(None);
        self.clock().set_wall_right();
        self.store.heal();
        self.wake();
    }

    /// Runs node after node on this machine, for ever.
    pub(crate) async fn supervise(&self) {
        loop {
            if !self.held.load(Ordering::Relaxed) {
                self.runs.store(self.build(), Ordering::Relaxed);
                self.running.store(true, Ordering::Relaxed);
                self.one_process().await;
                self.running.store(false, Ordering::Relaxed);
            }
            sleep(RESTART_PAUSE).await;
        }
    }

    async fn one_process(&self) {
        self.say("process starts");
        let running = async {
            let env = self
                .steps
                .over(self.host.env(), self.plan.node, &self.host.disk);
            let parts = self.parts(&env);
            let node = match Node::start(env, self.config(), parts).await {
                Ok(node) => node,
                Err(error) => return self.say(&format!("process did not start: {error}")),
            };
            tokio::select! {
                biased;
                ended = node.ended() => return self.say(&format!("process ended: {ended:?}")),
                () = self.look(&node) => {}
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
            () = self.host.disk.until_crashed() => {
                self.crashes.fetch_add(1, Ordering::Relaxed);
                self.host.disk.power_loss();
                self.say("machine lost power in the middle of a disk operation");
            }
            () = running => {}
        }
        self.store.kill();
        self.network.kill_host(self.address());
        self.figures().ended();
    }

    /// Looks at what `node` counts of itself, as long as it lives.
    async fn look(&self, node: &Node) {
        loop {
            sleep(LOOKS).await;
            let page = node.metrics();
            self.figures().look(&page, &self.bounds);
        }
    }

    /// The store behind what every node puts before a store: checks of what comes back, retries.
    fn parts(&self, env: &Env) -> NodeParts {
        let store = Arc::new(self.store.mount());
        let requests = RequestSettings::standard();
        let store = ManagedStore::new(env, store, StoreMetrics::default(), requests);
        NodeParts {
            store: Some((Arc::new(store), String::new())),
            pace: Pace {
                newest_level: Some(self.runs.load(Ordering::Relaxed)),
                ..self.pace
            },
            ..NodeParts::default()
        }
    }

    pub(crate) fn config(&self) -> Config {
        let settings = self.settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Config::with(&settings).expect("the simulation's configuration is right")
    }
}

/// Bytes for the storage of a node that has little.
const LITTLE_MEMORY: usize = 4 << 20;

fn pace(plan: &Plan) -> Pace {
    if !plan.hasty {
        return Pace::default();
    }
    Pace {
        storage_bytes: Some(LITTLE_MEMORY),
        compaction_slices: Some(4),
        compaction_interval: Some(Duration::from_secs(1)),
        collector_interval: Some(Duration::from_secs(1)),
        collector_parts: Some(32),
        sweep_interval: Some(Duration::from_secs(2)),
        snapshot_bytes: Some(2 << 10),
        newest_level: None,
    }
}

/// What a node may hold, by its own settings.
fn bounds(plan: &Plan) -> Bounds {
    // The standard budget, of which frames have a quarter.
    let budget = 1 << 30;
    let frames = budget / 4;
    let bytes = pace(plan).storage_bytes.unwrap_or(budget - frames);
    let settings = StorageSettings::within(bytes);
    Bounds {
        user: settings.unuploaded_bytes,
        internal: settings.unuploaded_internal_bytes,
        hot: settings.hot_bytes,
        blocks: settings.block_cache_bytes + settings.index_cache_bytes,
        frames,
        connections: 10_000,
    }
}

/// Small sizes, so that a short day sees many segments, uploads and objects.
fn settings(plan: &Plan, machine: &MachinePlan) -> Vec<(&'static str, String)> {
    let ip = address(machine.node);
    let mut settings: Vec<_> = [
        ("data.dir", "/data"),
        ("wal.backend", machine.backend),
        ("wal.segment.bytes", "1048576"),
        ("upload.bytes", "1048576"),
        ("upload.age.ms", "1500"),
        ("lease.ms", "3000"),
        ("controller.checkpoint.interval.ms", "4000"),
        ("shutdown.timeout.ms", "5000"),
        ("group.initial.rebalance.delay.ms", "500"),
        ("offsets.topic.num.partitions", "3"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    if plan.hasty {
        settings.push(("collector.grace.ms", "2000".to_owned()));
    }
    settings.push(("node.id", machine.node.to_string()));
    settings.push(("admin.listen", format!("{ip}:{ADMIN_PORT}")));
    let mut listeners = Vec::new();
    if machine.broker {
        listeners.push(format!("PLAINTEXT://{}", kafka(machine.node)));
    }
    if plan.machines.len() > 1 {
        let voters = plan.machines.iter().filter(|machine| machine.controller);
        let voters = voters.map(|voter| format!("{}@{}", voter.node, controller(voter.node)));
        let voters: Vec<_> = voters.collect();
        settings.push(("controller.quorum.voters", voters.join(",")));
        let roles = [
            machine.broker.then_some("broker"),
            machine.controller.then_some("controller"),
        ];
        let roles: Vec<_> = roles.into_iter().flatten().collect();
        settings.push(("process.roles", roles.join(",")));
        // The store that is handed over stands for it.
        settings.push(("object.store.url", "file:///objects".to_owned()));
        if machine.controller {
            listeners.push(format!("CONTROLLER://{}", controller(machine.node)));
        }
    }
    settings.push(("listeners", listeners.join(",")));
    settings
}
