//! `CommitUpload`: one round of a log becomes slices (R4, R6).

use std::collections::BTreeMap;

use protocol::TopicPartition;

use super::{Answer, LastCommit, Partition, Slice, State};
use crate::command::{CommitUpload, Response};
use crate::error::Refusal;
use crate::limits::MAX_DIGEST_BYTES;
use crate::types::{CommandId, SliceOutcome, SliceRef};

impl State {
    /// Whole or not at all: everything is checked before anything is changed.
    pub(super) fn commit_upload(
        &mut self,
        id: CommandId,
        now_ms: i64,
        commit: &CommitUpload,
    ) -> Answer {
        let wal = self.wal(commit.wal)?;
        if let Some(last) = wal.last_commit.as_ref().filter(|last| last.id == id) {
            return Ok(Response::Committed(last.outcomes.to_vec()));
        }
        let trim = wal.trim;
        self.check_writer(commit.wal, commit.claim, commit.broker_epoch)?;
        if commit.from > commit.to {
            return Err(Refusal::invalid(format!(
                "round {}..{}",
                commit.from, commit.to
            )));
        }
        let moves = commit.from != commit.to;
        if moves && commit.from != trim && !env::planted!("trim-not-checked") {
            let reason = format!(
                "log is trimmed to {trim}, the round is from {}",
                commit.from
            );
            return Err(Refusal::conflict(reason));
        }
        let outcomes = self.judge(commit)?;
        self.record(commit, &outcomes, now_ms);
        if moves {
            let wal = self.wals.get_mut(&commit.wal).expect("found above");
            if !env::planted!("trim-not-moved") {
                wal.trim = commit.to;
            }
            // Its heir came on: whoever dies from here on dies elsewhere.
            wal.deaths.clear();
            wal.last_commit = Some(LastCommit {
                id,
                outcomes: outcomes.as_slice().into(),
            });
        }
        Ok(Response::Committed(outcomes))
    }

    /// What would become of each slice, or why the whole round is refused.
    fn judge(&self, commit: &CommitUpload) -> Result<Vec<SliceOutcome>, Refusal> {
        // Where each partition would end after the slices judged so far.
        let mut ends = BTreeMap::<TopicPartition, i64>::new();
        let mut outcomes = Vec::with_capacity(commit.slices.len());
        for slice in &commit.slices {
            check_slice(slice)?;
            let tp = slice.topic_partition;
            let Some(partition) = self.find(slice)? else {
                outcomes.push(SliceOutcome::Dropped);
                continue;
            };
            let end = ends.entry(tp).or_insert(partition.committed_end);
            // At an earlier epoch it was released, and whoever released it had committed it all.
            let released = slice.leader_epoch < partition.leader_epoch
                && !env::planted!("released-not-dropped");
            let stands = slice.end_offset <= *end;
            if released || (stands && slice.leader_epoch == partition.leader_epoch) {
                outcomes.push(SliceOutcome::Dropped);
                continue;
            }
            self.check_owner(commit, slice, partition)?;
            if slice.first_offset != *end && !env::planted!("gap-accepted") {
                let what = if slice.first_offset > *end {
                    "leaves a gap"
                } else {
                    "straddles"
                };
                let (first, last) = (slice.first_offset, slice.end_offset);
                let reason = format!("slice {first}..{last} of {tp} {what} at {end}");
                return Err(Refusal::conflict(reason));
            }
            self.objects.check(&slice.object)?;
            *end = slice.end_offset;
            outcomes.push(SliceOutcome::Committed);
        }
        Ok(outcomes)
    }

    /// The slice's partition; `None` when its topic is deleted.
    fn find(&self, slice: &SliceRef) -> Result<Option<&Partition>, Refusal> {
        let tp = slice.topic_partition;
        if self.topics.get(tp.topic).is_none() {
            return Ok(None);
        }
        match self.topics.partition(tp) {
            Some(partition) => Ok(Some(partition)),
            // Partitions are never taken from a topic that stands.
            None => Err(Refusal::Corrupt {
                reason: format!("a slice of {tp}, which never was"),
            }),
        }
    }

    /// R1: data of a partition at its current epoch comes from one log only.
    fn check_owner(
        &self,
        commit: &CommitUpload,
        slice: &SliceRef,
        partition: &Partition,
    ) -> Result<(), Refusal> {
        let owned = match commit.claim {
            None => partition.leader == Some(commit.broker_epoch),
            Some(_) => partition.awaits == Some(commit.wal),
        };
        let owned = owned || env::planted!("fence-not-checked");
        if slice.leader_epoch == partition.leader_epoch && owned {
            return Ok(());
        }
        let reason = format!(
            "slice of {} at leader epoch {} from log {}, but the partition is at {}",
            slice.topic_partition, slice.leader_epoch, commit.wal, partition.leader_epoch
        );
        Err(Refusal::Corrupt { reason })
    }

    fn record(&mut self, commit: &CommitUpload, outcomes: &[SliceOutcome], now_ms: i64) {
        for (slice, outcome) in commit.slices.iter().zip(outcomes) {
            if *outcome == SliceOutcome::Committed {
                let object = self.objects.reference(&slice.object);
                let partition = self.topics.partition_mut(slice.topic_partition);
                partition.expect("judged").push(Slice::new(slice, object));
            }
        }
        for slice in &commit.slices {
            // DeleteRecords may have passed the committed end: the slice counts all the same.
            if let Some(partition) = self.topics.partition_mut(slice.topic_partition) {
                partition.drop_below_log_start(&mut self.objects, now_ms);
            }
        }
        for slice in &commit.slices {
            self.objects.condemn_unnamed(&slice.object.key, now_ms);
        }
    }
}

/// What makes sense in any state.
pub(super) fn check_slice(slice: &SliceRef) -> Result<(), Refusal> {
    let (first, end) = (slice.first_offset, slice.end_offset);
    if first < 0 || end <= first || slice.leader_epoch.0 < 0 {
        let (tp, epoch) = (slice.topic_partition, slice.leader_epoch);
        return Err(Refusal::invalid(format!(
            "slice {first}..{end} of {tp} at epoch {epoch}"
        )));
    }
    if slice.index_digest.bytes().len() > MAX_DIGEST_BYTES {
        return Err(Refusal::invalid("a slice's digest is too long"));
    }
    Ok(())
}
