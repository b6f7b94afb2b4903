//! From subscriptions and topics to a group epoch, and from that to targets.

use std::collections::{BTreeMap, BTreeSet};

use protocol::TopicId;

use super::assignors::{Assignor, Candidate, Task};
use super::{ConsumerGroup, GroupMetadata, Member, Name, Record};

/// A topic as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The topics of the cluster, as they are when an input is given.
pub trait Topics {
    /// The topic of a name.
    fn topic(&self, name: &str) -> Option<Topic>;
    /// The name of a topic, unless it was deleted.
    fn name(&self, id: TopicId) -> Option<Name>;
}

impl ConsumerGroup {
    /// The names that a member subscribed to, by name or by pattern.
    pub(super) fn subscribed<'a>(&'a self, member: &'a Member) -> BTreeSet<&'a Name> {
        let metadata = &member.metadata;
        let matched = metadata
            .pattern()
            .and_then(|pattern| self.regexes.get(pattern))
            .map(|resolved| &resolved.topics);
        metadata
            .topics
            .iter()
            .chain(matched.into_iter().flatten())
            .collect()
    }

    /// Hash over the topics that members subscribed to; 0 if there are none.
    ///
    /// It says only whether something changed: FNV-1a over each name, id and number of
    /// partitions. Racks are not in it, as no assignor looks at them.
    pub(super) fn metadata_hash(&self, topics: &dyn Topics) -> i64 {
        let names: BTreeSet<&Name> = self
            .members
            .values()
            .flat_map(|member| self.subscribed(member))
            .collect();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut is_empty = true;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for name in names {
            if let Some(topic) = topics.topic(name) {
                is_empty = false;
                eat(&(name.len() as u64).to_be_bytes());
                eat(name.as_bytes());
                eat(topic.id.0.as_bytes());
                eat(&topic.partitions.to_be_bytes());
            }
        }
        if is_empty { 0 } else { (hash | 1) as i64 }
    }

    /// Raises the epoch if it must be, or if topics changed.
    pub(super) fn raise_epoch(
        &mut self,
        must: bool,
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) {
        if !must && !self.is_stale {
            return;
        }
        self.is_stale = false;
        let metadata_hash = self.metadata_hash(topics);
        if !must && metadata_hash == self.metadata.metadata_hash {
            return;
        }
        if self.has_old_metadata {
            self.commit(Record::PartitionMetadata(None), records);
        }
        let metadata = GroupMetadata {
            epoch: self.metadata.epoch.saturating_add(1),
            metadata_hash,
        };
        self.commit(Record::Group(Some(metadata)), records);
    }

    /// Makes targets for the group's epoch, if those that are there are for an earlier one.
    pub(super) fn make_targets(&mut self, topics: &dyn Topics, records: &mut Vec<Record>) {
        if self.target_epoch >= self.metadata.epoch {
            return;
        }
        let task = self.task(topics);
        let targets = self.preferred_assignor().assign(&task);
        let changed: Vec<_> = task
            .members
            .into_iter()
            .zip(targets)
            .filter(|(member, target)| self.targets.get(&member.member_id) != Some(target))
            .map(|(member, target)| Record::Target(member.member_id, Some(target)))
            .collect();
        for record in changed {
            self.commit(record, records);
        }
        self.commit(Record::TargetEpoch(Some(self.metadata.epoch)), records);
    }

    fn task(&self, topics: &dyn Topics) -> Task {
        let mut task = Task::default();
        // Each name is looked up once: groups of many members mostly subscribe to the same.
        let mut found: BTreeMap<&Name, Option<TopicId>> = BTreeMap::new();
        for (id, member) in &self.members {
            let mut candidate = Candidate {
                member_id: id.clone(),
                instance_id: member.metadata.instance_id.clone(),
                topics: BTreeSet::new(),
                previous: self.targets.get(id).cloned().unwrap_or_default(),
            };
            for name in self.subscribed(member) {
                let topic = *found.entry(name).or_insert_with(|| {
                    let topic = topics.topic(name)?;
                    task.topics.insert(topic.id, topic.partitions);
                    Some(topic.id)
                });
                candidate.topics.extend(topic);
            }
            task.members.push(candidate);
        }
        task
    }

    /// The assignor that most members want; of several, the one configured first.
    pub(super) fn preferred_assignor(&self) -> Assignor {
        let votes = |assignor: &Assignor| {
            self.members
                .values()
                .filter(|member| member.metadata.assignor.as_deref() == Some(assignor.name()))
                .count()
        };
        let assignors = &self.config.assignors;
        assignors
            .iter()
            .rev()
            .max_by_key(|assignor| votes(assignor))
            .copied()
            .unwrap_or(Assignor::Uniform)
    }
}
