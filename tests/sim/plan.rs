//! What a seed means: the machines, and which troubles come when.

use std::fmt;
use std::time::Duration;

use controller::{NEWEST_LEVEL, OLDEST_LEVEL};
use env::sim::SimEntropy;

use crate::acts::Act;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A process is killed; its machine lives.
    Kill,
    /// A machine loses power: unsynced bytes are lost, torn, reordered.
    PowerLoss,
    /// Connections are reset.
    Reset,
    /// Clients and a broker do not reach each other for a while.
    Partition,
    /// A disk is slow for a while.
    SlowDisk,
    /// A sync fails: the process must end.
    FailedSync,
    /// The store answers nobody for a while.
    StoreAway,
    /// The store answers 503, loses answers, cuts bodies, lands puts late.
    StoreFlaky,
    /// A wall clock jumps.
    ClockJump,
    /// A process is asked to stop, and started again.
    Restart,
    /// A process is killed, and one of the next reads of its disk gives a wrong bit, once.
    FlippedRead,
    /// A machine stands still, and goes on as if nothing had been.
    Pause,
    /// Two brokers are killed at once.
    TwoKilled,
    /// Two machines stand still at once.
    TwoPaused,
    /// Two machines do not reach each other.
    CutPair,
    /// What one machine says does not reach another.
    CutOneWay,
    /// Two machines reach each other now and then.
    Flap,
    /// A machine reaches clients and store, and no other machine.
    CutMachine,
    /// A machine reaches nobody but the store.
    CutAll,
    /// A machine reaches all but the controllers.
    CutControllers,
    /// A broker and the controllers lose each other, and whoever of them knocks at its door is
    /// refused: it looks dead, and is not.
    Rejected,
    /// The network is slow.
    SlowNetwork,
    /// The store is away for one machine.
    StoreAwayForOne,
    /// The store is slow for one machine.
    StoreSlowForOne,
    /// A disk takes no more bytes for a while.
    DiskFull,
    /// A controller is killed, again and again.
    ControllersKilled,
    /// One machine after the other is asked to stop, and started again.
    Rolling,
    /// A machine is off for a while.
    Off,
    /// The controller that leads reaches no other machine.
    CutLeader,
    /// Less than half of the controllers, with brokers and clients, on one side; the others on the
    /// other.
    CutMinority,
    /// No side of a cut has more than one controller.
    CutEveryController,
    /// A broker is drained by the admin page, and resumed after a while.
    Drain,
    /// A voter's disk is lost; one in its place is empty, and the operator follows the runbook.
    LostDisk,
    /// All machines get a newer build, one after the other, and the newest level is finalized.
    Upgrade,
}

/// What may happen to a machine that is alone.
const SINGLE: [Trouble; 11] = [
    Trouble::Kill,
    Trouble::PowerLoss,
    Trouble::Reset,
    Trouble::Partition,
    Trouble::SlowDisk,
    Trouble::FailedSync,
    Trouble::StoreAway,
    Trouble::StoreFlaky,
    Trouble::ClockJump,
    Trouble::Restart,
    Trouble::FlippedRead,
];

/// What may happen to several beside that.
const CLUSTER: [Trouble; 22] = [
    Trouble::Pause,
    Trouble::TwoKilled,
    Trouble::TwoPaused,
    Trouble::CutPair,
    Trouble::CutOneWay,
    Trouble::Flap,
    Trouble::CutMachine,
    Trouble::CutAll,
    Trouble::CutControllers,
    Trouble::Rejected,
    Trouble::SlowNetwork,
    Trouble::StoreAwayForOne,
    Trouble::StoreSlowForOne,
    Trouble::DiskFull,
    Trouble::ControllersKilled,
    Trouble::Rolling,
    Trouble::Off,
    Trouble::CutLeader,
    Trouble::CutMinority,
    Trouble::CutEveryController,
    Trouble::Drain,
    Trouble::LostDisk,
];

impl Trouble {
    /// Every kind there is.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let drawn = SINGLE.into_iter().chain(CLUSTER);
        drawn.chain([Self::Upgrade])
    }

    pub(crate) fn lasts(self) -> bool {
        !matches!(
            self,
            Self::Kill
                | Self::PowerLoss
                | Self::Reset
                | Self::FailedSync
                | Self::ClockJump
                | Self::Restart
                | Self::FlippedRead
                | Self::TwoKilled
        )
    }
}

/// A trouble that comes.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Its number in the plan, also once others are left out.
    pub(crate) number: usize,
    pub(crate) trouble: Trouble,
    /// When, counted from the beginning of work.
    pub(crate) at: Duration,
    pub(crate) lasting: Duration,
    /// Says whom it hits, and the like.
    pub(crate) seed: u64,
}

/// What runs on a machine.
#[derive(Clone, Debug)]
pub(crate) struct MachinePlan {
    /// Node id.
    pub(crate) node: i32,
    pub(crate) broker: bool,
    pub(crate) controller: bool,
    /// `disk` or `object`.
    pub(crate) backend: &'static str,
    /// How fast its clock is, in millionths.
    pub(crate) drift: i32,
}

impl MachinePlan {
    fn alone(backend: &'static str) -> Self {
        Self {
            node: 1,
            broker: true,
            controller: true,
            backend,
            drift: 0,
        }
    }
}

/// Which worlds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One machine, controller and broker.
    Single,
    /// Three controllers and several brokers.
    Cluster,
    /// The same, begun with an older build that is replaced. Among `all` with some seeds only.
    Upgrade,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Single, Self::Cluster];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cluster => "cluster",
            Self::Upgrade => "upgrade",
        }
    }

    /// The kinds that `name` means: one, or `all`.
    pub(crate) fn named(name: &str) -> Vec<Self> {
        if name == Self::Upgrade.name() {
            return vec![Self::Upgrade];
        }
        let fits = |kind: &Self| name == "all" || name == kind.name();
        Self::ALL.into_iter().filter(fits).collect()
    }
}

/// What happens in one simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) machines: Vec<MachinePlan>,
    pub(crate) events: Vec<Event>,
    /// How long clients work before all is healed.
    pub(crate) length: Duration,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Whether a consumer group reads.
    pub(crate) group: bool,
    /// Whether an administrator works.
    pub(crate) admin: bool,
    /// Whether partitions are moved about.
    pub(crate) moves: bool,
    /// The newest level that all machines' builds know in the beginning, and so the cluster's.
    pub(crate) build: u16,
    /// Whether sizes are small and times short: little memory, compaction, collection and
    /// snapshots within seconds.
    pub(crate) hasty: bool,
    /// What is done in the place of troubles.
    pub(crate) act: Option<Act>,
    /// Processes end at these steps of the act.
    pub(crate) points: Vec<u64>,
    /// Whether stored bytes are damaged in the end, while the machine rests.
    pub(crate) rot: bool,
    /// This read of the first machine's disk gives one wrong bit.
    pub(crate) flip_read: Option<u64>,
    /// Kill the first machine in the middle of this disk operation.
    pub(crate) crash_at: Option<u64>,
}

impl Plan {
    /// The plan of a seed: a random subset of troubles (swarm testing).
    pub(crate) fn draw(kind: Kind, seed: u64) -> Self {
        match kind {
            Kind::Single => Self::single(seed),
            Kind::Cluster => Self::cluster(seed),
            Kind::Upgrade => Self::cluster(seed).upgraded(seed),
        }
    }

    fn single(seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x706c_616e);
        let troubles: Vec<_> = SINGLE.into_iter().filter(|_| random.chance(40)).collect();
        let backend = backend(&random);
        let length = Duration::from_secs(10 + random.below(20));
        Self {
            events: schedule(&random, &troubles, length, 1, 9),
            length,
            partitions: 1 + random.below(3) as i32,
            group: random.chance(50),
            admin: random.chance(50),
            hasty: random.chance(50),
            ..Self::quiet(backend)
        }
    }

    fn cluster(seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x636c_7573);
        let all = SINGLE.into_iter().chain(CLUSTER);
        // From a few kinds to many.
        let share = 10 + random.below(40);
        let troubles: Vec<_> = all.filter(|_| random.chance(share as u32)).collect();
        let length = Duration::from_secs(15 + random.below(45));
        let lanes = 1 + random.below(3);
        Self {
            kind: Kind::Cluster,
            machines: machines(&random),
            events: schedule(&random, &troubles, length, lanes, 25),
            length,
            partitions: 3 + random.below(6) as i32,
            group: random.chance(60),
            admin: random.chance(50),
            moves: random.chance(50),
            hasty: random.chance(60),
            ..Self::quiet("object")
        }
    }

    /// The same, begun with an older build that is replaced within the first half of the day.
    fn upgraded(mut self, seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x6c65_766c);
        let half = self.length.as_millis() as u64 / 2;
        self.events.push(Event {
            number: self.events.len(),
            trouble: Trouble::Upgrade,
            at: Duration::from_millis(random.below(half)),
            lasting: Duration::ZERO,
            seed: random.below(u64::MAX),
        });
        self.build = OLDEST_LEVEL;
        self.kind = Kind::Upgrade;
        self
    }

    /// A short while with kills, then damage to what is stored.
    pub(crate) fn rot(seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x0072_6f74);
        let troubles = [Trouble::Kill, Trouble::PowerLoss, Trouble::Restart];
        let troubles: Vec<_> = troubles.into_iter().filter(|_| random.chance(50)).collect();
        let length = Duration::from_secs(2 + random.below(6));
        Self {
            events: schedule(&random, &troubles, length, 1, 9),
            length,
            partitions: 1 + random.below(2) as i32,
            rot: true,
            ..Self::quiet(backend(&random))
        }
    }

    /// No trouble, for a short while, on one machine.
    pub(crate) fn quiet(backend: &'static str) -> Self {
        Self {
            kind: Kind::Single,
            machines: vec![MachinePlan::alone(backend)],
            events: Vec::new(),
            length: Duration::from_secs(4),
            partitions: 2,
            group: false,
            admin: false,
            moves: false,
            build: NEWEST_LEVEL,
            hasty: false,
            act: None,
            points: Vec::new(),
            rot: false,
            flip_read: None,
            crash_at: None,
        }
    }

    /// `act`, with processes that end at `points` of it.
    pub(crate) fn act(act: Act, points: Vec<u64>) -> Self {
        let machine = |node| MachinePlan {
            node,
            broker: true,
            controller: node <= 3,
            backend: act.backend(),
            drift: 0,
        };
        let several = act.machines() > 1;
        Self {
            kind: if several { Kind::Cluster } else { Kind::Single },
            machines: (1..=act.machines()).map(machine).collect(),
            partitions: if several { 4 } else { 2 },
            hasty: true,
            act: Some(act),
            points,
            ..Self::quiet(act.backend())
        }
    }

    /// The same with one wrong bit in read `read` of the disk.
    pub(crate) fn flip_read(mut self, read: u64) -> Self {
        self.flip_read = Some(read);
        self
    }

    /// The same with a power loss in the middle of disk operation `op`.
    pub(crate) fn crash_at(mut self, op: u64) -> Self {
        self.crash_at = Some(op);
        self
    }

    /// Kinds of trouble that come, each once.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let names = self
            .events
            .iter()
            .map(|event| format!("{:?}", event.trouble));
        let names: std::collections::BTreeSet<_> = names.collect();
        names.into_iter().collect()
    }

    /// The same machines with other troubles: those that `aim` names, again and again. It may also
    /// name the backend of all logs (`disk`, `object`), a `group` and `moves`.
    pub(crate) fn aimed(mut self, aim: &str, seed: u64) -> Self {
        let names: Vec<&str> = aim.split(',').collect();
        let named = |trouble: &Trouble| names.contains(&format!("{trouble:?}").as_str());
        let troubles: Vec<_> = SINGLE.into_iter().chain(CLUSTER).filter(named).collect();
        let random = SimEntropy::new(seed ^ 0x0061_696d);
        // Dense: many a bug needs one trouble in the middle of another.
        let lane = |_| schedule(&random, &troubles, self.length, 1, 9);
        self.events = (0..3).flat_map(lane).collect();
        self.events.sort_by_key(|event| event.at);
        for (event, number) in self.events.iter_mut().zip(0..) {
            event.number = number;
        }
        for backend in ["disk", "object"] {
            if names.contains(&backend) {
                let machines = self.machines.iter_mut();
                machines.for_each(|machine| machine.backend = backend);
            }
        }
        self.build = NEWEST_LEVEL;
        self.group |= names.contains(&"group");
        self.moves |= names.contains(&"moves");
        self
    }

    /// The same without what `left_out` names: kinds of trouble, and `#number` of single events.
    pub(crate) fn without(mut self, left_out: &str) -> Self {
        let names: Vec<&str> = left_out.split(',').collect();
        self.events.retain(|event| {
            let (kind, number) = (format!("{:?}", event.trouble), format!("#{}", event.number));
            !names.contains(&kind.as_str()) && !names.contains(&number.as_str())
        });
        self
    }
}

fn backend(random: &SimEntropy) -> &'static str {
    if random.chance(50) { "disk" } else { "object" }
}

/// Three or five controllers, each with a broker or each without, and brokers beside them: three
/// to seven brokers in all.
fn machines(random: &SimEntropy) -> Vec<MachinePlan> {
    let voters = if random.chance(80) { 3 } else { 5 };
    let combined = random.chance(60);
    // Fewer are quicker, and meet more often.
    let more = random.below(5).min(random.below(5)) as i32;
    let nodes = match combined {
        true => (voters + more).min(7),
        false => voters + 3 + more,
    };
    let mixed = random.chance(30);
    let same = if random.chance(70) { "object" } else { "disk" };
    let drifts = random.chance(30);
    let machine = |node| MachinePlan {
        node,
        broker: combined || node > voters,
        controller: node <= voters,
        backend: if mixed { backend(random) } else { same },
        drift: if drifts {
            random.below(20_001) as i32 - 10_000
        } else {
            0
        },
    };
    (1..=nodes).map(machine).collect()
}

/// Troubles at random moments, in lanes in which one comes after the other.
fn schedule(
    random: &SimEntropy,
    troubles: &[Trouble],
    length: Duration,
    lanes: u64,
    longest: u64,
) -> Vec<Event> {
    let mut events = Vec::new();
    if troubles.is_empty() {
        return events;
    }
    for _ in 0..lanes {
        let mut at = Duration::ZERO;
        loop {
            at += Duration::from_millis(300 + random.below(4000 * lanes));
            if at >= length {
                break;
            }
            let trouble = troubles[random.below(troubles.len() as u64) as usize];
            // Often short, sometimes long.
            let share = random
                .below(longest * 1000)
                .min(random.below(longest * 1000));
            let lasting = Duration::from_millis(100 + share);
            let seed = random.below(u64::MAX);
            events.push(Event {
                number: 0,
                trouble,
                at,
                lasting,
                seed,
            });
            if trouble.lasts() {
                at += lasting;
            }
        }
    }
    events.sort_by_key(|event| event.at);
    for (event, number) in events.iter_mut().zip(0..) {
        event.number = number;
    }
    events
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [alone] = &self.machines[..] {
            write!(f, "{} WAL", alone.backend)?;
        }
        if self.machines.len() > 1 {
            let shown = self.machines.iter().map(|machine| {
                let role = if machine.controller { "c" } else { "" };
                let wal = if machine.broker { machine.backend } else { "" };
                format!(
                    "{}:{role}{}",
                    machine.node,
                    wal.get(..1).unwrap_or_default()
                )
            });
            write!(f, "nodes {}", shown.collect::<Vec<_>>().join(" "))?;
        }
        let (partitions, events) = (self.partitions, self.events.len());
        let troubles = self.troubles().join(", ");
        write!(f, ", {partitions} partitions, {events} events [{troubles}]")?;
        if self.group {
            f.write_str(", group")?;
        }
        if self.admin {
            f.write_str(", admin")?;
        }
        if self.moves {
            f.write_str(", moves")?;
        }
        if self.hasty {
            f.write_str(", hasty")?;
        }
        if self.build < NEWEST_LEVEL {
            write!(f, ", from level {}", self.build)?;
        }
        if let Some(act) = self.act {
            write!(f, ", {} killed at {:?}", act.name(), self.points)?;
        }
        if self.rot {
            f.write_str(", rot")?;
        }
        if let Some(read) = self.flip_read {
            write!(f, ", one wrong bit in disk read {read}")?;
        }
        match self.crash_at {
            Some(op) => write!(f, ", crash at disk operation {op}"),
            None => Ok(()),
        }
    }
}

#[test]
fn an_upgrade_begins_with_an_older_build() {
    for seed in 1..=20 {
        let (usual, upgrade) = (
            Plan::draw(Kind::Cluster, seed),
            Plan::draw(Kind::Upgrade, seed),
        );
        assert_eq!((usual.build, upgrade.build), (NEWEST_LEVEL, OLDEST_LEVEL));
        assert_eq!(usual.events.len() + 1, upgrade.events.len());
        assert!(upgrade.troubles().contains(&"Upgrade".to_owned()));
    }
}
