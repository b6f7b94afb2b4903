//! What the image wants given away: pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use controller::Image;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};

/// A partition at the leader epoch at which it is given away.
pub(super) type Key = (TopicPartition, LeaderEpoch);

/// What is to be given away, and to whom; `None`: placed.
pub(crate) type Plan = BTreeMap<Key, Option<NodeId>>;

/// What `own` is to give away by `image`, of what is `open` here. A target that cannot take it now
/// waits; a broker that drains gives everything to whoever can.
pub(crate) fn plan(
    image: &Image,
    own: BrokerEpoch,
    mut open: impl FnMut(TopicPartition, LeaderEpoch) -> bool,
) -> Plan {
    let mut plan = Plan::new();
    let Some(broker) = image.brokers.get(&own).filter(|broker| !broker.fenced) else {
        return plan;
    };
    let mut takers = image.takers();
    takers.remove(&broker.node);
    if takers.is_empty() || image.level() < 2 {
        return plan;
    }
    for topic in image.topics_by_id.values() {
        for (partition, index) in topic.partitions.iter().zip(0i32..) {
            if partition.broker != Some(own) {
                continue;
            }
            let target = partition.target.filter(|node| takers.contains(node));
            if target.is_none() && !broker.draining {
                continue;
            }
            let tp = TopicPartition::new(topic.id, index);
            if open(tp, partition.leader_epoch) {
                plan.insert((tp, partition.leader_epoch), target);
            }
        }
    }
    plan
}

/// The `most` of `plan` that come behind `after`, round and round: whatever does not go keeps nobody
/// else waiting. With them goes the last of the turn.
pub(super) fn turn(plan: &Plan, after: Option<Key>, most: usize) -> (Plan, Option<Key>) {
    let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
    let later = plan.range((behind, Bound::Unbounded));
    let earlier = after.map(|after| plan.range(..=after));
    let order = later.chain(earlier.into_iter().flatten()).take(most);
    let batch: Vec<(Key, Option<NodeId>)> = order.map(|(key, to)| (*key, *to)).collect();
    let last = batch.last().map(|(key, _)| *key);
    (batch.into_iter().collect(), last)
}

/// Looks only at images in which something changed that matters for moves: the others, one for each
/// upload, cannot be what is waited for when the one before was not.
pub(crate) fn at_changes(mut look: impl FnMut(&Image) -> bool) -> impl FnMut(&Image) -> bool {
    let mut seen: Option<Image> = None;
    move |image| {
        if seen.as_ref().is_some_and(|seen| is_same(seen, image)) {
            return false;
        }
        seen = Some(image.clone());
        look(image)
    }
}

/// True when nothing that matters for moves changed from one image to the other.
pub(super) fn is_same(before: &Image, now: &Image) -> bool {
    Arc::ptr_eq(&before.topics_by_id, &now.topics_by_id)
        && Arc::ptr_eq(&before.brokers, &now.brokers)
        && Arc::ptr_eq(&before.features, &now.features)
}

#[cfg(test)]
mod tests {
    use protocol::TopicId;
    use uuid::Uuid;

    use super::*;

    fn key(partition: i32) -> Key {
        let tp = TopicPartition::new(TopicId(Uuid::from_u128(1)), partition);
        (tp, LeaderEpoch(3))
    }

    fn keys(plan: &Plan) -> Vec<i32> {
        plan.keys().map(|(tp, _)| tp.partition).collect()
    }

    #[test]
    fn turns_go_round_and_nobody_waits_for_who_cannot_go() {
        let mut plan: Plan = (0..150).map(|n| (key(n), None)).collect();
        let (first, last) = turn(&plan, None, 100);
        assert_eq!(keys(&first), (0..100).collect::<Vec<_>>());
        assert_eq!(last, Some(key(99)));
        // All but two went.
        plan.retain(|(tp, _), _| tp.partition > 99 || [3, 99].contains(&tp.partition));
        let (second, last) = turn(&plan, last, 51);
        assert_eq!(keys(&second)[1..], (100..150).collect::<Vec<_>>());
        assert_eq!(last, Some(key(3)));
        plan.retain(|(tp, _), _| tp.partition < 100);
        let (third, last) = turn(&plan, last, 100);
        assert_eq!(keys(&third), [3, 99]);
        assert_eq!(last, Some(key(3)), "it goes on behind the last");
        // Behind all, or of what is no more: from the front.
        assert_eq!(keys(&turn(&plan, Some(key(149)), 1).0), [3]);
        assert_eq!(keys(&turn(&plan, Some(key(50)), 1).0), [99]);
        assert_eq!(turn(&Plan::new(), last, 1), (Plan::new(), None));
    }

    #[test]
    fn only_changes_that_matter_are_looked_at() {
        let mut looks = 0;
        let mut at = at_changes(|_| {
            looks += 1;
            looks == 2
        });
        let image = Image::default();
        assert!(!at(&image));
        let uploaded = Image {
            applied: 7,
            ..image
        };
        assert!(!at(&uploaded));
        let changed = Image {
            brokers: Arc::default(),
            ..uploaded
        };
        assert!(at(&changed));
    }
}
