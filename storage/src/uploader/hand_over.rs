//! Gives partitions away with a short pause of their writes.
//!
//! ```text
//!   serving: upload what is there ─▶ hold appends ─▶ all durable ─▶ upload the rest ─▶ release, or go on
//! ```
//!
//! **Invariants:** an early upload commits without a trim, so that the ordinary round that comes to
//! its entries later finds them committed; a partition is ready only when its committed end is its
//! log end and its appends are held. Whatever fails, appends go on where they were; while store or
//! catalog is away nothing is held at all.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::{LeaderEpoch, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::queue::Ends;
use super::{Round, Worker};
use crate::Error;
use crate::limits::{EARLY_PASSES, HELD_BYTES};
use crate::partition::Inner;

/// How long a hand-over may take.
#[derive(Clone, Copy, Debug)]
pub struct HandOverBounds {
    /// Uploads while the partitions serve.
    pub serving: Duration,
    /// While appends are held.
    pub held: Duration,
}

/// A partition whose appends are held, and all of which is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which it is led here.
    pub leader_epoch: LeaderEpoch,
    /// Its end, and its committed end.
    pub end: i64,
}

impl Worker {
    /// Brings as many of `partitions` as can be to the point where they may be released, unless
    /// nobody waits for the `reply` any more. The others take appends as before.
    pub(super) async fn hand_over<T>(
        &mut self,
        partitions: &[Arc<Inner>],
        bounds: HandOverBounds,
        reply: &mut oneshot::Sender<T>,
    ) -> Result<Vec<Held>, Error> {
        let ready = self.ahead(partitions, bounds, reply).await?;
        let holding = Holding::new(&ready);
        let deadline = Instant::now() + bounds.held;
        if until(deadline, reply, self.rest(&holding.0))
            .await?
            .is_none()
        {
            tracing::warn!("a move waits: its last upload took too long");
        }
        Ok(holding.ready())
    }

    /// Uploads most of what is there while it grows. Those that may be held then: little of them
    /// is left, and an upload has just shown that store and catalog answer.
    async fn ahead<T>(
        &mut self,
        partitions: &[Arc<Inner>],
        bounds: HandOverBounds,
        reply: &mut oneshot::Sender<T>,
    ) -> Result<Vec<Arc<Inner>>, Error> {
        let deadline = Instant::now() + bounds.serving;
        let mut quick = true;
        for _ in 0..EARLY_PASSES {
            let waits = self.shared.queue.bytes_of(&ends(partitions));
            if waits == 0 {
                break;
            }
            let began = Instant::now();
            // Nearly everything goes: ordinary rounds give memory back besides.
            if waits > HELD_BYTES && waits >= self.shared.queue.bytes() / 2 {
                let end = self.shared.queue.end();
                while self.from < end && Instant::now() < deadline && !reply.is_closed() {
                    self.round(true).await?;
                }
            } else if until(deadline, reply, self.early(partitions))
                .await?
                .is_none()
            {
                return Ok(Vec::new());
            }
            if Instant::now() >= deadline || reply.is_closed() {
                return Ok(Vec::new());
            }
            quick = began.elapsed() < bounds.held;
            if quick && self.few(partitions).len() == partitions.len() {
                break;
            }
        }
        Ok(if quick {
            self.few(partitions)
        } else {
            Vec::new()
        })
    }

    /// Those of which least is left, as many as one short upload takes, at least one: who grows
    /// fast waits by itself, and keeps nobody else.
    fn few(&self, partitions: &[Arc<Inner>]) -> Vec<Arc<Inner>> {
        let waits = self.shared.queue.waiting(&ends(partitions));
        let bytes = |inner: &Arc<Inner>| waits.get(&key(inner)).map_or(0, |(bytes, _)| *bytes);
        let mut least: Vec<_> = partitions.to_vec();
        least.sort_by_key(|inner| (bytes(inner), key(inner)));
        let mut total = 0;
        let fits = least.iter().take_while(|inner| {
            total += bytes(inner);
            total <= HELD_BYTES
        });
        let fits = fits.count().max(1);
        least.truncate(fits);
        least
    }

    /// All that was queued becomes durable, then committed.
    async fn rest(&self, partitions: &[Arc<Inner>]) -> Result<(), Error> {
        for inner in partitions {
            inner.all_durable().await;
        }
        let end = |inner: &Arc<Inner>| (Arc::clone(inner), inner.log_end());
        let all: Vec<_> = partitions.iter().map(end).collect();
        self.all_queued(&all).await;
        self.early(partitions).await
    }

    /// Waits until rounds have seen all of them, up to the offset with each, or will: what is
    /// durable is published a moment before it waits for upload.
    pub(super) async fn all_queued(&self, durable: &[(Arc<Inner>, i64)]) {
        let partitions: Vec<_> = durable.iter().map(|(inner, _)| Arc::clone(inner)).collect();
        loop {
            let mut pushed = pin!(self.shared.queue.pushed());
            pushed.as_mut().enable();
            let waits = self.shared.queue.waiting(&ends(&partitions));
            let queued = |(inner, wanted): &(Arc<Inner>, i64)| {
                let end = waits.get(&key(inner)).map_or(0, |(_, end)| *end);
                inner.is_seen(end, *wanted)
            };
            if durable.iter().all(queued) {
                return;
            }
            pushed.await;
        }
    }

    /// One round of these partitions' entries, without a trim. What it is cut off in is found
    /// committed, or not, by the next round.
    async fn early(&self, partitions: &[Arc<Inner>]) -> Result<(), Error> {
        let groups = self.shared.queue.copy_of(&ends(partitions));
        if groups.is_empty() {
            return Ok(());
        }
        let round = Round {
            from: self.from,
            to: self.from,
            groups,
            checkpoint: true,
        };
        let finished = self.committer.upload(&round).await?;
        self.apply_parts(&finished).await;
        Ok(())
    }
}

/// `work`, cut off at the deadline or when nobody waits for the reply any more.
async fn until<T>(
    deadline: Instant,
    reply: &mut oneshot::Sender<T>,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<Option<()>, Error> {
    tokio::select! {
        biased;
        () = reply.closed() => Ok(None),
        done = timeout_at(deadline, work) => done.ok().transpose(),
    }
}

fn key(inner: &Arc<Inner>) -> (TopicPartition, LeaderEpoch) {
    (inner.topic_partition, inner.leader_epoch)
}

/// From where on rounds have not seen them yet: an upload carries the producers of all before it.
fn ends(partitions: &[Arc<Inner>]) -> Ends {
    let end = |inner: &Arc<Inner>| (key(inner), inner.folded_end());
    partitions.iter().map(end).collect()
}

/// Partitions whose appends are held; dropped, they go on.
struct Holding(Vec<Arc<Inner>>);

impl Holding {
    fn new(partitions: &[Arc<Inner>]) -> Self {
        let held = partitions.iter().filter(|inner| inner.hold());
        Self(held.cloned().collect())
    }

    /// Those that may be released stay held, the others go on.
    fn ready(mut self) -> Vec<Held> {
        let (mut ready, mut others) = (Vec::new(), Vec::new());
        for inner in std::mem::take(&mut self.0) {
            match inner.held_end() {
                Some(end) => ready.push(Held {
                    topic_partition: inner.topic_partition,
                    leader_epoch: inner.leader_epoch,
                    end,
                }),
                None => others.push(inner),
            }
        }
        self.0 = others;
        ready
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.iter().for_each(|inner| inner.go_on());
    }
}

#[cfg(test)]
mod tests;
