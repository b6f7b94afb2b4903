//! Every bound of this crate.

use std::time::Duration;

/// A group on disk starts on, and is padded to, a multiple of this.
pub const BLOCK_BYTES: usize = 4096;
/// Most bytes of one group's body: one entry of the largest size that any topic may allow, and
/// what was gathered with it. A longer length is not a group of ours.
pub const MAX_BODY_BYTES: u64 = 1 << 30;
/// Most entries of a group that is read.
pub const MAX_GROUP_ENTRIES: usize = 65_536;
/// Most bytes of a group's extension sections.
pub const MAX_EXTENSION_BYTES: usize = 64 * 1024;
/// A group is written at this size, whatever the pace. One entry may be larger.
pub const GROUP_BYTES: usize = 8 << 20;
/// Most entries of a group that is written: what one group names is committed by one command,
/// which is bounded.
pub const GROUP_ENTRIES: usize = 4096;
/// Entries that may wait or be in flight.
pub const QUEUE_ENTRIES: usize = 16_384;
/// Bytes that may wait or be in flight.
pub const QUEUE_BYTES: usize = 64 << 20;
/// The same for internal topics, markers and recovery, which user data cannot use up.
pub const INTERNAL_QUEUE_ENTRIES: usize = 4096;
/// Bytes of the same.
pub const INTERNAL_QUEUE_BYTES: usize = 16 << 20;
/// A full segment file.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// The first segment of a log: small, so that a start need not wait for it. Sizes double from
/// here to the full one.
pub const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Zeros are written, and synced, in pieces of this size.
pub const ZERO_FILL_BYTES: usize = 1 << 20;
/// Segment files kept for reuse behind the trim point; more are deleted.
pub const FREE_SEGMENTS: usize = 2;
/// An idle log on disk is marked so after this time.
pub const IDLE_MARK_AFTER: Duration = Duration::from_millis(50);
/// How often a full disk is asked again.
pub const DISK_FULL_RETRY: Duration = Duration::from_millis(250);
/// Bytes of groups that the reader of a dead object log holds ahead of the one in hand.
pub const READ_AHEAD_BYTES: usize = 16 << 20;
/// Puts in flight of an object log.
pub const OBJECT_WINDOW: usize = 8;
/// Largest window that a reader believes.
pub const MAX_WINDOW: u32 = 64;
/// Puts per second of an object log, and the burst above it.
pub const PUTS_PER_SECOND: u32 = 8;
/// Times an object that reads wrongly is read before it counts as damaged.
pub const READ_ATTEMPTS: u32 = 4;
/// How long the end of a log waits for its work in the background.
pub const END_PATIENCE: Duration = Duration::from_secs(10);
