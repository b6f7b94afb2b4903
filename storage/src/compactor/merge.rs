//! Merges runs of small slices. Bundles are read once for all partitions in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::input::{CheckpointFold, WholeObjects, batches};
use super::output::Output;
use super::put_off::PutOff;
use crate::Error;
use crate::format::{ObjectWriter, SliceEnd, SliceStart};
use crate::limits::{MAX_RUNS_PER_REPLACE, MAX_SLICES_PER_REPLACE, MERGED_SEGMENTS};
use crate::partition::{Inner, Slice};
use crate::storage::Shared;
use crate::{SliceRef, StorageSettings};

/// A run of one partition's slices that give way to fewer.
struct Run {
    inner: Arc<Inner>,
    slices: Vec<Arc<Slice>>,
}

impl Run {
    fn bytes(&self) -> u64 {
        self.slices.iter().map(|slice| slice.reference.bytes).sum()
    }

    fn put_off(&self, put_off: &mut PutOff) {
        let first_offset = self.slices[0].reference.first_offset;
        put_off.add(self.inner.topic_partition, first_offset);
    }
}

/// One merge; false when nothing was merged. Runs that failed are `put_off`.
///
/// # Errors
/// What kept it from being done; nothing changed then.
pub(super) async fn merge_once(
    shared: &Arc<Shared>,
    min_slices: usize,
    put_off: &mut PutOff,
) -> Result<bool, Error> {
    let runs = plan(shared, min_slices, put_off);
    if runs.is_empty() {
        return Ok(false);
    }
    let mut output = Output::new(shared);
    let mut writing = None;
    let error = match write(shared, &runs, &mut output, &mut writing).await {
        Ok(()) => {
            let references = |slices: &[Arc<Slice>]| -> Vec<SliceRef> {
                slices.iter().map(|slice| slice.reference.clone()).collect()
            };
            let replaced = runs
                .iter()
                .map(|run| (Arc::clone(&run.inner), references(&run.slices)))
                .collect();
            let result = output.replace(shared, replaced).await;
            if !matches!(result, Ok(true)) {
                runs.iter().for_each(|run| run.put_off(put_off));
            }
            return result;
        }
        Err(error) => error,
    };
    output.discard().await;
    let failed = failed_runs(&runs, writing, &error);
    failed.iter().for_each(|run| run.put_off(put_off));
    if !matches!(error, Error::NotFound { .. }) {
        return Err(error);
    }
    // Retention took an object away, or a list of slices is stale: the next plan knows better.
    for run in failed {
        shared.refresh(run.inner.topic_partition).await?;
    }
    Ok(false)
}

/// Which of `runs` an error is about: the one being written, those in an object that is gone, else
/// any of them.
fn failed_runs<'a>(runs: &'a [Run], writing: Option<usize>, error: &Error) -> Vec<&'a Run> {
    let names = |run: &&Run, key: &str| run.slices.iter().any(|slice| &*slice.object == key);
    match (error, writing) {
        (Error::NotFound { key }, _) => runs.iter().filter(|run| names(run, key)).collect(),
        (_, Some(at)) => vec![&runs[at]],
        (_, None) => runs.iter().collect(),
    }
}

/// A partition led here with its slices, as they are now.
type Led = (Arc<Inner>, Vec<Arc<Slice>>);

/// What to merge: the first partition with a run that is worth it, and whoever has neighbouring
/// slices in the same objects.
fn plan(shared: &Shared, min_slices: usize, put_off: &PutOff) -> Vec<Run> {
    let settings = &shared.settings;
    let led: Vec<Led> = shared
        .led()
        .into_iter()
        .filter_map(|inner| {
            let (_, slices) = inner.open_slices()?;
            let wanted = !put_off.holds(inner.topic_partition, &slices);
            wanted.then_some((inner, slices))
        })
        .collect();
    let mut in_object: BTreeMap<&str, u64> = BTreeMap::new();
    for slice in led.iter().flat_map(|(_, slices)| slices) {
        *in_object.entry(&slice.object).or_default() += slice.reference.bytes;
    }
    led.iter()
        .filter_map(|(_, slices)| worthwhile(slices, min_slices, settings))
        .map(|seed| {
            let chosen = fitting_objects(seed, &in_object, settings.compaction_memory_bytes);
            runs_within(&led, &chosen)
        })
        .find(|runs| !runs.is_empty())
        .unwrap_or_default()
}

/// As many of the seed's objects as memory takes, with all that partitions here have in them.
fn fitting_objects<'a>(
    seed: &'a [Arc<Slice>],
    in_object: &BTreeMap<&str, u64>,
    memory_bytes: u64,
) -> BTreeSet<&'a str> {
    let mut chosen: BTreeSet<&str> = BTreeSet::new();
    let mut bytes = 0;
    for slice in seed {
        if chosen.contains(&*slice.object) {
            continue;
        }
        bytes += in_object.get(&*slice.object).copied().unwrap_or(0);
        if bytes > memory_bytes && chosen.len() >= 2 {
            break;
        }
        chosen.insert(&slice.object);
    }
    chosen
}

/// Each partition's longest run within the chosen objects.
fn runs_within(led: &[Led], chosen: &BTreeSet<&str>) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut slices_named = 0;
    for (inner, slices) in led {
        let run = longest_run(slices, |slice| chosen.contains(&*slice.object));
        if run.len() <= epochs(run) {
            continue;
        }
        slices_named += run.len() + epochs(run);
        let full = runs.len() == MAX_RUNS_PER_REPLACE || slices_named > MAX_SLICES_PER_REPLACE;
        if full && !runs.is_empty() {
            break;
        }
        runs.push(Run {
            inner: Arc::clone(inner),
            slices: run.to_vec(),
        });
    }
    runs
}

/// A run worth merging: `min_slices` small slices, or a segment's worth of them, or several
/// segments that are small themselves.
fn worthwhile<'a>(
    slices: &'a [Arc<Slice>],
    min_slices: usize,
    settings: &StorageSettings,
) -> Option<&'a [Arc<Slice>]> {
    let bytes = |run: &[Arc<Slice>]| run.iter().map(|s| s.reference.bytes).sum::<u64>();
    let small = |slice: &Arc<Slice>| slice.reference.bytes < settings.segment_bytes;
    let mut run = longest_run(slices, small);
    // A large one in front would be rewritten over and over for a few small ones: left alone
    // until they have caught up, each byte is rewritten a logarithm of times.
    while run.len() > 1 && run[0].reference.bytes > bytes(&run[1..]) {
        run = &run[1..];
    }
    let run = fitting(run, settings.segment_max_bytes);
    let large = run.len() >= 2 && bytes(run) >= settings.segment_bytes;
    if (run.len() >= min_slices.max(2) || large) && run.len() >= 2 * epochs(run) {
        return Some(run);
    }
    let half = settings.segment_max_bytes / 2;
    let segment = |slice: &Arc<Slice>| !small(slice) && slice.reference.bytes < half;
    let run = fitting(longest_run(slices, segment), settings.segment_max_bytes);
    let enough = run.len() >= MERGED_SEGMENTS
        || (run.len() >= 2 && bytes(run) >= settings.segment_max_bytes / 4 * 3);
    (enough && run.len() >= 2 * epochs(run)).then_some(run)
}

/// The front of `run` that holds at most `limit` bytes.
fn fitting(run: &[Arc<Slice>], limit: u64) -> &[Arc<Slice>] {
    let mut total = 0;
    let fits = run.iter().take_while(|slice| {
        total += slice.reference.bytes;
        total <= limit
    });
    &run[..fits.count()]
}

fn longest_run(slices: &[Arc<Slice>], keep: impl Fn(&Arc<Slice>) -> bool) -> &[Arc<Slice>] {
    slices
        .split(|slice| !keep(slice))
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}

/// Slices have one epoch each, so that a run becomes at least as many.
fn epochs(run: &[Arc<Slice>]) -> usize {
    run.chunk_by(|a, b| a.reference.leader_epoch == b.reference.leader_epoch)
        .count()
}

/// Reads the runs and stores their new objects; `writing` tells which run it failed at, if at one.
async fn write(
    shared: &Shared,
    runs: &[Run],
    output: &mut Output<'_>,
    writing: &mut Option<usize>,
) -> Result<(), Error> {
    let whole = read_whole(shared, runs).await?;
    let settings = &shared.settings;
    let mut bundle = ObjectWriter::new();
    for (at, run) in runs.iter().enumerate() {
        *writing = Some(at);
        if run.bytes() >= settings.segment_bytes {
            let mut own = ObjectWriter::new();
            write_run(shared, &whole, run, &mut own).await?;
            output.store(own.finish(shared.objects.new_key())?).await?;
            continue;
        }
        write_run(shared, &whole, run, &mut bundle).await?;
    }
    *writing = None;
    if !bundle.is_empty() {
        output
            .store(bundle.finish(shared.objects.new_key())?)
            .await?;
    }
    Ok(())
}

/// Objects of which half or more is wanted are read by one request.
async fn read_whole(shared: &Shared, runs: &[Run]) -> Result<WholeObjects, Error> {
    let mut wanted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for slice in runs.iter().flat_map(|run| &run.slices) {
        let (bytes, length) = wanted.entry(&slice.object).or_default();
        *bytes += slice.reference.bytes + slice.reference.index_length;
        *length = slice.reference.object.length;
    }
    let mut whole = WholeObjects::default();
    let mut held = 0;
    for (key, (bytes, length)) in wanted {
        let fits = held + length <= shared.settings.compaction_memory_bytes;
        if fits && bytes * 2 >= length {
            held += length;
            whole.read(shared, key, length).await?;
        }
    }
    Ok(whole)
}

/// One partition's run, as one slice per leader epoch.
async fn write_run(
    shared: &Shared,
    whole: &WholeObjects,
    run: &Run,
    writer: &mut ObjectWriter,
) -> Result<(), Error> {
    let mut fold = CheckpointFold::default();
    let mut ended = Vec::new();
    let mut open: Option<SliceRef> = None;
    let mut next = 0;
    for slice in &run.slices {
        let reference = &slice.reference;
        if open
            .as_ref()
            .is_some_and(|open| open.leader_epoch != reference.leader_epoch)
        {
            let ended_transactions = std::mem::take(&mut ended);
            writer.finish_slice(SliceEnd {
                end_offset: next,
                ended_transactions,
                ..SliceEnd::default()
            });
            open = None;
        }
        if open.is_none() {
            writer.start_slice(start(reference, reference.first_offset))?;
            open = Some(reference.clone());
        }
        let index = whole.index(shared, slice).await?;
        fold.pass(&index)?;
        ended.extend(index.ended_transactions.iter().copied());
        let mut number = 0;
        while number < index.blocks.len() {
            let blocks = whole.blocks(shared, slice, &index, number).await?;
            for block in &blocks {
                for (bytes, line) in batches(block, index.batches_of(number))? {
                    if writer.slice_is_full() {
                        let end_offset = line.base_offset;
                        writer.finish_slice(SliceEnd {
                            end_offset,
                            ..SliceEnd::default()
                        });
                        writer.start_slice(start(reference, end_offset))?;
                    }
                    writer.push(bytes, *line)?;
                }
                number += 1;
            }
        }
        next = reference.end_offset;
    }
    writer.finish_slice(SliceEnd {
        end_offset: next,
        ended_transactions: ended,
        producer_checkpoint: fold.finish(),
        ..SliceEnd::default()
    });
    Ok(())
}

pub(super) fn start(reference: &SliceRef, first_offset: i64) -> SliceStart {
    SliceStart {
        topic_partition: reference.topic_partition,
        leader_epoch: reference.leader_epoch,
        first_offset,
    }
}
