//! Recovers the logs that dead broker epochs left: fence, claim, read, commit, close.
//!
//! ```text
//!   start ─▶ own logs ─▶ fresh log, partitions ─▶ serving
//!   image ─▶ whose heir am I? ─▶ a few logs at a time, beside serving ─▶ Closed: partitions open
//! ```
//!
//! The epochs are fenced by whoever found them dead: the controller, or the registration that came
//! before. [`Image::heir`](controller::Image::heir) says who recovers what.
//!
//! **Invariants:** an error of kind Retry never counts against a log: it is tried for ever, visibly.
//! Only corruption that a second reading finds too sets a log aside; its partitions then stay
//! offline, and an alarm says so. Damage in another node's log never ends a broker that serves; a
//! broker that is fenced recovers nothing more.

mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{Client, Image, WalBackend as Backend, WalPhase};
use env::Env;
use protocol::BrokerEpoch;
use storage::Storage;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};
use wal::WalId;

use crate::config::Config;
use crate::limits::{RETRY_MOST, TAKEOVERS_AT_ONCE};
use crate::metrics::TakeoverMetrics;
use crate::node::{NodeError, Store, wal_dir};
use recover::Ended;

/// Why recovery did not come to an end.
pub(crate) enum TakeoverError {
    /// This broker is fenced itself.
    Fenced,
    /// The node cannot start: a wrong volume, most likely.
    Fatal(NodeError),
}

/// What recovery needs.
#[derive(Clone)]
pub(crate) struct Takeover {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) storage: Storage,
    pub(crate) broker: BrokerEpoch,
    pub(crate) metrics: wal::Metrics,
    pub(crate) counts: TakeoverMetrics,
}

/// Logs that are being recovered beside serving.
struct Working {
    tasks: JoinSet<Result<(), Ended>>,
    busy: BTreeMap<Id, WalId>,
    /// Not before.
    later: BTreeMap<WalId, Instant>,
}

// === impl Takeover ===

impl Takeover {
    /// Recovers the logs of this node's earlier epochs, before the node serves. One that another
    /// broker has claimed meanwhile is left to it: its partitions open when it is done.
    pub(crate) async fn own(&self) -> Result<(), TakeoverError> {
        let image = Arc::clone(&self.client.image().borrow());
        for (id, wal) in image.wals.iter() {
            if wal.broker == self.broker || wal.node != self.config.node_id {
                continue;
            }
            if let Some(reason) = &wal.quarantine {
                tracing::error!(wal = %id, reason, "a log is set aside: its partitions stay offline");
                continue;
            }
            if image.heir(*id) != Some(self.broker) {
                continue;
            }
            match self.recover(*id, wal).await {
                Ok(()) => {}
                Err(Ended::NotOurs(why)) => {
                    tracing::info!(wal = %id, why, "another broker recovers a log of this node");
                }
                Err(Ended::Fenced) => return Err(TakeoverError::Fenced),
                Err(Ended::Damaged(error) | Ended::Failed(error)) => {
                    return Err(TakeoverError::Fatal(error));
                }
            }
        }
        self.clean().await;
        Ok(())
    }

    /// Recovers what this broker is the heir of, for as long as it runs. Ends when the controller
    /// is gone; when this broker is fenced it does nothing more, and leaves the end of the epoch to
    /// who keeps the lease.
    pub(crate) async fn follow(self) {
        let mut images = self.client.image();
        let mut working = Working {
            tasks: JoinSet::new(),
            busy: BTreeMap::new(),
            later: BTreeMap::new(),
        };
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.count(&image);
            self.start(&image, &mut working);
            let next = working.later.values().min().copied();
            tokio::select! {
                biased;
                Some(ended) = working.tasks.join_next_with_id() => {
                    let (task, ended) = match ended {
                        Ok((task, ended)) => (task, ended),
                        Err(error) => {
                            let failed = format!("a recovery has failed: {error}");
                            (error.id(), Err(Ended::Failed(NodeError::Failed(failed))))
                        }
                    };
                    let id = working.busy.remove(&task).expect("noted when it began");
                    if !self.judge(id, ended, &mut working) {
                        tracing::warn!(broker = %self.broker, "fenced: recovering nothing more");
                        drop(working);
                        return std::future::pending().await;
                    }
                }
                changed = images.changed() => if changed.is_err() { return },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Begins with what is ours and free, as many at once as there may be.
    fn start(&self, image: &Image, working: &mut Working) {
        let now = Instant::now();
        let Working { busy, later, .. } = working;
        later.retain(|id, at| *at > now && image.wals.contains_key(id));
        for (id, wal) in image.wals.iter() {
            let dead = matches!(wal.phase, WalPhase::Fenced | WalPhase::Claimed { .. });
            if !dead || busy.values().any(|b| b == id) || later.contains_key(id) {
                continue;
            }
            if busy.len() >= TAKEOVERS_AT_ONCE || image.heir(*id) != Some(self.broker) {
                continue;
            }
            tracing::info!(wal = %id, node = %wal.node, "recovering the log of a dead broker");
            let (this, id, wal) = (self.clone(), *id, wal.clone());
            let task = working
                .tasks
                .spawn(async move { this.recover(id, &wal).await });
            busy.insert(task.id(), id);
        }
    }

    /// What a recovery's end means; false when this broker is fenced.
    fn judge(&self, id: WalId, ended: Result<(), Ended>, working: &mut Working) -> bool {
        match ended {
            Ok(()) => {
                self.counts.recovered.inc();
                return true;
            }
            Err(Ended::Fenced) => return false,
            Err(Ended::NotOurs(why)) => {
                tracing::info!(wal = %id, why, "leaving a log to others");
                let again = Instant::now() + crate::limits::RETRY_FIRST;
                working.later.insert(id, again);
                return true;
            }
            Err(Ended::Damaged(error)) => {
                self.counts.failures.inc();
                tracing::error!(wal = %id, %error, "partitions stay offline");
            }
            Err(Ended::Failed(error)) => {
                self.counts.failures.inc();
                tracing::error!(wal = %id, %error, "a log is not recovered: tried again");
            }
        }
        working.later.insert(id, Instant::now() + RETRY_MOST);
        true
    }

    fn count(&self, image: &Image) {
        let aside = image.wals.values().filter(|wal| wal.quarantine.is_some());
        self.counts.set_aside.set(aside.count() as i64);
        let dead = image.wals.values().filter(|wal| {
            wal.backend != Backend::Memory
                && matches!(wal.phase, WalPhase::Fenced | WalPhase::Claimed { .. })
        });
        self.counts.dead.set(dead.count() as i64);
    }

    /// Removes the files of closed logs. What fails is tried at the next start.
    async fn clean(&self) {
        let keep: BTreeSet<WalId> = self.client.image().borrow().wals.keys().copied().collect();
        let removed = wal::disk::remove_others(&self.env, &wal_dir(&self.config), keep).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "files of closed logs are left");
        }
    }
}
