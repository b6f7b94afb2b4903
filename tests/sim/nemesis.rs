//! Brings the troubles of a plan.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use env::sim::{DiskSpeed, NetworkFaults, SimEntropy, SimNetwork};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tests::faults::{FaultSettings, Latency};
use tests::simstore::SimStore;
use tokio::time::sleep;

use crate::machine::Machine;
use crate::plan::{Event, Trouble};
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

    fn say(&self, event: &Event, what: &str) {
        let (number, trouble) = (event.number, event.trouble);
        self.trace
            .line(&format!("TROUBLE #{number} {trouble:?}: {what}"));
    }

    fn over(&self, event: &Event) {
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

    async fn bring(&self, event: &Event) {
        let random = SimEntropy::new(event.seed);
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
            | Trouble::Rejected
            | Trouble::SlowNetwork => self.on_network(event, &random).await,
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
                let by = random.below(7_200_000) as i64 - 3_600_000;
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
}
