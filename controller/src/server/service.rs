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

use crate::client::Inner;
use crate::error::{Error, ErrorKind};
use crate::limits::{MAX_RPC_BYTES, MAX_SNAPSHOTS_RECEIVED, SNAPSHOT_TIMEOUT};
use crate::raft::{NotDone, node, serve};
use crate::rpc::{Service, method, wire};

/// Answers for one voter.
#[derive(Clone)]
pub(crate) struct VoterService {
    inner: Arc<Inner>,
    receiving: Arc<Semaphore>,
}

// === impl VoterService ===

impl VoterService {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let receiving = Arc::new(Semaphore::new(MAX_SNAPSHOTS_RECEIVED));
        Self { inner, receiving }
    }

    async fn identify(self) -> Result<Response<wire::Identity>, Status> {
        let initialized = node::is_initialized(&self.inner.raft);
        let initialized = initialized
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(wire::Identity {
            node: self.inner.voter.node,
            directory: self.inner.voter.directory.as_bytes().to_vec(),
            initialized,
        }))
    }

    async fn snapshot(
        self,
        asked: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::Installed>, Status> {
        let permit = self.receiving.try_acquire();
        let _permit =
            permit.map_err(|_| Status::resource_exhausted("another snapshot is coming in"))?;
        timeout(SNAPSHOT_TIMEOUT, serve::snapshot(&self.inner.raft, asked))
            .await
            .map_err(|_| Status::deadline_exceeded("the snapshot took too long"))?
    }

    async fn ask(self, asked: Request<wire::Ask>) -> Result<Response<wire::Outcome>, Status> {
        match self.inner.answer(asked.get_ref()).await {
            Ok(outcome) => Ok(Response::new(outcome)),
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
        let raft = self.inner.raft.clone();
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
                let vote = service_fn(|asked| serve::vote(&raft, asked));
                grpc::<wire::Voted, wire::AskVote>()
                    .unary(vote, request)
                    .await
            }
            method::PRE_VOTE => {
                let vote = service_fn(|asked| serve::pre_vote(&raft, asked));
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
        let voter = &self.inner.voter;
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
