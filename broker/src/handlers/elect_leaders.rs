//! ElectLeaders, key 43, versions 0 to 2 (KIP-183, KIP-460).
//!
//! A preferred election moves a partition to the first replica that was assigned by hand, and is
//! answered when it is there: ELECTION_NOT_NEEDED where it is already, or nobody ever said;
//! PREFERRED_LEADER_NOT_AVAILABLE when that broker takes no partitions. An unclean election is never
//! needed: who recovers a log loses nothing. Where nobody leads it is
//! ELIGIBLE_LEADERS_NOT_AVAILABLE. Without partitions (null): all; those for which no election
//! is needed are then left out. 1+: the type, and an error for the whole.

use std::collections::BTreeMap;

use controller::{Image, Target};
use protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use protocol::{ErrorCode, NodeId, TopicPartition};
use tokio::time::Instant;

use super::alter_partition_reassignments::{Refused, find, set_targets};
use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::mover::at_changes;

/// The election type that asks for preferred leaders.
const PREFERRED: i8 = 0;
/// The one that takes any.
const UNCLEAN: i8 = 1;

/// A partition with what becomes of it.
struct Asked {
    topic: TopicName,
    index: i32,
    outcome: Result<Elected, Refused>,
}

#[derive(Clone, Copy)]
struct Elected {
    topic_partition: TopicPartition,
    node: NodeId,
}

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let answer = ElectLeadersResponse::default();
    if !broker.allows(context, Operation::Alter, Resource::Cluster) {
        return answer.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
    }
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return answer.with_error_code(ErrorCode::InvalidRequest.code());
    }
    let deadline = broker.deadline(context, request.timeout_ms);
    let image = broker.image();
    let all = request.topic_partitions.is_none();
    let mut asked: Vec<Asked> = named(&image, &request)
        .into_iter()
        .map(|(topic, index)| {
            let outcome =
                find(&image, &topic, index).and_then(|tp| judge(&image, tp, request.election_type));
            Asked {
                topic,
                index,
                outcome,
            }
        })
        .collect();
    elect(broker, &mut asked, deadline).await;
    let not_needed = |asked: &Asked| matches!(&asked.outcome, Err((code, _)) if *code == ErrorCode::ElectionNotNeeded);
    asked.retain(|asked| !all || !not_needed(asked));
    answer.with_replica_election_results(results(asked))
}

fn named(image: &Image, request: &ElectLeadersRequest) -> Vec<(TopicName, i32)> {
    match &request.topic_partitions {
        Some(topics) => topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic.clone(), *at)))
            .collect(),
        None => image
            .topics
            .values()
            .flat_map(|topic| {
                let name = TopicName(text(&*topic.name));
                (0i32..)
                    .take(topic.partitions.len())
                    .map(move |at| (name.clone(), at))
            })
            .collect(),
    }
}

/// Who is to be elected, or why nobody is.
fn judge(image: &Image, tp: TopicPartition, election: i8) -> Result<Elected, Refused> {
    let refused = |code: ErrorCode| Err((code, code.message().to_owned()));
    let Some(partition) = image.partition(tp) else {
        return refused(ErrorCode::UnknownTopicOrPartition);
    };
    if election == UNCLEAN {
        return refused(match partition.leader {
            Some(_) => ErrorCode::ElectionNotNeeded,
            None => ErrorCode::EligibleLeadersNotAvailable,
        });
    }
    match partition.preferred {
        None => refused(ErrorCode::ElectionNotNeeded),
        Some(node) if partition.leader == Some(node) => refused(ErrorCode::ElectionNotNeeded),
        Some(node) if image.takers().contains(&node) => Ok(Elected {
            topic_partition: tp,
            node,
        }),
        Some(_) => refused(ErrorCode::PreferredLeaderNotAvailable),
    }
}

/// Moves them, and waits until they are where they shall be.
async fn elect(broker: &Broker, asked: &mut [Asked], deadline: Instant) {
    let mut moving: Vec<&mut Asked> = asked.iter_mut().filter(|a| a.outcome.is_ok()).collect();
    let targets = moving.iter().filter_map(|asked| {
        let elected = asked.outcome.as_ref().ok()?;
        Some(Target {
            topic_partition: elected.topic_partition,
            node: Some(elected.node),
            preferred: false,
        })
    });
    let outcomes = set_targets(broker, targets.collect(), deadline).await;
    for (asked, outcome) in moving.iter_mut().zip(outcomes) {
        if let Err(refused) = outcome {
            asked.outcome = Err(refused);
        }
    }
    let there = |image: &Image, one: &Elected| {
        let partition = image.partition(one.topic_partition);
        partition.is_none_or(|partition| partition.leader == Some(one.node))
    };
    let mut wanted: Vec<Elected> = moving
        .iter()
        .filter_map(|a| a.outcome.clone().ok())
        .collect();
    let all_there = at_changes(|image| {
        wanted.retain(|one| !there(image, one));
        wanted.is_empty()
    });
    if broker.wait_for(deadline, all_there).await {
        return;
    }
    let image = broker.image();
    for asked in moving {
        let late = matches!(&asked.outcome, Ok(one) if !there(&image, one));
        if late {
            let message = "still moving".to_owned();
            asked.outcome = Err((ErrorCode::RequestTimedOut, message));
        }
    }
}

fn results(asked: Vec<Asked>) -> Vec<ReplicaElectionResult> {
    let mut by_topic: BTreeMap<String, (TopicName, Vec<PartitionResult>)> = BTreeMap::new();
    for one in asked {
        let result = PartitionResult::default().with_partition_id(one.index);
        let result = match one.outcome {
            Ok(_) => result,
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        };
        let topic = by_topic.entry(one.topic.to_string());
        topic.or_insert((one.topic, Vec::new())).1.push(result);
    }
    let told = |(topic, results): (TopicName, Vec<PartitionResult>)| {
        ReplicaElectionResult::default()
            .with_topic(topic)
            .with_partition_result(results)
    };
    by_topic.into_values().map(told).collect()
}
