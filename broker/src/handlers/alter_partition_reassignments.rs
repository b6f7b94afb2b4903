//! AlterPartitionReassignments, key 45, versions 0 and 1 (KIP-455).
//!
//! Replicas are fiction: durability is the log's and the store's. Of a list of replicas the first is
//! who shall lead the partition, now and whenever it can (Kafka's preferred leader); the others must
//! be known, and mean nothing. So the number of replicas may always change (1+: the request's word
//! about that is repeated). A move to where the partition is is done at once. Null takes the word
//! back: a move that has not been made, and the preference, so that the balancer may move it again;
//! where there is neither, it is NO_REASSIGNMENT_IN_PROGRESS.

use std::collections::BTreeSet;

use controller::{Command, Image, MoveCommand, Refusal, Response, Target};
use protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use protocol::{ErrorCode, NodeId, TopicPartition};
use tokio::time::{Instant, timeout_at};

use super::{partition_of, text};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::{controller_code, refusal_code};

/// Why a partition is not moved, for the answer.
pub(super) type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let answer = AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change);
    if !broker.allows(context, Operation::Alter, Resource::Cluster) {
        let code = ErrorCode::ClusterAuthorizationFailed;
        return answer
            .with_error_code(code.code())
            .with_error_message(Some(text(code.message())));
    }
    let deadline = broker.deadline(context, request.timeout_ms);
    let image = broker.image();
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    let mut judged = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let found = target(&image, &topic.name, partition).and_then(|target| {
                if !seen.insert(target.topic_partition) {
                    let message = "the partition is named twice".to_owned();
                    return Err((ErrorCode::InvalidRequest, message));
                }
                targets.push(target);
                Ok(targets.len() - 1)
            });
            partitions.push((index, found));
        }
        judged.push((topic.name, partitions));
    }
    let outcomes = set_targets(broker, targets, deadline).await;
    let told = |(index, found): (i32, Result<usize, Refused>)| {
        let answer = ReassignablePartitionResponse::default().with_partition_index(index);
        match found.and_then(|at| outcomes[at].clone()) {
            Ok(()) => answer,
            Err((code, message)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        }
    };
    let responses = judged.into_iter().map(|(name, partitions)| {
        ReassignableTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(told).collect())
    });
    answer.with_responses(responses.collect())
}

fn target(image: &Image, topic: &str, asked: &ReassignablePartition) -> Result<Target, Refused> {
    let topic_partition = find(image, topic, asked.partition_index)?;
    let Some(replicas) = &asked.replicas else {
        let standing = image.partition(topic_partition);
        if !standing.is_some_and(|p| p.target.is_some() || p.preferred.is_some()) {
            let code = ErrorCode::NoReassignmentInProgress;
            return Err((code, code.message().to_owned()));
        }
        return Ok(Target {
            topic_partition,
            node: None,
            preferred: true,
        });
    };
    let nodes: Vec<NodeId> = replicas.iter().map(|id| NodeId(id.0)).collect();
    let invalid = |message: String| Err((ErrorCode::InvalidReplicaAssignment, message));
    let Some(first) = nodes.first() else {
        return invalid("the list of replicas is empty".to_owned());
    };
    let known: BTreeSet<NodeId> = image.live_brokers().map(|(_, b)| b.node).collect();
    if let Some(unknown) = nodes.iter().find(|node| !known.contains(node)) {
        return invalid(format!("broker {unknown} is not registered"));
    }
    if nodes.iter().collect::<BTreeSet<_>>().len() < nodes.len() {
        return invalid("the list of replicas names a broker twice".to_owned());
    }
    Ok(Target {
        topic_partition,
        node: Some(*first),
        preferred: true,
    })
}

/// A partition by the name of its topic.
pub(super) fn find(image: &Image, topic: &str, index: i32) -> Result<TopicPartition, Refused> {
    let found = image
        .topic(topic)
        .and_then(|topic| partition_of(topic, index));
    found.ok_or_else(|| {
        let code = ErrorCode::UnknownTopicOrPartition;
        (code, code.message().to_owned())
    })
}

/// Records targets, an outcome for each.
pub(super) async fn set_targets(
    broker: &Broker,
    targets: Vec<Target>,
    deadline: Instant,
) -> Vec<Result<(), Refused>> {
    let mut outcomes = Vec::with_capacity(targets.len());
    for some in targets.chunks(controller::limits::MAX_MOVES_PER_COMMAND) {
        let command = Command::Move(MoveCommand::SetTargets(some.to_vec()));
        let failed = match timeout_at(deadline, broker.controller.submit(command)).await {
            Ok(Ok(Response::Many(answers))) if answers.len() == some.len() => {
                let refused = |refusal: Refusal| (refusal_code(&refusal), refusal.to_string());
                outcomes.extend(answers.into_iter().map(|a| a.map(drop).map_err(refused)));
                continue;
            }
            Ok(Ok(other)) => (ErrorCode::UnknownServerError, format!("{other:?}")),
            Ok(Err(error)) => (controller_code(&error), error.to_string()),
            Err(_) => (
                ErrorCode::RequestTimedOut,
                "not recorded in time".to_owned(),
            ),
        };
        outcomes.extend(some.iter().map(|_| Err(failed.clone())));
    }
    outcomes
}
