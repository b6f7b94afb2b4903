//! DescribeQuorum, key 55, versions 0 to 2 (KIP-595).
//!
//! The voters of the controllers as their leader sees them, under Kafka's name for their log,
//! `__cluster_metadata`. 1+: when each was heard of last (KIP-836); a voter is caught up when it holds
//! all that is committed. 2+: directories, and where voters are reached (KIP-853), with messages.
//! Observers are voters to be, and live brokers whose node has no voter.

use std::collections::BTreeMap;

use controller::{Quorum, QuorumMember};
use protocol::ErrorCode;
use protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName};

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

/// Kafka's name for the log of the controllers.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// What voters' listeners are called.
const LISTENER: &str = "CONTROLLER";

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let answer = DescribeQuorumResponse::default();
    if !broker.allows(context, Operation::Describe, Resource::Cluster) {
        return answer.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
    }
    let quorum = match broker.controller.quorum().await {
        Ok(quorum) => quorum,
        Err(error) => {
            let answer = answer.with_error_code(controller_code(&error).code());
            return match context.version {
                2.. => answer.with_error_message(Some(text(error.to_string()))),
                _ => answer,
            };
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.topic_name;
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            match &**name == METADATA_TOPIC && index == 0 {
                true => partition(&quorum, context.version),
                false => PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(ErrorCode::UnknownTopicOrPartition.code()),
            }
        });
        TopicData::default()
            .with_partitions(partitions.collect())
            .with_topic_name(TopicName(text(name.to_string())))
    });
    let topics = topics.collect();
    match context.version {
        2.. => answer.with_topics(topics).with_nodes(nodes(&quorum)),
        _ => answer.with_topics(topics),
    }
}

fn partition(quorum: &Quorum, version: i16) -> PartitionData {
    let states = |members: &[QuorumMember]| {
        let states = members
            .iter()
            .map(|m| replica(m, quorum.committed, version));
        states.collect::<Vec<_>>()
    };
    PartitionData::default()
        .with_leader_id(BrokerId(quorum.leader.0))
        .with_leader_epoch(i32::try_from(quorum.term).unwrap_or(i32::MAX))
        .with_high_watermark(after(quorum.committed))
        .with_current_voters(states(&quorum.voters))
        .with_observers(states(&quorum.observers))
}

/// Kafka counts the offset after the last one.
fn after(index: u64) -> i64 {
    i64::try_from(index.saturating_add(1)).unwrap_or(i64::MAX)
}

fn replica(member: &QuorumMember, committed: u64, version: i16) -> ReplicaState {
    let state = ReplicaState::default()
        .with_replica_id(BrokerId(member.node.0))
        .with_log_end_offset(member.holds.map_or(-1, after));
    if version < 1 {
        return state;
    }
    let heard_ms = member.heard_ms.unwrap_or(-1);
    let caught_up = member.holds.is_some_and(|holds| holds >= committed);
    let state = state
        .with_last_fetch_timestamp(heard_ms)
        .with_last_caught_up_timestamp(if caught_up { heard_ms } else { -1 });
    match version {
        2.. => state.with_replica_directory_id(member.directory),
        _ => state,
    }
}

fn nodes(quorum: &Quorum) -> Vec<Node> {
    let members = quorum.voters.iter().chain(&quorum.observers);
    let reached = members.filter_map(|member| {
        let (host, port) = member.address.rsplit_once(':')?;
        let listener = Listener::default()
            .with_name(text(LISTENER))
            .with_host(text(host.trim_matches(['[', ']'])))
            .with_port(port.parse().ok()?);
        let node = Node::default()
            .with_node_id(BrokerId(member.node.0))
            .with_listeners(vec![listener]);
        Some((member.node, node))
    });
    reached.collect::<BTreeMap<_, _>>().into_values().collect()
}
