//! Questions to the catalog about partitions that are led elsewhere: few at a time and at a pace,
//! however many are read, since each is a read that a quorum of the controllers confirms.

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{FOLLOWER_ANSWER, FOLLOWER_ASKS, FOLLOWER_ASKS_PACE};

/// Turns to ask.
pub(crate) struct Asks {
    turns: Semaphore,
    /// When the next question may be asked. Held by who asks it, until then.
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
    /// Whose turn it is may ask until it lets go. `None` when it would come too late for somebody
    /// who waits until `until`: in a queue that is longer than their patience every turn would
    /// fall to one who is about to leave, and no answer would reach anybody.
    pub(crate) async fn turn(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        let left = until.saturating_duration_since(Instant::now());
        let waiting = left.saturating_sub(FOLLOWER_ANSWER);
        timeout(waiting, self.next_turn()).await.ok()
    }

    /// **Cancel-safe:** a place in the pace is taken with the turn, not before.
    async fn next_turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await.expect("it is never closed");
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let at = next.map_or(now, |next| next.max(now));
        if at > now {
            sleep_until(at).await;
        }
        *next = Some(at + FOLLOWER_ASKS_PACE);
        turn
    }
}
