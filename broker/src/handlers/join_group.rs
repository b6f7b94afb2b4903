//! JoinGroup, key 11, versions 0 to 9.
//!
//! - 1+ rebalance timeout apart from the session's; 4+ a new dynamic member is sent back with an id
//!   of ours (KIP-394); 5+ static members (KIP-345); 7+ the protocol type comes back; 8+ a reason
//!   (KIP-800); 9 a static leader that returns skips the assignment (KIP-814).
//! - Waits until the group's join phase ends: the answer may take a rebalance timeout.

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::join_group_response::JoinGroupResponseMember;
use protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::group_requests::{ask, may, name, optional, text};
use crate::auth::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{GroupError, JoinReply, JoinRequest, Name, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let version = context.version;
    if !may(broker, context, Operation::Read, &request.group_id) {
        let refused = JoinReply::refused(GroupError::NotAvailable, name(&request.member_id));
        return told(version, refused).with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    if let Some(reason) = request
        .reason
        .as_deref()
        .filter(|reason| !reason.is_empty())
    {
        tracing::debug!(group = %request.group_id.as_str(), reason, "a member joins");
    }
    let join = copied(broker, context, request);
    let member_id = join.member_id.clone();
    let reply = match ask(broker, Request::Join(join), None).await {
        Ok(Reply::Join(reply)) => reply,
        Ok(other) => unreachable!("a join is answered with a join, not {other:?}"),
        Err(error) => JoinReply::refused(error, member_id),
    };
    told(version, reply)
}

/// The request as the group keeps it: nothing of it pins the frame, which is paid back while this
/// waits.
fn copied(broker: &Broker, context: &RequestContext, request: JoinGroupRequest) -> JoinRequest {
    JoinRequest {
        group: name(&request.group_id),
        member_id: name(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        client_id: context
            .client_id
            .as_ref()
            .map_or_else(|| Name::from(""), name),
        client_host: Name::from(format!("/{}", context.peer.ip())),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match context.version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: name(&request.protocol_type),
        protocols: request
            .protocols
            .into_iter()
            .map(|p| (name(&p.name), Bytes::copy_from_slice(&p.metadata)))
            .collect(),
        requires_member_id: context.version >= 4,
        supports_skip_assignment: context.version >= 9,
        nonce: broker.env.entropy.uuid().as_u128(),
    }
}

fn told(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let members = reply.members.into_iter().map(|member| {
        let told = JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_metadata(member.metadata);
        let instance_id = member.instance_id.as_deref().map(text);
        if version >= 5 {
            told.with_group_instance_id(instance_id)
        } else {
            told
        }
    });
    let protocol = reply.protocol.as_deref().map(text);
    let response = JoinGroupResponse::default()
        .with_error_code(reply.error.map_or(ErrorCode::None.code(), GroupError::code))
        .with_generation_id(reply.generation)
        .with_leader(text(&reply.leader))
        .with_member_id(text(&reply.member_id))
        .with_members(members.collect());
    let response = if version >= 7 {
        response
            .with_protocol_type(reply.protocol_type.as_deref().map(text))
            .with_protocol_name(protocol)
    } else {
        // Before 7 the name cannot be null.
        response.with_protocol_name(Some(protocol.unwrap_or_default()))
    };
    if version >= 9 {
        response.with_skip_assignment(reply.skip_assignment)
    } else {
        response
    }
}
