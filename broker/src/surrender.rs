//! A broker whose store is away, and nobody else's, gives its work up to others.
//!
//! ```text
//!   groups completed, probe ─▶ Watch ─▶ "my store answers" ─▶ renewals ─▶ controller
//!   nothing for 20 s while work waits, and others' stores answer ─▶ Goodbye ─▶ heirs
//! ```
//!
//! **Invariant:** when the store is away for all, nobody gives up: the controller then says of no
//! other broker that its store answers.

use std::sync::Arc;
use std::time::Duration;

use controller::Lease;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use wal::{Log, Sequence};

use crate::limits::{STORE_PROBE_TIMEOUT, STORE_PROBES, SURRENDER_AFTER, SURRENDER_TICK};

/// What is watched.
pub(crate) struct Surrender {
    pub(crate) log: Log,
    pub(crate) lease: Lease,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Prefix of the cluster's keys.
    pub(crate) root: String,
}

/// What was seen, by the monotonic clock: decides, and does nothing else.
#[derive(Debug)]
struct Watch {
    end: Sequence,
    /// Last time that a group was completed or nothing waited.
    moved: Instant,
    /// Last time that the store answered.
    answered: Instant,
}

// === impl Watch ===

impl Watch {
    fn new(now: Instant) -> Self {
        let (moved, answered) = (now, now);
        Self {
            end: 0,
            moved,
            answered,
        }
    }

    fn look(&mut self, end: Sequence, waits: bool, now: Instant) {
        if end > self.end {
            self.end = end;
            self.answered = now;
            self.moved = now;
        }
        if !waits {
            self.moved = now;
        }
    }

    /// The store answers here, as far as is known.
    fn answers(&self, now: Instant) -> bool {
        now.duration_since(self.answered) < STORE_PROBES * 2
    }

    fn stuck(&self, now: Instant) -> bool {
        now.duration_since(self.moved) >= SURRENDER_AFTER
    }
}

// === impl Surrender ===

impl Surrender {
    /// Returns when this broker should give up: why.
    pub(crate) async fn wanted(self) -> String {
        let mut watch = Watch::new(Instant::now());
        let mut probed = Instant::now();
        let mut ticks = interval(SURRENDER_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let waits = self.log.metrics().queued_bytes.get() > 0;
            watch.look(self.log.durable_end(), waits, Instant::now());
            // An idle broker asks: others need to know whether it is the store or they.
            if probed.elapsed() >= STORE_PROBES && watch.answered.elapsed() >= STORE_PROBES {
                if answers(&*self.store, &self.root).await {
                    watch.answered = Instant::now();
                }
                probed = Instant::now();
            }
            let now = Instant::now();
            self.lease.tell_store(watch.answers(now));
            if watch.stuck(now) && self.lease.others_reach_store() {
                let after = SURRENDER_AFTER;
                return format!(
                    "the object store took nothing for {after:?}, and answers others: giving up \
                     to them until it answers here"
                );
            }
        }
    }
}

/// Whether the store says anything about a key that nobody writes.
pub(crate) async fn answers(store: &dyn ObjectStore, root: &str) -> bool {
    let key = Path::from(format!("{root}/meta/nothing"));
    match timeout(STORE_PROBE_TIMEOUT, store.head(&key)).await {
        Ok(Ok(_) | Err(object_store::Error::NotFound { .. })) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Waits until the store answers.
pub(crate) async fn until_it_answers(store: &dyn ObjectStore, root: &str, pause: Duration) {
    while !answers(store, root).await {
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stuck_is_who_completes_nothing_while_work_waits() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut watch = Watch::new(begun);
        watch.look(0, false, at(60));
        assert!(!watch.stuck(at(60)), "nothing waits");
        watch.look(0, true, at(61));
        assert!(!watch.stuck(at(79)));
        assert!(watch.stuck(at(80)));
        watch.look(1, true, at(81));
        assert!(!watch.stuck(at(100)), "a group was completed");
        assert!(watch.answers(at(82)));
        assert!(!watch.answers(at(99)));
        assert!(watch.stuck(at(101)));
    }
}
