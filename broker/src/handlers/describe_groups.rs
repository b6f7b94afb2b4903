//! DescribeGroups, key 15, versions 0 to 6.
//!
//! - 3+ authorized operations when asked for (KIP-430); 4+ instance ids (KIP-345); 6 says
//!   GROUP_ID_NOT_FOUND for a group that does not exist, where older versions say state `Dead`
//!   and no error (KIP-1043).

use std::collections::BTreeSet;

use protocol::ErrorCode;
use protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::group_requests::{ask, may, name, patience, text};
use crate::auth::{OPERATIONS_NOT_ASKED, Operation, Resource, authorized_operations};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{DescribedMember, Description, GroupError, GroupState, Reply, Request};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for group in request.groups {
        // Whoever asks twice is answered once.
        if !seen.insert(group.to_string()) {
            continue;
        }
        let operations = request.include_authorized_operations;
        groups.push(describe(broker, context, group, operations).await);
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

async fn describe(
    broker: &Broker,
    context: &RequestContext,
    group: GroupId,
    operations: bool,
) -> DescribedGroup {
    let told = DescribedGroup::default().with_group_id(group.clone());
    if !may(broker, context, Operation::Describe, &group) {
        let told = told.with_authorized_operations(OPERATIONS_NOT_ASKED);
        return told.with_error_code(ErrorCode::GroupAuthorizationFailed.code());
    }
    let told = told.with_authorized_operations(if operations && context.version >= 3 {
        authorized_operations(&*broker.authorizer, context, Resource::Group(&group))
    } else {
        OPERATIONS_NOT_ASKED
    });
    let request = Request::Describe(name(&group));
    let result = match ask(broker, request, Some(patience(broker))).await {
        Ok(Reply::Describe(result)) => result,
        Ok(other) => unreachable!("a description is answered as one, not with {other:?}"),
        Err(error) => Err(error),
    };
    match result {
        Ok(description) => shown(context.version, told, description),
        Err(GroupError::GroupIdNotFound) if context.version < 6 => {
            told.with_group_state(text(GroupState::Dead.name()))
        }
        Err(GroupError::GroupIdNotFound) => {
            let message = format!("Group {} not found.", group.as_str());
            told.with_group_state(text(GroupState::Dead.name()))
                .with_error_code(GroupError::GroupIdNotFound.code())
                .with_error_message(Some(text(&message)))
        }
        Err(error) => told.with_error_code(error.code()),
    }
}

fn shown(version: i16, told: DescribedGroup, description: Description) -> DescribedGroup {
    let member = |member: DescribedMember| {
        let told = DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        let instance_id = member.instance_id.as_deref().map(text);
        if version >= 4 {
            told.with_group_instance_id(instance_id)
        } else {
            told
        }
    };
    told.with_group_state(text(description.state.name()))
        .with_protocol_type(text(&description.protocol_type))
        .with_protocol_data(text(&description.protocol))
        .with_members(description.members.into_iter().map(member).collect())
}
