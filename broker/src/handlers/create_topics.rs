//! CreateTopics, key 19, versions 2 to 7.
//!
//! - -1 partitions or replicas mean the broker's default (KIP-464). 5+: the answer carries partition
//!   count, replication factor and configuration (KIP-525); 7+: the topic's id (KIP-516).
//! - Topics succeed and fail one by one. Any positive replication factor is accepted: a partition
//!   has one owner, and its durability is the WAL's and the store's. A manual assignment is
//!   honoured for its first broker.

use std::collections::{BTreeMap, BTreeSet};

use controller::{Command, CreateTopic, Image, Response};
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use protocol::{ErrorCode, NodeId, TopicId};
use tokio::time::Instant;

use super::{text, topic_names};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::config::topics;
use crate::context::RequestContext;
use crate::error::controller_code;
use crate::limits::MAX_REQUEST_ENTRIES;
use crate::topics::overlays;

/// Why a topic is not made, for the answer.
type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.to_string()) {
            twice.insert(topic.name.to_string());
        }
    }
    let deadline = broker.deadline(context, request.timeout_ms);
    let mut told = BTreeSet::new();
    let mut answers = Vec::new();
    for topic in request.topics {
        let name = topic.name.clone();
        let again = twice.contains(name.as_str());
        if again && !told.insert(name.to_string()) {
            continue;
        }
        let made = if again {
            Err((
                ErrorCode::InvalidRequest,
                "the topic is named twice".to_owned(),
            ))
        } else if answers.len() >= MAX_REQUEST_ENTRIES {
            let message = format!("more than {MAX_REQUEST_ENTRIES} topics");
            Err((ErrorCode::InvalidRequest, message))
        } else {
            create(broker, context, topic, request.validate_only, deadline).await
        };
        answers.push(match made {
            Ok(answer) => answer.with_name(name),
            Err((code, message)) => {
                let answer = CreatableTopicResult::default()
                    .with_name(name)
                    .with_error_code(code.code())
                    .with_error_message(Some(text(message)));
                if context.version >= 5 {
                    answer.with_configs(Some(Vec::new()))
                } else {
                    answer
                }
            }
        });
    }
    CreateTopicsResponse::default().with_topics(answers)
}

async fn create(
    broker: &Broker,
    context: &RequestContext,
    topic: CreatableTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<CreatableTopicResult, Refused> {
    let name = topic.name.to_string();
    let may = |resource| broker.allows(context, Operation::Create, resource);
    if !may(Resource::Cluster) && !may(Resource::Topic(&name)) {
        return Err((
            ErrorCode::TopicAuthorizationFailed,
            "not authorized".to_owned(),
        ));
    }
    let image = broker.image();
    let (wanted, replication) = wanted(broker, &image, topic)?;
    let configs = wanted.configs.clone();
    let (id, partitions) = if validate_only {
        let partitions = match wanted.assignments.len() {
            0 => wanted.partitions,
            count => u32::try_from(count).unwrap_or(u32::MAX),
        };
        (TopicId::default(), partitions)
    } else {
        submit(broker, wanted, deadline).await?
    };
    let answer = CreatableTopicResult::default();
    if context.version < 5 {
        return Ok(answer);
    }
    let answer = if context.version >= 7 {
        answer.with_topic_id(id.0)
    } else {
        answer
    };
    let answer = answer
        .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
        .with_replication_factor(replication);
    let resource = Resource::Topic(&name);
    if !broker.allows(context, Operation::DescribeConfigs, resource) {
        return Ok(answer
            .with_topic_config_error_code(ErrorCode::TopicAuthorizationFailed.code())
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(None));
    }
    Ok(answer.with_configs(Some(told(broker, &image, &configs))))
}

/// Makes the topic and waits until this broker's image holds it and its partitions are open.
async fn submit(
    broker: &Broker,
    wanted: CreateTopic,
    deadline: Instant,
) -> Result<(TopicId, u32), Refused> {
    let submitted = broker.controller.submit(Command::CreateTopic(wanted));
    let response = match tokio::time::timeout_at(deadline, submitted).await {
        Ok(response) => response.map_err(|error| (controller_code(&error), error.to_string()))?,
        Err(_) => return Err((ErrorCode::RequestTimedOut, "still being made".to_owned())),
    };
    let Response::Topic { id, partitions } = response else {
        return Err((
            ErrorCode::UnknownServerError,
            format!("unexpected {response:?}"),
        ));
    };
    let seen = broker
        .wait_for(deadline, |image| image.topic_by_id(id).is_some())
        .await;
    if !seen {
        return Err((
            ErrorCode::RequestTimedOut,
            "made, and not open everywhere yet".to_owned(),
        ));
    }
    Ok((id, partitions))
}

/// The command for a topic, with everything checked that this broker can check; and its
/// replication factor.
fn wanted(
    broker: &Broker,
    image: &Image,
    topic: CreatableTopic,
) -> Result<(CreateTopic, i16), Refused> {
    let name = topic.name.to_string();
    if let Some(problem) = topic_names::problem(&name) {
        return Err((ErrorCode::InvalidTopicException, problem));
    }
    if image.topic(&name).is_some() {
        return Err((
            ErrorCode::TopicAlreadyExists,
            format!("Topic '{name}' already exists."),
        ));
    }
    if let Some(other) = topic_names::collision(image, &name) {
        let message = format!("{name} collides with {other} ('.' and '_' are the same in metrics)");
        return Err((ErrorCode::InvalidTopicException, message));
    }
    let counts = topic.num_partitions != -1 || topic.replication_factor != -1;
    if !topic.assignments.is_empty() && counts {
        let message = "a manual assignment forbids partition count and replication factor";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let assignments = assignments(image, &topic)?;
    let partitions = match topic.num_partitions {
        -1 => broker.number(image, "num.partitions"),
        count => i64::from(count),
    };
    let partitions = u32::try_from(partitions)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| {
            let message = format!("{partitions} partitions: must be larger than 0");
            (ErrorCode::InvalidPartitions, message)
        })?;
    let replication = match (assignments.first(), topic.replication_factor) {
        (Some(nodes), _) => i16::try_from(nodes.len()).unwrap_or(i16::MAX),
        (None, -1) => {
            i16::try_from(broker.number(image, "default.replication.factor")).unwrap_or(1)
        }
        (None, factor) if factor < 1 => {
            let message = format!("replication factor {factor}: must be larger than 0");
            return Err((ErrorCode::InvalidReplicationFactor, message));
        }
        (None, factor) => factor,
    };
    let mut configs = BTreeMap::new();
    for entry in &topic.configs {
        let Some(value) = &entry.value else {
            let message = format!("null value not supported for topic configs: {}", entry.name);
            return Err((ErrorCode::InvalidConfig, message));
        };
        let value = topics::check(&entry.name, value)
            .map_err(|message| (ErrorCode::InvalidConfig, message))?;
        configs.insert(entry.name.to_string(), value);
    }
    let wanted = CreateTopic {
        internal: topic_names::is_internal(&name),
        name,
        id: TopicId(broker.env.entropy.uuid()),
        partitions,
        replication_factor: replication,
        assignments,
        configs,
    };
    Ok((wanted, replication))
}

/// A manual assignment, in order of partitions: consecutive from 0, brokers that exist, none twice.
fn assignments(image: &Image, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refused> {
    let invalid = |message: String| Err((ErrorCode::InvalidReplicaAssignment, message));
    let live: BTreeSet<NodeId> = image
        .live_brokers()
        .map(|(_, broker)| broker.node)
        .collect();
    let mut by_partition = BTreeMap::new();
    for assignment in &topic.assignments {
        let nodes: Vec<NodeId> = assignment
            .broker_ids
            .iter()
            .map(|id| NodeId(id.0))
            .collect();
        let index = assignment.partition_index;
        let distinct: BTreeSet<NodeId> = nodes.iter().copied().collect();
        if nodes.is_empty() || distinct.len() != nodes.len() {
            return invalid(format!(
                "partition {index}: replicas must be some, and distinct"
            ));
        }
        if let Some(unknown) = nodes.iter().find(|node| !live.contains(node)) {
            return invalid(format!("partition {index}: broker {unknown} is not known"));
        }
        if by_partition.insert(index, nodes).is_some() {
            return invalid(format!("partition {index} is assigned twice"));
        }
    }
    let consecutive = by_partition
        .keys()
        .copied()
        .eq(0..by_partition.len() as i32);
    if !consecutive {
        return invalid("partitions must be consecutive, from 0 on".to_owned());
    }
    Ok(by_partition.into_values().collect())
}

/// Every configuration of a topic with its source, for the answer.
fn told(
    broker: &Broker,
    image: &Image,
    own: &BTreeMap<String, String>,
) -> Vec<CreatableTopicConfigs> {
    let over = overlays(&broker.config, image, own);
    let entry = |key: &'static topics::TopicKey| {
        let found = over.find(key).swap_remove(0);
        CreatableTopicConfigs::default()
            .with_name(text(key.name))
            .with_value(Some(text(found.value)))
            .with_config_source(found.origin as i8)
    };
    topics::all().iter().map(entry).collect()
}

/// Makes a topic because somebody asked for it. The code is what the first answer carries: the
/// client asks again.
pub(crate) async fn automatically(
    broker: &Broker,
    context: &RequestContext,
    name: &str,
) -> ErrorCode {
    let may = |resource| broker.allows(context, Operation::Create, resource);
    if !may(Resource::Cluster) && !may(Resource::Topic(name)) {
        return ErrorCode::TopicAuthorizationFailed;
    }
    if topic_names::is_internal(name) {
        // Made by whoever needs it, with settings of its own.
        return ErrorCode::UnknownTopicOrPartition;
    }
    let topic = CreatableTopic::default()
        .with_name(protocol::messages::TopicName(text(name)))
        .with_num_partitions(-1)
        .with_replication_factor(-1);
    let deadline = broker.deadline(context, -1);
    let wanted = match wanted(broker, &broker.image(), topic) {
        Ok((wanted, _)) => wanted,
        Err((ErrorCode::TopicAlreadyExists, _)) => return ErrorCode::LeaderNotAvailable,
        Err((code, _)) => return code,
    };
    match submit(broker, wanted, deadline).await {
        Ok(_) | Err((ErrorCode::TopicAlreadyExists | ErrorCode::RequestTimedOut, _)) => {
            ErrorCode::LeaderNotAvailable
        }
        Err((code, message)) => {
            tracing::info!(topic = name, %message, "not made automatically");
            code
        }
    }
}
