//! Where groups are made durable.
//!
//! ```text
//!   Writer ──store(group k)──▶ Backend ──▶ file │ object │ nothing
//!          ◀──durable────────
//! ```

pub mod disk;
pub mod memory;
pub mod object;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::metrics::Status;
use crate::{Error, Group, Sequence};

/// A group on its way.
#[derive(Debug)]
pub struct PendingGroup {
    /// Number and entries.
    pub group: Group,
    /// Every group below this was acknowledged when this one was made.
    pub acked_to: Sequence,
}

/// An empty group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The log is idle: all before is acknowledged.
    Idle,
    /// The log stops: all before is acknowledged, nothing follows.
    Closed,
}

/// When the next group may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// Then, or when the pace changes because something finished or more was queued.
    At(Instant),
}

/// What became of a group: given back in any case.
pub type Stored = (Group, Result<(), Error>);

/// A place for the groups of one log. Every implementation passes the suite in `conformance`
/// (feature `test-util`).
///
/// **Invariant:** the log never has more than [`Backend::window`] stores unfinished, starts them
/// in order of sequence, and never a second one for the same sequence.
pub trait Backend: Send + 'static {
    /// Most groups in flight.
    fn window(&self) -> usize;

    /// Called once, before all else.
    fn attach(&mut self, status: Status);

    /// Makes a group durable; the future gives it back. Errors that pass by themselves are waited
    /// out inside: what comes back as an error ends the log.
    fn store(&mut self, group: PendingGroup) -> BoxFuture<'static, Stored>;

    /// Whether a group of `queued_bytes` may start while `in_flight` others are unfinished.
    fn pace(&mut self, now: Instant, queued_bytes: usize, in_flight: usize) -> Pace;

    /// After how much idleness to write [`Mark::Idle`]; `None` for never.
    fn idle_after(&self) -> Option<Duration>;

    /// Writes a mark. `next` is the number of the next group, and all below it are acknowledged.
    fn mark(&mut self, mark: Mark, next: Sequence) -> BoxFuture<'static, Result<(), Error>>;

    /// Groups below `to` may be deleted, in the background.
    fn trim(&mut self, to: Sequence);

    /// Ends the work in the background: afterwards this process touches the log's place no more,
    /// so another may read or remove it. What a store does with requests sent before is its own.
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}
