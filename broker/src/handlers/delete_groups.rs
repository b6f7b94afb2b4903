//! DeleteGroups, key 42, versions 0 to 2.
//!
//! - Only groups without members; their offsets go with them (KIP-229).

use protocol::ErrorCode;
use protocol::messages::delete_groups_response::DeletableGroupResult;
use protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::group_requests::{ask, code, may, name, patience};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let code = if may(broker, context, Operation::Delete, &group) {
            let delete = Request::DeleteGroup(name(&group));
            match ask(broker, delete, Some(patience(broker))).await {
                Ok(Reply::DeleteGroup(result)) => code(result),
                Ok(other) => unreachable!("a deletion is answered as one, not with {other:?}"),
                Err(error) => error.code(),
            }
        } else {
            ErrorCode::GroupAuthorizationFailed.code()
        };
        results.push(
            DeletableGroupResult::default()
                .with_group_id(group)
                .with_error_code(code),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}
