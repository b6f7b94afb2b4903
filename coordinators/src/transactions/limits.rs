//! Limits of one machine, that is of one partition of `__transaction_state`.

/// Transactional ids that one machine keeps; a new one beyond is refused until others expire.
pub const MAX_IDS: usize = 1_000_000;

/// Partitions of one transaction. Its record names all of them and must fit one batch.
pub const MAX_PARTITIONS: usize = 20_000;

/// Bytes of a transactional id: the record's key has an int16 length.
pub const MAX_ID_BYTES: usize = i16::MAX as usize;

/// Bytes of a topic's name, as everywhere in Kafka.
pub const MAX_TOPIC_BYTES: usize = 249;

/// Transitions that one call of `tick` begins; the next call goes on.
pub const MAX_PER_TICK: usize = 1_000;

/// Markers of one request to one broker.
pub const MAX_MARKERS_PER_BATCH: usize = 10_000;

/// How long a marker or the last record of a transaction waits before it is tried again,
/// milliseconds. Doubles with each attempt.
pub const RETRY_MS: i64 = 100;

/// The longest such wait, milliseconds.
pub const MAX_RETRY_MS: i64 = 5_000;

/// The epoch from which on a producer id is exhausted: the one above is kept for fencing.
pub const EXHAUSTED_EPOCH: i16 = i16::MAX - 1;
