//! Offsets by time: slices, then the blocks of one, then batch headers, then records inside.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{BatchView, LeaderEpoch, RecordIter};

use super::{Ahead, Class, damaged_block};
use crate::Error;
use crate::limits::MAX_DECOMPRESSED_BYTES;
use crate::partition::{Partition, Slice, State, Status};

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds.
    pub timestamp_ms: i64,
    /// Epoch under which it was written.
    pub leader_epoch: LeaderEpoch,
}

/// Where to look next.
enum Place {
    Slice(Arc<Slice>),
    Hot(Vec<Bytes>),
    Nowhere,
}

impl Partition {
    /// The first record at or after log start, below the high watermark, whose timestamp is at
    /// least `timestamp_ms`.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub async fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<RecordAt>, Error> {
        let limit = self.high_watermark();
        let mut from = self.log_start();
        let mut replans = 0;
        loop {
            match self.place(from, limit, timestamp_ms)? {
                Place::Nowhere => return Ok(None),
                Place::Hot(batches) => {
                    for batch in &batches {
                        let found = first_in(batch, from, timestamp_ms);
                        if found.is_some() {
                            return Ok(found);
                        }
                    }
                    return Ok(None);
                }
                Place::Slice(slice) => match self.search(&slice, from, limit, timestamp_ms).await {
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => from = slice.reference.end_offset,
                    Err(Error::NotFound { key }) => {
                        replans += 1;
                        self.plan_again(&slice, key, replans).await?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// The first record with the largest timestamp of all; `None` for an empty log.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub async fn max_timestamp(&self) -> Result<Option<RecordAt>, Error> {
        loop {
            let (largest, partly_deleted) = {
                let state = self.inner.state.lock();
                largest(&state)
            };
            let mut largest = largest;
            if let Some(slice) = partly_deleted {
                // Its largest record may lie below log start: only the rest counts.
                let log_start = self.log_start();
                match self.shared.read_path.index(&slice).await {
                    Ok(index) => {
                        let rest = index.batches.iter().filter(|b| b.last_offset >= log_start);
                        largest = largest.max(rest.map(|batch| batch.max_timestamp_ms).max());
                    }
                    Err(Error::NotFound { key }) => {
                        self.plan_again(&slice, key, 1).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(largest) = largest else {
                return Ok(None);
            };
            return self.offset_for_timestamp(largest).await;
        }
    }

    fn place(&self, from: i64, limit: i64, timestamp_ms: i64) -> Result<Place, Error> {
        let state = self.inner.state.lock();
        if state.status == Status::Closed {
            return Err(self.inner.not_leader());
        }
        if from >= limit {
            return Ok(Place::Nowhere);
        }
        let hot_from = state.hot.first_offset().unwrap_or(limit);
        let slices = state.slices.iter().map(|slice| (slice, &slice.reference));
        // Slices that the hot cache covers too are found there.
        let mut wanted = slices
            .filter(|(_, r)| r.end_offset > from && r.first_offset < hot_from)
            .filter(|(_, r)| r.max_timestamp_ms >= timestamp_ms);
        if let Some((slice, _)) = wanted.next() {
            return Ok(Place::Slice(Arc::clone(slice)));
        }
        let batches = state.hot.from(from).filter(|b| b.base_offset < limit);
        let batches = batches.filter(|batch| batch.max_timestamp_ms >= timestamp_ms);
        Ok(Place::Hot(
            batches.map(|batch| batch.bytes.clone()).collect(),
        ))
    }

    /// The first such record of `slice`.
    async fn search(
        &self,
        slice: &Slice,
        from: i64,
        limit: i64,
        timestamp_ms: i64,
    ) -> Result<Option<RecordAt>, Error> {
        let path = &self.shared.read_path;
        let index = path.index(slice).await?;
        for (number, block) in index.blocks.iter().enumerate() {
            let ends_before = index
                .batches_of(number)
                .last()
                .is_none_or(|last| last.last_offset < from);
            if ends_before || block.max_timestamp_ms < timestamp_ms {
                continue;
            }
            if block.first_offset >= limit {
                return Ok(None);
            }
            // One block alone.
            let blocks = path
                .blocks(slice, &index, number, &mut Ahead::default(), Class::Tail)
                .await?;
            let mut rest = blocks.into_iter().next().unwrap_or_default();
            while !rest.is_empty() {
                let (view, _) = BatchView::split_first(&rest)
                    .map_err(|_| damaged_block(slice, &index, number))?;
                let (max, base, length) = (view.max_timestamp(), view.base_offset(), view.len());
                let batch = rest.split_to(length);
                if base >= limit {
                    return Ok(None);
                }
                if max < timestamp_ms {
                    continue;
                }
                let found = first_in(&batch, from, timestamp_ms);
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}

/// The largest timestamp of what lies wholly above log start, and the slice that does so partly.
fn largest(state: &State) -> (Option<i64>, Option<Arc<Slice>>) {
    let (mut largest, mut partly) = (None, None);
    for slice in &state.slices {
        if slice.reference.first_offset < state.log_start {
            partly = Some(Arc::clone(slice));
        } else {
            largest = largest.max(Some(slice.reference.max_timestamp_ms));
        }
    }
    for batch in state.hot.from(state.log_start) {
        largest = largest.max(Some(batch.max_timestamp_ms));
    }
    (largest, partly)
}

/// The first record of `batch` at or above `from` that is at least as late as `timestamp_ms`.
///
/// Batches are not unpacked when they are taken, so that a producer may have sent records that do
/// not unpack: such a batch counts as one record at its front with the time of its header.
fn first_in(batch: &[u8], from: i64, timestamp_ms: i64) -> Option<RecordAt> {
    let view = BatchView::new(batch).ok()?;
    let found = |offset, timestamp_ms| RecordAt {
        offset,
        timestamp_ms,
        leader_epoch: LeaderEpoch(view.leader_epoch()),
    };
    let whole = || {
        let within = view.last_offset() >= from && view.max_timestamp() >= timestamp_ms;
        within.then(|| found(view.base_offset().max(from), view.max_timestamp()))
    };
    let Ok(payload) = view.decompress(MAX_DECOMPRESSED_BYTES) else {
        return whole();
    };
    for record in RecordIter::new(&view, &payload) {
        let Ok(record) = record else { return whole() };
        if record.offset >= from && record.timestamp >= timestamp_ms {
            return Some(found(record.offset, record.timestamp));
        }
    }
    None
}
