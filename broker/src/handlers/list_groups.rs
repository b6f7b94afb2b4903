//! ListGroups, key 16, versions 0 to 5.
//!
//! - 4+ states, and a filter on them (KIP-518); 5 types, and a filter on them (KIP-848).
//! - The groups that this broker coordinates. While a coordinator partition loads the list would be
//!   short: COORDINATOR_LOAD_IN_PROGRESS.

use protocol::messages::list_groups_response::ListedGroup;
use protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::group_requests::{may, name, patience, text};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{GroupError, ListRequest};

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let response = ListGroupsResponse::default();
    if !broker.may_acknowledge() {
        return response.with_error_code(GroupError::NotAvailable.code());
    }
    let filter = ListRequest {
        states: request.states_filter.iter().map(name).collect(),
        types: request.types_filter.iter().map(name).collect(),
    };
    let listed = match broker.groups.list(&filter, patience(broker)).await {
        Ok(listed) => listed,
        Err(error) => return response.with_error_code(error.code()),
    };
    let all = broker.allows(context, Operation::Describe, Resource::Cluster);
    let groups = listed
        .into_iter()
        .filter(|group| all || may(broker, context, Operation::Describe, &group.group))
        .map(|group| {
            let told = ListedGroup::default()
                .with_group_id(GroupId(text(&group.group)))
                .with_protocol_type(text(&group.protocol_type));
            let told = if context.version >= 4 {
                told.with_group_state(text(group.state.name()))
            } else {
                told
            };
            if context.version >= 5 {
                told.with_group_type(text("classic"))
            } else {
                told
            }
        });
    response.with_groups(groups.collect())
}
