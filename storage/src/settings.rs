//! What an operator may set, as data.

use std::path::PathBuf;
use std::time::Duration;

/// Space on a local disk that only uploads may use, so that a full disk can be freed (by uploads,
/// recovery and retention).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskReserve {
    /// Somewhere on the file system of the object store.
    pub path: PathBuf,
    /// Bytes kept: at least one upload round.
    pub bytes: u64,
    /// How often free space is looked at.
    pub interval: Duration,
}

/// Settings of a [`Storage`](crate::Storage).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Un-uploaded bytes that start an upload round (`upload.bytes`).
    pub upload_bytes: u64,
    /// Age of the oldest un-uploaded entry that starts one.
    pub upload_age: Duration,
    /// Memory for un-uploaded data of users, bytes: producers wait when it is out.
    pub unuploaded_bytes: usize,
    /// The same for internal topics, markers and the like.
    pub unuploaded_internal_bytes: usize,
    /// Memory for what is read of dead brokers' logs.
    pub recovery_bytes: usize,
    /// Memory for the newest uploaded bytes, for tail readers.
    pub hot_bytes: usize,
    /// Memory for blocks read from objects.
    pub block_cache_bytes: u64,
    /// Memory for indexes read from objects.
    pub index_cache_bytes: u64,
    /// Memory for what is known of partitions that are led elsewhere and read here.
    pub followed_bytes: usize,
    /// Bytes in flight from the store for readers near the end of a log, and for all others.
    pub read_bytes: ReadBudget<usize>,
    /// Requests in flight, likewise.
    pub read_requests: ReadBudget<usize>,
    /// Bytes a second for readers far from the end; 0 for no limit.
    pub catch_up_bytes_per_second: u64,
    /// Offsets given out beyond what the controllers know to be durable; appends wait then.
    pub unreported_offsets: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// Bytes of a partition after which a slice carries its whole producer state.
    pub checkpoint_bytes: u64,
    /// Time after which it does.
    pub checkpoint_age: Duration,
    /// How often the compactor looks for work.
    pub compaction_interval: Duration,
    /// Bytes that one compaction holds in memory.
    pub compaction_memory_bytes: u64,
    /// Small slices of one partition in a row that are merged.
    pub compaction_slices: usize,
    /// Bytes from which on a partition's merged run gets a segment of its own.
    pub segment_bytes: u64,
    /// Bytes that a segment is merged up to; at most `compaction_memory_bytes` is useful.
    pub segment_max_bytes: u64,
    /// How often retention is applied.
    pub retention_interval: Duration,
    /// When the object store is a local disk.
    pub disk_reserve: Option<DiskReserve>,
}

/// A budget for tail readers and one for those who catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBudget<T> {
    /// Near the end of the log.
    pub tail: T,
    /// Everywhere else.
    pub catch_up: T,
}

impl StorageSettings {
    /// Settings that keep this crate's memory within `bytes`: nearly half for un-uploaded data,
    /// the rest for caches, reads, compaction and recovery.
    pub fn within(bytes: usize) -> Self {
        let share = |parts: usize| bytes / 32 * parts;
        let unuploaded_bytes = share(12);
        Self {
            upload_bytes: (64 << 20).min(unuploaded_bytes as u64 / 3),
            upload_age: Duration::from_secs(60),
            unuploaded_bytes,
            unuploaded_internal_bytes: share(2),
            recovery_bytes: share(3),
            hot_bytes: share(3) - share(1) / 2,
            block_cache_bytes: (share(3) - share(1) / 2) as u64,
            index_cache_bytes: share(1) as u64,
            followed_bytes: share(1),
            read_bytes: ReadBudget {
                tail: share(2),
                catch_up: share(2),
            },
            read_requests: ReadBudget {
                tail: 64,
                catch_up: 16,
            },
            catch_up_bytes_per_second: 0,
            unreported_offsets: i64::MAX,
            producer_expiration_ms: 86_400_000,
            checkpoint_bytes: 64 << 20,
            checkpoint_age: Duration::from_secs(600),
            compaction_interval: Duration::from_secs(30),
            compaction_memory_bytes: share(4) as u64,
            compaction_slices: 16,
            segment_bytes: (64 << 20).min(share(2) as u64),
            segment_max_bytes: (1 << 30).min(share(4) as u64),
            retention_interval: Duration::from_secs(300),
            disk_reserve: None,
        }
    }
}

/// What of a topic's configuration matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// One of the broker's own topics: its appends use permits of their own.
    pub internal: bool,
    /// `cleanup.policy` names `delete`.
    pub delete: bool,
    /// `cleanup.policy` names `compact`.
    pub compact: bool,
    /// `retention.ms`; -1 for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 for no limit.
    pub retention_bytes: i64,
    /// `delete.retention.ms`: how long tombstones stay.
    pub delete_retention_ms: i64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
}

impl TopicConfig {
    /// Kafka's defaults: deleted after a week.
    pub fn kafka_default() -> Self {
        Self {
            internal: false,
            delete: true,
            compact: false,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            delete_retention_ms: 86_400_000,
            log_append_time: false,
        }
    }

    /// An internal compacted topic, as `__consumer_offsets` is one.
    pub fn internal_compacted() -> Self {
        Self {
            internal: true,
            delete: false,
            compact: true,
            ..Self::kafka_default()
        }
    }
}
