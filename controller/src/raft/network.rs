//! Raft's calls to other voters.
//!
//! ```text
//!   replication ──stream of Append──▶ one gRPC stream ──▶ Appended, in order
//! ```
//!
//! Entries are sent without waiting for the answer to those before: a stream keeps their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, AbortHandle, BoxStream};
use futures::{Stream, StreamExt};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use super::convert::{get_appended, get_voted, put_append, put_ask_vote};
use super::snapshots::{self, SnapshotData};
use super::types::{TypeConfig, Voter, get_vote, put_log_id, put_vote};
use crate::limits::{APPEND_PATIENCE, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_TIMEOUT};
use crate::rpc::{Channels, Target, method, wire};

/// Makes ways to other voters.
pub(crate) struct Peers {
    pub(crate) channels: Channels,
}

/// The way to one voter.
#[derive(Clone)]
pub(crate) struct Peer {
    channels: Channels,
    target: Target,
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, voter: &Voter) -> Peer {
        Peer {
            channels: self.channels.clone(),
            target: voter.target(target),
        }
    }
}

// === impl Voter ===

impl Voter {
    /// As a callee.
    pub(crate) fn target(&self, node: u64) -> Target {
        Target {
            node,
            address: self.address.clone(),
            directory: Uuid::from_u128(self.directory),
        }
    }
}

// === impl Peer ===

impl Peer {
    /// What a failed call means: whom it makes no sense to ask again at once.
    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        let reason = format!(
            "voter {} at {}: {}",
            self.target.node,
            self.target.address,
            status.message()
        );
        let error = std::io::Error::other(reason);
        match status.code() {
            Code::Unavailable | Code::FailedPrecondition | Code::DeadlineExceeded => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            _ => RPCError::Network(NetworkError::new(&error)),
        }
    }

    async fn ask_vote(
        &self,
        method: &'static str,
        rpc: VoteRequest<TypeConfig>,
        within: Duration,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let question = put_ask_vote(&rpc);
        let target = self.channels.current(&self.target);
        let voted = self.channels.ask(&target, method, question, within).await;
        get_voted(&voted.map_err(|e| self.failed(&e))?).map_err(|e| self.failed(&e))
    }

    /// Answers in order, each within `patience` of the request that it answers. Requests end with
    /// them.
    fn answers(
        self,
        answers: Streaming<wire::Appended>,
        unanswered: Arc<Unanswered>,
        requests: AbortOnDrop,
    ) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        stream::unfold(Some((self, answers, requests)), move |state| {
            let unanswered = unanswered.clone();
            async move {
                let (peer, mut answers, requests) = state?;
                let next = tokio::select! {
                    biased;
                    next = answers.message() => next,
                    patience = unanswered.overdue() => {
                        let reason = format!("no answer within {patience:?}");
                        Err(Status::deadline_exceeded(reason))
                    }
                };
                match next.and_then(|next| next.as_ref().map(get_appended).transpose()) {
                    Ok(None) => None,
                    Ok(Some(Ok(durable))) => {
                        unanswered.answered();
                        Some((Ok(Ok(durable)), Some((peer, answers, requests))))
                    }
                    Ok(Some(Err(refused))) => Some((Ok(Err(refused)), None)),
                    Err(status) => Some((Err(peer.failed(&status)), None)),
                }
            }
        })
    }
}

/// When the requests were sent that have no answer yet.
struct Unanswered {
    patience: Duration,
    /// Oldest first. openraft bounds how many requests go ahead of their answers.
    sent: Mutex<VecDeque<Instant>>,
    changed: Notify,
}

// === impl Unanswered ===

impl Unanswered {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            sent: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn sent(&self) {
        self.sent.lock().push_back(Instant::now());
        self.changed.notify_one();
    }

    fn answered(&self) {
        self.sent.lock().pop_front();
    }

    /// Returns when the oldest has waited too long.
    async fn overdue(&self) -> Duration {
        loop {
            let oldest = self.sent.lock().front().copied();
            match oldest {
                // Nothing is asked: silence is right.
                None => self.changed.notified().await,
                Some(sent) => {
                    sleep_until(sent + self.patience).await;
                    return self.patience;
                }
            }
        }
    }
}

/// Ends the requests of a stream: whatever they wait for, nobody reads their answers any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let input = stream::iter([rpc]);
        let ended = self.failed(&Status::unavailable("the stream ended"));
        let answer = self.stream_append(input, option).await?.next().await;
        Ok(answer.ok_or(ended)??.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let peer = self.clone();
        let mut input = input;
        Box::pin(async move {
            // The first request comes after the pause that earlier failures ask for: a connection
            // that is tried before it would be tried without end.
            let Some(first) = input.next().await else {
                return Ok(stream::empty().boxed());
            };
            let patience = option.soft_ttl().max(APPEND_PATIENCE);
            let unanswered = Arc::new(Unanswered::new(patience));
            let noted = unanswered.clone();
            let requests = stream::iter([first]).chain(input).map(move |request| {
                noted.sent();
                put_append(&request)
            });
            let (requests, handle) = stream::abortable(requests);
            let ended = AbortOnDrop(handle);
            let target = peer.channels.current(&peer.target);
            let answers = peer
                .channels
                .stream(&target, method::APPEND, requests, patience)
                .await
                .map_err(|e| peer.failed(&e))?;
            Ok(peer.answers(answers, unanswered, ended).boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(method::VOTE, rpc, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(method::PRE_VOTE, rpc, option.soft_ttl())
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let file = bytes::Bytes::from(snapshots::encode(&snapshot.meta, &snapshot.snapshot));
        let total = file.len() as u64;
        let vote = put_vote(&vote);
        let chunks = (0..file.len())
            .step_by(SNAPSHOT_CHUNK_BYTES)
            .map(move |at| wire::SnapshotChunk {
                vote: (at == 0).then(|| vote.clone()),
                total,
                bytes: file.slice(at..file.len().min(at + SNAPSHOT_CHUNK_BYTES)),
            });
        let target = self.channels.current(&self.target);
        let sending = self.channels.send::<_, wire::Installed>(
            &target,
            method::SNAPSHOT,
            stream::iter(chunks),
            SNAPSHOT_TIMEOUT,
        );
        let installed = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            installed = sending => installed.map_err(|e| self.failed(&e))?,
        };
        let missing = || self.failed(&Status::internal("a snapshot's answer without a vote"));
        let vote = installed.vote.as_ref().ok_or_else(missing)?;
        Ok(SnapshotResponse::new(get_vote(vote)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let question = wire::Transfer {
            from: Some(put_vote(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(put_log_id),
        };
        let target = self.channels.current(&self.target);
        let asked = self.channels.ask::<_, wire::Nothing>(
            &target,
            method::TRANSFER,
            question,
            option.soft_ttl(),
        );
        asked.await.map_err(|e| self.failed(&e))?;
        Ok(Ok(()))
    }
}

/// A refusal on the way.
pub(super) type Refused = StreamAppendError<TypeConfig>;
