//! Brings the troubles of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use env::sim::{DiskSpeed, NetworkFaults, SimEntropy, SimNetwork};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tests::faults::{FaultSettings, Latency};
use tests::simstore::SimStore;
use tokio::time::sleep;

use crate::clients::Shared;
use crate::machine::Machine;
use crate::operator::Operator;
use crate::plan::{Event, MachinePlan, Trouble};
use crate::trace::Trace;

/// What the store does on a good day.
pub(crate) fn good_store() -> FaultSettings {
    let latency = Latency {
        median: Duration::from_millis(5),
        p99: Duration::from_millis(40),
    };
    FaultSettings {
        latency: Some(latency),
        ..FaultSettings::default()
    }
}

/// What it does on a bad one.
fn bad_store() -> FaultSettings {
    FaultSettings {
        unavailable: 0.15,
        lost_answers: 0.1,
        late_puts: 0.05,
        late_by: Duration::from_secs(7),
        truncated: 0.05,
        flipped: 0.02,
        listing_lag: Duration::from_secs(2),
        ..good_store()
    }
}

/// About as many reads as a start makes.
const READS_OF_A_START: u64 = 60;

/// A wall clock jumps no further at once, either way.
pub(crate) const LONGEST_JUMP_MS: i64 = 3_600_000;

/// How fast a disk is on a good day.
pub(crate) const GOOD_DISK: DiskSpeed = DiskSpeed {
    least: Duration::from_micros(50),
    most: Duration::from_micros(900),
};

/// And on a bad one.
const SLOW_DISK: DiskSpeed = DiskSpeed {
    least: Duration::from_millis(5),
    most: Duration::from_millis(900),
};

const SLOW_NETWORK: NetworkFaults = NetworkFaults {
    least: Duration::from_millis(1),
    most: Duration::from_millis(300),
    connect_timeout: Duration::from_secs(3),
};

/// All that trouble can come to.
pub(crate) struct Nemesis {
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) clients: Vec<IpAddr>,
    pub(crate) network: SimNetwork,
    pub(crate) store: SimStore,
    pub(crate) trace: Trace,
    pub(crate) shared: Shared,
    pub(crate) ledger: Ledger,
}

/// What came, and what is still to be undone.
#[derive(Default)]
pub(crate) struct Ledger {
    fired: Mutex<BTreeMap<String, u64>>,
    drained: Mutex<BTreeSet<i32>>,
    /// The voter whose disk was lost; one in a world, or a majority would be gone.
    pub(crate) lost: Mutex<Option<i32>>,
    /// Whether it votes again.
    replaced: AtomicBool,
    /// What troubles saw that must not be.
    wrong: Mutex<Vec<String>>,
}

// === impl Nemesis ===

impl Nemesis {
    /// Brings `events`, each at its time, until the last of them is over.
    pub(crate) async fn bring_all(&self, events: &[Event]) {
        let each = events.iter().map(|event| async move {
            sleep(event.at).await;
            self.bring(event).await;
        });
        let mut coming: FuturesUnordered<_> = each.collect();
        while coming.next().await.is_some() {}
    }

    /// Everything is as on a good day. What was killed is on its way back by itself.
    pub(crate) fn heal(&self) {
        self.network.heal_all();
        self.network.set_faults(NetworkFaults::QUIET);
        self.store.set_faults(good_store());
        for machine in &self.machines {
            machine.heal();
        }
    }

    /// How often each kind of trouble came.
    pub(crate) fn fired(&self) -> BTreeMap<String, u64> {
        self.ledger.fired.lock().expect("no panic").clone()
    }

    /// What only an operator can undo.
    pub(crate) async fn undo(&self) {
        let drained = self.ledger.drained.lock().expect("no panic").clone();
        let operator = Operator::new(&self.shared, 77);
        for node in drained {
            operator.drain(node, false).await;
        }
        let lost = *self.ledger.lost.lock().expect("no panic");
        if let Some(node) = lost.filter(|_| !self.ledger.replaced.load(Ordering::Relaxed)) {
            Operator::new(&self.shared, 78).replace_voter(node).await;
        }
    }

    /// What troubles saw that must not be.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.ledger.wrong.lock().expect("no panic").clone()
    }

    pub(crate) fn wrong(&self, problem: String) {
        self.ledger.wrong.lock().expect("no panic").push(problem);
    }

    pub(crate) fn say(&self, event: &Event, what: &str) {
        let (number, trouble) = (event.number, event.trouble);
        self.trace
            .line(&format!("TROUBLE #{number} {trouble:?}: {what}"));
    }

    pub(crate) fn over(&self, event: &Event) {
        self.say(event, "over");
    }

    fn any(&self, random: &SimEntropy) -> &Arc<Machine> {
        &self.machines[random.below(self.machines.len() as u64) as usize]
    }

    fn chosen(&self, random: &SimEntropy, wanted: impl Fn(&Machine) -> bool) -> &Arc<Machine> {
        let fitting: Vec<_> = self.machines.iter().filter(|one| wanted(one)).collect();
        fitting[random.below(fitting.len() as u64) as usize]
    }

    fn broker(&self, random: &SimEntropy) -> &Arc<Machine> {
        self.chosen(random, |machine| machine.plan.broker)
    }

    fn two(&self, random: &SimEntropy) -> [&Arc<Machine>; 2] {
        let one = random.below(self.machines.len() as u64);
        let other =
            (one + 1 + random.below(self.machines.len() as u64 - 1)) % self.machines.len() as u64;
        [one, other].map(|at| &self.machines[at as usize])
    }

    fn came(&self, event: &Event) {
        let mut fired = self.ledger.fired.lock().expect("no panic");
        *fired.entry(format!("{:?}", event.trouble)).or_default() += 1;
    }

    async fn bring(&self, event: &Event) {
        let random = SimEntropy::new(event.seed);
        if event.trouble != Trouble::LostDisk {
            self.came(event);
        }
        match event.trouble {
            Trouble::Kill
            | Trouble::PowerLoss
            | Trouble::Restart
            | Trouble::FlippedRead
            | Trouble::FailedSync
            | Trouble::ClockJump
            | Trouble::TwoKilled => self.strike(event, &random),
            Trouble::Pause
            | Trouble::TwoPaused
            | Trouble::SlowDisk
            | Trouble::DiskFull
            | Trouble::Off
            | Trouble::ControllersKilled
            | Trouble::Rolling => self.on_machines(event, &random).await,
            Trouble::StoreAway
            | Trouble::StoreFlaky
            | Trouble::StoreAwayForOne
            | Trouble::StoreSlowForOne => self.on_store(event, &random).await,
            Trouble::Reset
            | Trouble::Partition
            | Trouble::CutPair
            | Trouble::CutOneWay
            | Trouble::Flap
            | Trouble::CutMachine
            | Trouble::CutAll
            | Trouble::CutControllers
            | Trouble::CutLeader
            | Trouble::CutMinority
            | Trouble::CutEveryController
            | Trouble::Rejected
            | Trouble::SlowNetwork => self.on_network(event, &random).await,
            Trouble::Drain => self.drain(event, &random).await,
            Trouble::LostDisk => self.lose_disk(event, &random).await,
            Trouble::Upgrade => self.upgrade(event, &random).await,
        }
    }

    /// What is done in a moment.
    fn strike(&self, event: &Event, random: &SimEntropy) {
        let machine = self.any(random);
        let node = machine.plan.node;
        self.say(event, &format!("node {node}"));
        match event.trouble {
            Trouble::PowerLoss => machine.kill(true),
            Trouble::Restart => machine.ask_to_stop(),
            Trouble::FlippedRead => {
                machine.kill(random.chance(50));
                let read = machine.disk().reads() + random.below(READS_OF_A_START);
                machine.disk().flip_read_at(read);
            }
            Trouble::FailedSync => machine.disk().fail_next_sync(),
            Trouble::ClockJump => {
                let by = random.below(2 * LONGEST_JUMP_MS as u64) as i64 - LONGEST_JUMP_MS;
                machine.clock().jump_wall(by);
            }
            Trouble::TwoKilled => {
                for machine in self.two(random) {
                    self.say(event, &format!("node {}", machine.plan.node));
                    machine.kill(random.chance(50));
                }
            }
            _ => machine.kill(false),
        }
    }

    async fn on_machines(&self, event: &Event, random: &SimEntropy) {
        let lasting = event.lasting;
        match event.trouble {
            Trouble::ControllersKilled => {
                let until = tokio::time::Instant::now() + lasting;
                while tokio::time::Instant::now() < until {
                    let machine = self.chosen(random, |machine| machine.plan.controller);
                    self.say(event, &format!("node {}", machine.plan.node));
                    machine.kill(random.chance(30));
                    sleep(Duration::from_millis(1000 + random.below(4000))).await;
                }
            }
            Trouble::Rolling => {
                for machine in &self.machines {
                    self.say(event, &format!("node {}", machine.plan.node));
                    machine.ask_to_stop();
                    sleep(Duration::from_millis(500 + random.below(5000))).await;
                }
            }
            Trouble::TwoPaused => {
                let two = self.two(random);
                for machine in two {
                    self.say(
                        event,
                        &format!("node {} for {lasting:?}", machine.plan.node),
                    );
                    machine.pause();
                }
                sleep(lasting).await;
                self.over(event);
                two.iter().for_each(|machine| machine.resume());
            }
            trouble => {
                let machine = self.any(random);
                self.say(
                    event,
                    &format!("node {} for {lasting:?}", machine.plan.node),
                );
                let (begin, end): (&dyn Fn(), &dyn Fn()) = match trouble {
                    Trouble::Pause => (&|| machine.pause(), &|| machine.resume()),
                    Trouble::SlowDisk => (&|| machine.threads().set_speed(SLOW_DISK), &|| {
                        machine.threads().set_speed(GOOD_DISK);
                    }),
                    Trouble::DiskFull => (
                        &|| {
                            let room = random.below(2 << 20);
                            machine
                                .disk()
                                .set_capacity(Some(machine.disk().used() + room));
                        },
                        &|| machine.disk().set_capacity(None),
                    ),
                    _ => (
                        &|| {
                            machine.hold();
                            machine.kill(random.chance(50));
                        },
                        &|| machine.wake(),
                    ),
                };
                begin();
                sleep(lasting).await;
                self.over(event);
                end();
            }
        }
    }

    async fn drain(&self, event: &Event, random: &SimEntropy) {
        let node = self.broker(random).plan.node;
        self.say(event, &format!("node {node} for {:?}", event.lasting));
        let drained = || self.ledger.drained.lock().expect("no panic");
        drained().insert(node);
        let operator = Operator::new(&self.shared, random.below(u64::MAX));
        operator.drain(node, true).await;
        sleep(event.lasting).await;
        operator.drain(node, false).await;
        drained().remove(&node);
        self.over(event);
    }

    /// A disk that holds acknowledged records is not lost for nothing: only voters without a log on
    /// it, one in a world.
    async fn lose_disk(&self, event: &Event, random: &SimEntropy) {
        let bare = |plan: &MachinePlan| !plan.broker || plan.backend == "object";
        let voters = self.machines.iter().filter(|one| one.plan.controller);
        let voters: Vec<_> = voters.collect();
        let fitting: Vec<_> = voters.iter().filter(|one| bare(&one.plan)).collect();
        if fitting.is_empty() || voters.len() < 3 {
            return;
        }
        let machine = fitting[random.below(fitting.len() as u64) as usize];
        let node = machine.plan.node;
        if self.ledger.lost.lock().expect("no panic").is_some() {
            return;
        }
        self.say(event, &format!("node {node}"));
        machine.hold();
        machine.kill(true);
        machine.ended().await;
        *self.ledger.lost.lock().expect("no panic") = Some(node);
        machine.disk().wipe();
        self.came(event);
        machine.wake();
        sleep(event.lasting).await;
        let mut operator = Operator::new(&self.shared, random.below(u64::MAX));
        operator.replace_voter(node).await;
        self.ledger.replaced.store(true, Ordering::Relaxed);
        self.over(event);
    }

    async fn on_store(&self, event: &Event, random: &SimEntropy) {
        let lasting = event.lasting;
        let machine = self.broker(random);
        let away = FaultSettings {
            away: true,
            ..good_store()
        };
        match event.trouble {
            Trouble::StoreAway | Trouble::StoreFlaky => {
                self.say(event, &format!("for {lasting:?}"));
                let away_at_all = event.trouble == Trouble::StoreAway;
                self.store
                    .set_faults(if away_at_all { away } else { bad_store() });
                sleep(lasting).await;
                self.store.set_faults(good_store());
            }
            _ => {
                self.say(
                    event,
                    &format!("node {} for {lasting:?}", machine.plan.node),
                );
                if event.trouble == Trouble::StoreAwayForOne {
                    machine.store.set_away(true);
                } else {
                    // Ten to a thousand times what is usual.
                    let slower = Duration::from_millis((5 * 10) << random.below(8));
                    machine.store.set_slower(slower.min(Duration::from_secs(5)));
                }
                sleep(lasting).await;
                machine.store.heal();
            }
        }
        self.over(event);
    }

    async fn on_network(&self, event: &Event, random: &SimEntropy) {
        let lasting = event.lasting;
        if event.trouble == Trouble::SlowNetwork {
            self.say(event, &format!("for {lasting:?}"));
            self.network.set_faults(SLOW_NETWORK);
            sleep(lasting).await;
            self.network.set_faults(NetworkFaults::QUIET);
            return self.over(event);
        }
        let pairs = self.pairs(event, random);
        if event.trouble == Trouble::Reset {
            for (one, other) in pairs {
                self.network.reset(one, other);
            }
            return;
        }
        let until = tokio::time::Instant::now() + lasting;
        let rejected = event.trouble == Trouble::Rejected;
        for (from, to) in pairs.iter().filter(|_| rejected) {
            self.network.reset(*from, *to);
            self.network.refuse(*from, *to);
        }
        loop {
            for (from, to) in &pairs {
                self.network.cut_one_way(*from, *to);
            }
            let flaps = event.trouble == Trouble::Flap;
            let cut = Duration::from_millis(50 + random.below(3000)).min(lasting);
            sleep(if flaps { cut } else { lasting }).await;
            for (from, to) in &pairs {
                self.network.heal_one_way(*from, *to);
                self.network.admit(*from, *to);
            }
            if !flaps || tokio::time::Instant::now() >= until {
                return self.over(event);
            }
            sleep(Duration::from_millis(random.below(2000))).await;
        }
    }

    /// Between whom it is, each way.
    fn pairs(&self, event: &Event, random: &SimEntropy) -> Vec<(IpAddr, IpAddr)> {
        let lasting = event.lasting;
        let machines = self.machines.iter();
        let addresses: Vec<IpAddr> = match event.trouble {
            Trouble::CutMachine => machines.map(|machine| machine.address()).collect(),
            Trouble::CutAll => {
                let all = machines.map(|machine| machine.address());
                all.chain(self.clients.iter().copied()).collect()
            }
            Trouble::CutControllers | Trouble::Rejected => {
                let controllers = machines.filter(|machine| machine.plan.controller);
                controllers.map(|machine| machine.address()).collect()
            }
            Trouble::CutPair | Trouble::CutOneWay | Trouble::Flap => {
                let [one, other] = self.two(random);
                let nodes = format!("{} and {}", one.plan.node, other.plan.node);
                self.say(event, &format!("nodes {nodes} for {lasting:?}"));
                let way = (one.address(), other.address());
                let back = (way.1, way.0);
                let both = event.trouble != Trouble::CutOneWay;
                return if both { vec![way, back] } else { vec![way] };
            }
            Trouble::CutLeader => {
                let leader = self.machines.iter().find(|machine| machine.leads());
                let leader =
                    leader.unwrap_or_else(|| self.chosen(random, |one| one.plan.controller));
                self.say(event, &format!("node {} for {lasting:?}", leader.plan.node));
                let own = leader.address();
                let others = machines.map(|machine| machine.address());
                let others = others.filter(|address| *address != own);
                return others
                    .flat_map(|other| [(own, other), (other, own)])
                    .collect();
            }
            Trouble::CutMinority | Trouble::CutEveryController => {
                return self.sides(event, random);
            }
            // Some clients, or all.
            _ => {
                let share = 30 + random.below(71);
                let clients = self.clients.iter().filter(|_| random.chance(share as u32));
                clients.copied().collect()
            }
        };
        let machine = match event.trouble {
            Trouble::CutMachine | Trouble::CutAll => self.any(random),
            _ => self.broker(random),
        };
        self.say(
            event,
            &format!("node {} for {lasting:?}", machine.plan.node),
        );
        let own = machine.address();
        let others = addresses.into_iter().filter(|address| *address != own);
        others
            .flat_map(|other| [(own, other), (other, own)])
            .collect()
    }

    /// Cuts that leave controllers on sides: less than half of them on one, or each on its own.
    /// Brokers without a controller, and clients, are on any.
    fn sides(&self, event: &Event, random: &SimEntropy) -> Vec<(IpAddr, IpAddr)> {
        let mut voters: Vec<_> = self
            .machines
            .iter()
            .filter(|one| one.plan.controller)
            .collect();
        let count = voters.len() as u64;
        let minority = (count.saturating_sub(1) / 2).max(1);
        // Any of them, in any order.
        for at in (1..voters.len()).rev() {
            voters.swap(at, random.below(at as u64 + 1) as usize);
        }
        let every = event.trouble == Trouble::CutEveryController;
        let side_of = |place: u64| {
            if every {
                place
            } else {
                u64::from(place < minority)
            }
        };
        let mut sides: Vec<(IpAddr, u64)> = Vec::new();
        for (voter, place) in voters.iter().zip(0..) {
            sides.push((voter.address(), side_of(place)));
        }
        let others = self.machines.iter().filter(|one| !one.plan.controller);
        for other in others
            .map(|machine| machine.address())
            .chain(self.clients.iter().copied())
        {
            sides.push((other, side_of(random.below(count))));
        }
        self.say(event, &format!("{sides:?} for {:?}", event.lasting));
        let mut pairs = Vec::new();
        for (one, side) in &sides {
            let beyond = sides.iter().filter(|(_, other)| other != side);
            pairs.extend(beyond.map(|(other, _)| (*one, *other)));
        }
        pairs
    }
}
