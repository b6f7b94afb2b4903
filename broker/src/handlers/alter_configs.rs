//! AlterConfigs, key 33, versions 0 to 2: replaces all of a resource's configs with those named.
//!
//! Each resource is changed whole or not at all; a resource that is named twice is refused.

use protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resources::{Alteration, Change, SET, alter_all};
use super::text;
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let alterations: Vec<Alteration> = request
        .resources
        .into_iter()
        .map(|resource| Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: resource
                .configs
                .into_iter()
                .map(|config| Change {
                    operation: SET,
                    name: config.name,
                    value: config.value,
                })
                .collect(),
            replace: true,
        })
        .collect();
    let done = alter_all(broker, context, &alterations, request.validate_only).await;
    let responses = alterations.into_iter().zip(done).map(|(asked, done)| {
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(asked.kind)
            .with_resource_name(asked.name);
        match done {
            Ok(()) => answer,
            Err((code, message)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        }
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}
