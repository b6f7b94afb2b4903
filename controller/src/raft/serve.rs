//! Raft's calls from other voters.

use std::future::ready;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use openraft::raft::TransferLeaderRequest;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{get_append, get_ask_vote, leader_vote, put_appended, put_voted};
use super::snapshots;
use super::types::{get_log_id, get_vote, put_vote};
use super::{Local, Raft};
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::rpc::wire;

/// Answers to a stream of appends.
pub(crate) type Appending = BoxStream<'static, Result<wire::Appended, Status>>;

fn stopped(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("the voter has stopped: {error}"))
}

/// Takes log entries as they come; what cannot be read ends the stream.
pub(crate) fn append(raft: &Raft, asked: Streaming<wire::Append>) -> Response<Appending> {
    let own = *raft.node_id();
    let requests = asked
        .and_then(move |append| ready(get_append(&append, own)))
        .inspect_err(|error| tracing::debug!(%error, "a stream of log entries ends"))
        .take_while(|next| ready(next.is_ok()))
        .filter_map(|next| ready(next.ok()));
    let answers = raft.stream_append(requests);
    let answers = answers.map(|answer| match answer {
        Ok(result) => Ok(put_appended(&result)),
        Err(fatal) => Err(stopped(&fatal)),
    });
    Response::new(answers.boxed())
}

/// A candidate asks for a vote.
pub(crate) async fn vote(
    local: &Local,
    asked: Request<wire::AskVote>,
) -> Result<Response<wire::Voted>, Status> {
    let request = get_ask_vote(asked.get_ref())?;
    let response = match local.refusal(&request).await {
        Some(refusal) => refusal,
        None => local.raft.vote(request).await.map_err(|e| stopped(&e))?,
    };
    Ok(Response::new(put_voted(&response)))
}

/// Somebody asks whether it would get a vote.
pub(crate) async fn pre_vote(
    local: &Local,
    asked: Request<wire::AskVote>,
) -> Result<Response<wire::Voted>, Status> {
    let request = get_ask_vote(asked.get_ref())?;
    let response = match local.refusal(&request).await {
        Some(refusal) => refusal,
        None => local
            .raft
            .pre_vote(request)
            .await
            .map_err(|e| stopped(&e))?,
    };
    Ok(Response::new(put_voted(&response)))
}

/// Takes a snapshot whole, checks it, and installs it.
pub(crate) async fn snapshot(
    raft: &Raft,
    asked: Request<Streaming<wire::SnapshotChunk>>,
) -> Result<Response<wire::Installed>, Status> {
    let mut chunks = asked.into_inner();
    let first = chunks.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
    let vote = leader_vote(first.vote.as_ref(), *raft.node_id())?;
    let total = first.total;
    if total > MAX_SNAPSHOT_BYTES {
        let reason = format!("a snapshot of {total} bytes: {MAX_SNAPSHOT_BYTES} are the bound");
        return Err(Status::resource_exhausted(reason));
    }
    let mut file = first.bytes.to_vec();
    while let Some(chunk) = chunks.message().await? {
        if (file.len() + chunk.bytes.len()) as u64 > total {
            return Err(Status::invalid_argument("a snapshot longer than it said"));
        }
        file.extend_from_slice(&chunk.bytes);
    }
    if file.len() as u64 != total {
        return Err(Status::invalid_argument("a snapshot cut short"));
    }
    let (meta, state) = snapshots::decode(&file).map_err(|e| Status::invalid_argument(e.0))?;
    drop(file);
    // openraft takes it for impossible, and panics.
    let ahead = meta.last_log_id.as_ref().is_some_and(|last| {
        let (of, leader) = (last.committed_leader_id(), vote.leader_id());
        (of.term, of.node_id) > (leader.term, leader.node_id)
    });
    if ahead {
        return Err(Status::invalid_argument("a snapshot ahead of its vote"));
    }
    let snapshot = openraft::Snapshot {
        meta,
        snapshot: state,
    };
    let installed = raft.install_full_snapshot(vote, snapshot).await;
    let installed = installed.map_err(|e| stopped(&e))?;
    Ok(Response::new(wire::Installed {
        vote: Some(put_vote(&installed.vote)),
    }))
}

/// The leader steps aside for this voter.
pub(crate) async fn transfer(
    raft: &Raft,
    asked: Request<wire::Transfer>,
) -> Result<Response<wire::Nothing>, Status> {
    let asked = asked.into_inner();
    let from = asked.from.as_ref().map(get_vote);
    let from = from.ok_or_else(|| Status::invalid_argument("a transfer without a vote"))?;
    let last = asked.last.as_ref().map(get_log_id);
    let request = TransferLeaderRequest::new(from, asked.to, last);
    let taken = raft.handle_transfer_leader(request).await;
    match taken.map_err(|e| stopped(&e))? {
        Ok(()) => Ok(Response::new(wire::Nothing {})),
        Err(refused) => Err(Status::aborted(refused.to_string())),
    }
}
