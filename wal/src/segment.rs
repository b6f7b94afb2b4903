//! Segment files: one log's groups, back to back on 4 KiB boundaries.
//!
//! ```text
//!   {generation:020}.wal:   header block │ frame │ frame │ … │ zeros, or bytes of an earlier use
//!   frame:                  group │ zeros │ trailer (32), up to a multiple of 4 KiB
//! ```
//!
//! Used by the disk backend (asynchronous, [`crate::disk`]) and, synchronously, by whoever keeps a
//! log of records of his own ([`SegmentLog`], for instance the Raft log).
//!
//! **Invariant:** a block that holds synced bytes is never written again while its segment has
//! its generation. A file gets a new generation only when all its groups are behind the trim
//! point and a later segment holds a durable group.

mod file;
mod frame;
mod log;
mod prepare;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use file::{SegmentId, SegmentWriter, list_segments, sync_parent};
pub use log::{SegmentLog, SegmentLogSettings};
pub(crate) use prepare::{Preparation, Prepared};
pub(crate) use scan::Scanner;
pub use scan::{Ending, ScanReport};
