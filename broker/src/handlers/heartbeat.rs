//! Heartbeat, key 12, versions 0 to 4.
//!
//! - 3+ static members (KIP-345). Keeps the member's session, and tells it of a rebalance.

use protocol::ErrorCode;
use protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::group_requests::{ask, code, may, name, optional, patience};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{MemberRequest, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let response = HeartbeatResponse::default();
    if !may(broker, context, Operation::Read, &request.group_id) {
        return response.with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    let member = MemberRequest {
        group: name(&request.group_id),
        member_id: name(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let result = match ask(broker, Request::Heartbeat(member), Some(patience(broker))).await {
        Ok(Reply::Heartbeat(result)) => result,
        Ok(other) => unreachable!("a heartbeat is answered as one, not with {other:?}"),
        Err(error) => Err(error),
    };
    response.with_error_code(code(result))
}
