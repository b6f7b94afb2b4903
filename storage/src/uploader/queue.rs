//! Durable entries that are not yet committed, in the log's order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicPartition};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use wal::{Entry, Sequence};

use crate::budget::MemoryPermit;
use crate::partition::Inner;

/// A durable entry with the memory that it pins.
#[derive(Debug)]
pub(crate) struct QueuedEntry {
    pub(crate) entry: Entry,
    pub(crate) partition: Option<Arc<Inner>>,
    pub(crate) _memory: Option<MemoryPermit>,
}

/// Offsets from which on partitions are meant.
pub(crate) type Ends = BTreeMap<(TopicPartition, LeaderEpoch), i64>;

impl QueuedEntry {
    fn lies_from(&self, from: &Ends) -> bool {
        let entry = &self.entry;
        from.get(&(entry.topic_partition, entry.leader_epoch))
            .is_some_and(|from| entry.last_offset >= *from)
    }
}

/// A durable group.
#[derive(Debug)]
pub(crate) struct DurableGroup {
    pub(crate) sequence: Sequence,
    pub(crate) at: Instant,
    pub(crate) entries: Vec<QueuedEntry>,
}

impl DurableGroup {
    pub(crate) fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|held| held.entry.batches.len() as u64)
            .sum()
    }

    /// What becomes a slice each, with repetitions.
    pub(crate) fn slices(&self) -> impl Iterator<Item = (TopicPartition, LeaderEpoch)> {
        let entries = self.entries.iter().map(|held| &held.entry);
        entries.map(|entry| (entry.topic_partition, entry.leader_epoch))
    }
}

/// The queue. Bounded by the memory budget, whose permits its entries hold.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    /// Told of every push.
    pushed: Notify,
    /// An internal compacted partition has much that is not uploaded.
    urgent: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    groups: VecDeque<DurableGroup>,
    /// Bytes in `groups`.
    queued_bytes: u64,
    /// Bytes of the round in flight.
    in_flight_bytes: u64,
    in_flight_since: Option<Instant>,
}

impl Queue {
    /// Appends the next durable group.
    pub(crate) fn push(&self, group: DurableGroup, upload_bytes: u64, pressed: bool) {
        let mut state = self.state.lock();
        if let Some(last) = state.groups.back() {
            assert!(
                last.sequence < group.sequence,
                "groups become durable in order"
            );
        }
        let first = state.groups.is_empty();
        state.queued_bytes += group.bytes();
        state.groups.push_back(group);
        let due = state.queued_bytes >= upload_bytes;
        drop(state);
        self.pushed.notify_waiters();
        if first || due || pressed {
            self.changed.notify_one();
        }
    }

    /// Starts a round whatever the size.
    pub(crate) fn hurry(&self) {
        self.urgent.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Has the uploader look whether a round is due.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// True when a round should start; `pressed` while somebody waits for memory.
    pub(crate) fn is_due(&self, upload_bytes: u64, pressed: bool) -> bool {
        let state = self.state.lock();
        let urgent = pressed || self.urgent.load(Ordering::Relaxed);
        (urgent && state.queued_bytes > 0) || state.queued_bytes >= upload_bytes
    }

    /// Waits for a push that may matter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When the oldest queued group that holds bytes became durable.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let state = self.state.lock();
        // Empty groups (idle marks) need no upload; they go along with the next round.
        state
            .groups
            .iter()
            .find(|group| !group.entries.is_empty())
            .map(|group| group.at)
    }

    /// Resolves at the next push after it was enabled.
    pub(crate) fn pushed(&self) -> Notified<'_> {
        self.pushed.notified()
    }

    /// True when nothing waits for upload.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().groups.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().queued_bytes
    }

    /// One past the last group that waits; 0 when none does.
    pub(crate) fn end(&self) -> Sequence {
        let state = self.state.lock();
        state.groups.back().map_or(0, |group| group.sequence + 1)
    }

    /// Bytes of the partitions named, from the offset given for each on.
    pub(crate) fn bytes_of(&self, from: &Ends) -> u64 {
        let state = self.state.lock();
        let entries = state.groups.iter().flat_map(|group| &group.entries);
        let wanted = entries.filter(|held| held.lies_from(from));
        wanted.map(|held| held.entry.batches.len() as u64).sum()
    }

    /// Bytes of each of them, and where its last entry ends.
    pub(crate) fn waiting(
        &self,
        from: &Ends,
    ) -> BTreeMap<(TopicPartition, LeaderEpoch), (u64, i64)> {
        let state = self.state.lock();
        let entries = state.groups.iter().flat_map(|group| &group.entries);
        let mut waiting = BTreeMap::new();
        for held in entries.filter(|held| held.lies_from(from)) {
            let entry = &held.entry;
            let key = (entry.topic_partition, entry.leader_epoch);
            let of_it: &mut (u64, i64) = waiting.entry(key).or_default();
            of_it.0 += entry.batches.len() as u64;
            of_it.1 = entry.last_offset + 1;
        }
        waiting
    }

    /// Copies of their entries, from the offset given for each on; these stay queued, and pin the
    /// memory.
    pub(crate) fn copy_of(&self, from: &Ends) -> Vec<DurableGroup> {
        let state = self.state.lock();
        let mut groups = Vec::new();
        for group in &state.groups {
            let wanted = group.entries.iter().filter(|held| held.lies_from(from));
            let copy = wanted.map(|held| QueuedEntry {
                entry: held.entry.clone(),
                partition: held.partition.clone(),
                _memory: None,
            });
            let entries: Vec<_> = copy.collect();
            if !entries.is_empty() {
                groups.push(DurableGroup {
                    sequence: group.sequence,
                    at: group.at,
                    entries,
                });
            }
        }
        groups
    }

    /// Takes groups from the front: at least one, then as many as stay within `bytes` and name at
    /// most `slices` partitions.
    pub(crate) fn cut(&self, bytes: u64, slices: usize) -> Vec<DurableGroup> {
        self.urgent.store(false, Ordering::Relaxed);
        let mut state = self.state.lock();
        let mut named = BTreeSet::new();
        let (mut taken, mut total) = (0, 0);
        for group in &state.groups {
            let more = group.bytes();
            let before = named.len();
            named.extend(group.slices());
            let fits = total + more <= bytes && named.len() <= slices;
            if taken > 0 && !fits && (more > 0 || named.len() > before) {
                break;
            }
            taken += 1;
            total += more;
        }
        let groups: Vec<_> = state.groups.drain(..taken).collect();
        state.queued_bytes -= total;
        state.in_flight_bytes += total;
        state.in_flight_since = groups.first().map(|group| group.at);
        groups
    }

    /// A cut of `bytes` is committed.
    pub(crate) fn done(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.in_flight_bytes -= bytes;
        state.in_flight_since = None;
    }

    /// Bytes not committed, and since when the oldest of them is durable.
    pub(crate) fn unuploaded(&self) -> (u64, Option<Instant>) {
        let oldest = self.oldest();
        let state = self.state.lock();
        (
            state.queued_bytes + state.in_flight_bytes,
            state.in_flight_since.or(oldest),
        )
    }
}
