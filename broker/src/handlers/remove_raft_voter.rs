//! RemoveRaftVoter, key 81, version 0 (KIP-853).
//!
//! Takes a voter of the controllers out, by node and directory: one that stands with another
//! directory is another voter, and so VOTER_NOT_FOUND. The last one stays.

use protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use protocol::{ErrorCode, NodeId};

use super::add_raft_voter::{check, refused};
use super::text;
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    let answer = RemoveRaftVoterResponse::default();
    match remove(broker, context, request).await {
        Ok(()) => answer,
        Err((code, why)) => answer
            .with_error_code(code.code())
            .with_error_message(Some(text(why))),
    }
}

async fn remove(
    broker: &Broker,
    context: &RequestContext,
    request: RemoveRaftVoterRequest,
) -> Result<(), (ErrorCode, String)> {
    check(broker, context, request.cluster_id.as_ref())?;
    let (node, directory) = (NodeId(request.voter_id), request.voter_directory_id);
    let quorum = broker.controller.quorum().await.map_err(|e| refused(&e))?;
    let stands =
        |voter: &controller::QuorumMember| voter.node == node && voter.directory == directory;
    if !quorum.voters.iter().any(stands) {
        let why = format!("no voter {node} stands with directory {directory}");
        return Err((ErrorCode::VoterNotFound, why));
    }
    let removed = broker.controller.remove_voter(node).await;
    removed.map_err(|e| refused(&e))
}
