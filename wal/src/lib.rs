//! A durable, ordered, fenceable log: one per broker epoch.
//!
//! ```text
//!   storage ──reserve, append──▶ Log ──▶ queue ──▶ Writer (group commit)
//!                                                    │ store(group k)
//!                                       ┌────────────┼──────────────┐
//!                                     disk         object         memory
//!                                       └────────────┼──────────────┘
//!   storage ◀──durable(group k), in order────────────┘
//!   takeover: recover(trim) ──▶ Tail ──▶ groups up to the end
//! ```
//!
//! The layout of everything stored is written down in `wal/docs/format.md`.
//!
//! **Invariants.** R3: a group is handed on only when it and all before it are durable. R4: nothing
//! is deleted but behind the trim point that the controller holds. R8: the bytes of a sequence
//! number are frozen at the first attempt. R9: a tail is read group by group and closed by a
//! seal, never by a listing. R10: a hole below what was acknowledged is corruption, a hole at the
//! end is the end.
//!
//! [`SegmentLog`] is the same framing as a plain, synchronous log of records, for whoever keeps one
//! of his own:
//!
//! ```text
//!   SegmentLog::create(disk, dir, id, nonce, settings) -> SegmentLog
//!   SegmentLog::open(disk, dir, id, nonce, settings, visit) -> (SegmentLog, ScanReport)
//!   append(&[Record { tag, bytes }]) -> Sequence     one write, one sync, durable at return
//!   mark_idle(), close(self), purge(to)              to cut a tail, append a record that says so
//! ```

mod checksum;
mod entry;
mod error;
pub mod limits;
mod log;
mod metrics;
mod queue;
pub mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod testing;
mod writer;

pub mod backend;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod inspect;

pub use backend::{Backend, disk, memory, object};
pub use checksum::Crc32;
pub use entry::{Entry, Group, Sequence, WalId};
pub use error::{Error, ErrorKind};
pub use log::{Durable, Log, LogSettings};
pub use metrics::{Metrics, Status};
pub use queue::Permit;
pub use record::Record;
pub use recovery::{Tail, TailReport};
pub use segment::{Ending, ScanReport, SegmentLog, SegmentLogSettings};
