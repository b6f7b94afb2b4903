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

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = broker.image();
    let end = |name: &str, asked: &OffsetForLeaderPartition| {
        let answer = EpochEndOffset::default().with_partition(asked.partition);
        let epoch = asked.current_leader_epoch;
        match readable(broker, context, &image, name, asked.partition, epoch) {
            Err(code) => answer.with_error_code(code.code()),
            Ok(partition) => match end_of(&partition, LeaderEpoch(asked.leader_epoch)) {
                Some((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end),
                // Kafka's "undefined".
                None => answer.with_error_code(ErrorCode::None.code()),
            },
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| end(&topic.topic, asked))
            .collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of(partition: &Partition, asked: LeaderEpoch) -> Option<(LeaderEpoch, i64)> {
    partition.epoch_end_offset(asked).or_else(|| {
        // Records of that epoch are gone, if there ever were any.
        let (_, first) = *partition.epochs().first()?;
        (asked.0 >= 0).then_some((asked, first))
    })
}
