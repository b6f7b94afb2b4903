//! SyncGroup, key 14, versions 0 to 5.
//!
//! - 3+ static members (KIP-345); 5 says which protocol type and name the member believes in, and
//!   is told those in force (KIP-559).
//! - A follower waits until the leader has given its assignment, and the assignment is durable.

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::group_requests::{ask, may, name, optional, text};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{MemberRequest, Reply, Request, SyncRequest};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let response = SyncGroupResponse::default();
    if !may(broker, context, Operation::Read, &request.group_id) {
        return response.with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version >= 5 && !named {
        return response.with_error_code(ErrorCode::InconsistentGroupProtocol.code());
    }
    let sync = copied(request);
    let result = match ask(broker, Request::Sync(sync), None).await {
        Ok(Reply::Sync(result)) => result,
        Ok(other) => unreachable!("a sync is answered with a sync, not {other:?}"),
        Err(error) => Err(error),
    };
    match result {
        Err(error) => response.with_error_code(error.code()),
        Ok(reply) => {
            let response = response.with_assignment(reply.assignment);
            if context.version < 5 {
                return response;
            }
            response
                .with_protocol_type(reply.protocol_type.as_deref().map(text))
                .with_protocol_name(reply.protocol.as_deref().map(text))
        }
    }
}

/// The request as the group keeps it: nothing of it pins the frame, which is paid back while this
/// waits.
fn copied(request: SyncGroupRequest) -> SyncRequest {
    SyncRequest {
        member: MemberRequest {
            group: name(&request.group_id),
            member_id: name(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        },
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .into_iter()
            .map(|given| {
                let assignment = Bytes::copy_from_slice(&given.assignment);
                (name(&given.member_id), assignment)
            })
            .collect(),
    }
}
