//! What the state machine answers.

use protocol::{BrokerEpoch, LeaderEpoch, TopicId, TopicPartition};
use wal::Sequence;

use crate::command::WalBackend;
use crate::error::Refusal;
use crate::types::{Claim, SliceOutcome};

/// An answer to a command that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done, and nothing to add.
    Done,
    /// To `RegisterBroker`.
    Registered {
        /// The epoch given.
        broker: BrokerEpoch,
    },
    /// To `ClaimWal`.
    Claimed(Claimed),
    /// To `CreateTopic` and `CreatePartitions`.
    Topic {
        /// The topic.
        id: TopicId,
        /// How many partitions it has.
        partitions: u32,
    },
    /// To `CommitUpload`, in order of the slices.
    Committed(Vec<SliceOutcome>),
    /// To `SetLogStart`.
    LogStart {
        /// The log start that stands: what was asked, or more.
        offset: i64,
    },
    /// To `Release`.
    Released {
        /// The new leader's epoch, when a live broker took it.
        leader_epoch: LeaderEpoch,
        /// The new leader.
        broker: Option<BrokerEpoch>,
    },
    /// To `AllocateProducerIds`: `first .. first + count`.
    ProducerIds {
        /// The first.
        first: i64,
        /// How many.
        count: u32,
    },
    /// To commands whose parts are judged alone, in order of the parts.
    Many(Vec<Result<Response, Refusal>>),
}

/// What an heir needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its claim.
    pub claim: Claim,
    /// Where the log lives.
    pub backend: WalBackend,
    /// First group that is not committed.
    pub trim: Sequence,
    /// The partitions that the log may hold data of.
    pub partitions: Vec<ClaimedPartition>,
}

/// One partition of a claimed log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedPartition {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Its leader epoch at the fence: entries of others are not taken (R12).
    pub leader_epoch: LeaderEpoch,
    /// Offset up to which it is committed.
    pub committed_end: i64,
}
