//! What the controllers know to be durable of a partition, and how far it may be outrun.
//!
//! A log that is given up opens its partitions a fixed gap beyond what was last reported of them
//! (`StorageSettings::unreported_offsets`). So no offset further than that is given out before the
//! next report: whoever was acknowledged keeps its offset for itself.

#[cfg(test)]
mod tests;

use super::wait::wake;
use super::{Inner, State};

/// What stands with the controllers, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// The highest high watermark of this epoch that a renewal has reported.
    offset: i64,
    /// An early report was asked for since that moved.
    asked: bool,
    /// An append waits for it.
    ahead: bool,
}

/// Whether offsets may be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// They may now.
    pub(super) free: bool,
    /// The next report should come soon.
    pub(super) ask: bool,
}

// === impl State ===

impl State {
    /// Whether offsets up to `end` may be given out, `gap` beyond what the controllers know.
    pub(super) fn may_reach(&mut self, end: i64, gap: i64) -> Reach {
        let known = self.reported.offset.max(self.committed_end);
        let beyond = end - known;
        let free = beyond <= gap;
        self.reported.ahead |= !free;
        let ask = beyond > gap / 2 && !self.reported.asked;
        self.reported.asked |= ask;
        Reach { free, ask }
    }

    /// True while an append waits for a report.
    pub(super) fn is_ahead(&self) -> bool {
        self.reported.ahead
    }

    /// The controllers know more: appends are tried again. To be woken outside the lock.
    #[must_use]
    pub(super) fn known_moved(&mut self) -> Vec<std::sync::Weak<tokio::sync::Notify>> {
        self.reported.asked = false;
        if std::mem::take(&mut self.reported.ahead) {
            return self.wakers.take();
        }
        Vec::new()
    }
}

// === impl Inner ===

impl Inner {
    /// A renewal has told the controllers that it is durable up to `offset`.
    pub(crate) fn reported(&self, offset: i64) {
        let mut state = self.state.lock();
        if offset <= state.reported.offset {
            return;
        }
        state.reported.offset = offset;
        let wakers = state.known_moved();
        drop(state);
        wake(wakers);
    }
}
