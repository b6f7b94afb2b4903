//! High watermarks for the renewals of a lease: each that moved, until the controller has it.

use std::collections::BTreeMap;

use controller::{HighWatermark, Marks};
use protocol::{LeaderEpoch, TopicPartition};
use storage::Storage;

/// Those of the partitions that are led here.
pub(super) struct HighWatermarks {
    storage: Storage,
    told: Told,
}

/// What stands in the controller, as far as this epoch knows.
#[derive(Default)]
struct Told(BTreeMap<TopicPartition, (LeaderEpoch, i64)>);

// === impl HighWatermarks ===

impl HighWatermarks {
    /// Of `storage`, none of them reported.
    pub(super) fn new(storage: Storage) -> Self {
        let told = Told::default();
        Self { storage, told }
    }
}

impl Marks for HighWatermarks {
    fn moved(&mut self) -> Vec<HighWatermark> {
        let led = self.storage.partitions().into_iter();
        let marks = led.map(|partition| HighWatermark {
            topic_partition: partition.topic_partition(),
            leader_epoch: partition.leader_epoch(),
            offset: partition.high_watermark(),
        });
        self.told.news(marks.collect())
    }

    fn reported(&mut self, marks: &[HighWatermark]) {
        self.told.remember(marks);
        for mark in marks {
            let (tp, epoch) = (mark.topic_partition, mark.leader_epoch);
            self.storage.reported(tp, epoch, mark.offset);
        }
    }

    async fn wanted(&mut self) {
        self.storage.report_wanted().await;
    }
}

// === impl Told ===

impl Told {
    /// Of `led`, all that is led here, those that are not told.
    fn news(&mut self, mut led: Vec<HighWatermark>) -> Vec<HighWatermark> {
        if self.0.len() > led.len() {
            // What is led no longer is forgotten.
            let now: BTreeMap<_, ()> = led.iter().map(|m| (m.topic_partition, ())).collect();
            self.0.retain(|tp, _| now.contains_key(tp));
        }
        led.retain(|m| self.0.get(&m.topic_partition) != Some(&(m.leader_epoch, m.offset)));
        led
    }

    fn remember(&mut self, marks: &[HighWatermark]) {
        for mark in marks {
            let stands = (mark.leader_epoch, mark.offset);
            self.0.insert(mark.topic_partition, stands);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::TopicId;

    use super::*;

    fn mark(partition: i32, epoch: i32, offset: i64) -> HighWatermark {
        HighWatermark {
            topic_partition: TopicPartition::new(TopicId(uuid::Uuid::nil()), partition),
            leader_epoch: LeaderEpoch(epoch),
            offset,
        }
    }

    #[test]
    fn a_mark_is_news_until_it_is_reported() {
        let mut told = Told::default();
        let both = vec![mark(0, 0, 5), mark(1, 0, 0)];
        assert_eq!(told.news(both.clone()), both);
        assert_eq!(told.news(both.clone()), both, "the renewal did not succeed");
        told.remember(&both);
        assert_eq!(told.news(both.clone()), []);
        // What moved between the renewal's sending and its answer is news still.
        let moved = vec![mark(0, 0, 6), mark(1, 0, 0)];
        assert_eq!(told.news(moved), [mark(0, 0, 6)]);
    }

    #[test]
    fn another_epoch_is_news_and_what_is_not_led_is_forgotten() {
        let mut told = Told::default();
        told.remember(&[mark(0, 0, 5), mark(1, 0, 7)]);
        assert_eq!(told.news(vec![mark(0, 1, 5)]), [mark(0, 1, 5)]);
        assert_eq!(told.0.len(), 1);
        assert_eq!(told.news(vec![mark(1, 0, 7)]), [mark(1, 0, 7)]);
    }
}
