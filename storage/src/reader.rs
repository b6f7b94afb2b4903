//! Reads batches: `hot cache, else block cache, else a ranged read of an object`.
//!
//! **Invariants:** bytes whose checksum was not verified are never given out; a read never skips an
//! offset that holds a record, never passes the high watermark or last stable offset, and stops
//! exactly between batches; a missing source inside [log start, high watermark) is an error worth
//! another try, never "out of range" (R7).

mod fetch;
#[cfg(test)]
mod tests;
mod timestamps;
mod tracker;

use std::sync::Arc;

use bytes::Bytes;
use protocol::BatchView;

pub(crate) use fetch::{Ahead, Class, ReadPath};
pub use timestamps::RecordAt;
pub(crate) use tracker::Tracker;

use crate::Error;
use crate::format::{Damage, Part, SliceIndex};
use crate::limits::{MAX_REPLANS, TAIL_BYTES};
use crate::partition::{Partition, Position, Slice, State, Status};

/// What a consumer may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// An aborted transaction that overlaps a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

/// What a read gives.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// Whole batches in order; the first may begin below the offset asked for.
    pub batches: Vec<Bytes>,
    /// Bytes of all batches.
    pub bytes: usize,
    /// Positions when the read began.
    pub position: Position,
    /// For read-committed readers, who filter by it; `None` for others.
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// Where the next batches of a read come from.
enum Source {
    /// The hot cache; `true` when the read's limits are reached.
    Hot(Vec<Bytes>, bool),
    Slice(Arc<Slice>, Class),
    /// Nothing is here up to this offset.
    Gap(i64),
    End,
}

/// A read on its way.
struct Reading {
    next: i64,
    /// One past the last readable offset.
    limit: i64,
    max_bytes: usize,
    min_one: bool,
    batches: Vec<Bytes>,
    bytes: usize,
    window: u64,
    was_cold: bool,
}

impl Reading {
    /// Whether a batch of `length` still fits.
    fn takes(&self, length: usize) -> bool {
        self.bytes + length <= self.max_bytes || (self.batches.is_empty() && self.min_one)
    }

    fn take(&mut self, batch: Bytes, next: i64) {
        self.bytes += batch.len();
        self.next = next;
        self.batches.push(batch);
    }
}

impl Partition {
    /// Whole batches from the one that holds `offset` on, of at most `max_bytes`; with `min_one`
    /// the first may be larger. Reads on across slices, objects and into the hot cache; less than
    /// all there is may come back, but nothing in between is left out.
    ///
    /// # Errors
    /// `OutOfRange`; `NotLeader`; `Missing`, `Lost`, `Store` (try again); `Damaged`.
    pub async fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one: bool,
        isolation: Isolation,
    ) -> Result<ReadResult, Error> {
        let position = self.readable(offset)?;
        let mut reading = Reading {
            next: offset,
            limit: match isolation {
                Isolation::ReadUncommitted => position.high_watermark,
                Isolation::ReadCommitted => position.last_stable_offset,
            },
            max_bytes,
            min_one,
            batches: Vec::new(),
            bytes: 0,
            window: 0,
            was_cold: false,
        };
        match self.fill(&mut reading).await {
            Ok(()) => {}
            // What was read is right; the trouble comes up again at the next offset.
            Err(error) if !reading.batches.is_empty() => {
                tracing::debug!(%error, "a read stops early");
            }
            Err(error) => return Err(error),
        }
        if reading.was_cold {
            self.inner
                .tracker
                .lock()
                .leave(reading.next, reading.window);
        }
        self.inner.traffic.read(reading.bytes);
        Ok(ReadResult {
            batches: reading.batches,
            bytes: reading.bytes,
            position,
            aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
        })
    }

    /// Positions, when `offset` lies within the log.
    fn readable(&self, offset: i64) -> Result<Position, Error> {
        let state = self.inner.state.lock();
        if state.status == Status::Closed {
            return Err(self.inner.not_leader());
        }
        let position = state.position();
        if offset < position.log_start || offset > position.log_end {
            let Position {
                log_start, log_end, ..
            } = position;
            return Err(Error::OutOfRange {
                offset,
                log_start,
                log_end,
            });
        }
        Ok(position)
    }

    async fn fill(&self, reading: &mut Reading) -> Result<(), Error> {
        let mut replans = 0;
        loop {
            // No block is fetched for a read that cannot take a byte more.
            if !reading.takes(1) {
                return Ok(());
            }
            match self.source(reading)? {
                Source::End => return Ok(()),
                Source::Gap(end) => reading.next = end,
                Source::Hot(batches, done) => {
                    for batch in batches {
                        let view = BatchView::new(&batch).expect("appended as one batch");
                        let next = view.next_offset();
                        reading.take(batch, next);
                    }
                    if done {
                        return Ok(());
                    }
                }
                Source::Slice(slice, class) => {
                    match self.read_slice(&slice, class, reading).await {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(Error::NotFound { key }) => {
                            replans += 1;
                            self.plan_again(&slice, key, replans).await?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Looks under the lock where `reading.next` is to be found.
    fn source(&self, reading: &Reading) -> Result<Source, Error> {
        let state = self.inner.state.lock();
        if state.status == Status::Closed {
            return Err(self.inner.not_leader());
        }
        // Log start may have passed a read on its way: it ends there.
        if reading.next >= reading.limit || reading.next < state.log_start {
            return Ok(Source::End);
        }
        if state
            .hot
            .first_offset()
            .is_some_and(|first| first <= reading.next)
        {
            let (batches, done) = hot_batches(&state, reading);
            self.shared.metrics.hot_reads.inc();
            return Ok(Source::Hot(batches, done));
        }
        if let Some(slice) = state.slice_at(reading.next) {
            return Ok(Source::Slice(
                Arc::clone(slice),
                class_of(&state, reading.next),
            ));
        }
        if let Some(end) = state.gap_end(reading.next) {
            return Ok(Source::Gap(end));
        }
        if env::planted!("missing-is-out-of-range") {
            return Err(Error::OutOfRange {
                offset: reading.next,
                log_start: state.log_start,
                log_end: state.log_end,
            });
        }
        Err(Error::Missing {
            topic_partition: self.inner.topic_partition,
            offset: reading.next,
        })
    }

    /// Reads on in one slice; true when the limits are reached.
    async fn read_slice(
        &self,
        slice: &Slice,
        class: Class,
        reading: &mut Reading,
    ) -> Result<bool, Error> {
        let path = &self.shared.read_path;
        if !reading.was_cold {
            reading.was_cold = true;
            reading.window = self.inner.tracker.lock().enter(reading.next);
        }
        let index = path.index(slice).await?;
        while let Some(number) = index.block_for(reading.next) {
            if index.blocks[number].first_offset >= reading.limit {
                return Ok(true);
            }
            let mut ahead = Ahead {
                window: reading.window,
                wanted: reading.max_bytes.saturating_sub(reading.bytes) as u64,
            };
            let blocks = path
                .blocks(slice, &index, number, &mut ahead, class)
                .await?;
            reading.window = ahead.window;
            for (at, block) in blocks.iter().enumerate() {
                let number = number + at;
                let past = index.blocks[number].first_offset >= reading.limit;
                if past || take_from_block(slice, &index, number, block, reading)? {
                    return Ok(true);
                }
            }
        }
        // What compaction emptied up to the slice's end is passed over.
        reading.next = reading.next.max(slice.reference.end_offset);
        Ok(false)
    }

    /// The object is gone: fine if the slice gave way to another, a loss if it is still named.
    pub(crate) async fn plan_again(
        &self,
        slice: &Slice,
        key: String,
        replans: u32,
    ) -> Result<(), Error> {
        self.shared.metrics.replans.inc();
        let tp = self.inner.topic_partition;
        if replans > MAX_REPLANS {
            return Err(Error::Missing {
                topic_partition: tp,
                offset: slice.reference.first_offset,
            });
        }
        if !self.names(slice) {
            return Ok(());
        }
        self.look_again().await?;
        if !self.names(slice) {
            return Ok(());
        }
        self.shared.metrics.lost.inc();
        tracing::error!(key, partition = %tp, "an object that the catalog names is gone");
        Err(Error::Lost {
            topic_partition: tp,
            key,
        })
    }

    fn names(&self, slice: &Slice) -> bool {
        let state = self.inner.state.lock();
        state
            .slices
            .iter()
            .any(|known| known.object == slice.object)
    }
}

/// Batches of the hot cache that `reading` still takes, and whether its limits are reached.
fn hot_batches(state: &State, reading: &Reading) -> (Vec<Bytes>, bool) {
    let mut batches = Vec::new();
    let mut bytes = reading.bytes;
    for batch in state.hot.from(reading.next) {
        if batch.base_offset >= reading.limit {
            return (batches, true);
        }
        let first = reading.batches.is_empty() && batches.is_empty() && reading.min_one;
        if bytes + batch.bytes.len() > reading.max_bytes && !first {
            return (batches, true);
        }
        bytes += batch.bytes.len();
        batches.push(batch.bytes.clone());
    }
    // All of it was taken.
    (batches, true)
}

/// Near the end of the log or not.
fn class_of(state: &State, offset: i64) -> Class {
    let mut after = state.unuploaded_bytes;
    for slice in state.slices.iter().rev() {
        if slice.contains(offset) {
            break;
        }
        after += slice.reference.bytes;
        if after > TAIL_BYTES {
            return Class::CatchUp;
        }
    }
    Class::Tail
}

/// Takes batches from `reading.next` on; true when the limits are reached.
fn take_from_block(
    slice: &Slice,
    index: &SliceIndex,
    number: usize,
    block: &Bytes,
    reading: &mut Reading,
) -> Result<bool, Error> {
    let mut at = 0;
    let mut last = reading.next - 1;
    while at < block.len() {
        let (view, _) = BatchView::split_first(&block[at..])
            .map_err(|_| damaged_block(slice, index, number))?;
        let range = at..at + view.len();
        at = range.end;
        last = view.last_offset();
        let passed = match env::planted!("batch-of-offset-passed-over") {
            true => view.base_offset() < reading.next,
            false => last < reading.next,
        };
        if passed {
            continue;
        }
        if view.base_offset() >= reading.limit || !reading.takes(range.len()) {
            return Ok(true);
        }
        let next = view.next_offset();
        reading.take(block.slice(range), next);
    }
    if last < reading.next - 1 {
        // The index promised the offset in this block.
        return Err(damaged_block(slice, index, number));
    }
    Ok(false)
}

/// A block whose digest is right but whose content is not what the index says.
pub(crate) fn damaged_block(slice: &Slice, index: &SliceIndex, number: usize) -> Error {
    Error::Damaged {
        key: slice.reference.object.key.clone(),
        part: Part::Block,
        position: index.blocks[number].position,
        damage: Damage::Malformed("its batches are not those of the index"),
    }
}
