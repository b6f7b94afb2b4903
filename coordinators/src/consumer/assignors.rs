//! Who is to have what: the assignors of the server side.
//!
//! Neither looks at racks: Kafka's do not since 4.0 either. Both are functions of their input:
//! the same members, subscriptions and previous targets give the same targets.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use protocol::{TopicId, TopicPartition};

use super::{Assignment, Name};

/// An assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Each member as many partitions as the others, moving as few as it takes.
    Uniform,
    /// Each member a range of each topic, so that topics with as many partitions are cut alike.
    Range,
}

impl Assignor {
    /// What `group.consumer.assignors` and clients call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// New targets, one for each member of the task, in its order.
    pub fn assign(self, task: &Task) -> Vec<Assignment> {
        match self {
            Self::Uniform => uniform::assign(task),
            Self::Range => range::assign(task),
        }
    }
}

/// A member as assignors see it.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// Its id.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// The topics it subscribed to; those that do not exist do not matter.
    pub topics: BTreeSet<TopicId>,
    /// Its target so far.
    pub previous: Assignment,
}

/// What there is to share out.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// The members.
    pub members: Vec<Candidate>,
    /// The topics that exist, with how many partitions each has.
    pub topics: BTreeMap<TopicId, i32>,
}

impl Task {
    /// The topics a member shares in, with how many partitions each has.
    fn shares<'a>(&'a self, member: &'a Candidate) -> impl Iterator<Item = (TopicId, i32)> + 'a {
        member
            .topics
            .iter()
            .filter_map(|topic| Some((*topic, *self.topics.get(topic)?)))
    }

    fn exists(&self, partition: TopicPartition) -> bool {
        self.topics
            .get(&partition.topic)
            .is_some_and(|count| (0..*count).contains(&partition.partition))
    }
}

#[cfg(test)]
mod tests;
