//! OffsetCommit, key 8, versions 2 to 10.
//!
//! - 2 to 4 a retention of the client's own; 6+ leader epochs (KIP-320); 7+ static members
//!   (KIP-345); 9+ GROUP_ID_NOT_FOUND for groups that do not exist (KIP-848); 10 topics by id
//!   (KIP-516).
//! - Generation -1 without a member id is a simple consumer, or a tool: only while the group has no
//!   members. A partition that does not exist is refused alone, and so is a metadata string that is
//!   too long.
//! - Answered when the offsets are durable.

use controller::Image;
use protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use protocol::{ErrorCode, TopicId};

use super::group_requests::{ask, may, name, optional, patience, text};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{CommitOffset, CommitRequest, GroupError, MemberRequest, Name, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let allowed = may(broker, context, Operation::Read, &request.group_id);
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    let image = broker.image();
    for topic in &request.topics {
        let checked = if allowed {
            check(broker, context, &image, topic)
        } else {
            Err(ErrorCode::GroupAuthorizationFailed)
        };
        topics.push(sort(topic, checked, &mut offsets));
    }
    let results = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        submit(broker, context, &request, offsets).await
    };
    OffsetCommitResponse::default().with_topics(told(context.version, topics, results))
}

/// A partition of the request: refused here, or the coordinator's to answer.
struct Asked {
    index: i32,
    refused: Option<ErrorCode>,
}

/// A topic of the request.
struct AskedTopic {
    name: TopicName,
    id: TopicId,
    partitions: Vec<Asked>,
}

/// Name and partition count of a topic that may be committed to.
fn check(
    broker: &Broker,
    context: &RequestContext,
    image: &Image,
    topic: &OffsetCommitRequestTopic,
) -> Result<(Name, usize), ErrorCode> {
    let known = if context.version >= 10 {
        image
            .topic_by_id(TopicId(topic.topic_id))
            .ok_or(ErrorCode::UnknownTopicId)?
    } else {
        if !broker.allows(context, Operation::Read, Resource::Topic(&topic.name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        image
            .topic(&topic.name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if !broker.allows(context, Operation::Read, Resource::Topic(&known.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    Ok((known.name.clone(), known.partitions.len()))
}

/// Sorts a topic's partitions into those refused here and those for the coordinator.
fn sort(
    topic: &OffsetCommitRequestTopic,
    checked: Result<(Name, usize), ErrorCode>,
    offsets: &mut Vec<CommitOffset>,
) -> AskedTopic {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let refused = match &checked {
            Err(code) => Some(*code),
            Ok((name, count)) if usize::try_from(index).is_ok_and(|index| index < *count) => {
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                offsets.push(CommitOffset {
                    topic: name.clone(),
                    partition: index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: Name::from(metadata),
                });
                None
            }
            Ok(_) => Some(ErrorCode::UnknownTopicOrPartition),
        };
        partitions.push(Asked { index, refused });
    }
    AskedTopic {
        name: topic.name.clone(),
        id: TopicId(topic.topic_id),
        partitions,
    }
}

async fn submit(
    broker: &Broker,
    context: &RequestContext,
    request: &OffsetCommitRequest,
    offsets: Vec<CommitOffset>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let commit = CommitRequest {
        member: MemberRequest {
            group: name(&request.group_id),
            member_id: name(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id_or_member_epoch,
        },
        knows_group_id_not_found: context.version >= 9,
        retention_ms: (context.version <= 4 && request.retention_time_ms >= 0)
            .then_some(request.retention_time_ms),
        offsets,
    };
    match ask(broker, Request::Commit(commit), Some(patience(broker))).await? {
        Reply::Commit(result) => result,
        other => unreachable!("a commit is answered with a commit, not {other:?}"),
    }
}

fn told(
    version: i16,
    topics: Vec<AskedTopic>,
    results: Result<Vec<Result<(), GroupError>>, GroupError>,
) -> Vec<OffsetCommitResponseTopic> {
    let mut results = results.map(Vec::into_iter);
    let mut next = || match &mut results {
        Ok(results) => results.next().expect("one result for each offset"),
        Err(error) => Err(*error),
    };
    let mut told = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let code = match asked.refused {
                Some(code) => code.code(),
                None => super::group_requests::code(next()),
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(asked.index)
                .with_error_code(code)
        });
        let topic_told = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
        told.push(if version >= 10 {
            topic_told.with_topic_id(topic.id.0)
        } else {
            topic_told.with_name(TopicName(text(&topic.name)))
        });
    }
    told
}
