//! Each test drives the state by commands, and validates it after every one.

mod commit;
mod deltas;
mod exhaustive;
mod heirs;
mod levels;
mod life;
mod model;
mod moves;
mod names;
mod replace;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::*;
use crate::command::{Claimed, CommitUpload, CreateTopic, RegisterBroker, WalBackend};
use crate::error::ErrorKind;
use crate::level::{NEWEST_LEVEL, OLDEST_LEVEL, VERSION_FEATURE};
use crate::types::{Claim, CommandId, Digest, ObjectRef, SliceOutcome, SliceRef};

pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(100));

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

pub(super) fn wal_id(n: u128) -> WalId {
    WalId(Uuid::from_u128(n))
}

/// A slice of `partition` at leader epoch `epoch` in the object `key`.
pub(super) fn slice(partition: i32, epoch: i32, offsets: (i64, i64), key: &str) -> SliceRef {
    slice_of(tp(partition), epoch, offsets, key)
}

pub(super) fn slice_of(
    topic_partition: TopicPartition,
    epoch: i32,
    offsets: (i64, i64),
    key: &str,
) -> SliceRef {
    let digest = Digest::Crc32([7; 4]);
    SliceRef {
        topic_partition,
        leader_epoch: LeaderEpoch(epoch),
        first_offset: offsets.0,
        end_offset: offsets.1,
        max_timestamp_ms: offsets.1,
        bytes: 10,
        object: Arc::new(ObjectRef {
            key: key.to_owned(),
            length: 100,
            digest: digest.clone(),
        }),
        index_position: 10,
        index_length: 5,
        index_digest: digest,
        checkpoint: false,
    }
}

pub(super) fn round(
    broker: BrokerEpoch,
    wal: WalId,
    groups: (u64, u64),
    slices: Vec<SliceRef>,
) -> CommitUpload {
    let (from, to) = groups;
    CommitUpload {
        broker_epoch: broker,
        wal,
        claim: None,
        from,
        to,
        slices,
    }
}

pub(super) fn finalize(level: u16) -> Command {
    let name = VERSION_FEATURE.to_owned();
    Command::FinalizeFeature { name, level }
}

/// A state under test.
#[derive(Default)]
pub(super) struct World {
    /// When not 0, only every so many commands are checked in full.
    pub(super) check_every: u64,
    pub(super) state: State,
    index: u64,
    pub(super) now_ms: i64,
    ids: u128,
}

impl World {
    /// One whose cluster has agreed to all that this build knows.
    pub(super) fn newest() -> Self {
        let mut world = Self::default();
        world.done(finalize(NEWEST_LEVEL));
        world
    }

    pub(super) fn fresh_id(&mut self) -> CommandId {
        self.ids += 1;
        CommandId(Uuid::from_u128(0xc0_0000 + self.ids))
    }

    /// Applies; a refusal must change nothing.
    pub(super) fn apply_as(&mut self, id: CommandId, command: Command) -> Answer {
        self.index += 1;
        let checked = self.check_every == 0 || self.index.is_multiple_of(self.check_every);
        let before = checked.then(|| self.state.clone());
        let proposal = Proposal {
            id,
            now_ms: self.now_ms,
            command,
        };
        // What is applied is what was read back from the log.
        let proposal = Proposal::decode(&proposal.encode()).unwrap();
        let (answer, effects) = self.state.apply(self.index, &proposal);
        if let Some(before) = before {
            if answer.is_err() {
                let unmoved = State {
                    applied: self.index,
                    ..before
                };
                assert_eq!(self.state, unmoved, "a refused command changed something");
                assert_eq!(effects, Effects::default());
            }
            self.state.validate().unwrap();
        }
        answer
    }

    pub(super) fn apply(&mut self, command: Command) -> Answer {
        let id = self.fresh_id();
        self.apply_as(id, command)
    }

    pub(super) fn done(&mut self, command: Command) -> Response {
        self.apply(command).unwrap()
    }

    pub(super) fn refused(&mut self, command: Command) -> ErrorKind {
        self.apply(command).unwrap_err().kind()
    }

    pub(super) fn commit(&mut self, round: CommitUpload) -> Result<Vec<SliceOutcome>, Refusal> {
        match self.apply(Command::CommitUpload(round))? {
            Response::Committed(outcomes) => Ok(outcomes),
            other => panic!("{other:?} to a round"),
        }
    }

    pub(super) fn register(&mut self, node: i32) -> BrokerEpoch {
        self.register_again(node, None)
    }

    /// Says which epoch the process held before.
    pub(super) fn register_again(&mut self, node: i32, lived: Option<BrokerEpoch>) -> BrokerEpoch {
        self.ids += 1;
        let register = RegisterBroker {
            node: NodeId(node),
            incarnation: Uuid::from_u128(0xb0_0000 + self.ids),
            listeners: Vec::new(),
            rack: None,
            directory: Uuid::nil(),
            lived,
        };
        match self.done(Command::RegisterBroker(register)) {
            Response::Registered { broker } => broker,
            other => panic!("{other:?} to a registration"),
        }
    }

    pub(super) fn open_wal(&mut self, broker: BrokerEpoch, backend: WalBackend) -> WalId {
        self.ids += 1;
        let wal = wal_id(0xa0_0000 + self.ids);
        self.done(Command::OpenWal {
            broker,
            wal,
            backend,
        });
        wal
    }

    /// A broker that can lead.
    pub(super) fn broker(&mut self, node: i32) -> (BrokerEpoch, WalId) {
        let broker = self.register(node);
        let wal = self.open_wal(broker, WalBackend::Object);
        (broker, wal)
    }

    pub(super) fn claim(&mut self, wal: WalId, heir: BrokerEpoch) -> Claimed {
        match self.done(Command::ClaimWal { wal, heir }) {
            Response::Claimed(claimed) => claimed,
            other => panic!("{other:?} to a claim"),
        }
    }

    pub(super) fn create(&mut self, partitions: u32) {
        self.done(create("logs", TOPIC, partitions));
    }

    pub(super) fn partition(&self, partition: i32) -> &Partition {
        self.state.topics.partition(tp(partition)).unwrap()
    }

    pub(super) fn condemned(&self) -> Vec<String> {
        self.state
            .objects
            .condemned()
            .map(|(_, key)| key.to_string())
            .collect()
    }

    pub(super) fn trim(&self, wal: WalId) -> u64 {
        self.state.wals[&wal].trim
    }
}

pub(super) fn create(name: &str, id: TopicId, partitions: u32) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id,
        internal: false,
        partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    })
}

pub(super) fn close(wal: WalId, claim: Option<Claim>, broker: BrokerEpoch, end: u64) -> Command {
    Command::CloseWal {
        wal,
        claim,
        broker,
        end,
    }
}
