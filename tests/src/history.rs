//! What clients did and saw, and the anomalies in it, as in Jepsen's workload for Kafka.
//!
//! Every value is sent once by the test; a client may retry it on the wire. A write whose answer
//! was lost, or was an error, is *unknown*: it may or may not be in the log.

pub mod groups;
pub mod register;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};

/// A partition, as the test names it.
pub type Partition = (String, i32);

/// How a write ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged at this offset.
    Acknowledged(i64),
    /// An error or no answer.
    Unknown,
}

/// A value that was sent.
#[derive(Clone, Debug)]
struct Write {
    partition: Partition,
    /// Which producer, and its how-manieth value to this partition.
    producer: u32,
    order: u64,
    outcome: Option<Outcome>,
    /// When it was begun and when its answer came, in steps of the history.
    begun: u64,
    ended: Option<u64>,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// Acknowledged, and not there in the end.
    LostWrite {
        /// The value.
        value: u64,
        /// Where it was acknowledged.
        offset: i64,
    },
    /// One offset, two values.
    InconsistentOffset {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: i64,
        /// The values.
        values: (u64, u64),
    },
    /// One value at two offsets, though its producer was idempotent.
    Duplicate {
        /// The value.
        value: u64,
        /// Two of its offsets.
        offsets: (i64, i64),
    },
    /// A value that nobody sent, or in another partition than it was sent to.
    Phantom {
        /// The value.
        value: u64,
        /// The offset where it was read.
        offset: i64,
    },
    /// One producer's values in another order than it sent them.
    Inversion {
        /// The value that was sent first.
        first: u64,
        /// The value that was sent later and stands before it.
        later: u64,
    },
    /// Two writes to a partition of which each comes before the other: by time and by offset.
    Cycle {
        /// The value that was acknowledged before the other was sent.
        before: u64,
        /// The other, which stands before it.
        after: u64,
    },
    /// A reader went over an offset at which there is a record.
    Skip {
        /// The partition.
        partition: Partition,
        /// The offset it read before.
        from: i64,
        /// The offset it read next.
        to: i64,
        /// One that it skipped.
        skipped: i64,
    },
    /// A record was refused because of damage that nobody named.
    Unreported {
        /// The partition.
        partition: Partition,
        /// The record's offset.
        offset: i64,
    },
    /// A reader went back without having asked to.
    NonMonotonic {
        /// The partition.
        partition: Partition,
        /// The offset it read before.
        from: i64,
        /// The offset it read next.
        to: i64,
    },
}

/// A record of what clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    writes: BTreeMap<u64, Write>,
    orders: BTreeMap<(u32, Partition), u64>,
    /// Counts what was begun and ended.
    step: u64,
    /// Offsets and values in the order in which one reader got them without seeking.
    reads: Vec<(Partition, Vec<(i64, u64)>)>,
    /// All of each partition in the end.
    finals: BTreeMap<Partition, Vec<(i64, u64)>>,
}

impl History {
    /// `producer` is about to send `value`; values are unique over the history.
    ///
    /// # Panics
    /// When the value was sent before.
    pub fn sending(&mut self, producer: u32, partition: &Partition, value: u64) {
        let order = self
            .orders
            .entry((producer, partition.clone()))
            .or_default();
        *order += 1;
        self.step += 1;
        let write = Write {
            partition: partition.clone(),
            producer,
            order: *order,
            outcome: None,
            begun: self.step,
            ended: None,
        };
        assert!(
            self.writes.insert(value, write).is_none(),
            "value {value} sent twice"
        );
    }

    /// The send of `value` ended.
    ///
    /// # Panics
    /// When it was never begun.
    pub fn sent(&mut self, value: u64, outcome: Outcome) {
        let write = self
            .writes
            .get_mut(&value)
            .expect("a write ends after it began");
        write.outcome = Some(outcome);
        self.step += 1;
        write.ended = Some(self.step);
    }

    /// One reader's offsets and values, in its order, without a seek in between.
    pub fn read(&mut self, partition: &Partition, records: Vec<(i64, u64)>) {
        self.reads.push((partition.clone(), records));
    }

    /// Everything in `partition`, read when all faults were healed.
    pub fn read_finally(&mut self, partition: &Partition, records: Vec<(i64, u64)>) {
        self.finals.insert(partition.clone(), records);
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let acknowledged = |w: &&Write| matches!(w.outcome, Some(Outcome::Acknowledged(_)));
        self.writes.values().filter(acknowledged).count()
    }

    /// Offsets of `partition` at which records were acknowledged.
    pub fn acknowledged_offsets(&self, partition: &Partition) -> BTreeSet<i64> {
        let here = self.writes.values().filter(|w| w.partition == *partition);
        let offset = |write: &Write| match write.outcome {
            Some(Outcome::Acknowledged(offset)) => Some(offset),
            _ => None,
        };
        here.filter_map(offset).collect()
    }

    /// Everything wrong with it, sorted; empty when nothing is. Duplicates and inversions count
    /// only for the producers named in `idempotent`.
    pub fn anomalies(&self, idempotent: &BTreeSet<u32>) -> Vec<Anomaly> {
        let mut found = BTreeSet::new();
        self.check_offsets(&mut found);
        self.check_values(idempotent, &mut found);
        self.check_readers(&mut found);
        self.check_time(&mut found);
        found.into_iter().collect()
    }

    /// As [`History::anomalies`], where stored bytes were damaged on purpose: records at the offsets
    /// in `refused` could not be read in the end, since the broker said so with an error. That is
    /// no loss, if what is damaged was `named` to the operator.
    pub fn anomalies_under_damage(
        &self,
        idempotent: &BTreeSet<u32>,
        refused: &BTreeSet<(Partition, i64)>,
        named: bool,
    ) -> Vec<Anomaly> {
        let mut found = self.anomalies(idempotent);
        found.retain(|anomaly| match anomaly {
            Anomaly::LostWrite { value, offset } => {
                let partition = self.writes[value].partition.clone();
                !refused.contains(&(partition, *offset))
            }
            _ => true,
        });
        if !named {
            let unreported = refused.iter().cloned();
            found.extend(
                unreported.map(|(partition, offset)| Anomaly::Unreported { partition, offset }),
            );
        }
        found
    }

    /// What some reader got and is not there in the end, where the end was read.
    pub fn read_and_gone(&self) -> BTreeSet<(Partition, i64, u64)> {
        let mut gone = BTreeSet::new();
        for (partition, records) in &self.finals {
            let there: BTreeSet<(i64, u64)> = records.iter().copied().collect();
            let reads = self.reads.iter().filter(|(of, _)| of == partition);
            for record in reads.flat_map(|(_, records)| records) {
                if !there.contains(record) {
                    gone.insert((partition.clone(), record.0, record.1));
                }
            }
        }
        gone
    }

    fn seen(&self) -> impl Iterator<Item = (&Partition, i64, u64)> {
        let finals = self.finals.iter();
        let reads = self.reads.iter().map(|(p, records)| (p, records));
        finals
            .chain(reads)
            .flat_map(|(p, records)| records.iter().map(move |(o, v)| (p, *o, *v)))
    }

    /// One value per offset, over everything read and acknowledged; nothing lost.
    fn check_offsets(&self, found: &mut BTreeSet<Anomaly>) {
        let acknowledged = self
            .writes
            .iter()
            .filter_map(|(value, write)| match write.outcome {
                Some(Outcome::Acknowledged(offset)) => Some((&write.partition, offset, *value)),
                _ => None,
            });
        let mut at: BTreeMap<(&Partition, i64), u64> = BTreeMap::new();
        for (partition, offset, value) in self.seen().chain(acknowledged.clone()) {
            let first = *at.entry((partition, offset)).or_insert(value);
            if first != value {
                let partition = partition.clone();
                let values = (first.min(value), first.max(value));
                found.insert(Anomaly::InconsistentOffset {
                    partition,
                    offset,
                    values,
                });
            }
        }
        let finals: BTreeSet<(&Partition, i64, u64)> = self
            .finals
            .iter()
            .flat_map(|(partition, records)| records.iter().map(move |(o, v)| (partition, *o, *v)))
            .collect();
        for (partition, offset, value) in acknowledged {
            if !finals.contains(&(partition, offset, value)) {
                found.insert(Anomaly::LostWrite { value, offset });
            }
        }
    }

    /// Each value is one that was sent here, once, in its producer's order.
    fn check_values(&self, idempotent: &BTreeSet<u32>, found: &mut BTreeSet<Anomaly>) {
        for (partition, offset, value) in self.seen() {
            if self
                .writes
                .get(&value)
                .is_none_or(|w| w.partition != *partition)
            {
                found.insert(Anomaly::Phantom { value, offset });
            }
        }
        for records in self.finals.values() {
            let mut first_at = BTreeMap::new();
            let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for (offset, value) in records {
                let Some(write) = self.writes.get(value) else {
                    continue;
                };
                if !idempotent.contains(&write.producer) {
                    continue;
                }
                if let Some(before) = first_at.insert(value, *offset) {
                    found.insert(Anomaly::Duplicate {
                        value: *value,
                        offsets: (before, *offset),
                    });
                    continue;
                }
                let newest = last.entry(write.producer).or_insert((write.order, *value));
                if write.order < newest.0 {
                    found.insert(Anomaly::Inversion {
                        first: *value,
                        later: newest.1,
                    });
                } else {
                    *newest = (write.order, *value);
                }
            }
        }
    }

    /// Offsets follow time: what was acknowledged before another write was sent stands before it.
    fn check_time(&self, found: &mut BTreeSet<Anomaly>) {
        for records in self.finals.values() {
            let mut places: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
            for (offset, value) in records {
                places.entry(*value).or_default().push(*offset);
            }
            let once = places.into_iter().filter(|(_, offsets)| offsets.len() == 1);
            let mut placed: Vec<(i64, u64)> =
                once.map(|(value, offsets)| (offsets[0], value)).collect();
            placed.sort_unstable();
            // The earliest acknowledgement of all that stands behind.
            let mut earliest: Option<(u64, u64)> = None;
            for (_, value) in placed.into_iter().rev() {
                let Some(write) = self.writes.get(&value) else {
                    continue;
                };
                if let Some((_, before)) = earliest.filter(|(ended, _)| *ended < write.begun) {
                    found.insert(Anomaly::Cycle {
                        before,
                        after: value,
                    });
                }
                if let (Some(Outcome::Acknowledged(_)), Some(ended)) = (write.outcome, write.ended)
                {
                    let own = (ended, value);
                    earliest = Some(earliest.map_or(own, |other| other.min(own)));
                }
            }
        }
    }

    /// No reader goes back or over a record.
    fn check_readers(&self, found: &mut BTreeSet<Anomaly>) {
        let reads = self
            .reads
            .iter()
            .map(|(partition, records)| (partition, records));
        for (partition, records) in reads.chain(self.finals.iter()) {
            let last = self.finals.get(partition).map_or(&[][..], Vec::as_slice);
            let there: BTreeSet<i64> = last.iter().map(|(offset, _)| *offset).collect();
            for pair in records.windows(2) {
                let (from, to) = (pair[0].0, pair[1].0);
                let partition = partition.clone();
                if to <= from {
                    found.insert(Anomaly::NonMonotonic {
                        partition,
                        from,
                        to,
                    });
                } else if let Some(skipped) = there.range(from + 1..to).next() {
                    let skipped = *skipped;
                    found.insert(Anomaly::Skip {
                        partition,
                        from,
                        to,
                        skipped,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> Partition {
        ("t".to_owned(), partition)
    }

    /// Values 1, 2, 3 of producer 7, acknowledged at offsets 0, 1, 2 of partition 0.
    fn sound() -> History {
        let mut history = History::default();
        for value in 1..=3 {
            history.sending(7, &at(0), value);
            history.sent(value, Outcome::Acknowledged(value as i64 - 1));
        }
        history.read_finally(&at(0), vec![(0, 1), (1, 2), (2, 3)]);
        history
    }

    fn check(history: &History, expected: &[Anomaly]) {
        let found = history.anomalies(&BTreeSet::from([7]));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sound_history_has_no_anomaly() {
        let mut history = sound();
        history.read(&at(0), vec![(0, 1), (1, 2)]);
        history.sending(7, &at(0), 4);
        history.sent(4, Outcome::Unknown);
        check(&history, &[]);
        assert_eq!(history.acknowledged(), 3);
    }

    #[test]
    fn an_unknown_write_may_be_there() {
        let mut history = sound();
        history.sending(7, &at(0), 4);
        history.read_finally(&at(0), vec![(0, 1), (1, 2), (2, 3), (3, 4)]);
        check(&history, &[]);
    }

    #[test]
    fn finds_a_lost_write() {
        let mut history = sound();
        history.read_finally(&at(0), vec![(0, 1), (1, 2)]);
        check(
            &history,
            &[Anomaly::LostWrite {
                value: 3,
                offset: 2,
            }],
        );
    }

    /// Offset 1 is damaged: refusing it aloud is right, silence and anything else are not.
    #[test]
    fn damage_excuses_only_what_is_refused_and_named() {
        let mut history = sound();
        history.read_finally(&at(0), vec![(0, 1)]);
        let idempotent = BTreeSet::from([7]);
        let refused = BTreeSet::from([(at(0), 1)]);
        let lost = Anomaly::LostWrite {
            value: 3,
            offset: 2,
        };
        let found = history.anomalies_under_damage(&idempotent, &refused, true);
        assert_eq!(found, std::slice::from_ref(&lost));
        let unreported = Anomaly::Unreported {
            partition: at(0),
            offset: 1,
        };
        let found = history.anomalies_under_damage(&idempotent, &refused, false);
        assert_eq!(found, [lost, unreported]);
        let mut history = sound();
        history.read_finally(&at(0), vec![(0, 1), (1, 3), (2, 3)]);
        let found = history.anomalies_under_damage(&idempotent, &refused, true);
        assert!(!found.is_empty(), "wrong bytes are no refusal");
    }

    #[test]
    fn finds_what_was_read_and_is_gone() {
        let mut history = sound();
        history.sending(7, &at(0), 4);
        history.read(&at(0), vec![(2, 3), (3, 4)]);
        let gone = history.read_and_gone();
        assert_eq!(gone, BTreeSet::from([(at(0), 3, 4)]));
        check(&history, &[]);
    }

    #[test]
    fn finds_two_values_at_one_offset() {
        let mut history = sound();
        history.sending(8, &at(0), 9);
        history.read(&at(0), vec![(1, 9)]);
        let expected = Anomaly::InconsistentOffset {
            partition: at(0),
            offset: 1,
            values: (2, 9),
        };
        check(&history, &[expected]);
    }

    #[test]
    fn finds_a_duplicate() {
        let mut history = sound();
        history.read_finally(&at(0), vec![(0, 1), (1, 2), (2, 3), (3, 2)]);
        check(
            &history,
            &[Anomaly::Duplicate {
                value: 2,
                offsets: (1, 3),
            }],
        );
    }

    #[test]
    fn finds_a_phantom() {
        let mut history = sound();
        history.read(&at(0), vec![(5, 77)]);
        check(
            &history,
            &[Anomaly::Phantom {
                value: 77,
                offset: 5,
            }],
        );
        let mut history = sound();
        history.read(&at(1), vec![(0, 1)]);
        check(
            &history,
            &[Anomaly::Phantom {
                value: 1,
                offset: 0,
            }],
        );
    }

    #[test]
    fn finds_an_inversion() {
        let mut history = History::default();
        for value in 1..=2 {
            history.sending(7, &at(0), value);
            history.sent(value, Outcome::Acknowledged(2 - value as i64));
        }
        history.read_finally(&at(0), vec![(0, 2), (1, 1)]);
        let inversion = Anomaly::Inversion { first: 1, later: 2 };
        let cycle = Anomaly::Cycle {
            before: 1,
            after: 2,
        };
        check(&history, &[inversion, cycle]);
    }

    /// Two producers: 1 is acknowledged before 2 is sent, and 2 stands before 1.
    #[test]
    fn finds_a_cycle_of_time_and_offsets() {
        let mut history = History::default();
        history.sending(7, &at(0), 1);
        history.sent(1, Outcome::Acknowledged(1));
        history.sending(8, &at(0), 2);
        history.sent(2, Outcome::Unknown);
        history.read_finally(&at(0), vec![(0, 2), (1, 1)]);
        let cycle = Anomaly::Cycle {
            before: 1,
            after: 2,
        };
        check(&history, &[cycle]);
    }

    /// As above, but they overlapped: either may come first.
    #[test]
    fn writes_at_one_time_stand_in_either_order() {
        let mut history = History::default();
        history.sending(7, &at(0), 1);
        history.sending(8, &at(0), 2);
        history.sent(1, Outcome::Acknowledged(1));
        history.sent(2, Outcome::Acknowledged(0));
        history.read_finally(&at(0), vec![(0, 2), (1, 1)]);
        check(&history, &[]);
    }

    #[test]
    fn finds_a_skip_and_a_step_back() {
        let mut history = sound();
        history.read(&at(0), vec![(0, 1), (2, 3)]);
        check(
            &history,
            &[Anomaly::Skip {
                partition: at(0),
                from: 0,
                to: 2,
                skipped: 1,
            }],
        );
        let mut history = sound();
        history.read(&at(0), vec![(1, 2), (0, 1)]);
        check(
            &history,
            &[Anomaly::NonMonotonic {
                partition: at(0),
                from: 1,
                to: 0,
            }],
        );
    }
}
