//! Offsets by time: slices, then the blocks of one, then batch headers, then records inside.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{BatchView, Compression, LeaderEpoch, TimestampType, WalkLimits};

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
                        let found = self.first_in(batch, from, timestamp_ms).await;
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
                let found = self.first_in(&batch, from, timestamp_ms).await;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// As [`first_in`], where a batch that must be decompressed holds up nobody else, and few at a
    /// time. A job holds its turn to its end, also when nobody waits for it any more.
    async fn first_in(&self, batch: &Bytes, from: i64, timestamp_ms: i64) -> Option<RecordAt> {
        let view = BatchView::new(batch).ok()?;
        if view.compression().ok() == Some(Compression::None) {
            // Many of these may follow each other without waiting for anything.
            tokio::task::consume_budget().await;
            return first_in(batch, from, timestamp_ms);
        }
        let turn = Arc::clone(&self.shared.searches).acquire_owned().await;
        let turn = turn.expect("nobody closes the semaphore");
        let batch = batch.clone();
        let search = move || {
            let found = first_in(&batch, from, timestamp_ms);
            drop((batch, turn));
            found
        };
        self.shared.env.threads.pool().run(search).await
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
/// It is read piece by piece, in memory that does not grow with it. Records were read before the
/// batch was taken; one that cannot be read all the same, damaged or larger than is searched, counts
/// as one record at its front with the time of its header.
fn first_in(batch: &[u8], from: i64, timestamp_ms: i64) -> Option<RecordAt> {
    let view = BatchView::new(batch).ok()?;
    let leader_epoch = LeaderEpoch(view.leader_epoch());
    let append_time = match view.timestamp_type() {
        TimestampType::LogAppendTime => Some(view.max_timestamp()),
        TimestampType::CreateTime => None,
    };
    let limits = WalkLimits {
        max_bytes: MAX_DECOMPRESSED_BYTES,
        max_record_bytes: MAX_DECOMPRESSED_BYTES,
    };
    let mut found = None;
    let walked = view.walk_kept(limits, |record| {
        let offset = view.base_offset() + i64::from(record.offset_delta);
        let time = append_time.unwrap_or(record.timestamp);
        if offset < from || time < timestamp_ms {
            return ControlFlow::Continue(());
        }
        found = Some(RecordAt {
            offset,
            timestamp_ms: time,
            leader_epoch,
        });
        ControlFlow::Break(())
    });
    let within = view.last_offset() >= from && view.max_timestamp() >= timestamp_ms;
    if walked.is_err() && within {
        found = Some(RecordAt {
            offset: view.base_offset().max(from),
            timestamp_ms: view.max_timestamp(),
            leader_epoch,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use protocol::BatchBuilder;

    use super::*;

    fn batch(compression: Compression, timestamps: &[i64]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().compression(compression);
        for timestamp in timestamps {
            builder.append(*timestamp, None, Some(&[7; 500]), &[]);
        }
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn the_first_that_is_late_enough_and_wanted_is_found() {
        let times: Vec<i64> = (0..300).map(|n| n * 7 % 100).collect();
        for compression in Compression::ALL {
            let batch = batch(compression, &times);
            for (from, wanted) in [(0, 0), (0, 99), (150, 50), (299, 93), (299, 94), (300, 0)] {
                let expected = (from..times.len()).find(|at| times[*at] >= wanted);
                let found = first_in(&batch, from as i64, wanted);
                assert_eq!(found.map(|found| found.offset as usize), expected);
                let time = expected.map(|at| times[at]);
                assert_eq!(found.map(|found| found.timestamp_ms), time);
            }
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_one_record_at_its_front() {
        for compression in Compression::ALL {
            let mut cut = batch(compression, &[5, 9, 7]);
            let half = protocol::BATCH_HEADER_BYTES + 3;
            cut.truncate(half);
            cut[8..12].copy_from_slice(&(half as i32 - 12).to_be_bytes());
            let found = first_in(&cut, 1, 6).unwrap();
            assert_eq!((found.offset, found.timestamp_ms), (1, 9));
            assert_eq!(first_in(&cut, 3, 6), None);
            assert_eq!(first_in(&cut, 0, 10), None);
        }
    }
}
