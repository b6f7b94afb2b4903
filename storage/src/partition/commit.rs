//! What the owner does with its own commits: applies them to its slice list (R7).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::{Batches, LeaderEpoch};

use super::append::producer_batch;
use super::wait::wake;
use super::{Committed, Inner, Slice, State, Status};
use crate::{Error, Hooks, PartitionView, SliceRef, StorageSettings};

/// What an upload round needs of a partition to cut its slice.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointPlan {
    /// What lies below is committed already.
    pub(crate) committed_end: i64,
    /// Producers where the last round ended; folded on to the end of the slice (R5).
    pub(crate) committed: Committed,
}

impl CheckpointPlan {
    /// Whether a slice of `bytes` carries the whole state.
    pub(crate) fn due(&self, settings: &StorageSettings, bytes: u64, now_ms: i64) -> bool {
        let age_ms = i64::try_from(settings.checkpoint_age.as_millis()).unwrap_or(i64::MAX);
        self.committed.bytes_since_checkpoint + bytes >= settings.checkpoint_bytes
            || now_ms.saturating_sub(self.committed.checkpoint_at_ms) >= age_ms
    }
}

impl Committed {
    /// Moves on over an entry of the log, unless the state is past it.
    ///
    /// # Errors
    /// `Internal` when entries before it were left out: their producers would be forgotten.
    pub(crate) fn fold(&mut self, entry: &wal::Entry) -> Result<(), Error> {
        if entry.base_offset < self.at {
            return Ok(());
        }
        if entry.base_offset > self.at {
            let what = "producer state would skip entries of the log (R5)";
            return Err(Error::Internal { what });
        }
        for view in Batches::new(&entry.batches) {
            let what = "the log holds no whole batches";
            let view = view.map_err(|_| Error::Internal { what })?;
            if let Some(batch) = producer_batch(&view, entry.appended_at_ms) {
                self.producers.record(&batch);
            }
        }
        self.at = entry.last_offset + 1;
        Ok(())
    }
}

impl Inner {
    /// What a round needs; `None` when the partition is closed.
    pub(crate) fn checkpoint_plan(&self) -> Option<CheckpointPlan> {
        let state = self.state.lock();
        (state.status != Status::Closed).then(|| CheckpointPlan {
            committed_end: state.committed_end,
            committed: state.committed.clone(),
        })
    }

    /// Applies a commit of ours, of `bytes` in all; the producers at its end are `committed`. Only
    /// after this may the hot cache let go of them. False when `slices` do not follow what is
    /// known here: the catalog knows more, and is to be asked.
    pub(crate) fn apply_commit(
        &self,
        slices: &[SliceRef],
        bytes: u64,
        committed: Committed,
        hooks: Option<&dyn Hooks>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.status == Status::Closed {
            slices.iter().for_each(|slice| state.finish(slice, hooks));
            return true;
        }
        state.committed = committed;
        state.unuploaded_bytes = state.unuploaded_bytes.saturating_sub(bytes);
        state.dirty_bytes += bytes;
        for slice in slices {
            if slice.first_offset != state.committed_end {
                return false;
            }
            assert!(
                slice.end_offset <= state.high_watermark,
                "only durable data is committed"
            );
            state.committed_end = slice.end_offset;
            state.finish(slice, hooks);
            // Below log start already: DeleteRecords was faster.
            if slice.end_offset > state.log_start {
                state.slices.push(Slice::new(slice.clone()));
            }
        }
        state.validate();
        let wakers = state.known_moved();
        drop(state);
        wake(wakers);
        true
    }

    /// Tells of slices of ours that were committed after it was closed.
    pub(crate) fn finish(&self, slices: &[SliceRef], hooks: Option<&dyn Hooks>) {
        let mut state = self.state.lock();
        slices.iter().for_each(|slice| state.finish(slice, hooks));
    }

    /// Takes what the catalog says of a partition led here, when it knows more than we.
    pub(crate) fn refresh(&self, view: PartitionView, hooks: Option<&dyn Hooks>) {
        if view.leader_epoch != self.leader_epoch {
            return;
        }
        let mut state = self.state.lock();
        if state.status == Status::Closed || view.committed_end < state.committed_end {
            return;
        }
        state.committed_end = view.committed_end.min(state.high_watermark);
        // Commits of ours whose answers nobody here waited for.
        for slice in &view.slices {
            state.finish(slice, hooks);
        }
        state.slices = view.slices.into_iter().map(Slice::new).collect();
        state.gaps = view.gaps;
        let log_start = view.log_start.min(state.high_watermark);
        state.raise_log_start(log_start);
        state.validate();
        let wakers = state.known_moved();
        drop(state);
        wake(wakers);
    }

    /// Puts `new` in the place of `old`, a run of slices, when it still stands there.
    pub(crate) fn apply_replace(&self, old: &[SliceRef], new: &[SliceRef]) -> bool {
        let mut state = self.state.lock();
        let Some(at) = run_position(&state, old) else {
            return false;
        };
        let new = new.iter().cloned().map(Slice::new);
        state.slices.splice(at..at + old.len(), new);
        // Retention may have passed the new slices' ends meanwhile.
        let log_start = state.log_start;
        state
            .slices
            .retain(|slice| slice.reference.end_offset > log_start);
        state.validate();
        true
    }

    /// The epoch and the slices of the partition above its last gap, when it is open: what may be
    /// merged, since a run leaves no hole.
    pub(crate) fn open_slices(&self) -> Option<(LeaderEpoch, Vec<Arc<Slice>>)> {
        let state = self.state.lock();
        let above = state.gaps.last().map_or(0, |(_, end)| *end);
        let slices = state.slices.iter();
        let slices = slices.filter(|slice| slice.reference.first_offset >= above);
        let stays = state.status == Status::Open && !self.is_leaving();
        stays.then(|| (self.leader_epoch, slices.cloned().collect()))
    }

    /// True when it is about to be given away: what is rewritten now would be thrown away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

impl State {
    /// Tells of a slice that is committed, unless that was told before. Under the lock, so that
    /// they are told in order.
    fn finish(&mut self, slice: &SliceRef, hooks: Option<&dyn Hooks>) {
        if slice.end_offset <= self.finished_end {
            return;
        }
        self.finished_end = slice.end_offset;
        if let Some(hooks) = hooks {
            hooks.finished(slice);
        }
    }
}

fn run_position(state: &State, old: &[SliceRef]) -> Option<usize> {
    let first = old.first()?;
    let at = state
        .slices
        .iter()
        .position(|slice| slice.reference == *first)?;
    let run = state.slices.get(at..at + old.len())?;
    run.iter()
        .zip(old)
        .all(|(slice, old)| slice.reference == *old)
        .then_some(at)
}
