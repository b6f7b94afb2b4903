//! AlterConfigs, key 33, versions 0 to 2: replaces all of a resource's configs with those named.
//!
//! Each resource is changed whole or not at all; a resource that is named twice is refused.

use protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resources::{Alteration, Change, SET, alter, named_twice, twice_refused};
use super::text;
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let deadline = broker.deadline(context, -1);
    let all = request
        .resources
        .iter()
        .map(|r| (r.resource_type, &r.resource_name));
    let twice = named_twice(all);
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let changes = resource.configs.into_iter().map(|config| Change {
            operation: SET,
            name: config.name,
            value: config.value,
        });
        let alteration = Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: changes.collect(),
            replace: true,
        };
        let done = if twice.contains(&(alteration.kind, alteration.name.to_string())) {
            Err(twice_refused())
        } else {
            alter(
                broker,
                context,
                &alteration,
                request.validate_only,
                deadline,
            )
            .await
        };
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(alteration.kind)
            .with_resource_name(alteration.name);
        responses.push(match done {
            Ok(()) => answer,
            Err((code, message)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}
