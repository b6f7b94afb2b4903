//! OffsetForLeaderEpoch, key 23, versions 2 to 4 (KIP-320).
//!
//! Gives the largest epoch at or below the one asked for, and the offset after its last record; for
//! one older than all that are known, itself and where those begin, as Kafka does. 3+: only
//! consumers ask here; there are no replicas.

use protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use protocol::{ErrorCode, LeaderEpoch};
use storage::Partition;

use super::readable;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::opening::Patience;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut patience = Patience::until(broker.deadline(context, -1));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let (index, epoch) = (asked.partition, asked.current_leader_epoch);
            let found = readable(broker, context, &mut patience, &topic.topic, index, epoch);
            partitions.push(answer(asked, found.await));
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn answer(asked: &OffsetForLeaderPartition, found: Result<Partition, ErrorCode>) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    match found {
        Err(code) => answer.with_error_code(code.code()),
        Ok(partition) => match end_of(&partition, LeaderEpoch(asked.leader_epoch)) {
            Some((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end),
            // Kafka's "undefined".
            None => answer.with_error_code(ErrorCode::None.code()),
        },
    }
}

fn end_of(partition: &Partition, asked: LeaderEpoch) -> Option<(LeaderEpoch, i64)> {
    partition.epoch_end_offset(asked).or_else(|| {
        // Records of that epoch are gone, if there ever were any.
        let (_, first) = *partition.epochs().first()?;
        (asked.0 >= 0).then_some((asked, first))
    })
}
