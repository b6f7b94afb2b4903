//! ListOffsets, key 2, versions 1 to 11.
//!
//! -1 is the end (of what is stable, for read-committed readers, version 2+), -2 the start, -3 the
//! largest timestamp (7+, KIP-734), -4 the local start (8+, KIP-405; everything here is local and
//! remote at once), -5 the last tiered offset (9+, KIP-1005: what is uploaded), -6 the earliest
//! offset not uploaded (11+). Otherwise the first record with that timestamp or later, found within
//! its compressed batch; -1 without an error when there is none. 4+: leader epochs (KIP-320).
//! A partition asked for twice is refused both times.

use std::collections::BTreeSet;

use protocol::messages::list_offsets_request::ListOffsetsPartition;
use protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use protocol::{ErrorCode, LeaderEpoch};
use storage::{Partition, RecordAt};

use super::readable;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::storage_code;
use crate::opening::Patience;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const READ_COMMITTED: i8 = 1;

/// Offset, timestamp (-1 for none) and epoch of an answer; `None` when there is no such record.
type Found = Option<(i64, i64, Option<LeaderEpoch>)>;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let committed = request.isolation_level == READ_COMMITTED;
    let mut patience = Patience::until(broker.deadline(context, -1));
    let repeated = repeated(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let (index, epoch) = (asked.partition_index, asked.current_leader_epoch);
            let led = if repeated.contains(&(topic.name.clone(), index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                let patience = &mut patience;
                readable(broker, context, patience, &topic.name, index, epoch).await
            };
            let found = match led {
                Ok(partition) => find(&partition, &asked, context.version, committed).await,
                Err(code) => Err(code),
            };
            partitions.push(answer(index, found, context.version));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Partitions that are asked for more than once, which nobody does who means well.
fn repeated(request: &ListOffsetsRequest) -> BTreeSet<(TopicName, i32)> {
    let mut seen = BTreeSet::new();
    let asked = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|asked| (&topic.name, asked.partition_index))
    });
    asked
        .filter(|asked| !seen.insert(*asked))
        .map(|(name, index)| (name.clone(), index))
        .collect()
}

fn answer(
    index: i32,
    found: Result<Found, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_offset(-1)
        .with_timestamp(-1);
    match found {
        Err(code) => answer.with_error_code(code.code()),
        Ok(None) => answer,
        Ok(Some((offset, timestamp, epoch))) => {
            let answer = answer.with_offset(offset).with_timestamp(timestamp);
            if version >= 4 {
                answer.with_leader_epoch(epoch.map_or(-1, |epoch| epoch.0))
            } else {
                answer
            }
        }
    }
}

async fn find(
    partition: &Partition,
    asked: &ListOffsetsPartition,
    version: i16,
    committed: bool,
) -> Result<Found, ErrorCode> {
    let position = partition.position();
    let current = Some(partition.leader_epoch());
    let from = |least: i16| {
        if version >= least {
            Ok(())
        } else {
            Err(ErrorCode::UnsupportedVersion)
        }
    };
    let end = if committed {
        position.last_stable_offset
    } else {
        position.high_watermark
    };
    match asked.timestamp {
        LATEST => Ok(Some((end, -1, current))),
        EARLIEST => Ok(Some((
            position.log_start,
            -1,
            partition.epoch_at(position.log_start),
        ))),
        MAX_TIMESTAMP => {
            from(7)?;
            record(partition.max_timestamp().await, end)
        }
        EARLIEST_LOCAL => {
            from(8)?;
            Ok(Some((
                position.log_start,
                -1,
                partition.epoch_at(position.log_start),
            )))
        }
        LATEST_TIERED => {
            from(9)?;
            let last = position.committed_end - 1;
            let tiered = last >= position.log_start;
            Ok(tiered.then(|| (last, -1, partition.epoch_at(last))))
        }
        EARLIEST_PENDING_UPLOAD => {
            from(11)?;
            let offset = partition.earliest_pending_upload();
            Ok(offset.map(|offset| (offset, -1, partition.epoch_at(offset))))
        }
        timestamp if timestamp < 0 => Err(ErrorCode::UnsupportedVersion),
        timestamp => record(partition.offset_for_timestamp(timestamp).await, end),
    }
}

/// A record, if it lies below what the reader may see.
fn record(found: Result<Option<RecordAt>, storage::Error>, end: i64) -> Result<Found, ErrorCode> {
    let found = found.map_err(|error| storage_code(&error))?;
    let visible = found.filter(|record| record.offset < end);
    Ok(visible.map(|record| {
        (
            record.offset,
            record.timestamp_ms,
            Some(record.leader_epoch),
        )
    }))
}

#[cfg(test)]
mod tests {
    use protocol::messages::StrBytes;
    use protocol::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;

    #[test]
    fn what_is_asked_twice_is_found_within_and_across_topics() {
        let topic = |name: &'static str, indexes: &[i32]| {
            let asked = indexes
                .iter()
                .map(|index| ListOffsetsPartition::default().with_partition_index(*index));
            ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(asked.collect())
        };
        let topics = vec![
            topic("a", &[0, 1, 1, 1]),
            topic("b", &[0]),
            topic("a", &[2, 0]),
        ];
        let found = repeated(&ListOffsetsRequest::default().with_topics(topics));
        let found: Vec<_> = found
            .iter()
            .map(|(name, at)| (name.as_str(), *at))
            .collect();
        assert_eq!(found, [("a", 0), ("a", 1)]);
    }
}
