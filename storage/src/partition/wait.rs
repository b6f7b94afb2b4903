//! Who waits for a partition to move: long polls over many partitions.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::Partition;
use crate::limits::WAKERS_BEFORE_SWEEP;

/// Waiters of one partition; each is woken once.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Vec<Weak<Notify>>,
    /// Length at which the dead are swept next.
    sweep_at: usize,
}

impl Wakers {
    pub(super) fn add(&mut self, notify: &Arc<Notify>) {
        if self.waiting.len() >= self.sweep_at.max(WAKERS_BEFORE_SWEEP) {
            self.waiting.retain(|waker| waker.strong_count() > 0);
            self.sweep_at = 2 * self.waiting.len();
        }
        self.waiting.push(Arc::downgrade(notify));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes all, to be woken outside the lock.
    pub(crate) fn take(&mut self) -> Vec<Weak<Notify>> {
        std::mem::take(&mut self.waiting)
    }
}

/// Wakes those who still wait. `notify_one` keeps a permit, so that a waiter that has not begun
/// to wait yet misses nothing.
pub(crate) fn wake(waiting: Vec<Weak<Notify>>) {
    for waker in waiting {
        if let Some(notify) = waker.upgrade() {
            notify.notify_one();
        }
    }
}

impl Partition {
    /// Has `notify` notified once, at the next movement of the high watermark, last stable
    /// offset or log start, or when the partition closes. Subscribe **before** looking at
    /// positions; one `Notify` may be subscribed at many partitions. Dropped, it is forgotten.
    pub fn wake_on_change(&self, notify: &Arc<Notify>) {
        let mut state = self.inner.state.lock();
        if state.status == super::Status::Closed {
            drop(state);
            notify.notify_one();
            return;
        }
        state.wakers.add(notify);
    }

    /// Waits until the high watermark passes `offset`, or the partition closes.
    pub async fn moved_past(&self, offset: i64) {
        let notify = Arc::new(Notify::new());
        loop {
            self.wake_on_change(&notify);
            if self.high_watermark() > offset || !self.is_open() {
                return;
            }
            notify.notified().await;
        }
    }
}
