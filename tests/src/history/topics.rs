//! What an administrator did to topics and saw of them, and the anomalies in it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::register::{Moment, Register, WriteId};

/// What is wrong with a history of topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicAnomaly {
    /// A topic is there, or is not, though what was acknowledged says otherwise.
    WrongExistence {
        /// The topic.
        topic: String,
        /// What was seen.
        there: bool,
    },
    /// A topic has a number of partitions that nobody asked for, or an old one.
    WrongPartitions {
        /// The topic.
        topic: String,
        /// What was seen.
        found: i32,
        /// What might have been seen.
        possible: Vec<i32>,
    },
    /// A setting has a value that nobody gave it, or an old one.
    WrongSetting {
        /// The topic.
        topic: String,
        /// What was seen.
        found: i64,
        /// What might have been seen.
        possible: Vec<i64>,
    },
    /// A topic's id was seen after its deletion was acknowledged.
    DeletedIdServes {
        /// The id.
        id: Uuid,
    },
    /// One id was given to two topics.
    IdGivenTwice {
        /// The id.
        id: Uuid,
        /// The topics.
        topics: (String, String),
    },
    /// Log start is behind what was seen before, or behind what was acknowledged as deleted.
    LogStartWentBack {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it was known to be.
        from: i64,
        /// What was seen later.
        to: i64,
    },
    /// Log start passed what anybody asked to delete.
    LogStartTooFar {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The furthest that was asked for.
        asked: i64,
        /// What was seen.
        found: i64,
    },
    /// A log was read to its end, and ends before a record that was acknowledged.
    EndWentBack {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// An acknowledged record's offset.
        acknowledged: i64,
        /// Where the log ends.
        end: i64,
    },
    /// A record below log start was served.
    DeletedRecordServed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What was known to be log start when it was asked for.
        log_start: i64,
    },
}

/// A topic's registers.
#[derive(Clone, Debug)]
struct Topic {
    there: Register<bool>,
    partitions: Register<i32>,
    setting: Register<i64>,
}

/// Where the log of one partition begins.
#[derive(Clone, Debug, Default)]
struct LogStart {
    /// The furthest that was asked for.
    asked: i64,
    /// What is known, by the moment from which on it is.
    known: Vec<(Moment, i64)>,
    /// The last record that was acknowledged, and since when.
    acknowledged: Vec<(Moment, i64)>,
}

/// Something of a topic that is being changed.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// It is created or deleted.
    There(bool),
    /// Its number of partitions.
    Partitions(i32),
    /// Its setting.
    Setting(i64),
}

/// A change under way.
#[derive(Clone, Debug)]
pub struct Changing {
    topic: String,
    change: Change,
    id: WriteId,
}

/// A record of what one administrator did and saw, one thing after the other.
#[derive(Clone, Debug, Default)]
pub struct TopicHistory {
    now: Moment,
    topics: BTreeMap<String, Topic>,
    ids: BTreeMap<Uuid, String>,
    dead: BTreeSet<Uuid>,
    starts: BTreeMap<(String, i32), LogStart>,
    found: BTreeSet<TopicAnomaly>,
}

// === impl TopicHistory ===

impl TopicHistory {
    /// The moment that comes now.
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A change of `topic` begins.
    pub fn changing(&mut self, topic: &str, change: Change) -> Changing {
        let now = self.tick();
        let known = self.topic(topic);
        let id = match change {
            Change::There(there) => known.there.writing(there, now),
            Change::Partitions(count) => known.partitions.writing(count, now),
            Change::Setting(value) => known.setting.writing(value, now),
        };
        let topic = topic.to_owned();
        Changing { topic, change, id }
    }

    /// The change was acknowledged.
    pub fn changed(&mut self, changing: &Changing) {
        let now = self.tick();
        let known = self.topic(&changing.topic);
        match changing.change {
            Change::There(_) => known.there.acknowledged(changing.id, now),
            Change::Partitions(_) => known.partitions.acknowledged(changing.id, now),
            Change::Setting(_) => known.setting.acknowledged(changing.id, now),
        }
    }

    /// Whether `topic` is there, and how many partitions it has, asked at `began`.
    pub fn described(&mut self, topic: &str, found: Option<(Uuid, i32)>, began: Moment) {
        let now = self.tick();
        let known = self.topic(topic);
        known.there.read(found.is_some(), began, now);
        if let Some((id, partitions)) = found {
            known.partitions.read(partitions, began, now);
            self.saw_id(topic, id);
        }
    }

    /// The value of the topic's setting, asked at `began`.
    pub fn setting(&mut self, topic: &str, value: i64, began: Moment) {
        let now = self.tick();
        self.topic(topic).setting.read(value, began, now);
    }

    /// `id` was the topic's when its deletion was acknowledged.
    pub fn died(&mut self, id: Uuid) {
        self.dead.insert(id);
    }

    /// The broker knows a topic of this id now.
    pub fn saw_id(&mut self, topic: &str, id: Uuid) {
        if self.dead.contains(&id) {
            self.found.insert(TopicAnomaly::DeletedIdServes { id });
        }
        let first = self.ids.entry(id).or_insert_with(|| topic.to_owned());
        if first != topic {
            let topics = (first.clone(), topic.to_owned());
            self.found.insert(TopicAnomaly::IdGivenTwice { id, topics });
        }
    }

    /// Deletion of records below `offset` begins.
    pub fn deleting_records(&mut self, topic: &str, partition: i32, offset: i64) {
        let start = self.start(topic, partition);
        start.asked = start.asked.max(offset);
    }

    /// Log start was seen (or acknowledged) at `offset`, asked at `began`.
    pub fn log_start(&mut self, topic: &str, partition: i32, offset: i64, began: Moment) {
        let now = self.tick();
        let known = self.known_start(topic, partition, began);
        let name = topic.to_owned();
        let start = self.start(topic, partition);
        start.known.push((now, offset));
        let asked = start.asked;
        if offset < known {
            self.found.insert(TopicAnomaly::LogStartWentBack {
                topic: name,
                partition,
                from: known,
                to: offset,
            });
        } else if offset > asked {
            self.found.insert(TopicAnomaly::LogStartTooFar {
                topic: name,
                partition,
                asked,
                found: offset,
            });
        }
    }

    /// A fetch that began at `began` gave the record at `offset`.
    pub fn served(&mut self, topic: &str, partition: i32, offset: i64, began: Moment) {
        let log_start = self.known_start(topic, partition, began);
        if offset < log_start {
            self.found.insert(TopicAnomaly::DeletedRecordServed {
                topic: topic.to_owned(),
                partition,
                offset,
                log_start,
            });
        }
    }

    /// A record was acknowledged at `offset`.
    pub fn produced(&mut self, topic: &str, partition: i32, offset: i64) {
        let now = self.tick();
        let start = self.start(topic, partition);
        start.acknowledged.push((now, offset));
    }

    /// Fetches that began at `began` read the log to its end.
    pub fn read_to(&mut self, topic: &str, partition: i32, end: i64, began: Moment) {
        let start = self.start(topic, partition);
        let before = start.acknowledged.iter().filter(|(at, _)| *at < began);
        let furthest = before.map(|(_, offset)| *offset).max();
        if let Some(acknowledged) = furthest.filter(|offset| *offset >= end) {
            self.found.insert(TopicAnomaly::EndWentBack {
                topic: topic.to_owned(),
                partition,
                acknowledged,
                end,
            });
        }
    }

    /// Everything wrong with it, sorted.
    pub fn anomalies(&self) -> Vec<TopicAnomaly> {
        let mut found = self.found.clone();
        for (topic, known) in &self.topics {
            let topic = || topic.clone();
            for wrong in known.there.wrong_reads() {
                let there = wrong.value;
                let topic = topic();
                found.insert(TopicAnomaly::WrongExistence { topic, there });
            }
            for wrong in known.partitions.wrong_reads() {
                found.insert(TopicAnomaly::WrongPartitions {
                    topic: topic(),
                    found: wrong.value,
                    possible: wrong.possible,
                });
            }
            for wrong in known.setting.wrong_reads() {
                found.insert(TopicAnomaly::WrongSetting {
                    topic: topic(),
                    found: wrong.value,
                    possible: wrong.possible,
                });
            }
        }
        found.into_iter().collect()
    }

    fn topic(&mut self, name: &str) -> &mut Topic {
        let topic = self.topics.entry(name.to_owned());
        topic.or_insert_with(|| Topic {
            there: Register::new(false),
            partitions: Register::new(0),
            setting: Register::new(-1),
        })
    }

    fn start(&mut self, topic: &str, partition: i32) -> &mut LogStart {
        self.starts
            .entry((topic.to_owned(), partition))
            .or_default()
    }

    /// Where the log surely began when something was asked at `began`.
    fn known_start(&self, topic: &str, partition: i32, began: Moment) -> i64 {
        let known = self.starts.get(&(topic.to_owned(), partition));
        let known = known.map_or(&[][..], |start| &start.known);
        let before = known.iter().filter(|(at, _)| *at < began);
        before.map(|(_, offset)| *offset).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);
    const OTHER: Uuid = Uuid::from_u128(8);

    /// Topic t with one partition, its setting at 5, its first three records deleted.
    fn sound() -> TopicHistory {
        let mut history = TopicHistory::default();
        for change in [
            Change::There(true),
            Change::Partitions(1),
            Change::Setting(5),
        ] {
            let changing = history.changing("t", change);
            history.changed(&changing);
        }
        let began = history.tick();
        history.described("t", Some((ID, 1)), began);
        let began = history.tick();
        history.setting("t", 5, began);
        let began = history.tick();
        history.served("t", 0, 0, began);
        history.deleting_records("t", 0, 3);
        let began = history.tick();
        history.log_start("t", 0, 3, began);
        history
    }

    #[track_caller]
    fn check(history: &TopicHistory, expected: &[TopicAnomaly]) {
        assert_eq!(history.anomalies(), expected);
    }

    #[test]
    fn a_sound_history_has_no_anomaly() {
        check(&sound(), &[]);
        let mut deleted = sound();
        let changing = deleted.changing("t", Change::There(false));
        deleted.changed(&changing);
        deleted.died(ID);
        let began = deleted.tick();
        deleted.described("t", None, began);
        // The same name again, by another id.
        let changing = deleted.changing("t", Change::There(true));
        deleted.changed(&changing);
        let began = deleted.tick();
        deleted.described("t", Some((OTHER, 1)), began);
        check(&deleted, &[]);
    }

    #[test]
    fn finds_a_topic_that_is_gone_and_one_that_comes_back() {
        let gone = |there| TopicAnomaly::WrongExistence {
            topic: "t".to_owned(),
            there,
        };
        let mut history = sound();
        let began = history.tick();
        history.described("t", None, began);
        check(&history, &[gone(false)]);
        let mut history = sound();
        let changing = history.changing("t", Change::There(false));
        history.changed(&changing);
        history.died(ID);
        let began = history.tick();
        history.described("t", Some((ID, 1)), began);
        let serves = TopicAnomaly::DeletedIdServes { id: ID };
        check(&history, &[gone(true), serves]);
    }

    #[test]
    fn finds_an_id_that_was_given_twice() {
        let mut history = sound();
        history.saw_id("u", ID);
        let topics = ("t".to_owned(), "u".to_owned());
        check(&history, &[TopicAnomaly::IdGivenTwice { id: ID, topics }]);
    }

    #[test]
    fn finds_partitions_and_settings_that_went_back() {
        let mut history = sound();
        for change in [Change::Partitions(2), Change::Setting(6)] {
            let changing = history.changing("t", change);
            history.changed(&changing);
        }
        let began = history.tick();
        history.described("t", Some((ID, 1)), began);
        let began = history.tick();
        history.setting("t", 5, began);
        let partitions = TopicAnomaly::WrongPartitions {
            topic: "t".to_owned(),
            found: 1,
            possible: vec![2],
        };
        let setting = TopicAnomaly::WrongSetting {
            topic: "t".to_owned(),
            found: 5,
            possible: vec![6],
        };
        check(&history, &[partitions, setting]);
    }

    #[test]
    fn finds_a_log_start_that_went_back_or_too_far() {
        let mut history = sound();
        let began = history.tick();
        history.log_start("t", 0, 2, began);
        let back = TopicAnomaly::LogStartWentBack {
            topic: "t".to_owned(),
            partition: 0,
            from: 3,
            to: 2,
        };
        check(&history, &[back]);
        let mut history = sound();
        let began = history.tick();
        history.log_start("t", 0, 4, began);
        let far = TopicAnomaly::LogStartTooFar {
            topic: "t".to_owned(),
            partition: 0,
            asked: 3,
            found: 4,
        };
        check(&history, &[far]);
    }

    #[test]
    fn finds_a_log_that_ends_before_what_was_acknowledged() {
        let mut history = sound();
        history.produced("t", 0, 7);
        let began = history.tick();
        history.read_to("t", 0, 8, began);
        check(&history, &[]);
        history.read_to("t", 0, 7, began);
        let back = TopicAnomaly::EndWentBack {
            topic: "t".to_owned(),
            partition: 0,
            acknowledged: 7,
            end: 7,
        };
        check(&history, &[back]);
    }

    #[test]
    fn finds_a_deleted_record_that_is_served() {
        let mut history = sound();
        let began = history.tick();
        history.served("t", 0, 3, began);
        check(&history, &[]);
        history.served("t", 0, 2, began);
        let served = TopicAnomaly::DeletedRecordServed {
            topic: "t".to_owned(),
            partition: 0,
            offset: 2,
            log_start: 3,
        };
        check(&history, &[served]);
    }
}
