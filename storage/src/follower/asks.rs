//! Questions to the catalog about partitions that are led elsewhere: few at a time and at a pace,
//! however many are read, since each is a read that a quorum of the controllers confirms.

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::limits::{FOLLOWER_ASKS, FOLLOWER_ASKS_PACE};

/// Turns to ask.
pub(crate) struct Asks {
    turns: Semaphore,
    /// When the next question may be asked.
    next: Mutex<Option<Instant>>,
}

impl Default for Asks {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(FOLLOWER_ASKS),
            next: Mutex::default(),
        }
    }
}

impl Asks {
    /// Whose turn it is may ask until it lets go. Who gives up while it waits leaves the pace to
    /// the others: only those whose turn it is have a place in it.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await.expect("it is never closed");
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + FOLLOWER_ASKS_PACE);
            at
        };
        if at > now {
            sleep_until(at).await;
        }
        turn
    }
}
