//! The caller's side: one connection per address, made when first needed and again when lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use env::{BoxStream, Network};
use futures::Stream;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::server::{DIRECTORY, NODE};
use super::tls::{Link, Side, Tls, Why};
use super::wire;
use crate::limits::{
    MAX_CHANNELS, MAX_RPC_BYTES, RPC_CONNECT_TIMEOUT, RPC_KEEPALIVE, RPC_KEEPALIVE_TIMEOUT,
};

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The voter.
    pub(crate) node: u64,
    /// `host:port`.
    pub(crate) address: String,
    /// The directory that holds its log; nil for any.
    pub(crate) directory: Uuid,
}

impl Target {
    /// Whether that is the one who says `identity`, and not another at its address by now.
    pub(crate) fn is(&self, identity: &wire::Identity) -> bool {
        let directory = Uuid::from_slice(&identity.directory).unwrap_or_default();
        let same = self.directory.is_nil() || directory == self.directory;
        identity.node == self.node && same
    }
}

/// Connections to other nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channels(Arc<Inner>);

struct Inner {
    net: Arc<dyn Network>,
    tls: Option<Tls>,
    open: Mutex<BTreeMap<String, Line>>,
    /// Where the members stand now: openraft keeps to the address that it began with.
    members: Mutex<BTreeMap<u64, Target>>,
}

/// The way to one address.
#[derive(Clone)]
struct Line {
    channel: Channel,
    why: Why,
}

// === impl Target ===

impl Target {
    /// A member as it is told of. A directory that cannot be read will not be the callee's.
    pub(crate) fn from_member(member: &super::wire::Member) -> Self {
        Self {
            node: member.node,
            address: member.address.clone(),
            directory: Uuid::from_slice(&member.directory).unwrap_or_default(),
        }
    }
}

// === impl Channels ===

impl Channels {
    /// With `tls`, every connection is TLS.
    pub(crate) fn new(net: Arc<dyn Network>, tls: Option<Tls>) -> Self {
        Self(Arc::new(Inner {
            net,
            tls,
            open: Mutex::default(),
            members: Mutex::default(),
        }))
    }

    /// What connections are secured with, if anything.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    /// From now on these are the members.
    pub(crate) fn set_members(&self, members: BTreeMap<u64, Target>) {
        *self.0.members.lock() = members;
    }

    /// The same member, where it is reached now.
    pub(crate) fn current(&self, target: &Target) -> Target {
        let members = self.0.members.lock();
        let now = members
            .get(&target.node)
            .filter(|now| now.directory == target.directory || target.directory.is_nil());
        now.unwrap_or(target).clone()
    }

    fn to(&self, address: &str) -> Result<Line, Status> {
        let mut open = self.0.open.lock();
        if let Some(line) = open.get(address) {
            return Ok(line.clone());
        }
        if open.len() >= MAX_CHANNELS {
            open.clear();
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Status::invalid_argument(format!("address {address:?}: {e}")))?
            .connect_timeout(RPC_CONNECT_TIMEOUT)
            .http2_keep_alive_interval(RPC_KEEPALIVE)
            .keep_alive_timeout(RPC_KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let why = Why::default();
        let (net, tls, because) = (self.0.net.clone(), self.0.tls.clone(), why.clone());
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let (net, tls, why) = (net.clone(), tls.clone(), because.clone());
            async move { connect(&*net, tls, why, &uri).await.map(TokioIo::new) }
        }));
        let line = Line { channel, why };
        open.insert(address.to_owned(), line.clone());
        Ok(line)
    }

    /// One question, one answer, within a deadline that the callee knows too.
    pub(crate) async fn ask<Q, A>(
        &self,
        target: &Target,
        method: &'static str,
        question: Q,
        within: Duration,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = addressed(question, target);
        request.set_timeout(within);
        let call = |mut grpc: Grpc<Channel>, method, codec: ProstCodec<Q, A>| async move {
            grpc.unary(request, method, codec).await
        };
        self.call(target, method, within, call).await
    }

    /// Many messages, one answer.
    pub(crate) async fn send<Q, A>(
        &self,
        target: &Target,
        method: &'static str,
        messages: impl Stream<Item = Q> + Send + 'static,
        within: Duration,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = addressed(messages, target);
        let call = |mut grpc: Grpc<Channel>, method, codec: ProstCodec<Q, A>| async move {
            grpc.client_streaming(request, method, codec).await
        };
        self.call(target, method, within, call).await
    }

    /// One question, many answers. The deadline is for the first sign of life; the caller watches
    /// over the rest.
    pub(crate) async fn watch<Q, A>(
        &self,
        target: &Target,
        method: &'static str,
        question: Q,
        within: Duration,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = addressed(question, target);
        let call = |mut grpc: Grpc<Channel>, method, codec: ProstCodec<Q, A>| async move {
            grpc.server_streaming(request, method, codec).await
        };
        self.call(target, method, within, call).await
    }

    /// Many messages, as many answers. The deadline is for the first sign of life; the caller
    /// watches over the rest.
    pub(crate) async fn stream<Q, A>(
        &self,
        target: &Target,
        method: &'static str,
        messages: impl Stream<Item = Q> + Send + 'static,
        within: Duration,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = addressed(messages, target);
        let call = |mut grpc: Grpc<Channel>, method, codec: ProstCodec<Q, A>| async move {
            grpc.streaming(request, method, codec).await
        };
        self.call(target, method, within, call).await
    }

    /// A call of any kind, begun once the line stands; its first answer.
    async fn call<Q, A, F, T>(
        &self,
        target: &Target,
        method: &'static str,
        within: Duration,
        call: impl FnOnce(Grpc<Channel>, PathAndQuery, ProstCodec<Q, A>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
        ProstCodec<Q, A>: Default,
    {
        let Line { channel, why } = self.to(&target.address)?;
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(MAX_RPC_BYTES)
            .max_encoding_message_size(MAX_RPC_BYTES);
        let called = async move {
            let ready = grpc.ready().await;
            ready.map_err(|e| Status::unavailable(format!("not connected: {e}")))?;
            call(
                grpc,
                PathAndQuery::from_static(method),
                ProstCodec::default(),
            )
            .await
        };
        Ok(in_time(within, called, &why).await?.into_inner())
    }
}

/// Gives up after `within`; says why the connection broke where that is known.
async fn in_time<T>(
    within: Duration,
    call: impl Future<Output = Result<T, Status>>,
    why: &Why,
) -> Result<T, Status> {
    let called = timeout(within, call).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!(
            "no answer within {within:?}"
        )))
    });
    called.map_err(|status| match why.get() {
        // It never came to a call: nobody there has said anything.
        Some(why) => Status::unavailable(why),
        None => status,
    })
}

fn addressed<T>(message: T, target: &Target) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(NODE, target.node.into());
    if !target.directory.is_nil() {
        let directory = target.directory.simple().to_string();
        let directory = directory.parse().expect("hexadecimal digits");
        metadata.insert(DIRECTORY, directory);
    }
    request
}

async fn connect(
    net: &dyn Network,
    tls: Option<Tls>,
    why: Why,
    uri: &Uri,
) -> std::io::Result<Link> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or_default();
    let peer = format!("{host}:{port}");
    why.clear();
    let mut stream = reach(net, host, port).await?;
    if let Some(tls) = &tls {
        stream = tls.connect(stream, host).await.inspect_err(|error| {
            why.set(Side::Caller, &peer, &error.to_string());
        })?;
    }
    Ok(Link::new(stream, tls, Side::Caller, peer, why))
}

async fn reach(net: &dyn Network, host: &str, port: u16) -> std::io::Result<BoxStream> {
    let mut last = std::io::Error::new(
        std::io::ErrorKind::NotFound,
        format!("{host} has no address"),
    );
    for address in net.resolve(host, port).await? {
        match net.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
