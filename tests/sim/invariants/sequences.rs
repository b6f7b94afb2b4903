//! I4: an idempotent producer that sends in order, at most five batches ahead of what is answered,
//! is never told that it left a gap.

use bytes::Bytes;
use protocol::BatchView;

use super::MOST;

/// Batches that were refused though all before them were acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequences {
    problems: Vec<String>,
}

impl Sequences {
    /// `batch` was refused as out of order, and all before it was acknowledged.
    pub(crate) fn refused(&mut self, partition: i32, batch: &Bytes) {
        let view = BatchView::new(batch).expect("one of ours");
        let (producer, sequence) = (view.producer_id(), view.base_sequence());
        self.problems.push(format!(
            "I4: partition {partition}: producer {producer} is told that sequence {sequence} is out of \
             order"
        ));
    }
}

pub(crate) fn check(sequences: &Sequences) -> Vec<String> {
    sequences.problems.iter().take(MOST).cloned().collect()
}
