//! Raft's calls to and from messages.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use tonic::Status;

use super::network::Refused;
use super::types::{
    TypeConfig, Vote, decode_entry, encode_entry, get_log_id, get_vote, put_log_id, put_vote, wire,
};
use crate::rpc::wire as sent;

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("{what} is missing"))
}

fn vote_of(vote: Option<&wire::Vote>) -> Result<Vote, Status> {
    vote.map(get_vote).ok_or_else(|| missing("the vote"))
}

pub(super) fn put_append(request: &AppendEntriesRequest<TypeConfig>) -> sent::Append {
    sent::Append {
        vote: Some(put_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(put_log_id),
        committed: request.leader_commit.as_ref().map(put_log_id),
        entries: request
            .entries
            .iter()
            .map(|entry| encode_entry(entry).into())
            .collect(),
    }
}

/// Of a leader other than `own`. openraft takes anything else for impossible.
pub(super) fn leader_vote(vote: Option<&wire::Vote>, own: u64) -> Result<Vote, Status> {
    let vote = vote_of(vote)?;
    if !vote.is_committed() || vote.leader_id().node_id == own {
        return Err(Status::invalid_argument("the vote is no other leader's"));
    }
    Ok(vote)
}

/// The entries must follow each other.
pub(super) fn get_append(
    append: &sent::Append,
    own: u64,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let entries = append.entries.iter().map(|entry| decode_entry(entry));
    let entries = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Status::invalid_argument(e.0))?;
    let too_far = || Status::invalid_argument("an index past the last one");
    let mut next = match &append.previous {
        None => 0,
        Some(id) => id.index.checked_add(1).ok_or_else(too_far)?,
    };
    for entry in &entries {
        if entry.log_id.index() != next {
            let reason = format!("entry {} where {next} is due", entry.log_id.index());
            return Err(Status::invalid_argument(reason));
        }
        next = next.checked_add(1).ok_or_else(too_far)?;
    }
    Ok(AppendEntriesRequest {
        vote: leader_vote(append.vote.as_ref(), own)?,
        prev_log_id: append.previous.as_ref().map(get_log_id),
        entries,
        leader_commit: append.committed.as_ref().map(get_log_id),
    })
}

pub(super) fn put_appended(result: &StreamAppendResult<TypeConfig>) -> sent::Appended {
    let mut appended = sent::Appended::default();
    match result {
        Ok(durable) => appended.durable = durable.as_ref().map(put_log_id),
        Err(StreamAppendError::Conflict(at)) => appended.conflict = Some(put_log_id(at)),
        Err(StreamAppendError::HigherVote(vote)) => appended.higher = Some(put_vote(vote)),
    }
    appended
}

pub(super) fn get_appended(
    appended: &sent::Appended,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    Ok(match (&appended.conflict, &appended.higher) {
        (None, None) => Ok(appended.durable.as_ref().map(get_log_id)),
        (Some(at), None) => Err(Refused::Conflict(get_log_id(at))),
        (None, Some(vote)) => Err(Refused::HigherVote(get_vote(vote))),
        (Some(_), Some(_)) => {
            return Err(Status::internal("both a conflict and a higher vote"));
        }
    })
}

pub(super) fn put_ask_vote(request: &VoteRequest<TypeConfig>) -> sent::AskVote {
    sent::AskVote {
        vote: Some(put_vote(&request.vote)),
        last: request.last_log_id.as_ref().map(put_log_id),
        transfer: request.leadership_transfer,
    }
}

pub(super) fn get_ask_vote(asked: &sent::AskVote) -> Result<VoteRequest<TypeConfig>, Status> {
    let vote = vote_of(asked.vote.as_ref())?;
    if vote.is_committed() {
        return Err(Status::invalid_argument(
            "a candidate's vote is granted already",
        ));
    }
    let mut request = VoteRequest::new(vote, asked.last.as_ref().map(get_log_id));
    request.leadership_transfer = asked.transfer;
    Ok(request)
}

pub(super) fn put_voted(response: &VoteResponse<TypeConfig>) -> sent::Voted {
    sent::Voted {
        vote: Some(put_vote(&response.vote)),
        last: response.last_log_id.as_ref().map(put_log_id),
        granted: response.vote_granted,
    }
}

pub(super) fn get_voted(voted: &sent::Voted) -> Result<VoteResponse<TypeConfig>, Status> {
    let vote = vote_of(voted.vote.as_ref())?;
    let last = voted.last.as_ref().map(get_log_id);
    Ok(VoteResponse::new(vote, last, voted.granted))
}
