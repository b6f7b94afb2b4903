//! Memory for request frames: reserved as their bytes arrive, never as they are declared.
//!
//! ```text
//!  small frames ─▶ half of the budget ─┐
//!                                      ├─ none left ─▶ the reserve: one largest frame, one at a time
//!  large frames ─▶ the other half ─────┘
//! ```
//!
//! **Invariant:** a frame that is being read can always be completed in the end, whatever other
//! connections hold: the reserve takes one frame of the largest size, and whoever holds it and
//! sends nothing loses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::SMALL_FRAME_BYTES;

/// The frames' part of the memory budget.
#[derive(Debug)]
pub(crate) struct FrameBudget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    total: usize,
    waiting: AtomicUsize,
}

/// What one frame holds of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct FrameLease {
    budget: Arc<FrameBudget>,
    small: bool,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

// === impl FrameBudget ===

impl FrameBudget {
    /// A budget of `total` bytes, of which one frame of `largest` is the reserve.
    pub(crate) fn new(total: usize, largest: usize) -> Arc<Self> {
        let shared = total.saturating_sub(largest).max(2);
        let small = (shared / 2).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            small: Arc::new(Semaphore::new(small)),
            large: Arc::new(Semaphore::new((shared - small).min(Semaphore::MAX_PERMITS))),
            reserve: Arc::new(Semaphore::new(1)),
            total: shared,
            waiting: AtomicUsize::new(0),
        })
    }

    /// An empty lease for a frame that declares `declared` bytes.
    pub(crate) fn lease(self: &Arc<Self>, declared: usize) -> FrameLease {
        FrameLease {
            budget: Arc::clone(self),
            small: declared <= SMALL_FRAME_BYTES,
            bytes: 0,
            permit: None,
            reserve: None,
        }
    }

    /// Whether a frame waits for memory at this moment.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that frames hold, the reserve not counted.
    pub(crate) fn held(&self) -> usize {
        let free = self.small.available_permits() + self.large.available_permits();
        self.total.saturating_sub(free)
    }
}

// === impl FrameLease ===

impl FrameLease {
    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows by `more` bytes; waits while there are none. Cancel-safe.
    pub(crate) async fn grow(&mut self, more: usize) {
        if self.reserve.is_some() || more == 0 {
            self.bytes += more;
            return;
        }
        let share = if self.small {
            &self.budget.small
        } else {
            &self.budget.large
        };
        let count = u32::try_from(more).expect("a frame is below 4 GiB");
        if let Ok(permit) = Arc::clone(share).try_acquire_many_owned(count) {
            self.add(permit, more);
            return;
        }
        let budget = Arc::clone(&self.budget);
        let _waiting = Waiting::new(&budget);
        tokio::select! {
            biased;
            permit = Arc::clone(share).acquire_many_owned(count) => {
                self.add(permit.expect("the budget is never closed"), more);
            }
            reserve = Arc::clone(&budget.reserve).acquire_owned() => {
                self.reserve = Some(reserve.expect("the reserve is never closed"));
                self.bytes += more;
            }
        }
    }

    fn add(&mut self, permit: OwnedSemaphorePermit, more: usize) {
        self.bytes += more;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
    }
}

struct Waiting<'a>(&'a FrameBudget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a FrameBudget) -> Self {
        budget.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn when_the_budget_is_out_one_frame_at_a_time_completes_from_the_reserve() {
        let budget = FrameBudget::new(20 * MIB, 12 * MIB);
        let mut first = budget.lease(12 * MIB);
        first.grow(4 * MIB).await;
        assert_eq!(budget.held(), 4 * MIB);
        let mut second = budget.lease(12 * MIB);
        second.grow(MIB).await;
        second.grow(11 * MIB).await;
        assert_eq!(second.bytes(), 12 * MIB);
        // Neither share nor reserve: waits, and is seen to wait.
        let waited = timeout(Duration::from_secs(5), first.grow(MIB)).await;
        assert!(waited.is_err());
        assert!(!budget.is_short(), "a waiter that gave up is not counted");
        drop(second);
        first.grow(8 * MIB).await;
        assert_eq!(first.bytes(), 12 * MIB);
        drop(first);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_cannot_take_what_small_ones_need() {
        let budget = FrameBudget::new(20 * MIB, 12 * MIB);
        let mut hostile = Vec::new();
        for _ in 0..4 {
            let mut lease = budget.lease(12 * MIB);
            lease.grow(MIB).await;
            hostile.push(lease);
        }
        let mut holder = budget.lease(12 * MIB);
        holder.grow(MIB).await;
        let mut small = budget.lease(MIB);
        timeout(Duration::from_millis(1), small.grow(MIB))
            .await
            .expect("a small frame goes on");
    }
}
