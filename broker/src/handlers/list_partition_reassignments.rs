//! ListPartitionReassignments, key 46, version 0 (KIP-455).
//!
//! Partitions with a target that they have not reached: the target is the replica that is added, who
//! leads the one that is removed. Without topics: all of them. What is not there or does not move
//! is left out, as in Kafka.

use std::sync::Arc;

use controller::{PartitionImage, TopicImage};
use protocol::ErrorCode;
use protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use protocol::messages::{
    BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let answer = ListPartitionReassignmentsResponse::default();
    if !broker.allows(context, Operation::Describe, Resource::Cluster) {
        let code = ErrorCode::ClusterAuthorizationFailed;
        return answer
            .with_error_code(code.code())
            .with_error_message(Some(text(code.message())));
    }
    let image = broker.image();
    let all = |topic: &Arc<TopicImage>| {
        let indexes = (0i32..).take(topic.partitions.len());
        ongoing(topic, indexes)
    };
    let topics = match &request.topics {
        None => image.topics.values().filter_map(all).collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = image.topic(&asked.name)?;
                ongoing(topic, asked.partition_indexes.iter().copied())
            })
            .collect(),
    };
    answer.with_topics(topics)
}

/// What of a topic moves; `None` when nothing does.
fn ongoing(
    topic: &Arc<TopicImage>,
    indexes: impl Iterator<Item = i32>,
) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<_> = indexes
        .filter_map(|index| {
            let at = usize::try_from(index).ok()?;
            told(index, topic.partitions.get(at)?)
        })
        .collect();
    (!partitions.is_empty()).then(|| {
        OngoingTopicReassignment::default()
            .with_name(TopicName(text(&*topic.name)))
            .with_partitions(partitions)
    })
}

fn told(index: i32, partition: &PartitionImage) -> Option<OngoingPartitionReassignment> {
    let target = BrokerId(partition.target?.0);
    let stands: Vec<_> = partition.home.iter().map(|node| BrokerId(node.0)).collect();
    let mut replicas = vec![target];
    replicas.extend(stands.iter().copied().filter(|node| *node != target));
    Some(
        OngoingPartitionReassignment::default()
            .with_partition_index(index)
            .with_replicas(replicas)
            .with_adding_replicas(vec![target])
            .with_removing_replicas(stands),
    )
}
