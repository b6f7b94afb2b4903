//! Recognises readers that go on where they left off.

use std::collections::VecDeque;

use crate::limits::{MAX_READ_AHEAD_BYTES, TRACKED_READERS};

/// The last readers of a partition that had to go to the object store.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Where each left off, and how far it may read ahead; the latest last.
    readers: VecDeque<(i64, u64)>,
}

impl Tracker {
    /// Read-ahead, bytes, of a reader that begins at `offset`; 0 for one block.
    pub(crate) fn enter(&mut self, offset: i64) -> u64 {
        let known = self.readers.iter().position(|(next, _)| *next == offset);
        known
            .and_then(|at| self.readers.remove(at))
            .map_or(0, |(_, window)| window)
    }

    /// A reader left off before `next`.
    pub(crate) fn leave(&mut self, next: i64, window: u64) {
        if self.readers.len() >= TRACKED_READERS {
            self.readers.pop_front();
        }
        self.readers
            .push_back((next, window.min(MAX_READ_AHEAD_BYTES)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_goes_on() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.enter(0), 0);
        tracker.leave(10, 4_096);
        tracker.leave(99, 1);
        assert_eq!(tracker.enter(10), 4_096);
        assert_eq!(tracker.enter(10), 0, "a reader leaves anew each time");
        for n in 0..100 {
            tracker.leave(n, 1);
        }
        assert_eq!(tracker.readers.len(), TRACKED_READERS);
    }
}
