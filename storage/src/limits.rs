//! Every bound of this crate, in one place.

use std::time::Duration;

/// Batches remembered per producer (KIP-98): the window in which a retry is recognised.
pub(crate) const PRODUCER_WINDOW: usize = 5;
/// Producers remembered per partition; beyond it the longest idle are forgotten.
pub(crate) const MAX_PRODUCERS: usize = 50_000;
/// Slices that one upload round may name, so that its command stays below 1 MiB.
pub(crate) const MAX_SLICES_PER_ROUND: usize = 5_000;
/// Bytes of one partition in a round from which on it gets an object of its own.
pub(crate) const OWN_OBJECT_BYTES: usize = 8 << 20;
/// Early uploads of a partition that moves, before its appends are held.
pub(crate) const EARLY_PASSES: usize = 4;
/// Bytes that are left to be uploaded while appends are held: what one more pass would hardly lessen.
pub(crate) const HELD_BYTES: u64 = 256 << 10;
/// Puts in flight of one round.
pub(crate) const PUTS_IN_FLIGHT: usize = 4;
/// Keys of own objects that nothing names, remembered until they are deleted.
pub(crate) const MAX_GIVEN_UP: usize = 10_000;
/// Bytes that one object of a round is cut at.
pub(crate) const MAX_OBJECT_BYTES: usize = 256 << 20;
/// First pause after a failure that is worth another try.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between tries.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Conflicts in a row, with nothing learnt between them, after which a round is corrupt.
pub(crate) const MAX_CONFLICTS: u32 = 8;
/// Un-uploaded bytes of one compacted internal partition that start a round: bounds what a
/// coordinator reads after a restart.
pub(crate) const INTERNAL_UPLOAD_BYTES: u64 = 4 << 20;
/// Bytes of records that may be superseded before an internal compacted partition is rewritten.
pub(crate) const DIRTY_BYTES: u64 = 8 << 20;
/// Slices of a partition's producer state that are read at once when it opens.
pub(crate) const OPEN_READS: usize = 16;
/// Largest read-ahead of a sequential reader.
pub(crate) const MAX_READ_AHEAD_BYTES: u64 = 8 << 20;
/// Sequential readers that a partition recognises at a time.
pub(crate) const TRACKED_READERS: usize = 8;
/// Committed bytes before the end of the log that count as its tail, for budgets.
pub(crate) const TAIL_BYTES: u64 = 128 << 20;
/// Times that one read plans anew because its source moved.
pub(crate) const MAX_REPLANS: u32 = 5;
/// Wakers that a partition holds before it drops the dead ones.
pub(crate) const WAKERS_BEFORE_SWEEP: usize = 64;
/// Runs of one compaction command, so that it stays below 1 MiB.
pub(crate) const MAX_RUNS_PER_REPLACE: usize = 512;
/// Slices that one compaction command may name, old and new.
pub(crate) const MAX_SLICES_PER_REPLACE: usize = 3_000;
/// Largest batch, unpacked, in which a timestamp is looked for or records are compacted.
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 128 << 20;
/// Compressed batches searched for a timestamp at a time: a decoder may have a window of 128 MiB.
pub(crate) const SEARCHES: usize = 4;
/// Compactions in one pass of the compactor.
pub(crate) const COMPACTIONS_PER_PASS: usize = 64;
/// Time after which runs of few small slices are merged too.
pub(crate) const MERGE_AGE: Duration = Duration::from_secs(3_600);
/// How few these may be.
pub(crate) const MERGE_AGED_SLICES: usize = 4;
/// Segments in a row that are merged.
pub(crate) const MERGED_SEGMENTS: usize = 4;
/// Bytes of keys that one rewriting pass remembers; what does not fit waits for the next.
pub(crate) const COMPACTION_KEY_BYTES: usize = 32 << 20;
/// What a remembered key takes beyond its bytes, about.
pub(crate) const COMPACTION_KEY_OVERHEAD: usize = 48;
/// Bytes after whose checksum background work lets others run.
pub(crate) const YIELD_BYTES: usize = 1 << 20;
/// Bytes of blocks that a compaction reads and checks at a time.
pub(crate) const COMPACTION_WINDOW_BYTES: u64 = 2 << 20;
/// Memory that a queued entry takes beyond its batch, about.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 512;
/// How old a view of a partition that is led elsewhere may be when it is read.
pub(crate) const FOLLOWER_AGE: Duration = Duration::from_secs(10);
/// Pause between two looks at such a partition, however many wait for one.
pub(crate) const FOLLOWER_LOOKS: Duration = Duration::from_millis(100);
/// Questions about such partitions that are asked at once.
pub(crate) const FOLLOWER_ASKS: usize = 16;
/// Pause between two of them: at most 500 a second, whoever reads what.
pub(crate) const FOLLOWER_ASKS_PACE: Duration = Duration::from_millis(2);
/// What is left of a reader's patience for the answer: it waits for its turn to ask no longer.
pub(crate) const FOLLOWER_ANSWER: Duration = Duration::from_millis(100);
/// How long a reader whose object is gone waits for what took its place.
pub(crate) const FOLLOWER_LOOK: Duration = Duration::from_secs(1);
/// What a partition that is led elsewhere takes while it is kept, about.
pub(crate) const FOLLOWER_BYTES: usize = 2 << 10;
/// What each of its slices takes: two keys, a digest, places.
pub(crate) const FOLLOWED_SLICE_BYTES: usize = 512;
/// No batch is smaller: its header.
pub(crate) const LEAST_BATCH_BYTES: usize = 61;
