//! What the image wants given away: pure.

use std::sync::Arc;

use controller::Image;
use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};

use super::Wanted;

/// What to give away, and to whom.
pub(crate) type Plan = Wanted;

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

/// True when nothing that matters for moves changed from one image to the other.
pub(super) fn is_same(before: &Image, now: &Image) -> bool {
    Arc::ptr_eq(&before.topics_by_id, &now.topics_by_id)
        && Arc::ptr_eq(&before.brokers, &now.brokers)
        && Arc::ptr_eq(&before.features, &now.features)
}
