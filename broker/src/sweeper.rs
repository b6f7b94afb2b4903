//! Deletes what closed logs left in the object store: `image ─▶ Sweeper ─▶ store ─▶ RecordSwept`.
//!
//! A log's own trimming may be cut off by a stop or a death, and puts of a dead owner may land late.
//!
//! **Invariant:** only logs that the controller calls closed are touched, seals stay, and a log
//! leaves the controller's list only after a sweep that found all deleted and began no earlier than
//! an hour after it was closed, or, where that is not known, was first seen. Every step may be cut
//! off and done again, by whoever comes next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{Client, Command, UnsweptWal};
use env::Env;
use object_store::ObjectStore;
use protocol::BrokerEpoch;
use storage::KeySpace;
use wal::WalId;

use crate::limits::{LATE_PUT_MS, SWEEPS, SWEEPS_AFTER};
use crate::metrics::SweeperMetrics;
use crate::node::wal_prefix;

/// Sweeps closed logs, for as long as it runs.
#[derive(Clone)]
pub(crate) struct Sweeper {
    pub(crate) env: Env,
    /// Sweeps only while the chores are this broker's. Two that both think so do no harm.
    pub(crate) broker: BrokerEpoch,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) keys: KeySpace,
    pub(crate) client: Client,
    pub(crate) metrics: SweeperMetrics,
    /// Between two sweeps, in place of the pauses that grow.
    pub(crate) interval: Option<Duration>,
}

// === impl Sweeper ===

impl Sweeper {
    /// Often at first, since puts that were under way land soon; then now and again.
    pub(crate) async fn run(self) {
        let mut pauses = SWEEPS.into_iter();
        let mut undated = Undated::default();
        loop {
            let pause = pauses.next().unwrap_or(SWEEPS_AFTER);
            tokio::time::sleep(self.interval.unwrap_or(pause)).await;
            self.round(&mut undated).await;
        }
    }

    async fn round(&self, undated: &mut Undated) {
        let image = Arc::clone(&self.client.image().borrow());
        if image.housekeeper() != Some(self.broker) {
            return;
        }
        let unswept = Arc::clone(&image.unswept);
        undated.keep(|id| unswept.contains_key(&id));
        let mut failed = false;
        for (id, wal) in unswept.iter() {
            let began_ms = self.env.clock.wall_ms();
            let closed_ms = undated.closed_ms(*id, wal.closed_ms, began_ms);
            match self.sweep(*id, wal).await {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(wal = %id, deleted, "swept a closed log"),
                Err(error) => {
                    failed = true;
                    self.metrics.failures.inc();
                    tracing::warn!(wal = %id, %error, "not swept this time");
                    continue;
                }
            }
            // A clock that jumps costs a late put's garbage, nothing else.
            if began_ms.saturating_sub(closed_ms) >= LATE_PUT_MS {
                self.record(*id).await;
            }
        }
        if !failed {
            let now = self.env.clock.wall_ms() / 1000;
            self.metrics.last_round.set(now);
        }
    }

    async fn sweep(&self, id: WalId, wal: &UnsweptWal) -> Result<usize, wal::Error> {
        let prefix = wal_prefix(&self.keys, wal.node);
        let settings = wal::object::ObjectSettings::STANDARD;
        let store = Arc::clone(&self.store);
        wal::object::sweep(&self.env, store, prefix, id, wal.end, settings).await
    }

    async fn record(&self, id: WalId) {
        let swept = Command::RecordSwept { wal: id };
        if let Err(error) = self.client.submit(swept).await {
            tracing::warn!(wal = %id, %error, "a swept log is not recorded, and swept again");
        }
    }
}

/// When logs were first seen here that were closed before closing was dated, milliseconds.
#[derive(Default)]
struct Undated(BTreeMap<WalId, i64>);

impl Undated {
    fn keep(&mut self, wanted: impl Fn(WalId) -> bool) {
        self.0.retain(|id, _| wanted(*id));
    }

    /// When the log was closed at the latest, as far as is known.
    fn closed_ms(&mut self, id: WalId, recorded_ms: i64, now_ms: i64) -> i64 {
        if recorded_ms > 0 {
            return recorded_ms;
        }
        *self.0.entry(id).or_insert(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_log_without_a_date_counts_from_when_it_was_first_seen() {
        let mut undated = Undated::default();
        let [old, dated] = [1, 2].map(|id| WalId(Uuid::from_u128(id)));
        assert_eq!(undated.closed_ms(dated, 500, 1000), 500);
        assert_eq!(undated.closed_ms(old, 0, 1000), 1000);
        assert_eq!(undated.closed_ms(old, 0, 2000), 1000);
        undated.keep(|id| id != old);
        assert_eq!(undated.closed_ms(old, 0, 3000), 3000);
    }
}
