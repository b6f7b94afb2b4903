//! What can go wrong here, and what the caller should do about it.

use std::sync::Arc;

use protocol::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};

use crate::CatalogError;
use crate::format::{Damage, Part};

/// What a caller does with an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later; nothing was done, or doing it again is harmless.
    Retry,
    /// This broker or this leader epoch may no longer do it.
    Fenced,
    /// The request is wrong and will stay so.
    Invalid,
    /// Stored bytes are not what was written: never served, alarmed.
    Corrupt,
    /// A broken invariant of ours.
    Internal,
}

/// One record of a batch that a [`Hooks`](crate::Hooks) refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Index of the record within its batch.
    pub index: i32,
    /// Why, for people.
    pub message: String,
}

/// An error of the storage crate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The partition is not led here at this epoch (any more).
    #[error("{topic_partition} is not led here at epoch {leader_epoch}")]
    NotLeader {
        /// The partition.
        topic_partition: TopicPartition,
        /// Epoch of the handle that was used.
        leader_epoch: LeaderEpoch,
    },
    /// Appends wait, since the partition is being given away.
    #[error("{topic_partition} is being moved")]
    Held {
        /// The partition.
        topic_partition: TopicPartition,
    },
    /// Appends wait, since the controllers do not know of enough of what is durable.
    #[error("{topic_partition} is too far ahead of what the controllers know of it")]
    Ahead {
        /// The partition.
        topic_partition: TopicPartition,
    },
    /// No memory or no queue slot before the deadline; nothing was queued.
    #[error("no room for {bytes} bytes before the deadline")]
    Timeout {
        /// What was asked for.
        bytes: usize,
    },
    /// The disk has no room but for the reserve.
    #[error("the disk is full: {available} bytes left, {reserve} kept for uploads")]
    DiskFull {
        /// Bytes left.
        available: u64,
        /// Bytes kept.
        reserve: u64,
    },
    /// More than the whole budget.
    #[error("{bytes} bytes exceed the memory budget of {budget}")]
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// All there is.
        budget: usize,
    },
    /// Outside [log start, log end].
    #[error("offset {offset} is outside [{log_start}, {log_end}]")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// First readable offset.
        log_start: i64,
        /// One past the last offset.
        log_end: i64,
    },
    /// A sequence that neither follows nor repeats what was seen.
    #[error("producer {producer_id}: sequence {sequence} does not follow {last}")]
    OutOfOrderSequence {
        /// Who.
        producer_id: ProducerId,
        /// First sequence of the batch.
        sequence: i32,
        /// Last sequence known, -1 for none.
        last: i32,
    },
    /// A producer epoch below the one known.
    #[error("producer {producer_id}: epoch {epoch} is below {current}")]
    InvalidProducerEpoch {
        /// Who.
        producer_id: ProducerId,
        /// Epoch of the batch.
        epoch: ProducerEpoch,
        /// Epoch known.
        current: ProducerEpoch,
    },
    /// Not one whole v2 batch.
    #[error("not one whole batch: {reason}")]
    InvalidBatch {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hook refused records of the batch.
    #[error("{} records were refused", records.len())]
    Rejected {
        /// Which, and why.
        records: Vec<RecordError>,
    },
    /// The topic's cleanup policy forbids it.
    #[error("the cleanup policy of {topic_partition} lacks delete")]
    Policy {
        /// The partition.
        topic_partition: TopicPartition,
    },
    /// Nothing that we know holds this offset, though it should: ask again.
    #[error("no source for offset {offset} of {topic_partition}")]
    Missing {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset.
        offset: i64,
    },
    /// An object that the catalog names is gone.
    #[error("object {key}, which {topic_partition} needs, is gone")]
    Lost {
        /// The partition.
        topic_partition: TopicPartition,
        /// The object's key.
        key: String,
    },
    /// Stored bytes are not what was written.
    #[error("object {key} is damaged, {part} at {position}: {damage}")]
    Damaged {
        /// The object's key.
        key: String,
        /// Which part of it.
        part: Part,
        /// Where in it.
        position: u64,
        /// How.
        damage: Damage,
    },
    /// An object that a later version wrote.
    #[error("object {key} needs a later version: {feature}")]
    Unsupported {
        /// The object's key.
        key: String,
        /// What is not known here.
        feature: String,
    },
    /// The object store did not do it.
    #[error("object store, {operation} {key}: {source}")]
    Store {
        /// get or put or delete.
        operation: &'static str,
        /// The object's key.
        key: String,
        /// The store's own word.
        source: Arc<object_store::Error>,
    },
    /// No object stands under the key: who planned with it plans again.
    #[error("object {key} does not exist")]
    NotFound {
        /// The object's key.
        key: String,
    },
    /// Something else than what we wrote stands under a key of ours.
    #[error("object {key} already exists with other content")]
    Foreign {
        /// The object's key.
        key: String,
    },
    /// The object store's URL or settings cannot be used.
    #[error("object store URL: {reason}")]
    StoreUrl {
        /// What is wrong; never holds a secret.
        reason: String,
    },
    /// The object store breaks a promise that the data relies on.
    #[error("object store refused: {condition}; {advice}")]
    UnfitStore {
        /// The condition that does not hold.
        condition: String,
        /// What the operator can do.
        advice: &'static str,
    },
    /// An object was built past a limit of its format.
    #[error("{what} would pass its limit of {limit}")]
    Limit {
        /// What grew too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The catalog did not do it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The log did not do it.
    #[error("log: {source}")]
    Log {
        /// The log's own word.
        source: Arc<wal::Error>,
    },
    /// No log is attached yet, or this storage is shut down.
    #[error("storage is not open for writing")]
    NotOpen,
    /// A broken invariant of ours.
    #[error("internal: {what}")]
    Internal {
        /// Which.
        what: &'static str,
    },
}

impl Error {
    /// What the caller does with it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Timeout { .. }
            | Self::Held { .. }
            | Self::Ahead { .. }
            | Self::DiskFull { .. }
            | Self::Missing { .. }
            | Self::Lost { .. }
            | Self::Store { .. }
            | Self::NotFound { .. }
            | Self::NotOpen
            | Self::Catalog(CatalogError::Unavailable(_) | CatalogError::Conflict(_)) => {
                ErrorKind::Retry
            }
            Self::NotLeader { .. } | Self::Catalog(CatalogError::Fenced(_)) => ErrorKind::Fenced,
            Self::TooLarge { .. }
            | Self::OutOfRange { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::InvalidProducerEpoch { .. }
            | Self::InvalidBatch { .. }
            | Self::Rejected { .. }
            | Self::StoreUrl { .. }
            | Self::UnfitStore { .. }
            | Self::Policy { .. } => ErrorKind::Invalid,
            Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::Unsupported { .. }
            | Self::Catalog(CatalogError::Corrupt(_)) => ErrorKind::Corrupt,
            Self::Log { source } => match source.kind() {
                wal::ErrorKind::Retry => ErrorKind::Retry,
                wal::ErrorKind::Fenced => ErrorKind::Fenced,
                wal::ErrorKind::Invalid => ErrorKind::Invalid,
                wal::ErrorKind::Corrupt => ErrorKind::Corrupt,
                wal::ErrorKind::Internal => ErrorKind::Internal,
            },
            Self::Internal { .. }
            | Self::Limit { .. }
            | Self::Catalog(CatalogError::Invalid(_)) => ErrorKind::Internal,
        }
    }

    pub(crate) fn store(
        operation: &'static str,
        key: impl Into<String>,
        source: object_store::Error,
    ) -> Self {
        Self::Store {
            operation,
            key: key.into(),
            source: Arc::new(source),
        }
    }
}

impl From<wal::Error> for Error {
    fn from(source: wal::Error) -> Self {
        Self::Log {
            source: Arc::new(source),
        }
    }
}
