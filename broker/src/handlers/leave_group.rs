//! LeaveGroup, key 13, versions 0 to 5.
//!
//! - 0 to 2 one member; 3+ a batch, also by instance id alone (KIP-345): one rebalance for all of
//!   them; 5 with reasons (KIP-800).

use protocol::ErrorCode;
use protocol::messages::leave_group_response::MemberResponse;
use protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::group_requests::{ask, code, may, name, optional, patience};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{LeaveRequest, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    if !may(broker, context, Operation::Read, &request.group_id) {
        return response.with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    let batch = context.version >= 3;
    let members = if batch {
        let members = request.members.iter();
        members
            .map(|m| (name(&m.member_id), optional(m.group_instance_id.as_ref())))
            .collect()
    } else {
        vec![(name(&request.member_id), None)]
    };
    let leave = LeaveRequest {
        group: name(&request.group_id),
        members,
    };
    let result = match ask(broker, Request::Leave(leave), Some(patience(broker))).await {
        Ok(Reply::Leave(result)) => result,
        Ok(other) => unreachable!("a leave is answered as one, not with {other:?}"),
        Err(error) => Err(error),
    };
    match result {
        Err(error) => response.with_error_code(error.code()),
        Ok(results) if batch => {
            let members = request
                .members
                .into_iter()
                .zip(results)
                .map(|(member, result)| {
                    MemberResponse::default()
                        .with_member_id(member.member_id)
                        .with_group_instance_id(member.group_instance_id)
                        .with_error_code(code(result))
                });
            response.with_members(members.collect())
        }
        Ok(results) => {
            let only = results.into_iter().next().unwrap_or(Ok(()));
            response.with_error_code(code(only))
        }
    }
}
