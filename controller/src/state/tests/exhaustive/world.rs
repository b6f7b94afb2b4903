//! What there is: the controller's state, processes, what stands in the store, what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::{BrokerEpoch, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::super::{create, finalize, slice_of, tp, wal_id};
use crate::command::{
    Claimed, Command, CommitUpload, Proposal, RegisterBroker, Response, WalBackend,
};
use crate::level::{NEWEST_LEVEL, OLDEST_LEVEL};
use crate::state::tests::TOPIC;
use crate::state::{State, WalPhase};
use crate::types::{Claim, CommandId, SliceRef};

/// Puts that may be under way at once.
pub(super) const WINDOW: usize = 2;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) processes: usize,
    pub(super) records: u8,
    pub(super) fences: u8,
    pub(super) releases: u8,
    /// Processes that were fenced and say that they lived.
    pub(super) returns: u8,
    /// What the cluster has agreed on.
    pub(super) level: u16,
}

impl Bounds {
    pub(super) const LEAST: Self = Self {
        processes: 2,
        records: 1,
        fences: 2,
        releases: 0,
        returns: 0,
        level: NEWEST_LEVEL,
    };
}

/// What a process does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// Acknowledges what is on its way.
    EarlyAck,
    /// Acknowledges whatever is durable, whether or not what lies before it is (R3).
    AckAcrossHole,
    /// Takes the first absent group for the end (R9).
    NoSeal,
    /// Seals without the condition that nothing stands there (R2).
    SealOverwrites,
    /// Asks for a release before everything is committed.
    ReleaseEarly,
}

/// One record in a group of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) epoch: i32,
    pub(super) offset: i64,
    pub(super) value: u8,
}

/// What stands at a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Data(Group),
    Seal,
}

/// A recovery under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Heir {
    /// Of whose log.
    pub(super) of: usize,
    pub(super) claim: u32,
    pub(super) trim: u64,
    /// Leader epoch and committed end of the partition, if it waits for that log.
    pub(super) partition: Option<(i32, i64)>,
    pub(super) read: Vec<Group>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Reading,
    /// Found nothing at the end: about to seal.
    Sealing,
    Sealed,
    Committing(u8),
    Committed,
}

/// A broker process, and its log in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) node: i32,
    pub(super) epoch: u64,
    pub(super) wal: u128,
    /// Found a seal, or was refused: does nothing any more.
    pub(super) stopped: bool,
    /// Leader epoch and next offset, as it believes.
    pub(super) leads: Option<(i32, i64)>,
    /// Groups as they were frozen, by sequence number.
    pub(super) frozen: Vec<Group>,
    /// Which of them it knows to be durable.
    pub(super) known: Vec<bool>,
    /// Below this all are.
    pub(super) acked_to: usize,
    /// Below this all are committed.
    pub(super) uploaded: usize,
    /// Committed end of the partition, as it knows.
    pub(super) end: i64,
    /// The command whose outcome it waits for.
    pub(super) waiting: Option<u8>,
    pub(super) heir: Option<Heir>,
    /// What stands in the store.
    pub(super) store: Vec<Option<Slot>>,
}

/// A round on its way. It may come late, twice, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub(super) id: u8,
    pub(super) from: usize,
    /// For the log of whom, under which claim.
    pub(super) of: usize,
    pub(super) claim: Option<u32>,
    pub(super) range: (u64, u64),
    pub(super) groups: Vec<Group>,
    /// How often it may still come.
    pub(super) left: u8,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) index: u64,
    pub(super) bounds: Bounds,
    pub(super) flaw: Flaw,
    pub(super) processes: Vec<Process>,
    pub(super) net: Vec<Message>,
    /// Acknowledged: value by offset.
    pub(super) acked: BTreeMap<i64, u8>,
    /// Who acknowledged at which leader epoch.
    pub(super) writers: BTreeMap<i32, usize>,
    pub(super) values: u8,
    pub(super) ids: u8,
    pub(super) fences: u8,
    pub(super) releases: u8,
    pub(super) returns: u8,
    /// Epochs that were fenced as they held a claim, and those of them that said that they lived.
    pub(super) taken_for_dead: BTreeSet<u64>,
    pub(super) lived: BTreeSet<u64>,
    /// A promise that a step broke at once.
    pub(super) broken: Option<String>,
}

// === impl Process ===

impl Process {
    pub(super) fn broker(&self) -> BrokerEpoch {
        BrokerEpoch(self.epoch)
    }

    pub(super) fn wal_id(&self) -> WalId {
        wal_id(self.wal)
    }
}

// === impl World ===

impl World {
    pub(super) fn new(bounds: Bounds, flaw: Flaw) -> Self {
        let mut world = Self {
            state: State::default(),
            index: 0,
            bounds,
            flaw,
            processes: Vec::new(),
            net: Vec::new(),
            acked: BTreeMap::new(),
            writers: BTreeMap::new(),
            values: 0,
            ids: 0,
            fences: 0,
            releases: 0,
            returns: 0,
            taken_for_dead: BTreeSet::new(),
            lived: BTreeSet::new(),
            broken: None,
        };
        if bounds.level > OLDEST_LEVEL {
            world.command(finalize(bounds.level)).expect("a level");
        }
        for number in 0..bounds.processes {
            world.join(number as i32, None);
            if number == 0 {
                // The first one leads.
                world.command(create("logs", TOPIC, 1)).expect("a topic");
            }
        }
        world
    }

    /// A process of `node`; what it held before, if it comes back.
    pub(super) fn join(&mut self, node: i32, lived: Option<u64>) {
        let number = self.processes.len();
        let register = RegisterBroker {
            node: protocol::NodeId(node),
            incarnation: Uuid::from_u128(number as u128 + 1),
            listeners: Vec::new(),
            rack: None,
            directory: Uuid::nil(),
            lived: lived.map(BrokerEpoch),
        };
        let registered = self.command(Command::RegisterBroker(register));
        let Some(Response::Registered { broker }) = registered else {
            panic!("{registered:?} to a registration");
        };
        let wal = 0xa0_u128 + number as u128;
        let open = Command::OpenWal {
            broker,
            wal: wal_id(wal),
            backend: WalBackend::Object,
        };
        // Where nothing is written, heirs do without.
        if self.bounds.records > 0 || number == 0 {
            self.command(open).expect("a log");
        }
        self.processes.push(Process {
            node,
            epoch: broker.0,
            wal,
            stopped: false,
            leads: None,
            frozen: Vec::new(),
            known: Vec::new(),
            acked_to: 0,
            uploaded: 0,
            end: 0,
            waiting: None,
            heir: None,
            store: Vec::new(),
        });
    }

    /// Applies a command of its own; `None` when it is refused.
    pub(super) fn command(&mut self, command: Command) -> Option<Response> {
        let id = CommandId(Uuid::from_u128(0x1_0000 + u128::from(self.index)));
        self.apply(id, command)
    }

    pub(super) fn apply(&mut self, id: CommandId, command: Command) -> Option<Response> {
        self.index += 1;
        let proposal = Proposal {
            id,
            now_ms: 0,
            command,
        };
        self.state.apply(self.index, &proposal).0.ok()
    }

    pub(super) fn claim(&mut self, wal: WalId, heir: BrokerEpoch) -> Option<Claimed> {
        match self.command(Command::ClaimWal { wal, heir })? {
            Response::Claimed(claimed) => Some(claimed),
            other => panic!("{other:?} to a claim"),
        }
    }

    pub(super) fn fresh_id(&mut self) -> u8 {
        self.ids += 1;
        self.ids
    }

    /// What a message asks of the controller.
    pub(super) fn round(&self, message: &Message) -> CommitUpload {
        CommitUpload {
            broker_epoch: self.processes[message.from].broker(),
            wal: self.processes[message.of].wal_id(),
            claim: message.claim.map(Claim),
            from: message.range.0,
            to: message.range.1,
            slices: slice(message).into_iter().collect(),
        }
    }

    /// What is recorded of the partition: value by offset.
    pub(super) fn committed(&self) -> BTreeMap<i64, u8> {
        let partition = self.state.topics.partition(partition()).expect("it stands");
        let mut committed = BTreeMap::new();
        for slice in &partition.slices {
            let key = &self.state.objects.get(slice.object).key;
            let (_, values) = key.split_once(':').expect("made here");
            let values = values.split(',').map(|value| value.parse::<u8>());
            for (offset, value) in (slice.first_offset..).zip(values) {
                committed.insert(offset, value.expect("made here"));
            }
        }
        committed
    }

    /// Two worlds with the same key have the same future: what only counts up is left out.
    pub(super) fn key(&self) -> (u64, u64) {
        let mut hasher = DefaultHasher::new();
        self.hash_state(&mut hasher);
        self.processes.hash(&mut hasher);
        self.net.hash(&mut hasher);
        self.acked.hash(&mut hasher);
        (self.values, self.ids, self.fences, self.releases).hash(&mut hasher);
        (self.returns, &self.taken_for_dead, &self.lived).hash(&mut hasher);
        let half = hasher.finish();
        // Two halves, so that no two worlds of some hundred thousand are taken for one.
        0x5eed_u64.hash(&mut hasher);
        (half, hasher.finish())
    }

    fn hash_state(&self, hasher: &mut DefaultHasher) {
        let partition = self.state.topics.partition(partition()).expect("it stands");
        let leader = partition.leader.map(|leader| leader.0);
        let awaits = partition.awaits.map(|wal| wal.0.as_u128());
        (leader, partition.leader_epoch.0, awaits).hash(hasher);
        self.committed().hash(hasher);
        for process in &self.processes {
            let broker = self.state.brokers.get(&process.broker());
            broker.map(|broker| broker.fenced).hash(hasher);
            let Some(wal) = self.state.wals.get(&process.wal_id()) else {
                continue;
            };
            let phase = match wal.phase {
                WalPhase::Active => (0, 0, 0),
                WalPhase::Fenced => (1, 0, 0),
                WalPhase::Claimed { heir, claim } => (2, heir.0, claim.0),
                WalPhase::Closed { end, .. } => (3, end, 0),
            };
            (phase, wal.trim, wal.claims).hash(hasher);
            let deaths = wal.deaths.iter().map(|death| death.epoch.0);
            (deaths.collect::<Vec<_>>(), wal.quarantine.is_some()).hash(hasher);
            let last = wal.last_commit.as_ref();
            last.map(|last| last.id.0.as_u128()).hash(hasher);
        }
    }
}

pub(super) fn partition() -> TopicPartition {
    tp(0)
}

/// The groups of a message as one slice, whose key tells the values.
fn slice(message: &Message) -> Option<SliceRef> {
    let (first, last) = (message.groups.first()?, message.groups.last()?);
    let values: Vec<String> = message.groups.iter().map(|g| g.value.to_string()).collect();
    let key = format!("{}-{}:{}", message.from, message.id, values.join(","));
    let offsets = (first.offset, last.offset + 1);
    Some(slice_of(partition(), first.epoch, offsets, &key))
}
