//! DeleteTopics, key 20, versions 1 to 6.
//!
//! 6: topics by name or by id (KIP-516). Topics succeed and fail one by one; the answer comes when
//! this broker's image no longer holds them.

use controller::Command;
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::delete_topics_response::DeletableTopicResult;
use protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use protocol::{ErrorCode, TopicId};
use tokio::time::Instant;

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked = if context.version >= 6 {
        request.topics
    } else {
        let named = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(named).collect()
    };
    let deadline = broker.deadline(context, request.timeout_ms);
    let mut answers = Vec::new();
    for topic in asked {
        answers.push(answer(broker, context, topic, deadline).await);
    }
    DeleteTopicsResponse::default().with_responses(answers)
}

async fn answer(
    broker: &Broker,
    context: &RequestContext,
    asked: DeleteTopicState,
    deadline: Instant,
) -> DeletableTopicResult {
    let image = broker.image();
    let found = match &asked.name {
        Some(name) => image.topic(name),
        None => image.topic_by_id(TopicId(asked.topic_id)),
    };
    let name = found
        .map(|topic| TopicName(text(&*topic.name)))
        .or_else(|| asked.name.clone());
    let id = found.map_or(asked.topic_id, |topic| topic.id.0);
    let unknown = if asked.name.is_some() {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::UnknownTopicId
    };
    let done = match found {
        None => Err((unknown, unknown.message().to_owned())),
        Some(topic) => delete(broker, context, topic.id, &topic.name, deadline).await,
    };
    let answer = DeletableTopicResult::default().with_name(name);
    let answer = if context.version >= 6 {
        answer.with_topic_id(id)
    } else {
        answer
    };
    match done {
        Ok(()) => answer,
        Err((code, message)) => {
            let answer = answer.with_error_code(code.code());
            if context.version >= 5 {
                answer.with_error_message(Some(text(message)))
            } else {
                answer
            }
        }
    }
}

async fn delete(
    broker: &Broker,
    context: &RequestContext,
    id: TopicId,
    name: &str,
    deadline: Instant,
) -> Result<(), (ErrorCode, String)> {
    if !broker.allows(context, Operation::Delete, Resource::Topic(name)) {
        return Err((
            ErrorCode::TopicAuthorizationFailed,
            "not authorized".to_owned(),
        ));
    }
    if !broker.config.values.truth("delete.topic.enable") {
        let code = if context.version >= 3 {
            ErrorCode::TopicDeletionDisabled
        } else {
            ErrorCode::InvalidRequest
        };
        return Err((code, "delete.topic.enable is false".to_owned()));
    }
    let submitted = broker.controller.submit(Command::DeleteTopic { topic: id });
    let late = || (ErrorCode::RequestTimedOut, "still being deleted".to_owned());
    let submitted = tokio::time::timeout_at(deadline, submitted)
        .await
        .map_err(|_| late())?;
    submitted.map_err(|error| (controller_code(&error), error.to_string()))?;
    let gone = broker
        .wait_for(deadline, |image| image.topic_by_id(id).is_none())
        .await;
    if gone { Ok(()) } else { Err(late()) }
}
