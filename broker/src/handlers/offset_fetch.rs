//! OffsetFetch, key 9, versions 1 to 10.
//!
//! - 2+ null topics are all, and an error of its own for the group; 5+ leader epochs (KIP-320);
//!   7+ `require_stable`, which asks for nothing while there are no transactions; 8+ several groups
//!   at once, each with its own error (KIP-709); 9+ member and epoch of the new group protocol,
//!   which classic groups do not look at; 10 topics by id (KIP-516).
//! - A partition without a committed offset is -1 and no error, never 0.

use std::collections::{BTreeMap, BTreeSet};

use controller::Image;
use protocol::messages::offset_fetch_request::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, StrBytes, TopicName};
use protocol::{ErrorCode, TopicId};

use super::group_requests::{ask, may, name, patience, text};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{FetchOffsetsRequest, FetchedOffset, GroupError, Name, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < 8 {
        return single(broker, context, request).await;
    }
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for group in request.groups {
        // Whoever asks twice is answered once.
        if !seen.insert(group.group_id.to_string()) {
            continue;
        }
        let asked = group.topics;
        let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
        groups.push(match fetch(broker, context, &group.group_id, asked).await {
            Ok(topics) => answer.with_topics(topics.into_iter().map(|t| t.told(context)).collect()),
            Err(code) => answer.with_error_code(code.code()),
        });
    }
    OffsetFetchResponse::default().with_groups(groups)
}

/// Versions 1 to 7: one group.
async fn single(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let convert = |topic: OffsetFetchRequestTopic| {
        let mut converted = OffsetFetchRequestTopics::default();
        converted.name = topic.name;
        converted.partition_indexes = topic.partition_indexes;
        converted
    };
    let asked = request
        .topics
        .map(|topics| topics.into_iter().map(convert).collect::<Vec<_>>());
    let response = OffsetFetchResponse::default();
    match fetch(broker, context, &request.group_id, asked.clone()).await {
        Ok(topics) => response.with_topics(
            topics
                .into_iter()
                .map(|topic| topic.told_singly(context))
                .collect(),
        ),
        Err(code) if context.version >= 2 => response.with_error_code(code.code()),
        Err(code) => {
            // Version 1 has no place for an error of the group: each partition carries it.
            let topics = asked.unwrap_or_default().into_iter().map(|topic| {
                Topic::refused(topic.name, topic.topic_id, &topic.partition_indexes, code)
                    .told_singly(context)
            });
            response.with_topics(topics.collect())
        }
    }
}

/// What is told of one partition.
struct Partition {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    error: ErrorCode,
}

/// What is told of one topic.
struct Topic {
    name: TopicName,
    id: uuid::Uuid,
    partitions: Vec<Partition>,
}

impl Topic {
    fn refused(name: TopicName, id: uuid::Uuid, indexes: &[i32], error: ErrorCode) -> Self {
        let partitions = indexes.iter().map(|&index| Partition {
            index,
            offset: -1,
            leader_epoch: -1,
            metadata: StrBytes::default(),
            error,
        });
        Self {
            name,
            id,
            partitions: partitions.collect(),
        }
    }

    fn told(self, context: &RequestContext) -> OffsetFetchResponseTopics {
        let partitions = self.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition.index)
                .with_committed_offset(partition.offset)
                .with_committed_leader_epoch(partition.leader_epoch)
                .with_metadata(Some(partition.metadata))
                .with_error_code(partition.error.code())
        });
        let told = OffsetFetchResponseTopics::default().with_partitions(partitions.collect());
        if context.version >= 10 {
            told.with_topic_id(self.id)
        } else {
            told.with_name(self.name)
        }
    }

    fn told_singly(self, context: &RequestContext) -> OffsetFetchResponseTopic {
        let partitions = self.partitions.into_iter().map(|partition| {
            let told = OffsetFetchResponsePartition::default()
                .with_partition_index(partition.index)
                .with_committed_offset(partition.offset)
                .with_metadata(Some(partition.metadata))
                .with_error_code(partition.error.code());
            let epoch = partition.leader_epoch;
            if context.version >= 5 {
                told.with_committed_leader_epoch(epoch)
            } else {
                told
            }
        });
        OffsetFetchResponseTopic::default()
            .with_name(self.name)
            .with_partitions(partitions.collect())
    }
}

/// The offsets of one group.
async fn fetch(
    broker: &Broker,
    context: &RequestContext,
    group: &GroupId,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
) -> Result<Vec<Topic>, ErrorCode> {
    if !may(broker, context, Operation::Describe, group) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let image = broker.image();
    let Some(asked) = asked else {
        let offsets = submit(broker, group, None).await?;
        return Ok(everything(broker, context, &image, offsets));
    };
    let mut refused = Vec::new();
    let mut wanted = Vec::new();
    for topic in asked {
        match named(broker, context, &image, &topic) {
            Ok(known) => wanted.push((known, topic)),
            Err(code) => {
                let indexes = &topic.partition_indexes;
                refused.push(Topic::refused(topic.name, topic.topic_id, indexes, code));
            }
        }
    }
    let partitions = wanted.iter().flat_map(|(known, topic)| {
        topic
            .partition_indexes
            .iter()
            .map(|&index| (known.clone(), index))
    });
    let mut offsets = submit(broker, group, Some(partitions.collect()))
        .await?
        .into_iter();
    let mut told = Vec::with_capacity(wanted.len() + refused.len());
    for (_, topic) in wanted {
        let count = topic.partition_indexes.len();
        let partitions = offsets.by_ref().take(count).map(partition).collect();
        told.push(Topic {
            name: topic.name,
            id: topic.topic_id,
            partitions,
        });
    }
    told.append(&mut refused);
    Ok(told)
}

/// The name of a topic that is asked for, if the principal may read it.
fn named(
    broker: &Broker,
    context: &RequestContext,
    image: &Image,
    topic: &OffsetFetchRequestTopics,
) -> Result<Name, ErrorCode> {
    let known = if context.version >= 10 {
        let known = image.topic_by_id(TopicId(topic.topic_id));
        known.ok_or(ErrorCode::UnknownTopicId)?.name.clone()
    } else {
        name(&topic.name)
    };
    if broker.allows(context, Operation::Describe, Resource::Topic(&known)) {
        Ok(known)
    } else {
        Err(ErrorCode::TopicAuthorizationFailed)
    }
}

/// All offsets by topic, of topics that the principal may see; by id only those that exist.
fn everything(
    broker: &Broker,
    context: &RequestContext,
    image: &Image,
    offsets: Vec<FetchedOffset>,
) -> Vec<Topic> {
    let mut topics = BTreeMap::<Name, Vec<Partition>>::new();
    for offset in offsets {
        topics
            .entry(offset.topic.clone())
            .or_default()
            .push(partition(offset));
    }
    let told = topics.into_iter().filter_map(|(name, partitions)| {
        let id = image.topic(&name).map(|topic| topic.id.0);
        let shown = broker.allows(context, Operation::Describe, Resource::Topic(&name))
            && (context.version < 10 || id.is_some());
        let topic = Topic {
            name: TopicName(text(&name)),
            id: id.unwrap_or_default(),
            partitions,
        };
        shown.then_some(topic)
    });
    told.collect()
}

fn partition(offset: FetchedOffset) -> Partition {
    Partition {
        index: offset.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: text(&offset.metadata),
        error: ErrorCode::None,
    }
}

async fn submit(
    broker: &Broker,
    group: &GroupId,
    partitions: Option<Vec<(Name, i32)>>,
) -> Result<Vec<FetchedOffset>, ErrorCode> {
    let request = FetchOffsetsRequest {
        group: name(group),
        partitions,
    };
    let reply = ask(
        broker,
        Request::FetchOffsets(request),
        Some(patience(broker)),
    )
    .await;
    let result = match reply {
        Ok(Reply::FetchOffsets(result)) => result,
        Ok(other) => unreachable!("a fetch of offsets is answered as one, not with {other:?}"),
        Err(error) => Err(error),
    };
    result.map_err(GroupError::error_code)
}
