//! What goes wrong, and what the caller should do about it.

use std::io;
use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use wal::WalId;

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask again, with the same command id when the outcome is unknown.
    Retry,
    /// The caller's epoch or claim is no longer current: stop, look again.
    Fenced,
    /// The request is wrong and will stay so.
    Invalid,
    /// Stored bytes or state are damaged: stop and alarm.
    Corrupt,
    /// A fault here.
    Internal,
}

/// Why the state machine did not do as a command asked. Nothing is then changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state moved on: look again, and ask anew.
    #[error("conflict: {reason}")]
    Conflict {
        /// What moved.
        reason: String,
    },
    /// What is asked for is not there yet (a log not closed, no broker to take a partition).
    #[error("not ready: {reason}")]
    NotReady {
        /// What is missing.
        reason: String,
    },
    /// A broker epoch that is fenced, or that never was.
    #[error("broker epoch {broker} is fenced")]
    StaleBroker {
        /// The epoch.
        broker: BrokerEpoch,
    },
    /// A log that is not open to this caller: another claim holds it, or it is closed.
    #[error("log {wal} is not open to the caller: {reason}")]
    StaleWal {
        /// The log.
        wal: WalId,
        /// Who holds it.
        reason: String,
    },
    /// A leader epoch that is not the partition's.
    #[error("leader epoch {given} of {partition} is not current, {current} is")]
    StaleLeader {
        /// The partition.
        partition: TopicPartition,
        /// What the command named.
        given: LeaderEpoch,
        /// What stands.
        current: LeaderEpoch,
    },
    /// A log that is set aside after reports of corruption.
    #[error("log {wal} is quarantined: {reason}")]
    Quarantined {
        /// The log.
        wal: WalId,
        /// The report.
        reason: String,
    },
    /// A node id that another live process uses.
    #[error(
        "node {node} is registered by another process, from another directory, whose lease has not \
         run out: this one waits for that; if both are meant to run, give one of them another \
         node.id; if the other is dead, nothing need be done"
    )]
    NodeInUse {
        /// The node.
        node: NodeId,
    },
    /// A topic of that name exists.
    #[error("topic {name} exists")]
    TopicExists {
        /// Its name.
        name: String,
    },
    /// No such topic.
    #[error("unknown topic {name}")]
    UnknownTopic {
        /// Name or id.
        name: String,
    },
    /// No such partition.
    #[error("unknown partition {partition}")]
    UnknownPartition {
        /// The partition.
        partition: TopicPartition,
    },
    /// A name that Kafka does not allow, or that collides with another one.
    #[error("invalid topic name {name:?}: {reason}")]
    InvalidTopicName {
        /// The name, cut to its bound.
        name: String,
        /// Why.
        reason: String,
    },
    /// A partition count out of bounds.
    #[error("invalid number of partitions: {reason}")]
    InvalidPartitions {
        /// Why.
        reason: String,
    },
    /// A replication factor below 1.
    #[error("invalid replication factor {given}")]
    InvalidReplicationFactor {
        /// What was asked for.
        given: i16,
    },
    /// A manual assignment that does not fit.
    #[error("invalid replica assignment: {reason}")]
    InvalidAssignment {
        /// Why.
        reason: String,
    },
    /// A configuration entry out of bounds.
    #[error("invalid configuration {name}: {reason}")]
    InvalidConfig {
        /// The entry.
        name: String,
        /// Why.
        reason: String,
    },
    /// A command that makes no sense, whatever the state.
    #[error("invalid command: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// A bound of `limits` is reached.
    #[error("limit reached: {what}")]
    LimitReached {
        /// Which.
        what: String,
    },
    /// A command that the cluster has not agreed to understand yet.
    #[error(
        "this needs level {needs} of {feature}, the cluster is at {level}: once every node runs a \
         build that knows it, finalize it with `headwater cluster finalize` (or UpdateFeatures)",
        feature = crate::level::VERSION_FEATURE
    )]
    LevelTooLow {
        /// The least level for it.
        needs: u16,
        /// The level that is finalized.
        level: u16,
    },
    /// The command contradicts the state in a way that no right caller can bring about.
    #[error("corrupt: {reason}")]
    Corrupt {
        /// The contradiction.
        reason: String,
    },
}

/// Errors of the controller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The state machine refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader, no quorum, or no answer in time. The outcome is unknown.
    #[error("controller unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The controller has stopped: by request, or for good after a storage error.
    #[error("controller stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// A file operation failed. After a failed sync nothing is written any more.
    #[error("{context}: {source}")]
    Io {
        /// What was attempted, with the path.
        context: String,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The object store failed.
    #[error("{context}: {reason}")]
    Store {
        /// What was attempted, with the key.
        context: String,
        /// The store's error.
        reason: String,
    },
    /// Stored bytes are damaged.
    #[error("corrupt {what}: {reason}")]
    Corrupt {
        /// File or object.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// Settings that cannot be used.
    #[error("invalid settings: {reason}")]
    Settings {
        /// Which and why.
        reason: String,
    },
    /// A command larger than one log entry may be.
    #[error("command of {bytes} bytes exceeds {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

// === impl Refusal ===

impl Refusal {
    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflict { .. } | Self::NotReady { .. } | Self::NodeInUse { .. } => {
                ErrorKind::Retry
            }
            Self::StaleBroker { .. } | Self::StaleWal { .. } | Self::StaleLeader { .. } => {
                ErrorKind::Fenced
            }
            Self::Quarantined { .. }
            | Self::TopicExists { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::InvalidTopicName { .. }
            | Self::InvalidPartitions { .. }
            | Self::InvalidReplicationFactor { .. }
            | Self::InvalidAssignment { .. }
            | Self::InvalidConfig { .. }
            | Self::Invalid { .. }
            | Self::LimitReached { .. }
            | Self::LevelTooLow { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }

    pub(crate) fn conflict(reason: impl Into<String>) -> Self {
        Self::Conflict {
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    pub(crate) fn limit(what: impl Into<String>) -> Self {
        Self::LimitReached { what: what.into() }
    }
}

// === impl Error ===

impl Error {
    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Unavailable { .. } | Self::Store { .. } => ErrorKind::Retry,
            Self::Stopped { .. } | Self::Io { .. } => ErrorKind::Internal,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Settings { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
        }
    }

    /// The state machine's answer, when it was asked and refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unavailable { .. }
            | Self::Stopped { .. }
            | Self::Io { .. }
            | Self::Store { .. }
            | Self::Corrupt { .. }
            | Self::Settings { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            context: context.into(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
