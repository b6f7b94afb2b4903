//! Memory for data that is not yet uploaded, in bytes that are really pinned.
//!
//! User data and internal data (offsets, markers, recovery) have budgets of their own, so that no
//! producer can keep a coordinator from writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::Error;

/// The two budgets.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    user: Pool,
    internal: Pool,
}

#[derive(Clone, Debug)]
struct Pool {
    total: usize,
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Counts one waiter while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken; dropped, they are free again.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    _held: OwnedSemaphorePermit,
}

impl MemoryPermit {
    /// How many bytes it stands for.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self._held.num_permits()
    }
}

impl Budget {
    pub(crate) fn new(user_bytes: usize, internal_bytes: usize) -> Self {
        Self {
            user: Pool::new(user_bytes),
            internal: Pool::new(internal_bytes),
        }
    }

    /// Takes `bytes`, first come first served. Calls `pressed` before it waits.
    ///
    /// # Errors
    /// `Timeout` when they are not free by `deadline`, `TooLarge` when they never can be.
    pub(crate) async fn take(
        &self,
        bytes: usize,
        internal: bool,
        deadline: Instant,
        pressed: impl FnOnce(),
    ) -> Result<MemoryPermit, Error> {
        let pool = if internal { &self.internal } else { &self.user };
        let too_large = || Error::TooLarge {
            bytes,
            budget: pool.total,
        };
        let count = u32::try_from(bytes).map_err(|_| too_large())?;
        if bytes > pool.total {
            return Err(too_large());
        }
        let held = match Arc::clone(&pool.free).try_acquire_many_owned(count) {
            Ok(held) => held,
            Err(_) => {
                let _waiting = Waiting::new(&pool.waiting);
                pressed();
                timeout_at(deadline, Arc::clone(&pool.free).acquire_many_owned(count))
                    .await
                    .map_err(|_| Error::Timeout { bytes })?
                    .expect("the budget is never closed")
            }
        };
        Ok(MemoryPermit { _held: held })
    }

    /// True while somebody waits: what can be uploaded should be.
    pub(crate) fn is_pressed(&self) -> bool {
        let waiting = |pool: &Pool| pool.waiting.load(Ordering::Relaxed) > 0;
        waiting(&self.user) || waiting(&self.internal)
    }

    /// Bytes taken, user data and internal.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.user.used(), self.internal.used())
    }
}

impl Pool {
    fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            total,
            free: Arc::new(Semaphore::new(total)),
            waiting: Arc::default(),
        }
    }

    fn used(&self) -> usize {
        self.total - self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ErrorKind;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_until_the_deadline_and_takes_nothing() {
        let budget = Budget::new(100, 10);
        let held = budget.take(80, false, soon(), || ()).await.unwrap();
        let error = budget.take(30, false, soon(), || ()).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { bytes: 30 }));
        assert_eq!(budget.used(), (80, 0));
        drop(held);
        assert_eq!(
            budget.take(30, false, soon(), || ()).await.unwrap().bytes(),
            30
        );
    }

    #[tokio::test(start_paused = true)]
    async fn internal_data_has_room_when_user_data_has_none() {
        let budget = Budget::new(100, 10);
        let _all = budget.take(100, false, soon(), || ()).await.unwrap();
        assert!(budget.take(1, false, soon(), || ()).await.is_err());
        assert!(budget.take(10, true, soon(), || ()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_fit_is_refused_at_once() {
        let budget = Budget::new(100, 10);
        let error = budget.take(101, false, soon(), || ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gets_what_another_frees() {
        let budget = Budget::new(100, 10);
        let held = budget.take(100, false, soon(), || ()).await.unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move {
                budget
                    .take(60, false, soon(), || ())
                    .await
                    .map(|p| p.bytes())
            }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap(), 60);
    }
}
