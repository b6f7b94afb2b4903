//! The newest batches of each partition: all that is not yet uploaded, and of the uploaded what
//! fits the budget.
//!
//! **Invariant (R7):** only batches below the committed end that the owner has applied to its own
//! slice list are ever dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::partition::Inner;

/// One durable batch.
#[derive(Clone, Debug)]
pub(crate) struct HotBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp_ms: i64,
    pub(crate) bytes: Bytes,
}

/// The newest batches of one partition, without holes.
#[derive(Debug, Default)]
pub(crate) struct HotLog {
    batches: VecDeque<HotBatch>,
}

impl HotLog {
    /// Appends a batch that has just become durable.
    pub(crate) fn push(&mut self, batch: HotBatch) {
        if let Some(last) = self.batches.back() {
            assert!(
                last.last_offset < batch.base_offset,
                "batches become durable in order of offsets"
            );
        }
        self.batches.push_back(batch);
    }

    /// First offset held; `None` when nothing is.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    /// Batches from the one that holds `offset` (or follows it) on.
    pub(crate) fn from(&self, offset: i64) -> impl Iterator<Item = &HotBatch> {
        let first = self
            .batches
            .partition_point(|batch| batch.last_offset < offset);
        self.batches.range(first..)
    }

    /// Drops what lies wholly below `end`.
    pub(crate) fn evict_below(&mut self, end: i64) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.last_offset < end)
        {
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            self.batches.shrink_to(0);
        }
    }
}

/// What is uploaded and kept all the same, oldest first, over all partitions.
#[derive(Debug)]
pub(crate) struct Retained {
    budget: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: usize,
    chunks: VecDeque<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    partition: Arc<Inner>,
    /// One past the last offset of the chunk.
    end_offset: i64,
    bytes: usize,
}

impl Retained {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            queue: Mutex::default(),
        }
    }

    /// Takes note that batches of `partition` up to `end_offset`, of `bytes`, are uploaded and
    /// applied; then drops the oldest chunks until the budget holds.
    pub(crate) fn uploaded(&self, partition: &Arc<Inner>, end_offset: i64, bytes: usize) {
        let mut evict = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.bytes += bytes;
            queue.chunks.push_back(Chunk {
                partition: Arc::clone(partition),
                end_offset,
                bytes,
            });
            while queue.bytes > self.budget {
                let chunk = queue.chunks.pop_front().expect("bytes are those of chunks");
                queue.bytes -= chunk.bytes;
                evict.push(chunk);
            }
        }
        // Outside the queue's lock: a partition's own is taken here.
        for chunk in evict {
            chunk.partition.evict_below(chunk.end_offset);
        }
    }

    /// Forgets a closed partition.
    pub(crate) fn forget(&self, partition: &Arc<Inner>) {
        let mut queue = self.queue.lock();
        let mut freed = 0;
        queue.chunks.retain(|chunk| {
            let gone = Arc::ptr_eq(&chunk.partition, partition);
            freed += if gone { chunk.bytes } else { 0 };
            !gone
        });
        queue.bytes -= freed;
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }
}
