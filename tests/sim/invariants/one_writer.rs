//! I8: at most one broker acknowledges writes to a partition in one leader epoch, and epochs rise
//! with offsets.

use std::collections::BTreeMap;

use super::MOST;

/// Who acknowledged, and at which epoch that was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writers {
    /// Node by partition and offset, of answers to first attempts: a repetition may be answered by
    /// another than the one who wrote.
    acknowledged: BTreeMap<(i32, i64), i32>,
    /// Epochs of batches as finally read: by partition and base offset, with their end.
    epochs: BTreeMap<(i32, i64), (i64, i32)>,
}

impl Writers {
    pub(crate) fn acknowledged(&mut self, partition: i32, offset: i64, node: i32) {
        self.acknowledged.insert((partition, offset), node);
    }

    pub(crate) fn written(&mut self, partition: i32, base: i64, end: i64, epoch: i32) {
        self.epochs.insert((partition, base), (end, epoch));
    }

    fn epoch_of(&self, partition: i32, offset: i64) -> Option<i32> {
        let before = self.epochs.range(..=(partition, offset)).next_back();
        let ((found, _), (end, epoch)) = before?;
        (*found == partition && offset < *end).then_some(*epoch)
    }
}

pub(crate) fn check(writers: &Writers) -> Vec<String> {
    let mut problems = Vec::new();
    let mut by_epoch: BTreeMap<(i32, i32), (i32, i64)> = BTreeMap::new();
    for ((partition, offset), node) in &writers.acknowledged {
        // What is not there at all is another invariant's business.
        let Some(epoch) = writers.epoch_of(*partition, *offset) else {
            continue;
        };
        let (first, at) = *by_epoch
            .entry((*partition, epoch))
            .or_insert((*node, *offset));
        if first != *node {
            problems.push(format!(
                "I8: partition {partition}, leader epoch {epoch}: node {first} acknowledged offset \
                 {at}, node {node} offset {offset}"
            ));
        }
    }
    let mut before: BTreeMap<i32, i32> = BTreeMap::new();
    for ((partition, base), (_, epoch)) in &writers.epochs {
        let last = before.insert(*partition, *epoch).unwrap_or(-1);
        if last > *epoch {
            problems.push(format!(
                "I8: partition {partition}: leader epoch {epoch} at offset {base} follows {last}"
            ));
        }
    }
    problems.truncate(MOST);
    problems
}

#[test]
fn two_writers_in_one_epoch_are_found() {
    let mut writers = Writers::default();
    writers.written(0, 0, 5, 1);
    writers.written(0, 5, 7, 2);
    writers.acknowledged(0, 3, 1);
    writers.acknowledged(0, 6, 2);
    assert!(check(&writers).is_empty());
    writers.acknowledged(0, 4, 3);
    assert_eq!(check(&writers).len(), 1);
}

#[test]
fn an_epoch_that_goes_back_is_found() {
    let mut writers = Writers::default();
    writers.written(0, 0, 5, 2);
    writers.written(0, 5, 7, 1);
    assert_eq!(check(&writers).len(), 1);
}
