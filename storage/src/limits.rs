//! Every bound of this crate, in one place.

use std::time::Duration;

/// Batches remembered per producer (KIP-98): the window in which a retry is recognised.
pub const PRODUCER_WINDOW: usize = 5;
/// Producers remembered per partition; beyond it the longest idle are forgotten.
pub const MAX_PRODUCERS: usize = 50_000;
/// Slices that one upload round may name, so that its command stays below 1 MiB.
pub const MAX_SLICES_PER_ROUND: usize = 6_000;
/// Bytes of one partition in a round from which on it gets an object of its own.
pub const OWN_OBJECT_BYTES: usize = 8 << 20;
/// Puts in flight of one round.
pub const PUTS_IN_FLIGHT: usize = 4;
/// Bytes that one object of a round is cut at.
pub const MAX_OBJECT_BYTES: usize = 256 << 20;
/// First pause after a failure that is worth another try.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Conflicts in a row, with nothing learnt between them, after which a round is corrupt.
pub const MAX_CONFLICTS: u32 = 8;
/// Un-uploaded bytes of one compacted internal partition that start a round: bounds what a
/// coordinator reads after a restart.
pub const INTERNAL_UPLOAD_BYTES: u64 = 4 << 20;
/// Bytes of records that may be superseded before an internal compacted partition is rewritten.
pub const DIRTY_BYTES: u64 = 8 << 20;
/// Keys that one rewriting pass remembers (24 bytes each, about).
pub const MAX_COMPACTION_KEYS: usize = 1 << 20;
/// Slices of a partition's producer state that are read at once when it opens.
pub const OPEN_READS: usize = 16;
/// Largest part of an index that is fetched for one slice.
pub const MAX_SLICE_INDEX_BYTES: u64 = 64 << 20;
/// Largest block that is fetched.
pub const MAX_BLOCK_BYTES: u64 = 256 << 20;
/// Largest read-ahead of a sequential reader.
pub const MAX_READ_AHEAD_BYTES: u64 = 8 << 20;
/// Sequential readers that a partition recognises at a time.
pub const TRACKED_READERS: usize = 8;
/// Committed bytes before the end of the log that count as its tail, for budgets.
pub const TAIL_BYTES: u64 = 128 << 20;
/// Times that one read plans anew because its source moved.
pub const MAX_REPLANS: u32 = 5;
/// Wakers that a partition holds before it drops the dead ones.
pub const WAKERS_BEFORE_SWEEP: usize = 64;
/// Runs of one compaction command, so that it stays below 1 MiB.
pub const MAX_RUNS_PER_REPLACE: usize = 512;
/// Slices that one compaction command may name, old and new.
pub const MAX_SLICES_PER_REPLACE: usize = 3_000;
/// Largest batch, unpacked, in which a timestamp is looked for or records are compacted.
pub const MAX_DECOMPRESSED_BYTES: usize = 128 << 20;
