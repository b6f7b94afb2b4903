//! Rewrites an internal compacted partition to the newest record per key.
//!
//! First a bounded map of the newest offset per key over the dirty part (committed since the last
//! rewriting), then all of the run is written anew without what the map supersedes. Control
//! batches, records without key and young tombstones stay; offsets stay, and a slice covers the
//! same offsets as before even where all is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{BatchBuilder, BatchView, Record, RecordIter};

use super::input::{CheckpointFold, WholeObjects, batches};
use super::merge::start;
use super::output::Output;
use crate::Error;
use crate::format::{BatchEntry, ObjectWriter, SliceEnd};
use crate::limits::{
    COMPACTION_KEY_BYTES, COMPACTION_KEY_OVERHEAD, MAX_DECOMPRESSED_BYTES, MAX_SLICES_PER_REPLACE,
};
use crate::partition::{Inner, Slice};
use crate::storage::Shared;

/// Newest offset of each key within the dirty part.
struct Newest {
    offsets: BTreeMap<Box<[u8]>, i64>,
    bytes: usize,
    /// Up to here the map is complete: what lies beyond is kept as it is.
    end: i64,
}

/// What is kept of a batch.
enum Kept {
    All,
    Nothing,
    Some(Bytes),
}

/// Rewrites the committed part of `inner`; false when there was nothing to do.
///
/// # Errors
/// What kept it from being done; nothing changed then.
pub(super) async fn compact(shared: &Arc<Shared>, inner: &Arc<Inner>) -> Result<bool, Error> {
    let Some((_, mut slices)) = inner.open_slices() else {
        return Ok(false);
    };
    slices.truncate(MAX_SLICES_PER_REPLACE / 2);
    let (clean_end, dirty_bytes, retention_ms, whole) = {
        let state = inner.state.lock();
        (
            state.clean_end,
            state.dirty_bytes,
            state.config.delete_retention_ms,
            state.gaps.is_empty(),
        )
    };
    let Some(end) = slices.last().map(|slice| slice.reference.end_offset) else {
        return Ok(false);
    };
    if end <= clean_end {
        return Ok(false);
    }
    let newest = newest(shared, &slices, clean_end).await?;
    slices.retain(|slice| slice.reference.first_offset < newest.end);
    let pass = Pass {
        shared,
        slices: &slices,
        horizon_ms: shared.env.clock.wall_ms().saturating_sub(retention_ms),
        clean_end: newest.end,
        whole,
        newest,
    };
    let mut output = Output::new(shared);
    if let Err(error) = pass.rewrite(&mut output).await {
        output.discard().await;
        return match error {
            // Retention took it away, or the list of slices is stale: the next pass knows better.
            Error::NotFound { .. } => {
                shared.refresh(inner.topic_partition).await?;
                Ok(false)
            }
            error => Err(error),
        };
    }
    let old = slices.iter().map(|slice| slice.reference.clone()).collect();
    let clean_end = pass.clean_end;
    let replaced = output
        .replace(shared, vec![(Arc::clone(inner), old)])
        .await?;
    if replaced {
        let mut state = inner.state.lock();
        state.clean_end = clean_end;
        // What was committed meanwhile is dirty still.
        state.dirty_bytes = state.dirty_bytes.saturating_sub(dirty_bytes);
    }
    Ok(replaced)
}

/// Maps the keys of [clean_end, …) to their newest offsets, as far as the map's bound allows.
async fn newest(shared: &Shared, slices: &[Arc<Slice>], clean_end: i64) -> Result<Newest, Error> {
    let mut newest = Newest {
        offsets: BTreeMap::new(),
        bytes: 0,
        end: clean_end,
    };
    let none = WholeObjects::default();
    for slice in slices
        .iter()
        .filter(|slice| slice.reference.end_offset > clean_end)
    {
        let index = none.index(shared, slice).await?;
        let mut number = 0;
        while number < index.blocks.len() {
            for block in none.blocks(shared, slice, &index, number).await? {
                for (bytes, line) in batches(&block, index.batches_of(number))? {
                    if newest.bytes >= COMPACTION_KEY_BYTES {
                        return Ok(newest);
                    }
                    if line.last_offset >= clean_end && !line.control {
                        newest.add(&bytes);
                    }
                    newest.end = line.last_offset + 1;
                }
                number += 1;
            }
        }
        newest.end = slice.reference.end_offset;
    }
    Ok(newest)
}

impl Newest {
    fn add(&mut self, batch: &[u8]) {
        for_each_record(batch, |record| {
            let Some(key) = record.key else { return };
            if let Some(offset) = self.offsets.get_mut(key) {
                *offset = record.offset;
            } else {
                self.bytes += key.len() + COMPACTION_KEY_OVERHEAD;
                self.offsets.insert(key.into(), record.offset);
            }
        });
    }
}

/// Visits the records of a batch; false when it does not unpack, which is then kept as it is.
fn for_each_record(batch: &[u8], mut visit: impl FnMut(&Record<'_>)) -> bool {
    let Ok(view) = BatchView::new(batch) else {
        return false;
    };
    let Ok(payload) = view.decompress(MAX_DECOMPRESSED_BYTES) else {
        return false;
    };
    for record in RecordIter::new(&view, &payload) {
        let Ok(record) = record else { return false };
        visit(&record);
    }
    true
}

struct Pass<'a> {
    shared: &'a Shared,
    slices: &'a [Arc<Slice>],
    newest: Newest,
    clean_end: i64,
    /// Tombstones of batches older than this go, when `whole`.
    horizon_ms: i64,
    /// The rewrite begins at log start. Below a gap values stay, which tombstones must go on
    /// hiding.
    whole: bool,
}

impl Pass<'_> {
    async fn rewrite(&self, output: &mut Output<'_>) -> Result<(), Error> {
        let object_bytes = (self.shared.settings.compaction_memory_bytes / 2).max(1 << 20);
        let none = WholeObjects::default();
        let mut fold = CheckpointFold::default();
        let mut writer = ObjectWriter::new();
        let mut ended = Vec::new();
        let last = self.slices.len() - 1;
        for (at, slice) in self.slices.iter().enumerate() {
            let reference = &slice.reference;
            let joins = at > 0
                && self.slices[at - 1].reference.leader_epoch == reference.leader_epoch
                && !writer.is_empty();
            if !joins {
                writer.start_slice(start(reference, reference.first_offset))?;
            }
            let index = none.index(self.shared, slice).await?;
            fold.pass(&index)?;
            ended.extend(index.ended_transactions.iter().copied());
            let mut number = 0;
            while number < index.blocks.len() {
                for block in none.blocks(self.shared, slice, &index, number).await? {
                    for (bytes, line) in batches(&block, index.batches_of(number))? {
                        self.write(&mut writer, slice, bytes, line)?;
                    }
                    number += 1;
                }
            }
            let full = writer.block_bytes() >= object_bytes;
            let next = self
                .slices
                .get(at + 1)
                .map(|slice| slice.reference.leader_epoch);
            if !full && next == Some(reference.leader_epoch) {
                continue;
            }
            writer.finish_slice(SliceEnd {
                end_offset: reference.end_offset,
                ended_transactions: std::mem::take(&mut ended),
                producer_checkpoint: if at == last { fold.finish() } else { None },
                ..SliceEnd::default()
            });
            if full || at == last {
                let object = std::mem::take(&mut writer);
                output
                    .store(object.finish(self.shared.objects.new_key())?)
                    .await?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        writer: &mut ObjectWriter,
        slice: &Slice,
        bytes: Bytes,
        line: &BatchEntry,
    ) -> Result<(), Error> {
        // The last batch stays, so that what stands before the end of the log can be read.
        let end = self
            .slices
            .last()
            .map_or(0, |slice| slice.reference.end_offset);
        let kept = if line.control || line.last_offset + 1 >= end {
            Kept::All
        } else {
            self.filter(&bytes)?
        };
        let bytes = match kept {
            Kept::Nothing => return Ok(()),
            Kept::All => bytes,
            Kept::Some(rest) => rest,
        };
        if writer.slice_is_full() {
            let end_offset = line.base_offset;
            writer.finish_slice(SliceEnd {
                end_offset,
                ..SliceEnd::default()
            });
            writer.start_slice(start(&slice.reference, end_offset))?;
        }
        let what = "a rewritten batch is none";
        let view = BatchView::new(&bytes).map_err(|_| Error::Internal { what })?;
        let line = BatchEntry::of(&view, line.appended_at_ms);
        writer.push(bytes, line)
    }

    fn keeps(&self, record: &Record<'_>, old: bool) -> bool {
        let Some(key) = record.key else { return true };
        if record.offset >= self.newest.end {
            return true;
        }
        let newest = self.newest.offsets.get(key);
        let superseded = newest.is_some_and(|newest| *newest > record.offset);
        let spent_tombstone = record.value.is_none() && old && self.whole;
        !superseded && !spent_tombstone
    }

    fn filter(&self, batch: &Bytes) -> Result<Kept, Error> {
        let what = "a batch does not rebuild";
        let view = BatchView::new(batch).map_err(|_| Error::Internal { what })?;
        let old = view.max_timestamp() < self.horizon_ms;
        let (mut kept, mut gone) = (0, 0);
        let whole = for_each_record(batch, |record| {
            if self.keeps(record, old) {
                kept += 1
            } else {
                gone += 1
            }
        });
        if !whole || gone == 0 {
            return Ok(Kept::All);
        }
        if kept == 0 {
            return Ok(Kept::Nothing);
        }
        let compression = view.compression().map_err(|_| Error::Internal { what })?;
        let mut builder = BatchBuilder::new()
            .base_offset(view.base_offset())
            .leader_epoch(view.leader_epoch())
            .compression(compression)
            .timestamp_type(view.timestamp_type())
            .producer(
                view.producer_id(),
                view.producer_epoch(),
                view.base_sequence(),
            );
        if view.is_transactional() {
            builder = builder.transactional();
        }
        let mut failed = false;
        for_each_record(batch, |record| {
            if self.keeps(record, old) {
                failed |= builder.append_record(record).is_err();
            }
        });
        let rebuilt = builder.last_offset(view.last_offset()).build();
        match rebuilt {
            Ok(rebuilt) if !failed => Ok(Kept::Some(rebuilt)),
            _ => Err(Error::Internal { what }),
        }
    }
}
