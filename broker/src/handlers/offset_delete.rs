//! OffsetDelete, key 47, version 0 (KIP-496).
//!
//! - Offsets of topics that no member subscribes to. A topic or partition that does not exist is
//!   refused alone.

use controller::Image;
use protocol::ErrorCode;
use protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::group_requests::{ask, code, may, name, patience};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{DeleteOffsetsRequest, GroupError, Name, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    if !may(broker, context, Operation::Delete, &request.group_id) {
        return response.with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    let image = broker.image();
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let checked = check(broker, context, &image, &topic);
        partitions.extend(
            checked
                .iter()
                .filter(|(_, refused)| refused.is_none())
                .map(|(index, _)| (name(&topic.name), *index)),
        );
        topics.push((topic.name, checked));
    }
    let mut results = match submit(broker, name(&request.group_id), partitions).await {
        Err(error) => return response.with_error_code(error.code()),
        Ok(results) => results.into_iter(),
    };
    let told = topics.into_iter().map(|(name, checked)| {
        let partitions = checked.into_iter().map(|(index, refused)| {
            let code = match refused {
                Some(refused) => refused.code(),
                None => code(results.next().expect("one result for each partition")),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(told.collect())
}

/// A topic's partitions, with why they are refused: no right to read it, or not there.
fn check(
    broker: &Broker,
    context: &RequestContext,
    image: &Image,
    topic: &OffsetDeleteRequestTopic,
) -> Vec<(i32, Option<ErrorCode>)> {
    let allowed = broker.allows(context, Operation::Read, Resource::Topic(&topic.name));
    let count = image
        .topic(&topic.name)
        .map_or(0, |topic| topic.partitions.len());
    let refused = |index: i32| {
        if !allowed {
            return Some(ErrorCode::TopicAuthorizationFailed);
        }
        let exists = usize::try_from(index).is_ok_and(|index| index < count);
        (!exists).then_some(ErrorCode::UnknownTopicOrPartition)
    };
    let indexes = topic
        .partitions
        .iter()
        .map(|partition| partition.partition_index);
    indexes.map(|index| (index, refused(index))).collect()
}

async fn submit(
    broker: &Broker,
    group: Name,
    partitions: Vec<(Name, i32)>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let delete = Request::DeleteOffsets(DeleteOffsetsRequest { group, partitions });
    match ask(broker, delete, Some(patience(broker))).await? {
        Reply::DeleteOffsets(result) => result,
        other => unreachable!("a deletion is answered as one, not with {other:?}"),
    }
}
