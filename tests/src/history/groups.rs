//! What the members of a consumer group did and saw, and the anomalies in it.

use std::collections::{BTreeMap, BTreeSet};

use super::register::{Moment, Register, WriteId};

/// What is wrong with a group's history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupAnomaly {
    /// One partition, two owners in one generation.
    TwoOwners {
        /// The generation.
        generation: i32,
        /// The partition.
        partition: i32,
        /// The members.
        members: (String, String),
    },
    /// A member was given a generation that is older than an earlier one of its own.
    GenerationWentBack {
        /// The member.
        member: String,
        /// Generations in the order in which it got them.
        generations: (i32, i32),
    },
    /// A committed offset is behind an earlier one.
    CommitWentBack {
        /// The partition.
        partition: i32,
        /// What was seen first.
        from: i64,
        /// What was seen later.
        to: i64,
    },
    /// A committed offset that was acknowledged is not what a later fetch gives.
    WrongCommit {
        /// The partition.
        partition: i32,
        /// What the fetch gave, -1 for none.
        found: i64,
        /// What it might have given.
        possible: Vec<i64>,
    },
    /// An acknowledged record was given to no member.
    Undelivered {
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
    },
}

/// A record of what one group did.
#[derive(Clone, Debug, Default)]
pub struct GroupHistory {
    now: Moment,
    /// Owners by generation and partition.
    owners: BTreeMap<(i32, i32), BTreeSet<String>>,
    /// Generations of each member, in the order in which it got them.
    generations: BTreeMap<String, Vec<i32>>,
    /// Committed offsets, -1 at first.
    commits: BTreeMap<i32, Register<i64>>,
    /// Offsets seen by fetches, with begin and end.
    fetched: BTreeMap<i32, Vec<(Moment, Moment, i64)>>,
    delivered: BTreeMap<i32, BTreeSet<i64>>,
}

/// A commit under way.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    partition: i32,
    id: WriteId,
}

// === impl GroupHistory ===

impl GroupHistory {
    /// The moment that comes now.
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// `member` was given `partitions` in `generation`.
    pub fn assigned(&mut self, member: &str, generation: i32, partitions: &[i32]) {
        let generations = self.generations.entry(member.to_owned()).or_default();
        generations.push(generation);
        for partition in partitions {
            let owners = self.owners.entry((generation, *partition)).or_default();
            owners.insert(member.to_owned());
        }
    }

    /// A commit of `offset` begins.
    pub fn committing(&mut self, partition: i32, offset: i64) -> Commit {
        let now = self.tick();
        let id = self.register(partition).writing(offset, now);
        Commit { partition, id }
    }

    /// The commit was acknowledged.
    pub fn committed(&mut self, commit: Commit) {
        let now = self.tick();
        self.register(commit.partition).acknowledged(commit.id, now);
    }

    /// The commit was refused for good: it has no effect.
    pub fn refused(&mut self, commit: Commit) {
        self.register(commit.partition).refused(commit.id);
    }

    /// A fetch that began at `began` and ends now found `offset`, -1 for none.
    pub fn fetched(&mut self, partition: i32, offset: i64, began: Moment) {
        let now = self.tick();
        self.register(partition).read(offset, began, now);
        let seen = self.fetched.entry(partition).or_default();
        seen.push((began, now, offset));
    }

    /// A member was given the record at `offset`.
    pub fn delivered(&mut self, partition: i32, offset: i64) {
        self.delivered.entry(partition).or_default().insert(offset);
    }

    /// Those of `offsets` that no member was given.
    pub fn undelivered(&self, partition: i32, offsets: &BTreeSet<i64>) -> Vec<i64> {
        let none = BTreeSet::new();
        let delivered = self.delivered.get(&partition).unwrap_or(&none);
        offsets.difference(delivered).copied().collect()
    }

    /// Generations whose members were told what they own.
    pub fn generations(&self) -> usize {
        let all: BTreeSet<i32> = self.generations.values().flatten().copied().collect();
        all.len()
    }

    /// Everything wrong with it, sorted. `there` are the offsets of records that are in the log in
    /// the end and were acknowledged.
    pub fn anomalies(&self, there: &BTreeMap<i32, BTreeSet<i64>>) -> Vec<GroupAnomaly> {
        let mut found = BTreeSet::new();
        self.check_owners(&mut found);
        self.check_commits(&mut found);
        for (partition, offsets) in there {
            for offset in self.undelivered(*partition, offsets) {
                let partition = *partition;
                found.insert(GroupAnomaly::Undelivered { partition, offset });
            }
        }
        found.into_iter().collect()
    }

    fn register(&mut self, partition: i32) -> &mut Register<i64> {
        let register = self.commits.entry(partition);
        register.or_insert_with(|| Register::new(-1))
    }

    fn check_owners(&self, found: &mut BTreeSet<GroupAnomaly>) {
        for ((generation, partition), owners) in &self.owners {
            let mut owners = owners.iter();
            if let (Some(first), Some(second)) = (owners.next(), owners.next()) {
                found.insert(GroupAnomaly::TwoOwners {
                    generation: *generation,
                    partition: *partition,
                    members: (first.clone(), second.clone()),
                });
            }
        }
        for (member, generations) in &self.generations {
            for pair in generations.windows(2) {
                if pair[1] < pair[0] {
                    found.insert(GroupAnomaly::GenerationWentBack {
                        member: member.clone(),
                        generations: (pair[0], pair[1]),
                    });
                }
            }
        }
    }

    fn check_commits(&self, found: &mut BTreeSet<GroupAnomaly>) {
        for (partition, register) in &self.commits {
            for wrong in register.wrong_reads() {
                found.insert(GroupAnomaly::WrongCommit {
                    partition: *partition,
                    found: wrong.value,
                    possible: wrong.possible,
                });
            }
        }
        for (partition, fetched) in &self.fetched {
            // Each against the furthest of those that were over before it began.
            for (began, _, to) in fetched {
                let before = fetched.iter().filter(|(_, ended, _)| ended < began);
                let furthest = before.map(|(_, _, offset)| *offset).max();
                if let Some(from) = furthest.filter(|from| from > to) {
                    found.insert(GroupAnomaly::CommitWentBack {
                        partition: *partition,
                        from,
                        to: *to,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two generations: a owns 0 and 1; then a owns 0, b owns 1. Commits of 5 and 9 on 0.
    fn sound() -> GroupHistory {
        let mut history = GroupHistory::default();
        history.assigned("a", 1, &[0, 1]);
        let commit = history.committing(0, 5);
        history.committed(commit);
        history.assigned("a", 2, &[0]);
        history.assigned("b", 2, &[1]);
        let began = history.tick();
        history.fetched(0, 5, began);
        let commit = history.committing(0, 9);
        history.committed(commit);
        let began = history.tick();
        history.fetched(0, 9, began);
        for offset in 0..9 {
            history.delivered(0, offset);
        }
        history
    }

    fn there() -> BTreeMap<i32, BTreeSet<i64>> {
        BTreeMap::from([(0, (0..9).collect())])
    }

    #[track_caller]
    fn check(history: &GroupHistory, expected: &[GroupAnomaly]) {
        assert_eq!(history.anomalies(&there()), expected);
    }

    #[test]
    fn a_sound_history_has_no_anomaly() {
        let history = sound();
        check(&history, &[]);
        assert_eq!(history.generations(), 2);
    }

    #[test]
    fn finds_two_owners() {
        let mut history = sound();
        history.assigned("c", 2, &[1]);
        let expected = GroupAnomaly::TwoOwners {
            generation: 2,
            partition: 1,
            members: ("b".to_owned(), "c".to_owned()),
        };
        check(&history, &[expected]);
    }

    #[test]
    fn finds_a_generation_that_went_back() {
        let mut history = sound();
        // Told once more, since the first answer was lost: nothing wrong.
        history.assigned("a", 2, &[0]);
        check(&history, &[]);
        history.assigned("a", 1, &[0]);
        let expected = GroupAnomaly::GenerationWentBack {
            member: "a".to_owned(),
            generations: (2, 1),
        };
        check(&history, &[expected]);
    }

    #[test]
    fn finds_a_commit_that_is_gone_and_one_that_went_back() {
        let mut history = sound();
        let began = history.tick();
        history.fetched(0, 5, began);
        let gone = GroupAnomaly::WrongCommit {
            partition: 0,
            found: 5,
            possible: vec![9],
        };
        let back = GroupAnomaly::CommitWentBack {
            partition: 0,
            from: 9,
            to: 5,
        };
        check(&history, &[back, gone]);
    }

    /// Each read can be explained, but not one after the other.
    #[test]
    fn finds_a_commit_that_wavers() {
        let mut history = sound();
        history.committing(0, 12);
        for seen in [12, 9] {
            let began = history.tick();
            history.fetched(0, seen, began);
        }
        let back = GroupAnomaly::CommitWentBack {
            partition: 0,
            from: 12,
            to: 9,
        };
        check(&history, &[back]);
    }

    #[test]
    fn finds_a_commit_that_was_refused_and_stands() {
        let mut history = sound();
        let commit = history.committing(0, 12);
        history.refused(commit);
        let began = history.tick();
        history.fetched(0, 12, began);
        let wrong = GroupAnomaly::WrongCommit {
            partition: 0,
            found: 12,
            possible: vec![9],
        };
        check(&history, &[wrong]);
    }

    #[test]
    fn finds_a_record_that_nobody_got() {
        let history = sound();
        let there = BTreeMap::from([(0, (0..11).collect())]);
        let expected = [9, 10].map(|offset| GroupAnomaly::Undelivered {
            partition: 0,
            offset,
        });
        assert_eq!(history.anomalies(&there), expected);
    }
}
