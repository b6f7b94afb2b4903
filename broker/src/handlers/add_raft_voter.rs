//! AddRaftVoter, key 80, version 0 (KIP-853).
//!
//! The node that answers at the first listener becomes a voter of the controllers, once it has caught
//! up; it must be the one that is named, with that directory. A voter of that id that stands already
//! is DUPLICATE_VOTER.

use protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse, StrBytes};
use protocol::{ErrorCode, NodeId};
use tokio::time::timeout_at;

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AddRaftVoterRequest,
) -> AddRaftVoterResponse {
    let answer = AddRaftVoterResponse::default();
    let deadline = broker.deadline(context, request.timeout_ms);
    let added = timeout_at(deadline, add(broker, context, request)).await;
    let late = || Err((ErrorCode::RequestTimedOut, "no answer in time".to_owned()));
    match added.unwrap_or_else(|_| late()) {
        Ok(()) => answer,
        Err((code, why)) => answer
            .with_error_code(code.code())
            .with_error_message(Some(text(why))),
    }
}

async fn add(
    broker: &Broker,
    context: &RequestContext,
    request: AddRaftVoterRequest,
) -> Result<(), Refused> {
    check(broker, context, request.cluster_id.as_ref())?;
    let Some(listener) = request.listeners.first() else {
        let why = "a voter needs a listener".to_owned();
        return Err((ErrorCode::InvalidRequest, why));
    };
    let host = listener.host.as_str();
    let address = match host.contains(':') {
        true => format!("[{host}]:{}", listener.port),
        false => format!("{host}:{}", listener.port),
    };
    let node = NodeId(request.voter_id);
    let quorum = broker.controller.quorum().await.map_err(|e| refused(&e))?;
    if quorum.voters.iter().any(|voter| voter.node == node) {
        return Err((
            ErrorCode::DuplicateVoter,
            format!("voter {node} stands already"),
        ));
    }
    let voter = (node, request.voter_directory_id);
    let added = broker.controller.add_known_voter(voter, &address).await;
    added.map_err(|e| refused(&e))
}

/// Whether the caller may change the voters of this cluster.
pub(super) fn check(
    broker: &Broker,
    context: &RequestContext,
    cluster: Option<&StrBytes>,
) -> Result<(), Refused> {
    if !broker.allows(context, Operation::Alter, Resource::Cluster) {
        let why = "not authorized to alter the cluster".to_owned();
        return Err((ErrorCode::ClusterAuthorizationFailed, why));
    }
    let here = broker.image().cluster.map(|id| id.to_string());
    match (cluster, here) {
        (Some(meant), Some(here)) if meant.as_str() != here => Err((
            ErrorCode::InconsistentClusterId,
            format!("the cluster is {here}"),
        )),
        _ => Ok(()),
    }
}

/// What the controllers would not do.
pub(super) fn refused(error: &controller::Error) -> Refused {
    let code = match error {
        controller::Error::Settings { .. } => ErrorCode::InvalidRequest,
        other => controller_code(other),
    };
    (code, error.to_string())
}
