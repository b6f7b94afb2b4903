//! Idempotent batches that were refused on a connection.
//!
//! A client sends up to five batches before the first is answered. When that one comes a moment too
//! early, before its partition is led here, and the next one a moment later, a partition that knows
//! nothing of the producer would take the later one: any sequence may be a producer's first, for
//! what came before may have expired. The earlier one could then never follow. So what is behind a
//! refused batch on its connection is refused as well, until that one has come again, exactly as a
//! partition does that knows the producer (KIP-98, KIP-360). Only what was on its way when the refusal
//! left can be behind it, so a refusal is soon forgotten: its producer may have gone on elsewhere, and
//! come back to a partition that has forgotten it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use protocol::{BatchView, ProducerEpoch, ProducerId, TopicPartition};
use tokio::time::Instant;

use crate::limits::{MAX_REFUSED_BATCHES, REFUSED_FOR};

/// Which batch of which producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    producer: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: i32,
}

/// The first batch that was refused of each producer and partition.
#[derive(Debug, Default)]
pub(crate) struct RefusedBatches {
    first: BTreeMap<(TopicPartition, ProducerId), Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    epoch: ProducerEpoch,
    base_sequence: i32,
    at: Instant,
}

// === impl Sequenced ===

impl Sequenced {
    /// That of `records`, when they begin with a batch of an idempotent producer.
    pub(crate) fn of(records: &[u8]) -> Option<Self> {
        let (view, _) = BatchView::split_first(records).ok()?;
        view.has_producer_id().then(|| Self {
            producer: ProducerId(view.producer_id()),
            epoch: ProducerEpoch(view.producer_epoch()),
            base_sequence: view.base_sequence(),
        })
    }

    pub(crate) fn producer(&self) -> ProducerId {
        self.producer
    }

    pub(crate) fn base_sequence(&self) -> i32 {
        self.base_sequence
    }
}

// === impl Refusal ===

impl Refusal {
    /// Whether `batch` may have been sent before this was answered.
    fn holds(&self, batch: &Sequenced) -> bool {
        self.epoch == batch.epoch && self.at.elapsed() < REFUSED_FOR
    }
}

// === impl RefusedBatches ===

impl RefusedBatches {
    /// Whether something of the same producer was refused before `batch`, and has not come again.
    pub(crate) fn is_behind(&self, tp: TopicPartition, batch: &Sequenced) -> bool {
        let refused = self.first.get(&(tp, batch.producer));
        refused.is_some_and(|refusal| {
            refusal.holds(batch) && refusal.base_sequence != batch.base_sequence
        })
    }

    /// `batch` was refused. At most [`MAX_REFUSED_BATCHES`] are kept.
    pub(crate) fn refused(&mut self, tp: TopicPartition, batch: &Sequenced) {
        let refusal = Refusal {
            epoch: batch.epoch,
            base_sequence: batch.base_sequence,
            at: Instant::now(),
        };
        if self.first.len() >= MAX_REFUSED_BATCHES {
            self.first
                .retain(|_, refusal| refusal.at.elapsed() < REFUSED_FOR);
        }
        let full = self.first.len() >= MAX_REFUSED_BATCHES;
        match self.first.entry((tp, batch.producer)) {
            Entry::Occupied(mut known) => {
                if !known.get().holds(batch) {
                    known.insert(refusal);
                }
            }
            // The partition alone judges what finds no place.
            Entry::Vacant(_) if full => {}
            Entry::Vacant(place) => {
                place.insert(refusal);
            }
        }
    }

    /// `batch` was taken: the partition knows its producer now.
    pub(crate) fn taken(&mut self, tp: TopicPartition, batch: &Sequenced) {
        if !self.first.is_empty() {
            self.first.remove(&(tp, batch.producer));
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::TopicId;
    use uuid::Uuid;

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(7)), partition)
    }

    fn batch(producer: i64, epoch: i16, base_sequence: i32) -> Sequenced {
        Sequenced {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            base_sequence,
        }
    }

    #[test]
    fn what_is_behind_a_refused_batch_waits_for_it() {
        let mut refused = RefusedBatches::default();
        assert!(!refused.is_behind(tp(0), &batch(1, 0, 3)));
        refused.refused(tp(0), &batch(1, 0, 0));
        assert!(refused.is_behind(tp(0), &batch(1, 0, 3)));
        // Refused for that, it is not what is waited for.
        refused.refused(tp(0), &batch(1, 0, 3));
        assert!(refused.is_behind(tp(0), &batch(1, 0, 3)));
        assert!(
            !refused.is_behind(tp(0), &batch(1, 0, 0)),
            "the batch itself"
        );
        assert!(
            !refused.is_behind(tp(1), &batch(1, 0, 3)),
            "another partition"
        );
        assert!(
            !refused.is_behind(tp(0), &batch(2, 0, 3)),
            "another producer"
        );
        assert!(!refused.is_behind(tp(0), &batch(1, 1, 3)), "a new epoch");
        refused.taken(tp(0), &batch(1, 0, 0));
        assert!(!refused.is_behind(tp(0), &batch(1, 0, 3)));
    }

    #[test]
    fn a_new_epoch_begins_anew() {
        let mut refused = RefusedBatches::default();
        refused.refused(tp(0), &batch(1, 0, 9));
        refused.refused(tp(0), &batch(1, 1, 0));
        assert!(refused.is_behind(tp(0), &batch(1, 1, 2)));
        assert!(!refused.is_behind(tp(0), &batch(1, 1, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_forgotten_once_nothing_can_be_on_its_way() {
        let mut refused = RefusedBatches::default();
        refused.refused(tp(0), &batch(1, 0, 9));
        assert!(refused.is_behind(tp(0), &batch(1, 0, 101)));
        tokio::time::advance(REFUSED_FOR).await;
        // It went on elsewhere up to there, and comes back to a partition that knows it no more.
        assert!(!refused.is_behind(tp(0), &batch(1, 0, 101)));
        refused.refused(tp(0), &batch(1, 0, 101));
        assert!(refused.is_behind(tp(0), &batch(1, 0, 102)));
    }

    #[test]
    fn no_more_than_a_bound_is_remembered() {
        let mut refused = RefusedBatches::default();
        for partition in 0..2 * MAX_REFUSED_BATCHES as i32 {
            refused.refused(tp(partition), &batch(1, 0, 0));
        }
        assert_eq!(refused.first.len(), MAX_REFUSED_BATCHES);
    }
}
