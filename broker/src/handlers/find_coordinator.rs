//! FindCoordinator, key 10, versions 0 to 6.
//!
//! - 0 groups only; 1+ key type and message; 4+ several keys at once (KIP-699); 5, 6 are as 4.
//! - The coordinator of a group is the leader of its partition of `__consumer_offsets`, which is
//!   made the first time somebody asks.
//! - Transactions and share groups are not served yet: INVALID_REQUEST with a message.

use std::collections::BTreeMap;

use controller::{Command, CreateTopic, Error, Image, Refusal};
use protocol::messages::find_coordinator_response::Coordinator;
use protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};
use protocol::{ErrorCode, NodeId, TopicId};
use tokio::time::Instant;

use super::group_requests::{coordinator_partition, may, text};
use super::topic_names::CONSUMER_OFFSETS;
use crate::auth::Operation;
use crate::broker::{Broker, Endpoint};
use crate::context::RequestContext;
use crate::error::controller_code;
use crate::groups::sync;

const GROUP: i8 = 0;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if context.version >= 4 {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let result = find(broker, context, request.key_type, &key).await;
        found.push(told(key, result));
    }
    let response = FindCoordinatorResponse::default();
    if context.version >= 4 {
        return response.with_coordinators(found);
    }
    let only = found.pop().expect("one key was asked for");
    let response = response
        .with_error_code(only.error_code)
        .with_node_id(only.node_id)
        .with_host(only.host)
        .with_port(only.port);
    if context.version >= 1 {
        response.with_error_message(only.error_message)
    } else {
        response
    }
}

fn told(key: StrBytes, result: Result<Endpoint, (ErrorCode, String)>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match result {
        Ok(endpoint) => coordinator
            .with_node_id(BrokerId(endpoint.node.0))
            .with_host(endpoint.host)
            .with_port(endpoint.port),
        Err((code, message)) => coordinator
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message(Some(text(&message))),
    }
}

async fn find(
    broker: &Broker,
    context: &RequestContext,
    key_type: i8,
    key: &StrBytes,
) -> Result<Endpoint, (ErrorCode, String)> {
    if key_type != GROUP {
        let message = "transactions and share groups are not served yet";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    if !may(broker, context, Operation::Describe, key) {
        let code = ErrorCode::GroupAuthorizationFailed;
        return Err((code, code.message().to_owned()));
    }
    if broker.image().topic(CONSUMER_OFFSETS).is_none() {
        make_offsets_topic(broker, broker.deadline(context, -1)).await?;
    }
    let image = broker.image();
    let leader = coordinator_partition(&image, key).and_then(|partition| leader(&image, partition));
    let endpoint = leader.and_then(|node| broker.endpoints(&image, context).remove(&node));
    endpoint.ok_or_else(|| {
        let code = ErrorCode::CoordinatorNotAvailable;
        (
            code,
            "the group's coordinator partition has no leader".to_owned(),
        )
    })
}

fn leader(image: &Image, partition: i32) -> Option<NodeId> {
    let index = usize::try_from(partition).ok()?;
    image.topic(CONSUMER_OFFSETS)?.partitions.get(index)?.leader
}

/// Makes `__consumer_offsets` and waits until its partitions are open. Several may try at once:
/// one succeeds, the others wait for what it made.
async fn make_offsets_topic(broker: &Broker, deadline: Instant) -> Result<(), (ErrorCode, String)> {
    let config = |name: &str| broker.config.values.text(name).to_owned();
    let partitions = broker.config.size("offsets.topic.num.partitions");
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config("offsets.topic.segment.bytes")),
    ];
    let create = CreateTopic {
        name: CONSUMER_OFFSETS.to_owned(),
        id: TopicId(broker.env.entropy.uuid()),
        internal: true,
        partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::from(configs.map(|(name, value)| (name.to_owned(), value))),
    };
    let submitted = broker.controller.submit(Command::CreateTopic(create));
    let later = |code, why: String| {
        tracing::info!(code = %code, why, "__consumer_offsets is not made yet");
        (
            ErrorCode::CoordinatorNotAvailable,
            "the offsets topic is being made".to_owned(),
        )
    };
    match tokio::time::timeout_at(deadline, submitted).await {
        Ok(Ok(_) | Err(Error::Refused(Refusal::TopicExists { .. }))) => {}
        Ok(Err(error)) => return Err(later(controller_code(&error), error.to_string())),
        Err(_) => return Err(later(ErrorCode::RequestTimedOut, "no answer".to_owned())),
    }
    let open = |image: &Image| {
        image.topic(CONSUMER_OFFSETS).is_some_and(|topic| {
            topic
                .partitions
                .iter()
                .all(|partition| partition.leader.is_some())
        })
    };
    if broker.wait_for(deadline, open).await {
        sync(broker, &broker.image());
        Ok(())
    } else {
        Err(later(
            ErrorCode::RequestTimedOut,
            "its partitions have no leaders".to_owned(),
        ))
    }
}
