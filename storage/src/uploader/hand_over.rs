//! Gives partitions away with a short pause of their writes.
//!
//! ```text
//!   serving: upload what is there ─▶ hold appends ─▶ all durable ─▶ upload the rest ─▶ release, or go on
//! ```
//!
//! **Invariants:** an early upload commits without a trim, so that the ordinary round that comes to
//! its entries later finds them committed; a partition is ready only when its committed end is its
//! log end and its appends are held. Whatever fails, appends go on where they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::{LeaderEpoch, TopicPartition};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Round, Worker};
use crate::Error;
use crate::limits::{EARLY_PASSES, HELD_BYTES, QUEUED_SOON};
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
    /// Brings as many of `partitions` as can be to the point where they may be released. The others
    /// take appends as before.
    pub(super) async fn hand_over(
        &mut self,
        partitions: &[Arc<Inner>],
        bounds: HandOverBounds,
    ) -> Result<Vec<Held>, Error> {
        self.ahead(partitions, Instant::now() + bounds.serving)
            .await?;
        let holding = Holding::new(partitions);
        let deadline = Instant::now() + bounds.held;
        match timeout_at(deadline, self.rest(&holding.0)).await {
            Ok(done) => done?,
            Err(_) => {
                tracing::warn!("a move waits: its last upload took too long");
            }
        }
        Ok(holding.ready())
    }

    /// Uploads most of what is there while it grows.
    async fn ahead(&mut self, partitions: &[Arc<Inner>], deadline: Instant) -> Result<(), Error> {
        for _ in 0..EARLY_PASSES {
            let waits = self.shared.queue.bytes_of(&ends(partitions));
            if waits <= HELD_BYTES || Instant::now() >= deadline {
                return Ok(());
            }
            // Nearly everything goes: ordinary rounds give memory back besides.
            if waits >= self.shared.queue.bytes() / 2 {
                let until = self.shared.queue.end();
                while self.from < until && Instant::now() < deadline {
                    self.round(true).await?;
                }
                continue;
            }
            match timeout_at(deadline, self.early(partitions)).await {
                Ok(done) => done?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// All that was queued becomes durable, then committed.
    async fn rest(&self, partitions: &[Arc<Inner>]) -> Result<(), Error> {
        for inner in partitions {
            inner.all_durable().await;
        }
        loop {
            self.early(partitions).await?;
            if partitions.iter().all(|inner| inner.is_committed()) {
                return Ok(());
            }
            // A group is published entry by entry, and queued for upload only then.
            sleep(QUEUED_SOON).await;
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

/// From where on rounds have not seen them yet: an upload carries the producers of all before it.
fn ends(partitions: &[Arc<Inner>]) -> BTreeMap<(TopicPartition, LeaderEpoch), i64> {
    let end = |inner: &Arc<Inner>| {
        let key = (inner.topic_partition, inner.leader_epoch);
        (key, inner.folded_end())
    };
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
