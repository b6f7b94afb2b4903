//! The one door through which anything is deleted: `Catalog ─▶ Collector ─▶ store`.
//!
//! ```text
//!   condemned, grace passed ──────────────┐
//!   listed, unnamed, epoch closed ────────┼─▶ is it data? ─▶ delete ─▶ forget
//!   put by this broker, never to commit ──┘
//! ```
//!
//! **Invariant:** only keys under `data/`, and condemned checkpoints under `meta/`, are deleted, and
//! only when the catalog says that nothing names them and nothing can, or when this very broker
//! epoch wrote them and gave them up. Age alone deletes nothing, a listing is a hint, and every
//! step may be cut off and done again.

mod metrics;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use env::Env;
use object_store::ObjectStore;
use protocol::{BrokerEpoch, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::worker::Worker;
use crate::{Catalog, Error, GivenUp, KeySpace};

pub use metrics::CollectorMetrics;

/// Requests that wait for the collector.
const QUEUE: usize = 64;

/// When and how much to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// Time between being condemned and being deleted: longer than the longest read. By the wall
    /// clock, so a jump may cut it short; a reader that finds its object gone plans again.
    pub grace: Duration,
    /// Time between rounds.
    pub interval: Duration,
    /// Of the 256 parts of the data keys, how many are listed for orphans in each round.
    pub listed_parts: u32,
}

impl CollectorSettings {
    /// What `serve` uses: ten minutes of grace, all parts listed in about two hours.
    pub fn standard() -> Self {
        Self {
            grace: Duration::from_secs(600),
            interval: Duration::from_secs(30),
            listed_parts: 1,
        }
    }
}

/// What one round deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that were condemned.
    pub condemned: u64,
    /// Objects that were put and never committed, of closed broker epochs.
    pub orphans: u64,
    /// Objects that this broker gave up.
    pub discarded: u64,
}

/// Says whether the chores of the whole cluster are this broker's now.
pub type Duty = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the collector works with.
#[derive(Clone)]
pub struct CollectorParts {
    /// Clock.
    pub env: Env,
    /// Where the objects are.
    pub store: Arc<dyn ObjectStore>,
    /// What their keys look like.
    pub keys: KeySpace,
    /// Who says what may go.
    pub catalog: Arc<dyn Catalog>,
    /// This broker: only what it wrote itself, in this epoch, may be given up.
    pub writer: (NodeId, BrokerEpoch),
    /// What it gave up: [`Storage::given_up`](crate::Storage::given_up).
    pub given_up: GivenUp,
    /// Whether to look for condemned objects and orphans: enough that one broker does. Two at once
    /// delete the same, which does no harm.
    pub duty: Duty,
    /// When and how much.
    pub settings: CollectorSettings,
    /// Its counters.
    pub metrics: CollectorMetrics,
}

/// Handle to the collector. Cheap to clone; it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Collector {
    queue: mpsc::Sender<Message>,
    stop: Arc<AtomicBool>,
}

enum Message {
    Collect {
        reply: oneshot::Sender<Result<Collected, Error>>,
    },
    Drain {
        reply: oneshot::Sender<()>,
    },
}

// === impl Collector ===

impl Collector {
    /// Starts the collector as a task of `tasks`.
    pub fn spawn(tasks: &mut JoinSet<()>, parts: CollectorParts) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(parts, Arc::clone(&stop));
        tasks.spawn(run(worker, requests));
        Self { queue, stop }
    }

    /// Runs a round now.
    ///
    /// # Errors
    /// What stopped the round; what it deleted before stays deleted. [`Error::NotOpen`] after
    /// [`Collector::drain`].
    pub async fn collect(&self) -> Result<Collected, Error> {
        let (reply, result) = oneshot::channel();
        self.send(Message::Collect { reply }).await?;
        result.await.map_err(|_| Error::NotOpen)?
    }

    /// Ends the collector between two deletions. Nothing is lost: it is all found again.
    pub async fn drain(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (reply, done) = oneshot::channel();
        if self.send(Message::Drain { reply }).await.is_ok() {
            // An error means that it has ended already.
            let _ = done.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        self.queue.send(message).await.map_err(|_| Error::NotOpen)
    }
}

async fn run(mut worker: Worker, mut requests: mpsc::Receiver<Message>) {
    let mut ticks = tokio::time::interval(worker.interval());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once, when a starting broker has better things to do.
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(Message::Collect { reply }) => {
                    // Nobody waiting any more is no failure.
                    let _ = reply.send(worker.round().await);
                }
                Some(Message::Drain { reply }) => {
                    let _ = reply.send(());
                    return;
                }
                None => return,
            },
            _ = ticks.tick() => worker.tick().await,
        }
    }
}

#[cfg(test)]
mod tests;
