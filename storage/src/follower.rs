//! Partitions that are led elsewhere, read here as far as they lie in the object store (KIP-392).
//!
//! ```text
//!   read ─▶ a view of the catalog, not older than FOLLOWER_AGE ─▶ slices ─▶ block cache, else the store
//!     └─ nothing there at its offset, in a view taken since it came ─▶ elsewhere: ask the leader
//! ```
//!
//! **Invariants:** only what the catalog names as committed is given out, in order and without a hole:
//! what only the leader's log holds is the leader's. A follower appends, uploads and decides
//! nothing; that a view is old costs a look, never a record.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::TopicPartition;
use tokio::time::{Instant, sleep_until};

use crate::limits::{FOLLOWED_SLICES, FOLLOWER_AGE, FOLLOWER_LOOKS, MAX_FOLLOWED};
use crate::partition::{Inner, Partition, Position, Slice, Status};
use crate::storage::{Shared, check_view};
use crate::{Error, Isolation, PartitionView, ReadResult, Storage};

/// What a read of a partition that is led elsewhere comes to.
#[derive(Clone, Debug)]
pub enum Followed {
    /// Batches; or none, when no room was left for one. Its high watermark is the end of what is
    /// committed.
    Found(ReadResult),
    /// Objects hold nothing at this offset, or it is not within the log as they show it: the
    /// leader knows more.
    Elsewhere(Position),
}

/// A partition that is read here and led elsewhere.
struct Follower {
    inner: Arc<Inner>,
    looks: Mutex<Looks>,
    used: Mutex<Instant>,
    /// One looks at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Looks at the catalog. They are counted, since two may begin at the same time of the clock.
#[derive(Clone, Copy, Debug)]
struct Looks {
    /// How many have begun.
    begun: u64,
    /// The last that brought a view: all that was committed before it began is known.
    seen: u64,
    /// When that one began.
    at: Instant,
}

/// Every such partition that was read lately.
#[derive(Default)]
pub(crate) struct Followers(Mutex<BTreeMap<TopicPartition, Arc<Follower>>>);

impl Storage {
    /// As [`Partition::read`], of a partition that is led elsewhere: from objects alone.
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
    ) -> Result<Followed, Error> {
        let shared = self.shared();
        let begun = Instant::now();
        let (follower, before) = shared.follow(tp, begun).await?;
        if begun.saturating_duration_since(follower.looks().at) > FOLLOWER_AGE {
            follower.look(shared, before).await?;
        }
        loop {
            let fresh = follower.looks().seen > before;
            let partition = Partition {
                inner: Arc::clone(&follower.inner),
                shared: Arc::clone(shared),
            };
            match partition.read(offset, max_bytes, min_one, isolation).await {
                Ok(read) if read.is_answer(offset, min_one) => return Ok(Followed::Found(read)),
                Ok(_) | Err(Error::OutOfRange { .. }) if fresh => {
                    return Ok(Followed::Elsewhere(partition.position()));
                }
                Ok(_) | Err(Error::OutOfRange { .. }) => follower.look(shared, before).await?,
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
    fn looks(&self) -> Looks {
        *self.looks.lock()
    }

    /// Takes a view by a look that comes after the first `before`: the catalog is asked by one at a
    /// time, and not more often than every [`FOLLOWER_LOOKS`].
    async fn look(&self, shared: &Shared, before: u64) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let last = self.looks();
        if last.seen > before {
            return Ok(());
        }
        sleep_until(last.at + FOLLOWER_LOOKS).await;
        let (number, at) = (last.begun + 1, Instant::now());
        self.looks.lock().begun = number;
        let view = shared.catalog.partition(self.inner.topic_partition).await?;
        self.inner.take_view(view)?;
        *self.looks.lock() = Looks {
            begun: number,
            seen: number,
            at,
        };
        Ok(())
    }
}

// === impl Followers ===

impl Followers {
    fn find(&self, tp: TopicPartition, now: Instant) -> Option<Arc<Follower>> {
        let mut held = self.0.lock();
        let found = held.get(&tp)?;
        if !found.inner.is_open() {
            held.remove(&tp);
            return None;
        }
        *found.used.lock() = now;
        Some(Arc::clone(found))
    }

    /// Keeps `follower`, or gives the one that was faster. Those that were not read for the longest
    /// time make room.
    fn keep(&self, follower: Follower) -> Arc<Follower> {
        let tp = follower.inner.topic_partition;
        let mut held = self.0.lock();
        if let Some(faster) = held.get(&tp)
            && faster.inner.is_open()
        {
            return Arc::clone(faster);
        }
        let follower = Arc::new(follower);
        held.insert(tp, Arc::clone(&follower));
        let slices = |held: &BTreeMap<_, Arc<Follower>>| -> usize {
            held.values().map(|one| one.inner.slices()).sum()
        };
        while held.len() > MAX_FOLLOWED || (held.len() > 1 && slices(&held) > FOLLOWED_SLICES) {
            let others = held.iter().filter(|(other, _)| **other != tp);
            let oldest = others.min_by_key(|(_, one)| *one.used.lock());
            let oldest = *oldest.expect("more than one is held").0;
            held.remove(&oldest);
        }
        follower
    }
}

impl Shared {
    /// The follower of a partition, which is opened when there is none, and how many looks of it
    /// had begun before this call.
    async fn follow(
        &self,
        tp: TopicPartition,
        now: Instant,
    ) -> Result<(Arc<Follower>, u64), Error> {
        if let Some(found) = self.followers.find(tp, now) {
            let before = found.looks().begun;
            return Ok((found, before));
        }
        let asked = Instant::now();
        let view = self.catalog.partition(tp).await?;
        let view = view.ok_or(Error::NotLeader {
            topic_partition: tp,
            leader_epoch: protocol::LeaderEpoch(-1),
        })?;
        check_view(&view)?;
        let inner = Inner::following(view, self.env.clock.wall_ms());
        let kept = self.followers.keep(Follower {
            inner: Arc::clone(&inner),
            looks: Mutex::new(Looks {
                begun: 1,
                seen: 1,
                at: asked,
            }),
            used: Mutex::new(asked),
            turn: tokio::sync::Mutex::default(),
        });
        // Who opened it has looked just now.
        let before = match Arc::ptr_eq(&kept.inner, &inner) {
            true => 0,
            false => kept.looks().begun,
        };
        Ok((kept, before))
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
