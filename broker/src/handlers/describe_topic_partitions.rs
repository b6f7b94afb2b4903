//! DescribeTopicPartitions, key 75, version 0 (KIP-966): topics in order of names, page by page.
//!
//! A page holds at most `response_partition_limit` partitions, and never more than
//! [`MAX_PAGE_PARTITIONS`]; the cursor says where the next one begins. The owner stands for all
//! replicas.

use std::collections::{BTreeMap, BTreeSet};

use controller::{PartitionImage, TopicImage};
use protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};

use protocol::{ErrorCode, NodeId};

use super::{text, topic_names};
use crate::auth::{Operation, Resource, authorized_operations};
use crate::broker::{Broker, Endpoint};
use crate::context::RequestContext;

/// Kafka's `max.request.partition.size.limit`.
const MAX_PAGE_PARTITIONS: usize = 2000;

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.image();
    let endpoints = broker.askable(&image, context);
    let all = request.topics.is_empty();
    let names: BTreeSet<String> = if all {
        image.topics.keys().map(|name| name.to_string()).collect()
    } else {
        request
            .topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    };
    let (from, mut first) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index),
        None => (String::new(), 0),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, MAX_PAGE_PARTITIONS);
    let mut answer = DescribeTopicPartitionsResponse::default();
    for name in names.range(from.clone()..) {
        // The cursor's index belongs to its topic alone, and that may be gone.
        let start = if *name == from {
            usize::try_from(first).unwrap_or(0)
        } else {
            0
        };
        first = 0;
        if !broker.allows(context, Operation::Describe, Resource::Topic(name)) {
            if !all {
                answer
                    .topics
                    .push(refused(name, ErrorCode::TopicAuthorizationFailed));
            }
            continue;
        }
        let Some(topic) = image.topic(name) else {
            let problem = topic_names::problem(name);
            let code = problem.map_or(ErrorCode::UnknownTopicOrPartition, |_| {
                ErrorCode::InvalidTopicException
            });
            answer.topics.push(refused(name, code));
            continue;
        };
        if left == 0 {
            answer.next_cursor = Some(cursor(name, 0));
            break;
        }
        let page = page(broker, context, &endpoints, topic, (start, left));
        left -= page.partitions.len();
        let end = start + page.partitions.len();
        answer.topics.push(page);
        if end < topic.partitions.len() {
            answer.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    answer
}

fn cursor(name: &str, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(text(name)))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(TopicName(text(name))))
        .with_is_internal(topic_names::is_shown_internal(name))
}

fn page(
    broker: &Broker,
    context: &RequestContext,
    endpoints: &BTreeMap<NodeId, Endpoint>,
    topic: &TopicImage,
    (start, limit): (usize, usize),
) -> DescribeTopicPartitionsResponseTopic {
    let resource = Resource::Topic(&topic.name);
    let partitions = topic.partitions.iter().enumerate().skip(start).take(limit);
    let partitions = partitions.map(|(index, one)| partition(endpoints, one, index));
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_topic_id(topic.id.0)
        .with_is_internal(topic.internal || topic_names::is_shown_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(authorized_operations(
            &*broker.authorizer,
            context,
            resource,
        ))
}

fn partition(
    endpoints: &BTreeMap<NodeId, Endpoint>,
    partition: &PartitionImage,
    index: usize,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = partition.leader.filter(|node| endpoints.contains_key(node));
    let home = partition.leader.or(partition.home);
    let ids = |node: Option<NodeId>| node.into_iter().map(|n| BrokerId(n.0)).collect();
    let code = if leader.is_some() {
        ErrorCode::None
    } else {
        ErrorCode::LeaderNotAvailable
    };
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
        .with_leader_id(BrokerId(leader.map_or(-1, |node| node.0)))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(ids(home))
        .with_isr_nodes(ids(leader))
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
        .with_offline_replicas(ids(home.filter(|_| leader.is_none())))
}
