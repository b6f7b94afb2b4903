//! DeleteRecords, key 21, versions 0 to 2.
//!
//! Raises a partition's log start; -1 means the high watermark. A topic whose policy is only
//! compaction answers POLICY_VIOLATION; an offset above the high watermark OFFSET_OUT_OF_RANGE.

use protocol::ErrorCode;
use protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::Instant;

use super::{readable, topic_names};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::storage_code;
use crate::opening::Patience;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let deadline = broker.deadline(context, request.timeout_ms);
    let mut patience = Patience::until(deadline);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = asked.partition_index;
            let done = delete(
                broker,
                context,
                &mut patience,
                &topic.name,
                (index, asked.offset),
                deadline,
            )
            .await;
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
            partitions.push(match done {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(code) => answer.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    broker: &Broker,
    context: &RequestContext,
    patience: &mut Patience,
    name: &str,
    (index, offset): (i32, i64),
    deadline: Instant,
) -> Result<i64, ErrorCode> {
    if !broker.allows(context, Operation::Delete, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if topic_names::is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = readable(broker, context, patience, name, index, -1).await?;
    let offset = match offset {
        -1 => partition.high_watermark(),
        offset if offset < -1 => return Err(ErrorCode::OffsetOutOfRange),
        offset => offset,
    };
    match tokio::time::timeout_at(deadline, partition.delete_records(offset)).await {
        Ok(done) => done.map_err(|error| storage_code(&error)),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}
