//! `ReplaceSlices`: a run of slices gives way to others over the same offsets.

use std::collections::BTreeSet;
use std::ops::Range;

use super::commit::check_slice;
use super::{Answer, Partition, Slice, State};
use crate::command::{OldSlice, ReplaceRun, ReplaceSlices, Response};
use crate::error::Refusal;

impl State {
    /// Whole or not at all. Refused only if a named run changed: appends behind it, and a log
    /// start that moved into it, are allowed.
    pub(super) fn replace_slices(&mut self, replace: &ReplaceSlices, now_ms: i64) -> Answer {
        self.live_broker(replace.broker_epoch)?;
        let mut seen = BTreeSet::new();
        let mut places = Vec::with_capacity(replace.runs.len());
        for run in &replace.runs {
            let tp = run.topic_partition;
            if !seen.insert(tp) {
                return Err(Refusal::invalid(format!("{tp} stands twice")));
            }
            let partition = match self.led((replace.broker_epoch, tp, run.leader_epoch)) {
                Err(Refusal::UnknownPartition { .. }) => {
                    return Err(Refusal::conflict(format!("{tp} is gone")));
                }
                led => led?,
            };
            check_run(run)?;
            for slice in &run.new {
                self.objects.check(&slice.object)?;
            }
            places.push(self.locate(run, partition)?);
        }
        for (run, place) in replace.runs.iter().zip(places) {
            self.swap(run, place, now_ms);
        }
        // Once all are in: one run may be all below its log start, and another name the same object.
        for slice in replace.runs.iter().flat_map(|run| &run.new) {
            self.objects.condemn_unnamed(&slice.object.key, now_ms);
        }
        Ok(Response::Done)
    }

    /// Where the run stands now, without what the log start has passed.
    fn locate(&self, run: &ReplaceRun, partition: &Partition) -> Result<Range<usize>, Refusal> {
        let log_start = partition.log_start;
        let left: Vec<_> = run
            .old
            .iter()
            .filter(|old| old.end_offset > log_start)
            .collect();
        let Some(head) = left.first() else {
            return Ok(0..0);
        };
        let slices = &partition.slices;
        let start = slices.partition_point(|slice| slice.first_offset < head.first_offset);
        let place = start..start + left.len();
        let same = |(old, slice): (&&OldSlice, &Slice)| {
            old.first_offset == slice.first_offset
                && old.end_offset == slice.end_offset
                && *old.key == *self.objects.get(slice.object).key
        };
        match slices.get(place.clone()) {
            Some(standing) if left.iter().zip(standing).all(same) => Ok(place),
            _ => Err(Refusal::conflict(format!(
                "the run of {} changed",
                run.topic_partition
            ))),
        }
    }

    fn swap(&mut self, run: &ReplaceRun, place: Range<usize>, now_ms: i64) {
        let tp = run.topic_partition;
        let log_start = self.topics.partition(tp).expect("located").log_start;
        // Named first, so that an object in both is not condemned between.
        let kept = run.new.iter().filter(|slice| slice.end_offset > log_start);
        let new: Vec<_> = kept
            .map(|slice| Slice::new(slice, self.objects.reference(&slice.object)))
            .collect();
        let partition = self.topics.partition_mut(tp).expect("located");
        let old: Vec<_> = partition.slices.splice(place, new).collect();
        for slice in old {
            self.objects.release(slice.object, now_ms);
        }
    }
}

/// That old and new cover the same offsets without a hole, at epochs that fit.
fn check_run(run: &ReplaceRun) -> Result<(), Refusal> {
    let tp = run.topic_partition;
    let (Some(old), Some(old_last)) = (run.old.first(), run.old.last()) else {
        return Err(Refusal::invalid(format!("an empty run of {tp}")));
    };
    let mut at = old.first_offset;
    for old in &run.old {
        if old.first_offset != at || old.end_offset <= at {
            return Err(Refusal::invalid(format!(
                "the old run of {tp} has a hole at {at}"
            )));
        }
        at = old.end_offset;
    }
    let mut at = old.first_offset;
    let mut epoch = None;
    for slice in &run.new {
        check_slice(slice)?;
        let back = epoch.is_some_and(|epoch| slice.leader_epoch < epoch);
        if slice.topic_partition != tp || slice.first_offset != at || back {
            return Err(Refusal::invalid(format!(
                "the new run of {tp} has a hole at {at}"
            )));
        }
        at = slice.end_offset;
        epoch = Some(slice.leader_epoch);
    }
    if at != old_last.end_offset {
        return Err(Refusal::invalid(format!(
            "the new run of {tp} ends at {at}"
        )));
    }
    Ok(())
}
