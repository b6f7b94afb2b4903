//! Topics: made, grown, deleted; names as Kafka validates them.

use std::collections::BTreeMap;

use protocol::{BrokerEpoch, NodeId, TopicId, TopicPartition};

use super::{Answer, Configs, Effects, Name, Partition, State, configs};
use crate::command::{CreateTopic, Response};
use crate::error::Refusal;
use crate::limits::{
    MAX_PARTITIONS_PER_COMMAND, MAX_PARTITIONS_PER_TOPIC, MAX_REPLICAS, MAX_TOPIC_NAME_BYTES,
    MAX_TOPICS,
};
use crate::placement::{Need, place};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: Name,
    pub(crate) internal: bool,
    pub(crate) created_ms: i64,
    pub(crate) configs: Configs,
    pub(crate) partitions: Vec<Partition>,
}

/// All topics, by id, by name, and by the name that metrics would give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics {
    by_id: BTreeMap<TopicId, Topic>,
    by_name: BTreeMap<Name, TopicId>,
    /// With `.` as `_`: two topics may not share one (Kafka's rule).
    by_folded: BTreeMap<String, Name>,
}

// === impl Topic ===

impl Topic {
    /// Its partitions with their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        let named = |(at, partition)| (TopicPartition::new(self.id, at), partition);
        (0..).zip(&self.partitions).map(named)
    }
}

// === impl Topics ===

impl Topics {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_id.values_mut()
    }

    pub(crate) fn get(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_id.get(self.by_name.get(name)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn partition(&self, tp: TopicPartition) -> Option<&Partition> {
        let at = usize::try_from(tp.partition).ok()?;
        self.by_id.get(&tp.topic)?.partitions.get(at)
    }

    pub(super) fn partition_mut(&mut self, tp: TopicPartition) -> Option<&mut Partition> {
        let at = usize::try_from(tp.partition).ok()?;
        self.by_id.get_mut(&tp.topic)?.partitions.get_mut(at)
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.by_folded.insert(fold(&topic.name), topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic.id);
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, id: TopicId) -> Option<Topic> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        self.by_folded.remove(&fold(&topic.name));
        Some(topic)
    }
}

fn fold(name: &str) -> String {
    name.replace('.', "_")
}

// === impl State ===

impl State {
    /// Whether `create` would be done, as far as can be known before (Kafka's `validate_only`).
    pub(crate) fn check_create_topic(&self, create: &CreateTopic) -> Result<(), Refusal> {
        check_topic_name(&create.name)?;
        if self.topics.by_name(&create.name).is_some() {
            return Err(Refusal::TopicExists {
                name: create.name.clone(),
            });
        }
        if let Some(other) = self.topics.by_folded.get(&fold(&create.name)) {
            let reason = format!("collides with {other}: '.' and '_' are the same in metrics");
            return Err(Refusal::InvalidTopicName {
                name: create.name.clone(),
                reason,
            });
        }
        if create.id == TopicId::default() || self.topics.get(create.id).is_some() {
            return Err(Refusal::invalid(format!("topic id {}", create.id)));
        }
        if self.topics.len() >= MAX_TOPICS {
            return Err(Refusal::limit("topics"));
        }
        if create.assignments.is_empty() {
            if create.replication_factor < 1 {
                let given = create.replication_factor;
                return Err(Refusal::InvalidReplicationFactor { given });
            }
            check_count(create.partitions as usize)?;
        } else {
            check_count(create.assignments.len())?;
            self.check_assignments(&create.assignments)?;
        }
        configs::check_configs(&create.configs)
    }

    pub(super) fn create_topic(
        &mut self,
        create: &CreateTopic,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Answer {
        self.check_create_topic(create)?;
        let count = match create.assignments.len() {
            0 => create.partitions as usize,
            assigned => assigned,
        };
        let partitions = (0..count).map(|at| Partition::new(first(&create.assignments, at)));
        self.topics.insert(Topic {
            id: create.id,
            name: create.name.as_str().into(),
            internal: create.internal,
            created_ms: now_ms,
            configs: create.configs.clone(),
            partitions: partitions.collect(),
        });
        effects.topics.insert(create.id);
        self.assign_waiting_of(create.id, effects);
        Ok(Response::Topic {
            id: create.id,
            partitions: count as u32,
        })
    }

    /// Whether a topic's partitions would grow so (Kafka's `validate_only`).
    pub(crate) fn check_create_partitions(
        &self,
        topic: TopicId,
        count: u32,
        assignments: &[Vec<NodeId>],
    ) -> Result<(), Refusal> {
        let standing = self.topic(topic)?.partitions.len();
        let count = count as usize;
        if count <= standing {
            let reason = format!("the topic has {standing} partitions, {count} are no more");
            return Err(Refusal::InvalidPartitions { reason });
        }
        check_count(count)?;
        if !assignments.is_empty() {
            if assignments.len() != count - standing {
                let given = assignments.len();
                let reason = format!("{given} assignments for {} partitions", count - standing);
                return Err(Refusal::InvalidAssignment { reason });
            }
            self.check_assignments(assignments)?;
        }
        Ok(())
    }

    pub(super) fn create_partitions(
        &mut self,
        id: TopicId,
        count: u32,
        assignments: &[Vec<NodeId>],
        effects: &mut Effects,
    ) -> Answer {
        self.check_create_partitions(id, count, assignments)?;
        let topic = self.topics.get_mut(id).expect("checked");
        let more = count as usize - topic.partitions.len();
        let partitions = (0..more).map(|at| Partition::new(first(assignments, at)));
        topic.partitions.extend(partitions);
        effects.topics.insert(id);
        self.assign_waiting_of(id, effects);
        Ok(Response::Topic {
            id,
            partitions: count,
        })
    }

    pub(super) fn delete_topic(
        &mut self,
        id: TopicId,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Answer {
        self.topic(id)?;
        let topic = self.topics.remove(id).expect("found");
        for partition in &topic.partitions {
            for slice in &partition.slices {
                self.objects.release(slice.object, now_ms);
            }
        }
        effects.topics.insert(id);
        Ok(Response::Done)
    }

    pub(super) fn topic(&self, id: TopicId) -> Result<&Topic, Refusal> {
        self.topics.get(id).ok_or_else(|| Refusal::UnknownTopic {
            name: id.to_string(),
        })
    }

    /// Gives a leader to every partition that has none and waits for no log.
    pub(super) fn assign_waiting(&mut self, effects: &mut Effects) {
        let ids: Vec<_> = self.topics.iter().map(|topic| topic.id).collect();
        self.assign(&ids, effects);
    }

    fn assign_waiting_of(&mut self, id: TopicId, effects: &mut Effects) {
        self.assign(&[id], effects);
    }

    fn assign(&mut self, ids: &[TopicId], effects: &mut Effects) {
        let leaders = self.takers();
        if leaders.is_empty() {
            return;
        }
        let mut needs = Vec::new();
        let mut needy = Vec::new();
        for id in ids {
            let Some(topic) = self.topics.get(*id) else {
                continue;
            };
            for (tp, partition) in topic.iter() {
                if partition.leader.is_none() && partition.awaits.is_none() {
                    needs.push(Need {
                        preferred: partition.target.or(partition.preferred),
                    });
                    needy.push(tp);
                }
            }
        }
        if needy.is_empty() {
            return;
        }
        let placed = place(&needs, &leaders, &self.loads());
        let nodes: BTreeMap<_, _> = leaders
            .iter()
            .map(|(node, epoch)| (*epoch, *node))
            .collect();
        for (tp, epoch) in needy.into_iter().zip(placed) {
            let epoch = epoch.expect("somebody can lead");
            let partition = self.topics.partition_mut(tp).expect("just listed");
            partition.open(epoch, nodes[&epoch]);
            effects.topics.insert(tp.topic);
        }
    }

    /// How many partitions each broker leads.
    pub(super) fn loads(&self) -> BTreeMap<BrokerEpoch, usize> {
        let mut loads = BTreeMap::new();
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            if let Some(leader) = partition.leader {
                *loads.entry(leader).or_default() += 1;
            }
        }
        loads
    }

    /// Kafka's rules: nobody twice, nobody unknown, as many for each partition.
    fn check_assignments(&self, assignments: &[Vec<NodeId>]) -> Result<(), Refusal> {
        let invalid = |reason: String| Err(Refusal::InvalidAssignment { reason });
        for (at, nodes) in assignments.iter().enumerate() {
            if nodes.is_empty() || nodes.len() > MAX_REPLICAS {
                return invalid(format!("{} nodes for partition {at}", nodes.len()));
            }
            if nodes.len() != assignments[0].len() {
                return invalid("partitions differ in their number of nodes".to_owned());
            }
            for (n, node) in nodes.iter().enumerate() {
                if nodes[..n].contains(node) {
                    return invalid(format!("node {node} stands twice for partition {at}"));
                }
                let known = |b: &super::Broker| b.register.node == *node && !b.fenced;
                if !self.brokers.values().any(known) {
                    return invalid(format!("node {node} is not registered"));
                }
            }
        }
        Ok(())
    }
}

fn first(assignments: &[Vec<NodeId>], at: usize) -> Option<NodeId> {
    assignments.get(at).and_then(|nodes| nodes.first()).copied()
}

fn check_count(count: usize) -> Result<(), Refusal> {
    let most = MAX_PARTITIONS_PER_TOPIC.min(MAX_PARTITIONS_PER_COMMAND);
    if count == 0 || count > most {
        let reason = format!("{count} is not between 1 and {most}");
        return Err(Refusal::InvalidPartitions { reason });
    }
    Ok(())
}

/// Kafka's rules for a topic's name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
///
/// # Errors
/// [`Refusal::InvalidTopicName`], with the reason.
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name == "." || name == ".." {
        "it may not be \".\" or \"..\"".to_owned()
    } else if name.len() > MAX_TOPIC_NAME_BYTES {
        format!("it is longer than {MAX_TOPIC_NAME_BYTES} characters")
    } else if !name.chars().all(legal) {
        "it has characters other than ASCII letters, digits, '.', '_' and '-'".to_owned()
    } else {
        return Ok(());
    };
    let mut name = name.to_owned();
    name.truncate(name.floor_char_boundary(MAX_TOPIC_NAME_BYTES + 1));
    Err(Refusal::InvalidTopicName { name, reason })
}
