//! A partition led here: offsets, watermarks, waiters.
//!
//! ```text
//!   append ─▶ [lock: leader? sequence? offsets; enqueue] ─▶ log ─▶ durable ─▶ hot ─▶ watermark ─▶ waiters
//!   read   ─▶ hot cache, else block cache, else object store
//! ```
//!
//! **Invariants:** nothing awaits under the lock; the order of a partition's entries in the log is
//! the order of its offsets; log start ≤ committed end, high watermark ≤ log end; what the hot
//! cache has dropped lies below the committed end.

mod append;
mod commit;
mod durable;
mod hold;
mod report;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicPartition};

pub use append::{AppendContext, Appended, Reservation};
pub(crate) use commit::CheckpointPlan;
pub(crate) use wait::{Wakers, wake};

use crate::cache::HotLog;
use crate::producers::Producers;
use crate::reader::Tracker;
use crate::storage::Shared;
use crate::{Error, PartitionView, SliceRef, TopicConfig};
use append::Pending;
use report::Reported;

/// A partition led here at one leader epoch. Cheap to clone.
#[derive(Clone)]
pub struct Partition {
    pub(crate) inner: Arc<Inner>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Partition({} at {})",
            self.inner.topic_partition, self.inner.leader_epoch
        )
    }
}

/// What all handles of a partition share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) state: Mutex<State>,
    pub(crate) traffic: Counted,
    /// It is about to be given away.
    pub(crate) leaving: AtomicBool,
    /// Who reads sequentially; never locked together with `state`.
    pub(crate) tracker: Mutex<Tracker>,
    /// Led elsewhere: only what the catalog names is read, and nothing else is done.
    pub(crate) follows: bool,
}

/// What came and went since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    requests: AtomicU64,
}

/// What came and went since a partition was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of batches appended.
    pub bytes_in: u64,
    /// Bytes of batches read.
    pub bytes_out: u64,
    /// Appends, and reads that found something.
    pub requests: u64,
}

impl Counted {
    pub(crate) fn appended(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the partition takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Appends and reads.
    Open,
    /// Reads; appends wait, since it is being given away.
    Held,
    /// Neither: released, deleted or fenced. Entries in the log still become durable.
    Closed,
}

/// Everything under the partition's lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) config: TopicConfig,
    pub(crate) log_start: i64,
    pub(crate) committed_end: i64,
    pub(crate) high_watermark: i64,
    /// Next offset to give.
    pub(crate) log_end: i64,
    /// Epochs that hold data, with their first offsets, ascending; the last is this one.
    pub(crate) epochs: Vec<(LeaderEpoch, i64)>,
    /// Producers as of `log_end`.
    pub(crate) producers: Producers,
    /// Producers where the last round ended (R5), and when they were last stored whole.
    pub(crate) committed: Committed,
    /// In order of offsets; covers [log start or before, committed end).
    pub(crate) slices: Vec<Arc<Slice>>,
    /// Offsets (first, end) that hold nothing, in order: of logs that were given up.
    pub(crate) gaps: Vec<(i64, i64)>,
    /// What the controllers know of it.
    reported: Reported,
    /// Queued in the log, not yet durable, in order of offsets.
    pending: VecDeque<Pending>,
    pub(crate) hot: HotLog,
    pub(crate) wakers: Wakers,
    /// Durable bytes that no committed slice holds.
    pub(crate) unuploaded_bytes: u64,
    /// Committed bytes since the last rewriting of a compacted partition.
    pub(crate) dirty_bytes: u64,
    /// Where the last rewriting ended: what lies below has no superseded records but by what lies
    /// above.
    pub(crate) clean_end: i64,
    /// Up to here hooks were told of committed slices.
    pub(crate) finished_end: i64,
}

/// Producer state where the last upload round ended.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    /// Producers as of offset `at`.
    pub(crate) producers: Producers,
    pub(crate) at: i64,
    pub(crate) bytes_since_checkpoint: u64,
    pub(crate) checkpoint_at_ms: i64,
}

/// A slice that this partition reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) reference: SliceRef,
    /// Key of its object, shared with the caches.
    pub(crate) object: Arc<str>,
}

impl Slice {
    pub(crate) fn new(reference: SliceRef) -> Arc<Self> {
        let object = Arc::from(reference.object.key.as_str());
        Arc::new(Self { reference, object })
    }

    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.reference.first_offset <= offset && offset < self.reference.end_offset
    }
}

/// Positions of a partition, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// First readable offset.
    pub log_start: i64,
    /// Up to here data is recorded as objects.
    pub committed_end: i64,
    /// Up to here transactions are decided; equals the high watermark while there are none.
    pub last_stable_offset: i64,
    /// Up to here data is durable: what consumers may read.
    pub high_watermark: i64,
    /// Next offset to give.
    pub log_end: i64,
}

impl Position {
    /// Of a partition of which nothing is known: Kafka's -1 everywhere.
    pub const UNKNOWN: Self = Self {
        log_start: -1,
        committed_end: -1,
        last_stable_offset: -1,
        high_watermark: -1,
        log_end: -1,
    };
}

impl Inner {
    /// A partition as the catalog shows it, whose producers at the committed end are `producers`.
    pub(crate) fn new(
        view: PartitionView,
        config: TopicConfig,
        producers: Producers,
        now_ms: i64,
    ) -> Arc<Self> {
        Arc::new(Self::of(view, config, producers, now_ms))
    }

    /// A partition that is led elsewhere, as the catalog shows it.
    pub(crate) fn following(view: PartitionView, now_ms: i64) -> Arc<Self> {
        let (config, producers) = (TopicConfig::kafka_default(), Producers::default());
        let mut inner = Self::of(view, config, producers, now_ms);
        inner.follows = true;
        Arc::new(inner)
    }

    fn of(view: PartitionView, config: TopicConfig, producers: Producers, now_ms: i64) -> Self {
        let end = view.committed_end.max(view.log_start);
        let mut epochs: Vec<_> = view
            .epochs
            .iter()
            .copied()
            .filter(|(epoch, _)| *epoch < view.leader_epoch)
            .collect();
        epochs.push((view.leader_epoch, end));
        let state = State {
            status: Status::Open,
            config,
            log_start: view.log_start,
            committed_end: end,
            high_watermark: end,
            log_end: end,
            epochs,
            committed: Committed {
                producers: producers.clone(),
                at: end,
                bytes_since_checkpoint: 0,
                checkpoint_at_ms: now_ms,
            },
            producers,
            dirty_bytes: view.slices.iter().map(|slice| slice.bytes).sum(),
            clean_end: view.log_start,
            finished_end: end,
            slices: view.slices.into_iter().map(Slice::new).collect(),
            gaps: view.gaps,
            reported: Reported::default(),
            pending: VecDeque::new(),
            hot: HotLog::default(),
            wakers: Wakers::default(),
            unuploaded_bytes: 0,
        };
        state.validate();
        Self {
            topic_partition: view.topic_partition,
            leader_epoch: view.leader_epoch,
            state: Mutex::new(state),
            traffic: Counted::default(),
            leaving: AtomicBool::new(false),
            tracker: Mutex::default(),
            follows: false,
        }
    }

    /// Drops hot batches below `end`, which are uploaded and applied.
    pub(crate) fn evict_below(&self, end: i64) {
        let mut state = self.state.lock();
        assert!(
            end <= state.committed_end
                || state.status == Status::Closed
                || env::planted!("evicted-before-committed"),
            "R7: the cache drops only what the owner has applied to its slice list"
        );
        state.hot.evict_below(end);
    }

    pub(crate) fn held(&self) -> Error {
        Error::Held {
            topic_partition: self.topic_partition,
        }
    }

    pub(crate) fn ahead(&self) -> Error {
        Error::Ahead {
            topic_partition: self.topic_partition,
        }
    }

    pub(crate) fn not_leader(&self) -> Error {
        Error::NotLeader {
            topic_partition: self.topic_partition,
            leader_epoch: self.leader_epoch,
        }
    }
}

impl State {
    pub(crate) fn position(&self) -> Position {
        Position {
            log_start: self.log_start,
            committed_end: self.committed_end,
            // No transactions are taken yet, so that all that is durable is decided.
            last_stable_offset: self.high_watermark,
            high_watermark: self.high_watermark,
            log_end: self.log_end,
        }
    }

    /// The slice that holds `offset`.
    pub(crate) fn slice_at(&self, offset: i64) -> Option<&Arc<Slice>> {
        let index = self
            .slices
            .partition_point(|s| s.reference.end_offset <= offset);
        self.slices
            .get(index)
            .filter(|slice| slice.contains(offset))
    }

    /// Where the gap that holds `offset` ends, if one does.
    pub(crate) fn gap_end(&self, offset: i64) -> Option<i64> {
        let within = |(first, end): &&(i64, i64)| (*first..*end).contains(&offset);
        self.gaps.iter().find(within).map(|(_, end)| *end)
    }

    /// Raises log start and forgets what lies wholly below. DeleteRecords may pass the committed
    /// end: what is not uploaded yet is committed all the same.
    pub(crate) fn raise_log_start(&mut self, log_start: i64) {
        if log_start <= self.log_start {
            return;
        }
        assert!(
            log_start <= self.high_watermark,
            "only durable records are deleted"
        );
        self.log_start = log_start;
        let below = self
            .slices
            .partition_point(|s| s.reference.end_offset <= log_start);
        self.slices.drain(..below);
        self.gaps.retain(|(_, end)| *end > log_start);
        // The epoch that holds log start stays, from log start on.
        let holds = self
            .epochs
            .partition_point(|(_, first)| *first <= log_start);
        self.epochs.drain(..holds.saturating_sub(1));
        if let Some((_, first)) = self.epochs.first_mut() {
            *first = (*first).max(log_start);
        }
        self.validate();
    }

    pub(crate) fn validate(&self) {
        assert!(
            self.log_start >= 0 && self.log_start <= self.high_watermark,
            "log start"
        );
        assert!(
            self.committed_end <= self.high_watermark,
            "only durable data is committed"
        );
        assert!(
            self.high_watermark <= self.log_end,
            "only what has an offset is durable"
        );
        for pair in self.slices.windows(2) {
            assert!(
                pair[0].reference.end_offset <= pair[1].reference.first_offset,
                "slices are in order of offsets"
            );
        }
    }
}

impl Partition {
    /// Whose records.
    pub fn topic_partition(&self) -> TopicPartition {
        self.inner.topic_partition
    }

    /// Epoch at which it is led here.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.leader_epoch
    }

    /// All positions at one moment.
    pub fn position(&self) -> Position {
        self.inner.state.lock().position()
    }

    /// What came and went since it was opened here.
    pub fn traffic(&self) -> Traffic {
        let counted = &self.inner.traffic;
        Traffic {
            bytes_in: counted.bytes_in.load(Ordering::Relaxed),
            bytes_out: counted.bytes_out.load(Ordering::Relaxed),
            requests: counted.requests.load(Ordering::Relaxed),
        }
    }

    /// First readable offset.
    pub fn log_start(&self) -> i64 {
        self.position().log_start
    }

    /// Up to here consumers may read.
    pub fn high_watermark(&self) -> i64 {
        self.position().high_watermark
    }

    /// Up to here read-committed consumers may read.
    pub fn last_stable_offset(&self) -> i64 {
        self.position().last_stable_offset
    }

    /// Next offset to give.
    pub fn log_end(&self) -> i64 {
        self.position().log_end
    }

    /// One past the last offset that holds or will hold data: log end, less the gaps that end
    /// there. Not below log start.
    pub fn data_end(&self) -> i64 {
        let state = self.inner.state.lock();
        let mut end = state.log_end;
        for (first, gap_end) in state.gaps.iter().rev() {
            if *gap_end != end {
                break;
            }
            end = *first;
        }
        end.max(state.log_start)
    }

    /// True until it is released, deleted or fenced.
    pub fn is_open(&self) -> bool {
        self.inner.state.lock().status != Status::Closed
    }

    /// Epochs with their first offsets, ascending; the last is the current one.
    pub fn epochs(&self) -> Vec<(LeaderEpoch, i64)> {
        self.inner.state.lock().epochs.clone()
    }

    /// The largest epoch at or below `epoch` and where it ends (exclusive), as
    /// OffsetForLeaderEpoch answers; `None` when no epoch that low is known.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, i64)> {
        let state = self.inner.state.lock();
        let after = state.epochs.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = *state.epochs.get(after.checked_sub(1)?)?;
        let end = state
            .epochs
            .get(after)
            .map_or(state.high_watermark, |(_, first)| *first);
        Some((found, end))
    }

    /// The epoch under which the record at `offset` was written.
    pub fn epoch_at(&self, offset: i64) -> Option<LeaderEpoch> {
        let state = self.inner.state.lock();
        let after = state.epochs.partition_point(|(_, first)| *first <= offset);
        state
            .epochs
            .get(after.checked_sub(1)?)
            .map(|(epoch, _)| *epoch)
    }

    /// Takes a changed topic configuration.
    pub fn set_config(&self, config: TopicConfig) {
        self.inner.state.lock().config = config;
    }

    /// Says whether it is about to be given away: nothing of it is rewritten then.
    pub fn set_leaving(&self, leaving: bool) {
        self.inner.leaving.store(leaving, Ordering::Relaxed);
    }

    /// Its topic configuration.
    pub fn config(&self) -> TopicConfig {
        self.inner.state.lock().config.clone()
    }

    /// Bytes from log start on: committed slices, and what is not uploaded yet.
    pub fn size_bytes(&self) -> u64 {
        let state = self.inner.state.lock();
        let committed: u64 = state.slices.iter().map(|slice| slice.reference.bytes).sum();
        committed + state.unuploaded_bytes
    }

    /// Slices that it reads, in order of offsets.
    pub fn slices(&self) -> Vec<SliceRef> {
        self.inner
            .state
            .lock()
            .slices
            .iter()
            .map(|slice| slice.reference.clone())
            .collect()
    }

    /// First offset that is not yet in the object store, `None` when all is.
    pub fn earliest_pending_upload(&self) -> Option<i64> {
        let position = self.position();
        (position.committed_end < position.log_end).then_some(position.committed_end)
    }
}
