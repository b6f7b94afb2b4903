//! Sets of partitions, by topic: what a member is to have, has, or gives up.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{TopicId, TopicPartition};

/// A set of partitions. No topic of it is empty, and it is always in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<TopicId, BTreeSet<i32>>);

impl Assignment {
    /// No partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a partition; false if it was there.
    pub fn insert(&mut self, partition: TopicPartition) -> bool {
        self.0
            .entry(partition.topic)
            .or_default()
            .insert(partition.partition)
    }

    /// Takes a partition away; false if it was not there.
    pub fn remove(&mut self, partition: TopicPartition) -> bool {
        let Some(partitions) = self.0.get_mut(&partition.topic) else {
            return false;
        };
        let removed = partitions.remove(&partition.partition);
        if partitions.is_empty() {
            self.0.remove(&partition.topic);
        }
        removed
    }

    /// Whether a partition is in it.
    pub fn contains(&self, partition: TopicPartition) -> bool {
        self.0
            .get(&partition.topic)
            .is_some_and(|partitions| partitions.contains(&partition.partition))
    }

    /// How many partitions are in it.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether no partition is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its topics in order, with their partitions.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    /// Its partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = TopicPartition> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|partition| TopicPartition::new(*topic, *partition))
        })
    }

    /// What is in both.
    pub fn common(&self, other: &Self) -> Self {
        self.iter()
            .filter(|partition| other.contains(*partition))
            .collect()
    }

    /// What is in this one and not in the other.
    pub fn without(&self, other: &Self) -> Self {
        self.iter()
            .filter(|partition| !other.contains(*partition))
            .collect()
    }

    /// Whether a partition is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.iter().any(|partition| other.contains(partition))
    }

    /// Whether all of it is in the other.
    pub fn is_within(&self, other: &Self) -> bool {
        self.iter().all(|partition| other.contains(partition))
    }
}

impl Extend<TopicPartition> for Assignment {
    fn extend<I: IntoIterator<Item = TopicPartition>>(&mut self, partitions: I) {
        for partition in partitions {
            self.insert(partition);
        }
    }
}

impl FromIterator<TopicPartition> for Assignment {
    fn from_iter<I: IntoIterator<Item = TopicPartition>>(partitions: I) -> Self {
        let mut assignment = Self::default();
        assignment.extend(partitions);
        assignment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::tests::partitions;

    #[test]
    fn sets_behave_as_sets() {
        let mut some = partitions(1, &[0, 1, 2]);
        let other = partitions(1, &[1, 2, 3]);
        assert_eq!(some.common(&other), partitions(1, &[1, 2]));
        assert_eq!(some.without(&other), partitions(1, &[0]));
        assert!(some.meets(&other) && !some.is_within(&other));
        assert!(partitions(1, &[1]).is_within(&some));
        assert_eq!(some.len(), 3);
        for partition in partitions(1, &[0, 1, 2]).iter() {
            assert!(some.remove(partition) && !some.remove(partition));
        }
        assert_eq!(some, Assignment::new(), "no empty topic stays");
        assert_eq!(other.topics().len(), 1);
    }
}
