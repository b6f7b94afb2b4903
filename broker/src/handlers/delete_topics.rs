//! DeleteTopics, key 20, versions 1 to 6.
//!
//! 6: topics by name or by id (KIP-516), not both; one named twice is not deleted. Topics succeed and fail one by one; the answer comes when
//! this broker's image no longer holds them.

use std::collections::BTreeMap;

use controller::{Command, Image};
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
    let mut answers = Vec::with_capacity(asked.len());
    let wrong = wrong(&broker.image(), &asked);
    for (topic, wrong) in asked.into_iter().zip(wrong) {
        answers.push(answer(broker, context, topic, wrong, deadline).await);
    }
    DeleteTopicsResponse::default().with_responses(answers)
}

/// What is wrong with each entry by itself: a name or an id, one of them, and each topic once.
fn wrong(image: &Image, asked: &[DeleteTopicState]) -> Vec<Option<&'static str>> {
    // A topic by its id and by its name is the same topic.
    let key = |one: &DeleteTopicState| match &one.name {
        Some(name) => match image.topic(name) {
            Some(topic) => (None, topic.id),
            None => (Some(name.to_string()), TopicId::default()),
        },
        None => (None, TopicId(one.topic_id)),
    };
    let mut times: BTreeMap<(Option<String>, TopicId), usize> = BTreeMap::new();
    for one in asked {
        *times.entry(key(one)).or_default() += 1;
    }
    let problem = |one: &DeleteTopicState| match (&one.name, one.topic_id.is_nil()) {
        (Some(_), false) => Some("a topic is named by its name and by its id"),
        (None, true) => Some("a topic is named by neither a name nor an id"),
        _ if times[&key(one)] > 1 => Some("the topic is named twice"),
        _ => None,
    };
    asked.iter().map(problem).collect()
}

async fn answer(
    broker: &Broker,
    context: &RequestContext,
    asked: DeleteTopicState,
    wrong: Option<&'static str>,
    deadline: Instant,
) -> DeletableTopicResult {
    let image = broker.image();
    let found = match &asked.name {
        // Of what is refused as it stands nothing more is told than was asked.
        _ if wrong.is_some() => None,
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
    let done = match (wrong, found) {
        (Some(wrong), _) => Err((ErrorCode::InvalidRequest, wrong.to_owned())),
        (None, None) => Err((unknown, unknown.message().to_owned())),
        (None, Some(topic)) => delete(broker, context, topic.id, &topic.name, deadline).await,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use controller::TopicImage;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_topic_is_named_once_and_one_way() {
        let mut image = Image::default();
        let id = Uuid::from_u128(7);
        let known = Arc::new(TopicImage {
            name: Arc::from("known"),
            id: TopicId(id),
            internal: false,
            created_ms: 0,
            configs: BTreeMap::new(),
            partitions: Vec::new(),
        });
        Arc::make_mut(&mut image.topics).insert(Arc::from("known"), Arc::clone(&known));
        Arc::make_mut(&mut image.topics_by_id).insert(TopicId(id), known);
        let by = |name: Option<&str>, id: Uuid| {
            DeleteTopicState::default()
                .with_name(name.map(|name| TopicName(text(name))))
                .with_topic_id(id)
        };
        let refused = |asked: &[DeleteTopicState]| -> Vec<bool> {
            let wrong = wrong(&image, asked);
            wrong.iter().map(Option::is_some).collect()
        };
        let nil = Uuid::nil();
        let named = by(Some("known"), nil);
        assert_eq!(refused(&[named.clone(), by(Some("b"), nil)]), [false; 2]);
        assert_eq!(refused(&[by(Some("known"), id), by(None, nil)]), [true; 2]);
        assert_eq!(
            refused(&[by(Some("b"), nil), by(Some("b"), nil)]),
            [true; 2]
        );
        assert_eq!(refused(&[named, by(None, id)]), [true; 2]);
        assert_eq!(refused(&[by(None, id), by(None, Uuid::max())]), [false; 2]);
    }
}
