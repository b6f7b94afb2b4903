//! Where objects and partition ends are recorded. The broker implements it over the controller.

use async_trait::async_trait;
use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use wal::{Sequence, WalId};

/// A digest with its algorithm, so that another can come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// 1 is CRC-32 (IEEE).
    pub algorithm: u32,
    /// Big-endian bytes of the digest.
    pub bytes: Vec<u8>,
}

/// A stored object, as the catalog names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Key in the store, complete.
    pub key: String,
    /// Length in bytes.
    pub length: u64,
    /// Digest of the object's footer, which holds that of the index, which holds those of the
    /// blocks.
    pub digest: Digest,
}

/// One partition's contiguous run of blocks inside an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRef {
    /// Whose records.
    pub topic_partition: TopicPartition,
    /// Epoch under which they were written; a slice has one.
    pub leader_epoch: LeaderEpoch,
    /// First offset that the slice covers.
    pub first_offset: i64,
    /// One past the last offset that it covers.
    pub end_offset: i64,
    /// Largest timestamp of its records, milliseconds.
    pub max_timestamp_ms: i64,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// The object that holds it.
    pub object: ObjectRef,
    /// Where in the object this slice's part of the index starts.
    pub index_position: u64,
    /// Its length.
    pub index_length: u64,
    /// Its digest.
    pub index_digest: Digest,
    /// True when that part carries the whole producer state at `end_offset`, not only changes.
    pub checkpoint: bool,
}

/// One upload round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitUpload {
    /// Names this round; a retry carries the same one.
    pub command_id: uuid::Uuid,
    /// Epoch of the broker that commits.
    pub broker_epoch: BrokerEpoch,
    /// The log whose entries were uploaded.
    pub wal_id: WalId,
    /// Claim under which an heir commits; `None` for the log's owner.
    pub claim: Option<u32>,
    /// First group of the round: must be the log's trim point.
    pub from: Sequence,
    /// One past its last group: becomes the trim point.
    pub to: Sequence,
    /// Per partition in order of offsets.
    pub slices: Vec<SliceRef>,
}

/// A compaction: a run of slices gives way to others that cover the same offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaceSlices {
    /// Names this replacement; a retry carries the same one.
    pub command_id: uuid::Uuid,
    /// Epoch of the broker that leads the partitions.
    pub broker_epoch: BrokerEpoch,
    /// One per partition.
    pub runs: Vec<ReplaceRun>,
}

/// One partition's part of a [`ReplaceSlices`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaceRun {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which the broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// What is replaced, exactly as the catalog holds it, by (first, end) offset and object key.
    pub old: Vec<SliceRef>,
    /// What stands there instead: same first and end offset over all.
    pub new: Vec<SliceRef>,
}

/// What the catalog made of a slice of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceOutcome {
    /// Recorded: its end is the partition's committed end.
    Committed,
    /// Rightly dropped (R6): topic deleted, released at that epoch, or already committed.
    Dropped,
}

/// An object that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Key in the store.
    pub key: String,
    /// When it was condemned, milliseconds since the Unix epoch by the controller's clock.
    pub condemned_at_ms: i64,
}

impl Condemned {
    /// Oldest first, then by key.
    pub(crate) fn place(&self) -> (i64, &str) {
        (self.condemned_at_ms, &self.key)
    }
}

/// What the catalog knows of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which it is led.
    pub leader_epoch: LeaderEpoch,
    /// First offset that may be read.
    pub log_start: i64,
    /// Offset up to which slices are recorded.
    pub committed_end: i64,
    /// Epochs that hold data, with the first offset of each, ascending.
    pub epochs: Vec<(LeaderEpoch, i64)>,
    /// In order of offsets; with `gaps`, without holes from `log_start` (or before) to
    /// `committed_end`.
    pub slices: Vec<SliceRef>,
    /// Offsets (first, end) that a log which was given up may have held, and that hold nothing:
    /// in order, passed over by readers.
    pub gaps: Vec<(i64, i64)>,
}

/// Why the catalog did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Not now, or outcome unknown: ask again with the same command id.
    #[error("catalog unavailable: {0}")]
    Unavailable(String),
    /// The caller's broker epoch, claim or leader epoch is no longer current.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The state moved: look again, cut again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A command that is not taken in any state, such as one that is too large: a fault of its
    /// maker, not of what is stored. Nothing was done.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A gap that stays, or an impossible state: stop and alarm.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// Where objects and partition ends are recorded.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Records a round. The outcomes are in order of `commit.slices`.
    ///
    /// # Errors
    /// `Conflict` when `from` is not the trim point or a slice leaves a gap or straddles the
    /// committed end (nothing is then changed); `Fenced` for a stale epoch or claim.
    async fn commit_upload(&self, commit: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError>;

    /// Records a compaction. What it replaced is condemned when nothing names it any more.
    ///
    /// # Errors
    /// `Conflict` when the run changed; `Fenced`.
    async fn replace(&self, replace: ReplaceSlices) -> Result<(), CatalogError>;

    /// Raises a partition's log start (never lowers it). Slices wholly below it are dropped.
    ///
    /// # Errors
    /// `Fenced`, `Unavailable`.
    async fn set_log_start(
        &self,
        broker_epoch: BrokerEpoch,
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log_start: i64,
    ) -> Result<(), CatalogError>;

    /// A linearizable view of one partition, or `None` when it no longer exists.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionView>, CatalogError>;

    /// Objects condemned before `before_ms`, at most `limit`, oldest first and then by key; those that
    /// come behind `after`, whether that is condemned still or not. None: there are no more. An
    /// older catalog knows nothing of `after`.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn condemned(
        &self,
        before_ms: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, CatalogError>;

    /// Forgets condemned objects that are deleted from the store.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn forget_condemned(&self, keys: Vec<String>) -> Result<(), CatalogError>;

    /// Of `keys` under `data/`, those that nothing names and nothing can ever name: the broker
    /// epoch in the key is closed. The collector may delete them.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn orphans(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError>;
}
