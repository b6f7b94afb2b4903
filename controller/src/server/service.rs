//! Calls from other nodes, handed on to raft or to the leader's work.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Response as HttpResponse;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;
use uuid::Uuid;

use super::feed::{self, Watching, Wholes};
use crate::error::{Error, ErrorKind};
use crate::limits::{MAX_RPC_BYTES, MAX_SNAPSHOTS_RECEIVED, MAX_WATCHERS, SNAPSHOT_TIMEOUT};
use crate::raft::{Local, NotDone, node, serve};
use crate::rpc::{Service, method, wire};

/// Answers for one voter.
#[derive(Clone)]
pub(crate) struct VoterService {
    local: Arc<Local>,
    receiving: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    wholes: Arc<Wholes>,
}

// === impl VoterService ===

impl VoterService {
    pub(crate) fn new(local: Arc<Local>) -> Self {
        let receiving = Arc::new(Semaphore::new(MAX_SNAPSHOTS_RECEIVED));
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        Self {
            local,
            receiving,
            watchers,
            wholes: Arc::default(),
        }
    }

    async fn identify(self) -> Result<Response<wire::Identity>, Status> {
        self.local.called();
        let initialized = node::is_initialized(&self.local.raft);
        let initialized = initialized
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let (leader, term) = self.local.leader();
        Ok(Response::new(wire::Identity {
            node: self.local.voter.node,
            directory: self.local.voter.directory.as_bytes().to_vec(),
            initialized,
            leader,
            term,
            members: self.local.member_list(),
            level: u32::from(self.local.shared.newest_level()),
        }))
    }

    fn watch(self) -> Result<Response<Watching>, Status> {
        let watcher = self.watchers.clone().try_acquire_owned();
        let watcher = watcher
            .map_err(|_| Status::resource_exhausted("too many follow this voter already"))?;
        Ok(Response::new(feed::follow(
            self.local,
            self.wholes,
            watcher,
        )))
    }

    async fn snapshot(
        self,
        asked: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::Installed>, Status> {
        let permit = self.receiving.try_acquire();
        let _permit =
            permit.map_err(|_| Status::resource_exhausted("another snapshot is coming in"))?;
        timeout(SNAPSHOT_TIMEOUT, serve::snapshot(&self.local.raft, asked))
            .await
            .map_err(|_| Status::deadline_exceeded("the snapshot took too long"))?
    }

    async fn ask(self, asked: Request<wire::Ask>) -> Result<Response<wire::Outcome>, Status> {
        self.local.called();
        match self.local.answer(asked.get_ref()).await {
            Ok(outcome) => Ok(Response::new(outcome)),
            Err(NotDone::Elsewhere(other)) if asked.get_ref().redirect => {
                Ok(Response::new(wire::Outcome {
                    elsewhere: Some(Local::member(&other)),
                    ..Default::default()
                }))
            }
            Err(NotDone::Elsewhere(other)) => Err(Status::unavailable(format!(
                "voter {} leads now",
                other.node
            ))),
            Err(NotDone::Failed(error @ Error::Settings { .. })) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(NotDone::Failed(error)) => Err(match error.kind() {
                ErrorKind::Retry => Status::unavailable(error.to_string()),
                _ => Status::internal(error.to_string()),
            }),
        }
    }

    async fn answer(
        self,
        method: String,
        request: http::Request<Body>,
    ) -> Result<HttpResponse<Body>, Status> {
        let raft = self.local.raft.clone();
        let response = match &*method {
            method::APPEND => {
                let append = service_fn(|asked: Request<Streaming<wire::Append>>| {
                    let appending = serve::append(&raft, asked.into_inner());
                    async move { Ok::<_, Status>(appending) }
                });
                grpc::<wire::Appended, wire::Append>()
                    .streaming(append, request)
                    .await
            }
            method::VOTE => {
                let vote = service_fn(|asked| serve::vote(&self.local, asked));
                grpc::<wire::Voted, wire::AskVote>()
                    .unary(vote, request)
                    .await
            }
            method::PRE_VOTE => {
                let vote = service_fn(|asked| serve::pre_vote(&self.local, asked));
                grpc::<wire::Voted, wire::AskVote>()
                    .unary(vote, request)
                    .await
            }
            method::SNAPSHOT => {
                let snapshot = service_fn(|asked| self.clone().snapshot(asked));
                grpc::<wire::Installed, wire::SnapshotChunk>()
                    .client_streaming(snapshot, request)
                    .await
            }
            method::TRANSFER => {
                let transfer = service_fn(|asked| serve::transfer(&raft, asked));
                grpc::<wire::Nothing, wire::Transfer>()
                    .unary(transfer, request)
                    .await
            }
            method::IDENTIFY => {
                let identify = service_fn(|_: Request<wire::Nothing>| self.clone().identify());
                grpc::<wire::Identity, wire::Nothing>()
                    .unary(identify, request)
                    .await
            }
            method::WATCH => {
                let watch =
                    service_fn(|_: Request<wire::Watch>| std::future::ready(self.clone().watch()));
                grpc::<wire::Piece, wire::Watch>()
                    .server_streaming(watch, request)
                    .await
            }
            method::ASK => {
                let ask = service_fn(|asked| self.clone().ask(asked));
                grpc::<wire::Outcome, wire::Ask>().unary(ask, request).await
            }
            other => return Err(Status::unimplemented(format!("no method {other}"))),
        };
        Ok(response)
    }
}

impl Service for VoterService {
    fn call(
        self,
        method: String,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<HttpResponse<Body>, Status>> {
        Box::pin(self.answer(method, request))
    }

    fn identity(&self) -> (u64, Uuid, &'static str) {
        let voter = &self.local.voter;
        (voter.node, voter.directory, method::IDENTIFY)
    }
}

fn grpc<E, D>() -> Grpc<ProstCodec<E, D>>
where
    E: prost::Message + Send + 'static,
    D: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MAX_RPC_BYTES)
        .max_encoding_message_size(MAX_RPC_BYTES)
}
