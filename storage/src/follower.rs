//! Partitions that are led elsewhere, read here as far as they lie in the object store (KIP-392).
//!
//! ```text
//!   read ─▶ a view of the catalog, not older than FOLLOWER_AGE ─▶ slices ─▶ block cache, else the store
//!     │└─ nothing there at its offset, in a view taken since it came ─▶ elsewhere: ask the leader
//!     └─ no room for a batch ─▶ nothing, and nobody is asked
//!   look ─▶ one at a time for a partition ─▶ some at a time for all, at a pace ─▶ the catalog
//! ```
//!
//! **Invariants:** only what the catalog names as committed is given out, in order and without a hole:
//! what only the leader's log holds is the leader's. A follower appends, uploads and decides
//! nothing; that a view is old costs a look, never a record. However many partitions are read, the
//! catalog is asked at a bounded rate, and nobody waits for it longer than the reader says.

mod asks;
mod held;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicPartition};
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) use asks::Asks;
pub(crate) use held::Followers;

use crate::limits::{
    FOLLOWED_SLICE_BYTES, FOLLOWER_AGE, FOLLOWER_BYTES, FOLLOWER_LOOK, FOLLOWER_LOOKS,
    LEAST_BATCH_BYTES,
};
use crate::partition::{Inner, Partition, Position, Slice, Status};
use crate::storage::{Shared, check_view};
use crate::{CatalogError, Error, Isolation, PartitionView, ReadResult, Storage};

/// What a read of a partition that is led elsewhere comes to.
#[derive(Clone, Debug)]
pub enum Followed {
    /// Batches; or none, when no room was left for one. Its high watermark is the end of what is
    /// committed; -1 when nothing is known to follow, since the leader may hold more.
    Found(ReadResult),
    /// Objects hold nothing at this offset, or it is not within the log as they show it: the
    /// leader knows more.
    Elsewhere(Position),
}

/// A partition that is read here and led elsewhere.
struct Follower {
    topic_partition: TopicPartition,
    seen: Mutex<Seen>,
    /// One looks at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Seen {
    /// `None` before the first look.
    inner: Option<Arc<Inner>>,
    looks: Looks,
}

/// Looks at the catalog. They are counted, since two may begin at the same time of the clock.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    /// How many have begun.
    begun: u64,
    /// When the last did.
    tried: Option<Instant>,
    /// The last that brought a view: all that was committed before it began is known.
    seen: u64,
    /// When that one began.
    at: Option<Instant>,
}

impl Storage {
    /// As [`Partition::read`], of a partition that is led elsewhere: from objects alone. The catalog
    /// is waited for no longer than `patience`, which becomes less by what that took.
    ///
    /// # Errors
    /// `NotLeader` when the partition is gone; `Catalog`, `Missing`, `Lost`, `Store` (try again, or
    /// ask the leader); `Damaged`.
    pub async fn read_followed(
        &self,
        tp: TopicPartition,
        offset: i64,
        max_bytes: usize,
        min_one: bool,
        isolation: Isolation,
        patience: &mut Duration,
    ) -> Result<Followed, Error> {
        let shared = self.shared();
        if !min_one && max_bytes < LEAST_BATCH_BYTES {
            return Ok(Followed::Found(ReadResult {
                batches: Vec::new(),
                bytes: 0,
                position: shared.followers.position_before(tp, offset),
                aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
            }));
        }
        let begun = Instant::now();
        let follower = shared.followers.of(tp, shared.settings.followed_bytes);
        let before = follower.looks().begun;
        let fresh_enough = |at| begun.saturating_duration_since(at) <= FOLLOWER_AGE;
        if !follower.looks().at.is_some_and(fresh_enough) {
            follower.look(shared, before, patience).await?;
        }
        loop {
            let fresh = follower.looks().seen > before;
            let partition = Partition {
                inner: follower.inner().ok_or_else(|| follower.gone())?,
                shared: Arc::clone(shared),
            };
            match partition.read(offset, max_bytes, min_one, isolation).await {
                Ok(read) if read.is_answer(offset, min_one) => return Ok(Followed::Found(read)),
                Ok(_) | Err(Error::OutOfRange { .. }) if fresh => {
                    return Ok(Followed::Elsewhere(partition.position()));
                }
                Ok(_) | Err(Error::OutOfRange { .. }) => {
                    follower.look(shared, before, patience).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl ReadResult {
    /// Whether a follower may say so: it found something, or there was no room for a batch that is
    /// there.
    fn is_answer(&self, offset: i64, min_one: bool) -> bool {
        !self.batches.is_empty() || (!min_one && offset < self.position.committed_end)
    }
}

impl Partition {
    /// Bytes of committed slices from `offset` on: what others, too, can read. A slice that begins
    /// below counts in proportion.
    pub fn committed_bytes_from(&self, offset: i64) -> u64 {
        let state = self.inner.state.lock();
        let slices = state.slices.iter().rev();
        let from = slices.take_while(|slice| slice.reference.end_offset > offset);
        from.map(|slice| part_from(slice, offset)).sum()
    }
}

fn part_from(slice: &Slice, offset: i64) -> u64 {
    let (first, end) = (slice.reference.first_offset, slice.reference.end_offset);
    let whole = u128::try_from(end - first).unwrap_or(1).max(1);
    let part = u128::try_from(end - offset.max(first)).unwrap_or(0);
    u64::try_from(u128::from(slice.reference.bytes) * part / whole).unwrap_or(u64::MAX)
}

// === impl Follower ===

impl Follower {
    fn new(topic_partition: TopicPartition) -> Self {
        Self {
            topic_partition,
            seen: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn looks(&self) -> Looks {
        self.seen.lock().looks
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        self.seen.lock().inner.clone()
    }

    /// Whether the partition was gone at the last look.
    fn is_closed(&self) -> bool {
        self.inner().is_some_and(|inner| !inner.is_open())
    }

    fn gone(&self) -> Error {
        Error::NotLeader {
            topic_partition: self.topic_partition,
            leader_epoch: LeaderEpoch(-1),
        }
    }

    /// What it takes of memory, about.
    fn bytes(&self) -> usize {
        let slices = self.inner().map_or(0, |inner| inner.slices());
        FOLLOWER_BYTES + slices * FOLLOWED_SLICE_BYTES
    }

    /// Takes a view by a look that begins after the first `before` looks, within `patience`.
    async fn look(
        &self,
        shared: &Shared,
        before: u64,
        patience: &mut Duration,
    ) -> Result<(), Error> {
        // Or somebody would be asked, and given up at once.
        if patience.is_zero() {
            return Err(late());
        }
        let begun = Instant::now();
        let looking = self.look_in_turn(shared, before, begun + *patience);
        let looked = timeout(*patience, looking).await;
        *patience = patience.saturating_sub(begun.elapsed());
        looked.unwrap_or_else(|_| Err(late()))
    }

    /// The catalog is asked by one at a time, and not more often than every [`FOLLOWER_LOOKS`],
    /// whatever it answers.
    async fn look_in_turn(
        &self,
        shared: &Shared,
        before: u64,
        until: Instant,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let last = self.looks();
        if last.seen > before {
            return Ok(());
        }
        if let Some(tried) = last.tried {
            sleep_until(tried + FOLLOWER_LOOKS).await;
        }
        let _ask = shared.asks.turn(until).await.ok_or_else(late)?;
        let (number, at) = (last.begun + 1, Some(Instant::now()));
        let looks = Looks {
            begun: number,
            tried: at,
            ..last
        };
        self.seen.lock().looks = looks;
        let view = shared.catalog.partition(self.topic_partition).await?;
        self.take(view, shared.env.clock.wall_ms())?;
        shared.count_followed(self.topic_partition);
        self.seen.lock().looks = Looks {
            seen: number,
            at,
            ..looks
        };
        Ok(())
    }

    fn take(&self, view: Option<PartitionView>, now_ms: i64) -> Result<(), Error> {
        if let Some(inner) = self.inner() {
            return inner.take_view(view);
        }
        let view = view.ok_or_else(|| self.gone())?;
        check_view(&view)?;
        self.seen.lock().inner = Some(Inner::following(view, now_ms));
        Ok(())
    }
}

fn late() -> Error {
    Error::Catalog(CatalogError::Unavailable("no answer in time".to_owned()))
}

impl Shared {
    /// Counts what a follower takes after a look: it may never be read again.
    fn count_followed(&self, tp: TopicPartition) {
        self.followers.recount(tp, self.settings.followed_bytes);
    }
}

impl Partition {
    /// As [`Partition::look_again`], of one that is led elsewhere.
    pub(crate) async fn look_beside(&self) -> Result<(), Error> {
        let until = Instant::now() + FOLLOWER_LOOK;
        let asking = async {
            let asks = &self.shared.asks;
            let _ask = asks.turn(until).await.ok_or_else(late)?;
            let tp = self.inner.topic_partition;
            self.inner
                .take_view(self.shared.catalog.partition(tp).await?)?;
            self.shared.count_followed(tp);
            Ok(())
        };
        let looked = timeout(FOLLOWER_LOOK, asking).await;
        looked.unwrap_or_else(|_| Err(late()))
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        self.state.lock().status != Status::Closed
    }

    fn slices(&self) -> usize {
        self.state.lock().slices.len()
    }

    /// Takes what the catalog says of a partition led elsewhere, unless something newer is known.
    /// One that is gone is closed.
    pub(crate) fn take_view(self: &Arc<Self>, view: Option<PartitionView>) -> Result<(), Error> {
        assert!(
            self.follows,
            "a leader's own state is never taken from a view"
        );
        let Some(view) = view else {
            self.close();
            return Err(self.not_leader());
        };
        check_view(&view)?;
        let mut state = self.state.lock();
        let end = view.committed_end.max(view.log_start);
        let older = end < state.high_watermark || view.log_start < state.log_start;
        if state.status == Status::Closed || older {
            return Ok(());
        }
        state.log_start = view.log_start;
        state.committed_end = end;
        state.high_watermark = end;
        state.log_end = end;
        state.slices = view.slices.into_iter().map(Slice::new).collect();
        state.gaps = view.gaps;
        state.epochs = view.epochs;
        state.validate();
        Ok(())
    }
}
