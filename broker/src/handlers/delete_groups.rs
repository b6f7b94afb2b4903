//! DeleteGroups, key 42, versions 0 to 3.
//!
//! - Only groups without members; their offsets go with them (KIP-229). Version 3 says why in words.

use protocol::ErrorCode;
use protocol::messages::delete_groups_response::DeletableGroupResult;
use protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use super::group_requests::{ask, may, name, patience, text};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{GroupError, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let mut result = DeletableGroupResult::default();
        if let Err(refused) = delete(broker, context, &group).await {
            result = match refused {
                Refused::ByGroup(error) => result
                    .with_error_code(error.code())
                    .with_error_message(Some(text(&error.to_string()))),
                Refused::NotAuthorized => {
                    result.with_error_code(ErrorCode::GroupAuthorizationFailed.code())
                }
            };
        }
        results.push(result.with_group_id(group));
    }
    DeleteGroupsResponse::default().with_results(results)
}

enum Refused {
    NotAuthorized,
    ByGroup(GroupError),
}

async fn delete(broker: &Broker, context: &RequestContext, group: &GroupId) -> Result<(), Refused> {
    if !may(broker, context, Operation::Delete, group) {
        return Err(Refused::NotAuthorized);
    }
    let delete = Request::DeleteGroup(name(group));
    match ask(broker, delete, Some(patience(broker))).await {
        Ok(Reply::DeleteGroup(result)) => result.map_err(Refused::ByGroup),
        Ok(other) => unreachable!("a deletion is answered as one, not with {other:?}"),
        Err(error) => Err(Refused::ByGroup(error)),
    }
}
