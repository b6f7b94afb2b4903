//! What a log holds: groups of entries.

use bytes::Bytes;
use protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

/// Random identity of one broker epoch's log; the nonce of everything that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalId(pub Uuid);

impl std::fmt::Display for WalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

/// Number of a group within its log, from 0, without holes.
pub type Sequence = u64;

/// Whole record batches of one partition, as they will be served: base offsets and leader epoch
/// are final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose batches.
    pub topic_partition: TopicPartition,
    /// Epoch under which the offsets were given.
    pub leader_epoch: LeaderEpoch,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// When the broker took it, milliseconds since the Unix epoch.
    pub appended_at_ms: i64,
    /// One or more Kafka v2 record batches, back to back.
    pub batches: Bytes,
}

/// Entries that became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub sequence: Sequence,
    /// In order of append.
    pub entries: Vec<Entry>,
}
