//! A contiguous range of each topic for each of its subscribers, the larger ranges first.
//!
//! Subscribers come by instance id, then those without one by member id: a static member has the
//! same range again after it came back under another id.

use std::collections::BTreeMap;

use protocol::{TopicId, TopicPartition};

use super::{Assignment, Task};

/// How far one topic is shared out.
struct Topic {
    partitions: i32,
    subscribers: i32,
    /// Subscribers that had their range.
    served: i32,
    /// Partitions that are shared out.
    next: i32,
}

pub(super) fn assign(task: &Task) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..task.members.len()).collect();
    order.sort_by_key(|index| {
        let member = &task.members[*index];
        let instance = member.instance_id.as_ref();
        (instance.is_none(), instance, &member.member_id)
    });
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for member in &task.members {
        for (topic, partitions) in task.shares(member) {
            let topic = topics.entry(topic).or_insert(Topic {
                partitions,
                subscribers: 0,
                served: 0,
                next: 0,
            });
            topic.subscribers += 1;
        }
    }
    let mut targets = vec![Assignment::new(); task.members.len()];
    for index in order {
        for (id, _) in task.shares(&task.members[index]) {
            let topic = topics.get_mut(&id).expect("counted above");
            let larger = i32::from(topic.served < topic.partitions % topic.subscribers);
            let end = topic.next + topic.partitions / topic.subscribers + larger;
            targets[index]
                .extend((topic.next..end).map(|partition| TopicPartition::new(id, partition)));
            topic.next = end;
            topic.served += 1;
        }
    }
    targets
}
