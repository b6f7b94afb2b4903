//! CreatePartitions, key 37, versions 0 to 3.
//!
//! One result per topic, whatever happens to it. Only an increase is taken; new partitions are
//! placed, or go to the first broker of a manual assignment.

use std::collections::BTreeMap;

use controller::{Command, Image};
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use protocol::{ErrorCode, NodeId, TopicId};
use tokio::time::Instant;

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

/// Why a topic is not changed, for the answer.
type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let deadline = broker.deadline(context, request.timeout_ms);
    // How often each topic is named; taken out when it is answered.
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let Some(times) = times.remove(name.as_str()) else {
            continue;
        };
        let done = if times > 1 {
            Err((
                ErrorCode::InvalidRequest,
                "the topic is named twice".to_owned(),
            ))
        } else {
            raise(broker, context, topic, request.validate_only, deadline).await
        };
        let result = CreatePartitionsTopicResult::default().with_name(name);
        results.push(match done {
            Ok(()) => result,
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn raise(
    broker: &Broker,
    context: &RequestContext,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), Refused> {
    let name = topic.name.as_str();
    if !broker.allows(context, Operation::Alter, Resource::Topic(name)) {
        return Err((
            ErrorCode::TopicAuthorizationFailed,
            "not authorized".to_owned(),
        ));
    }
    let image = broker.image();
    let (id, command) = command(&image, &topic)?;
    if validate_only {
        return Ok(());
    }
    let submitted = broker.controller.submit(command);
    match tokio::time::timeout_at(deadline, submitted).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err((controller_code(&error), error.to_string())),
        Err(_) => return Err((ErrorCode::RequestTimedOut, "still being made".to_owned())),
    }
    let count = usize::try_from(topic.count).unwrap_or(0);
    let seen = |image: &Image| {
        image
            .topic_by_id(id)
            .is_none_or(|t| t.partitions.len() >= count)
    };
    if broker.wait_for(deadline, seen).await {
        Ok(())
    } else {
        Err((
            ErrorCode::RequestTimedOut,
            "made, and not open everywhere yet".to_owned(),
        ))
    }
}

fn command(image: &Image, topic: &CreatePartitionsTopic) -> Result<(TopicId, Command), Refused> {
    let (name, count) = (topic.name.as_str(), topic.count);
    let Some(known) = image.topic(name) else {
        let message = format!("This server does not host topic '{name}'.");
        return Err((ErrorCode::UnknownTopicOrPartition, message));
    };
    let now = known.partitions.len();
    let invalid = |message| Err((ErrorCode::InvalidPartitions, message));
    let wanted = match usize::try_from(count) {
        Ok(wanted) if wanted == now => {
            return invalid(format!("Topic already has {now} partition(s)."));
        }
        Ok(wanted) if wanted > now => wanted,
        _ => {
            return invalid(format!(
                "The topic {name} currently has {now} partition(s); {count} would not be an increase."
            ));
        }
    };
    let mut assignments = Vec::new();
    if let Some(manual) = &topic.assignments {
        if manual.len() != wanted - now {
            let message = format!(
                "{} assignments for {} new partitions of topic {name}",
                manual.len(),
                wanted - now
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
        for assignment in manual {
            let nodes: Vec<NodeId> = assignment
                .broker_ids
                .iter()
                .map(|id| NodeId(id.0))
                .collect();
            let known = |node: &NodeId| image.live_brokers().any(|(_, b)| b.node == *node);
            if nodes.is_empty() || !nodes.iter().all(known) {
                let message = "replicas must be some, and brokers that are known".to_owned();
                return Err((ErrorCode::InvalidReplicaAssignment, message));
            }
            assignments.push(nodes);
        }
    }
    let count = u32::try_from(wanted).expect("a positive 32-bit number");
    let command = Command::CreatePartitions {
        topic: known.id,
        count,
        assignments,
    };
    Ok((known.id, command))
}
