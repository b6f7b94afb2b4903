//! One file per Kafka API. Its header lists versions, behaviour and the KIP behind each.
//!
//! Every handler is `handle(broker, context, request) -> response`; Produce alone is in two parts,
//! so that the next can start while it waits for durability.

pub(crate) mod add_raft_voter;
pub(crate) mod alter_configs;
pub(crate) mod alter_partition_reassignments;
pub(crate) mod api_versions;
mod config_resources;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_quorum;
pub(crate) mod describe_topic_partitions;
pub(crate) mod elect_leaders;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
mod group_requests;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod remove_raft_voter;
pub(crate) mod sync_group;
mod topic_names;
pub(crate) mod unregister_broker;
pub(crate) mod update_features;

pub(crate) use fetch::Sessions;
pub(crate) use topic_names::CONSUMER_OFFSETS;

use std::sync::Arc;

use controller::TopicImage;
use protocol::messages::StrBytes;
use protocol::{ErrorCode, LeaderEpoch, TopicPartition};
use storage::Partition;

use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::opening::Patience;

/// A text for a response.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The partition that a reader asks for, led here, at the epoch that it believes in; one that is
/// opening is waited for.
async fn readable(
    broker: &Broker,
    context: &RequestContext,
    patience: &mut Patience,
    name: &str,
    partition: i32,
    leader_epoch: i32,
) -> Result<Partition, ErrorCode> {
    if !broker.allows(context, Operation::Describe, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let tp = broker
        .image()
        .topic(name)
        .and_then(|topic| partition_of(topic, partition))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let led = patience.led(broker, tp).await;
    let led = led.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    check_epoch(&led, leader_epoch)?;
    Ok(led)
}

/// The partition of this index, if the topic has it.
fn partition_of(topic: &Arc<TopicImage>, index: i32) -> Option<TopicPartition> {
    let count = topic.partitions.len();
    let exists = usize::try_from(index).is_ok_and(|index| index < count);
    exists.then(|| TopicPartition::new(topic.id, index))
}

/// An epoch that the client believes in must be ours (KIP-320); -1 is none.
fn check_epoch(partition: &Partition, leader_epoch: i32) -> Result<(), ErrorCode> {
    let current = partition.leader_epoch();
    match LeaderEpoch(leader_epoch) {
        LeaderEpoch(..=-1) => Ok(()),
        asked if asked < current => Err(ErrorCode::FencedLeaderEpoch),
        asked if asked > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
