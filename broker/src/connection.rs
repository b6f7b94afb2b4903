//! One client's connection: requests start in order, answers leave in order.
//!
//! ```text
//! socket ─▶ FrameReader ─▶ decode ─┬─ Produce ─▶ appended at once ─▶ waits for durability ─┐
//!                                  └─ others, once all before are answered ─▶ handler ─────┤
//! socket ◀─ ResponseWriter ◀──────────────────────── in order of requests ◀────────────────┘
//! ```
//!
//! **Invariant:** a Produce is appended before the next request starts; any other request starts
//! only when everything before it has been answered. At most [`Pipeline`] Produces wait at once.

mod read;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use env::BoxStream;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use protocol::messages::{ApiVersionsRequest, ProduceRequest, StrBytes};
use protocol::{
    ApiKey, Error as ProtocolError, Request, RequestHeader, Response, decode_request,
    encode_response, encode_unsupported_api_versions,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::{Principal, RequestContext, Software};
use crate::memory::FrameBudget;
use crate::metrics::ConnectionMetrics;
use crate::refused::RefusedBatches;

pub(crate) use read::{Frame, FrameReader, ReadError, ReadSettings};
use write::ResponseWriter;

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the client is told; `None` for a Produce that wants no answer.
    pub(crate) response: Option<Response>,
    /// For how long nothing more is read afterwards (KIP-219).
    pub(crate) mute: Duration,
}

impl Answer {
    /// An answer of an API's own.
    pub(crate) fn new(response: impl Into<Response>) -> Self {
        Self {
            response: Some(response.into()),
            mute: Duration::ZERO,
        }
    }
}

/// The request ends its connection instead of being answered; says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Hangup(pub(crate) &'static str);

/// What a Produce that is appended still waits for.
pub(crate) type Pending = BoxFuture<'static, Result<Answer, Hangup>>;

/// Serves requests. The broker does; tests put a small one in its place.
#[async_trait]
pub(crate) trait Service: Send + Sync + 'static {
    /// Appends; the result resolves once what was appended is durable. Work on `frame`'s bytes
    /// that may outlive the call holds the frame, and with it what the frame has of the budget.
    async fn produce(
        &self,
        context: &RequestContext,
        request: ProduceRequest,
        frame: &Arc<Frame>,
    ) -> Result<Pending, Hangup>;

    /// Serves any other request.
    async fn call(&self, context: &RequestContext, request: Request) -> Result<Answer, Hangup>;
}

/// How many Produces of one connection may wait for durability at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipeline {
    /// Requests.
    pub(crate) requests: usize,
    /// Bytes of their frames.
    pub(crate) bytes: usize,
}

/// How a connection behaves; the same for all of a server.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    /// Reading.
    pub(crate) read: ReadSettings,
    /// Pipelining.
    pub(crate) pipeline: Pipeline,
}

/// What connections of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Who answers.
    pub(crate) service: Arc<dyn Service>,
    /// Memory for frames.
    pub(crate) budget: Arc<FrameBudget>,
    /// Behaviour.
    pub(crate) settings: ConnectionSettings,
    /// Counters.
    pub(crate) metrics: Arc<ConnectionMetrics>,
    /// Cancelled when nothing new is to be read, and what is in flight is to be answered.
    pub(crate) drain: CancellationToken,
}

/// Which connection this is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Number within the process.
    pub(crate) id: u64,
    /// Listener's name.
    pub(crate) listener: Arc<str>,
    /// The other side.
    pub(crate) peer: SocketAddr,
}

/// One request on its way out.
struct Outgoing {
    header: RequestHeader,
    received: Instant,
    reply: Reply,
    // Both are given back when the answer is on its way.
    _slots: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
    /// The request's frame: pinned by what was appended until it is durable.
    _frame: Option<Arc<Frame>>,
}

enum Reply {
    Ready(Box<Answer>),
    /// Already encoded: the one answer that no message's version describes.
    Encoded(Vec<bytes::Bytes>),
    Pending(Pending),
}

/// Serves `stream` until it ends. Dropping the future closes the connection at once.
pub(crate) async fn serve(stream: BoxStream, identity: Identity, shared: Shared) {
    let (read, write) = tokio::io::split(stream);
    // The channel holds what the pipeline lets through, and one more that never waits.
    let (outgoing, answers) = mpsc::channel(shared.settings.pipeline.requests + 1);
    let reader = Reader::new(read, identity.clone(), &shared, outgoing).run();
    let writer = write_answers(ResponseWriter::new(write), answers, &shared.metrics);
    tokio::pin!(reader, writer);
    let end = tokio::select! {
        biased;
        end = &mut writer => end,
        end = &mut reader => match end {
            // What was asked before the client closed its side is still answered.
            Ok(()) => writer.await,
            Err(end) => Err(end),
        },
    };
    match end {
        Ok(()) => {}
        Err(End::Protocol(error)) => {
            shared.metrics.refused.inc();
            tracing::info!(connection = identity.id, peer = %identity.peer, %error, "closed");
        }
        Err(end) => {
            tracing::debug!(connection = identity.id, peer = %identity.peer, %end, "closed");
        }
    }
}

/// Why a connection ends, other than by the client's wish.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Protocol(protocol::Error),
    #[error("{0}")]
    Read(ReadError),
    #[error("cannot write: {0}")]
    Write(std::io::Error),
    #[error("{0}")]
    Hangup(#[from] Hangup),
}

struct Reader<R> {
    frames: FrameReader<R>,
    identity: Identity,
    shared: Shared,
    software: Software,
    /// Batches that were refused here.
    refused: Arc<Mutex<RefusedBatches>>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    outgoing: mpsc::Sender<Outgoing>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(read: R, identity: Identity, shared: &Shared, outgoing: mpsc::Sender<Outgoing>) -> Self {
        let ConnectionSettings {
            read: settings,
            pipeline,
        } = shared.settings.clone();
        Self {
            frames: FrameReader::new(read, Arc::clone(&shared.budget), settings),
            identity,
            shared: shared.clone(),
            software: Software::default(),
            refused: Arc::default(),
            slots: Arc::new(Semaphore::new(pipeline.requests)),
            bytes: Arc::new(Semaphore::new(pipeline.bytes)),
            outgoing,
        }
    }

    async fn run(mut self) -> Result<(), End> {
        let drain = self.shared.drain.clone();
        let drained = drain.cancelled();
        tokio::pin!(drained);
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut drained => return Ok(()),
                frame = self.frames.next() => frame,
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(ReadError::Closed | ReadError::Idle) => return Ok(()),
                Err(ReadError::Length(error)) => return Err(End::Protocol(error)),
                Err(error) => return Err(End::Read(error)),
            };
            self.shared
                .metrics
                .bytes_in
                .inc_by(frame.bytes.len() as u64);
            let mute = self.request(frame).await?;
            if !mute.is_zero() {
                tokio::time::sleep(mute).await;
            }
        }
    }

    /// Starts one request; says for how long to be deaf afterwards.
    async fn request(&mut self, frame: Frame) -> Result<Duration, End> {
        let received = Instant::now();
        let (mut header, request) = match decode_request(frame.bytes.clone()) {
            Ok(decoded) => decoded,
            Err(ProtocolError::UnsupportedVersion {
                key: ApiKey::ApiVersions,
                correlation_id,
                version,
            }) => {
                return self
                    .unsupported_api_versions(correlation_id, version, received)
                    .await;
            }
            Err(error) => return Err(End::Protocol(error)),
        };
        let waits = waits_long(&request);
        if waits {
            // What is kept of it while it waits must not pin the frame.
            header.client_id = header.client_id.as_ref().map(copied);
        }
        let context = RequestContext {
            connection: self.identity.id,
            listener: Arc::clone(&self.identity.listener),
            peer: self.identity.peer,
            principal: Principal::anonymous(),
            client_id: header.client_id.clone(),
            software: self.software.clone(),
            version: header.version,
            received,
            refused: Arc::clone(&self.refused),
        };
        if let Request::Produce(produce) = request {
            self.produce(&context, header, produce, frame).await?;
            return Ok(Duration::ZERO);
        }
        // Every slot: all before are answered.
        let slots = acquire(&self.slots, self.shared.settings.pipeline.requests).await;
        let software = software_of(&request, header.version);
        let answer = if waits {
            drop(frame);
            let service = Arc::clone(&self.shared.service);
            tokio::select! {
                biased;
                answer = service.call(&context, request) => answer?,
                end = self.frames.ended() => return Err(End::Read(end)),
            }
        } else {
            self.shared.service.call(&context, request).await?
        };
        if let (Some(software), Some(Response::ApiVersions(response))) =
            (software, &answer.response)
            && response.error_code == 0
        {
            self.software = software;
        }
        let mute = answer.mute;
        let reply = Reply::Ready(Box::new(answer));
        self.send(Outgoing {
            header,
            received,
            reply,
            _slots: slots,
            _bytes: None,
            _frame: None,
        })
        .await;
        Ok(mute)
    }

    /// Appends; the answer is sent once that is durable.
    async fn produce(
        &mut self,
        context: &RequestContext,
        header: RequestHeader,
        produce: ProduceRequest,
        frame: Frame,
    ) -> Result<(), End> {
        let slots = acquire(&self.slots, 1).await;
        let bytes = frame.bytes.len().min(self.shared.settings.pipeline.bytes);
        let bytes = acquire(&self.bytes, bytes).await;
        let frame = Arc::new(frame);
        let service = &self.shared.service;
        let pending = service.produce(context, produce, &frame).await?;
        self.send(Outgoing {
            header,
            received: context.received,
            reply: Reply::Pending(pending),
            _slots: slots,
            _bytes: Some(bytes),
            _frame: Some(frame),
        })
        .await;
        Ok(())
    }

    /// The one request whose version is answered instead of closing the connection (KIP-511).
    async fn unsupported_api_versions(
        &mut self,
        correlation_id: i32,
        version: i16,
        received: Instant,
    ) -> Result<Duration, End> {
        let slots = acquire(&self.slots, self.shared.settings.pipeline.requests).await;
        let encoded = encode_unsupported_api_versions(correlation_id).map_err(End::Protocol)?;
        let header = RequestHeader {
            key: ApiKey::ApiVersions,
            version,
            correlation_id,
            client_id: None,
        };
        let reply = Reply::Encoded(encoded.into_segments());
        self.send(Outgoing {
            header,
            received,
            reply,
            _slots: slots,
            _bytes: None,
            _frame: None,
        })
        .await;
        Ok(Duration::ZERO)
    }

    /// The writer's end closes only when the whole connection does.
    async fn send(&mut self, outgoing: Outgoing) {
        let _ = self.outgoing.send(outgoing).await;
    }
}

/// Whether its answer may take minutes: its frame's memory is given back at once, and the client's
/// going away is noticed.
fn waits_long(request: &Request) -> bool {
    matches!(
        request,
        Request::Fetch(_) | Request::JoinGroup(_) | Request::SyncGroup(_)
    )
}

/// A text that pins no frame.
fn copied(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

fn software_of(request: &Request, version: i16) -> Option<Software> {
    match request {
        Request::ApiVersions(ApiVersionsRequest {
            client_software_name: name,
            client_software_version,
            ..
        }) if version >= 3 => Some(Software {
            // Copied: they outlive the request's frame.
            name: copied(name),
            version: copied(client_software_version),
        }),
        _ => None,
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count).expect("a pipeline is below 4 GiB");
    Arc::clone(semaphore)
        .acquire_many_owned(count)
        .await
        .expect("a connection's semaphores are never closed")
}

/// Sends answers in order until the reader is done and all are sent.
async fn write_answers<W: AsyncWrite + Unpin>(
    mut writer: ResponseWriter<W>,
    mut answers: mpsc::Receiver<Outgoing>,
    metrics: &ConnectionMetrics,
) -> Result<(), End> {
    let mut next = answers.recv().await;
    while let Some(mut outgoing) = next {
        let reply = std::mem::replace(&mut outgoing.reply, Reply::Encoded(Vec::new()));
        let segments = match reply {
            Reply::Encoded(segments) => segments,
            Reply::Ready(answer) => encode(&outgoing.header, *answer)?,
            Reply::Pending(mut pending) => {
                // Small answers that are ready go out together.
                let answer = match futures::poll!(&mut pending) {
                    std::task::Poll::Ready(answer) => answer?,
                    std::task::Poll::Pending => {
                        metrics.bytes_out.inc_by(flush(&mut writer).await?);
                        pending.await?
                    }
                };
                encode(&outgoing.header, answer)?
            }
        };
        writer.push(segments);
        metrics.answered(outgoing.header.key, outgoing.received.elapsed());
        next = match answers.try_recv() {
            Ok(next) if !writer.is_full() => Some(next),
            result => {
                metrics.bytes_out.inc_by(flush(&mut writer).await?);
                drop(outgoing);
                match result {
                    Ok(next) => Some(next),
                    Err(_) => answers.recv().await,
                }
            }
        };
    }
    Ok(())
}

async fn flush<W: AsyncWrite + Unpin>(writer: &mut ResponseWriter<W>) -> Result<u64, End> {
    writer
        .flush()
        .await
        .map(|bytes| bytes as u64)
        .map_err(End::Write)
}

fn encode(header: &RequestHeader, answer: Answer) -> Result<Vec<bytes::Bytes>, End> {
    let Some(response) = answer.response else {
        return Ok(Vec::new());
    };
    encode_response(header.key, header.version, header.correlation_id, &response)
        .map(protocol::EncodedFrame::into_segments)
        .map_err(End::Protocol)
}

#[cfg(test)]
mod tests;
