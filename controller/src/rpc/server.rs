//! The callee's side: accepts connections and hands calls to a service.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use env::Listener;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use uuid::Uuid;

use super::accept::Incoming;
use super::tls::{Link, Tls};
use crate::limits::{
    MAX_RPCS_PER_CONNECTION, RPC_KEEPALIVE, RPC_KEEPALIVE_TIMEOUT, RPC_STREAM_WINDOW,
};

/// Header: the voter that a call is for.
pub(super) const NODE: &str = "hw-node";
/// Header: the directory that the caller knows that voter by.
pub(super) const DIRECTORY: &str = "hw-directory";

/// Answers calls.
pub(crate) trait Service: Clone + Send + 'static {
    /// Answers one. `Err` is answered as such.
    fn call(
        self,
        method: String,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, Status>>;

    /// Whom calls must be for, and the method that needs no target.
    fn identity(&self) -> (u64, Uuid, &'static str);
}

/// Serves until dropped; connections end then, too.
pub(crate) async fn serve(listener: Box<dyn Listener>, tls: Option<Tls>, service: impl Service) {
    serve_incoming(Incoming::new(listener, tls), service).await;
}

pub(super) async fn serve_incoming(incoming: Incoming, service: impl Service) {
    let (_serving, served) = watch::channel(());
    let incoming = (incoming, served);
    let incoming = futures::stream::unfold(incoming, |(mut incoming, served)| async move {
        let next = Accepted::new(incoming.next().await, served.clone());
        Some((Ok::<_, Infallible>(next), (incoming, served)))
    });
    let served = Server::builder()
        .max_concurrent_streams(MAX_RPCS_PER_CONNECTION)
        .initial_stream_window_size(RPC_STREAM_WINDOW)
        // A stream that is read slowly must not hold up the others.
        .initial_connection_window_size(8 * RPC_STREAM_WINDOW)
        .http2_keepalive_interval(Some(RPC_KEEPALIVE))
        .http2_keepalive_timeout(Some(RPC_KEEPALIVE_TIMEOUT))
        .serve_with_incoming(Adapter(service), incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "calls from other nodes are no longer answered");
    }
}

/// Refuses what is meant for somebody else.
fn check_target(headers: &http::HeaderMap, node: u64, directory: Uuid) -> Result<(), Status> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let given = header(NODE).and_then(|node| node.parse::<u64>().ok());
    if given != Some(node) {
        let reason = format!("this is voter {node}, the call is for {given:?}");
        return Err(Status::failed_precondition(reason));
    }
    match header(DIRECTORY).map(Uuid::parse_str) {
        None => Ok(()),
        Some(Ok(given)) if given == directory => Ok(()),
        Some(given) => Err(Status::failed_precondition(format!(
            "voter {node} has the directory {directory}, not {given:?}: its disk was replaced"
        ))),
    }
}

/// tower's view of a [`Service`].
#[derive(Clone)]
struct Adapter<S>(S);

impl<S: Service> tower::Service<http::Request<Body>> for Adapter<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.0.clone();
        let method = request.uri().path().to_owned();
        let (node, directory, open) = service.identity();
        Box::pin(async move {
            if method != open
                && let Err(status) = check_target(request.headers(), node, directory)
            {
                return Ok(status.into_http());
            }
            let answered = service.call(method, request).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

/// A connection of `env`'s network, as tonic wants it. tonic serves each in a task of its own, which
/// nobody stops: it fails when the server is dropped.
struct Accepted {
    stream: Link,
    /// `None` once the server is gone.
    serving: Option<BoxFuture<'static, ()>>,
}

// === impl Accepted ===

impl Accepted {
    fn new(stream: Link, mut served: watch::Receiver<()>) -> Self {
        let serving = async move { while served.changed().await.is_ok() {} };
        Self {
            stream,
            serving: Some(Box::pin(serving)),
        }
    }

    fn check_serving(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(serving) = &mut self.serving
            && serving.as_mut().poll(cx).is_pending()
        {
            return Ok(());
        }
        self.serving = None;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_serving(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_serving(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
