//! Runs whose merge failed are left alone for a while, so that they stop nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::TopicPartition;

use crate::partition::Slice;

/// Passes for which a failed run is passed over.
const PASSES: u64 = 16;

/// What failed lately: at most one run of each partition.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    /// First offset of the run, and the pass from which on it is tried again.
    runs: BTreeMap<TopicPartition, (i64, u64)>,
    pass: u64,
}

impl PutOff {
    /// A pass begins.
    pub(super) fn next_pass(&mut self) {
        self.pass += 1;
        let pass = self.pass;
        self.runs.retain(|_, (_, until)| *until > pass);
    }

    /// The run of `tp` that begins at `first_offset` failed.
    pub(super) fn add(&mut self, tp: TopicPartition, first_offset: i64) {
        self.runs.insert(tp, (first_offset, self.pass + PASSES));
    }

    /// True when a failed run still begins in `slices`, all those of `tp`.
    pub(super) fn holds(&self, tp: TopicPartition, slices: &[Arc<Slice>]) -> bool {
        self.runs.get(&tp).is_some_and(|(first_offset, _)| {
            let begins = |slice: &Arc<Slice>| slice.reference.first_offset == *first_offset;
            slices.iter().any(begins)
        })
    }

    /// How many are passed over.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}
