//! HTTP on loopback, with faults between the socket and S3.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::http::HeaderValue;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::buckets::{Buckets, Moved};
use super::{ACCESS_KEY, BUCKET, SECRET_KEY};
use crate::faults::{Asked, Fate, Fault, FaultSettings, Faults, damage};

/// Largest body that is held to be damaged or to land late.
const MAX_HELD_BYTES: usize = 1 << 30;

/// How to run a server.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// Where to listen; loopback only, unless `isolated`.
    pub listen: SocketAddr,
    /// The network it listens on is one that no other machine reaches: a namespace of our own.
    pub isolated: bool,
    /// What the faults are drawn from.
    pub seed: u64,
    /// Which faults at first.
    pub faults: FaultSettings,
    /// Where large objects lie, if not in memory: an empty directory of our own.
    pub dir: Option<PathBuf>,
}

impl Default for S3Settings {
    /// Any free port, no faults.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            isolated: false,
            seed: 1,
            faults: FaultSettings::default(),
            dir: None,
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Shared {
    s3: S3Service,
    secret: Arc<Mutex<String>>,
    faults: Arc<Faults>,
    /// Puts that land later.
    late: Mutex<JoinSet<()>>,
    puts: AtomicU64,
    gets: AtomicU64,
    others: AtomicU64,
    bytes: Arc<Moved>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.faults.settings())
    }
}

/// The answer is lost: hyper closes the connection on it.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("answer lost on purpose")
    }
}

impl std::error::Error for Lost {}

/// The one access key, and its secret of the moment.
struct OneKey(Arc<Mutex<String>>);

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        if access_key != ACCESS_KEY {
            return Err(s3s::s3_error!(InvalidAccessKeyId));
        }
        Ok(SecretKey::from(self.0.lock().clone()))
    }
}

// === impl S3Server ===

impl S3Server {
    /// Starts a server.
    ///
    /// # Errors
    /// When the address is not loopback or not free.
    pub async fn start(settings: S3Settings) -> io::Result<Self> {
        if !settings.isolated && !settings.listen.ip().is_loopback() {
            let reason = "the test server has one well-known key: it listens on loopback only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::new(settings.seed, settings.faults));
        let bytes = Arc::new(Moved::default());
        let buckets = Buckets::new(
            BUCKET,
            Arc::clone(&faults),
            settings.dir,
            Arc::clone(&bytes),
        );
        let mut builder = S3ServiceBuilder::new(buckets);
        let secret = Arc::new(Mutex::new(SECRET_KEY.to_owned()));
        builder.set_auth(OneKey(Arc::clone(&secret)));
        let shared = Arc::new(Shared {
            s3: builder.build(),
            secret,
            faults,
            late: Mutex::default(),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            others: AtomicU64::new(0),
            bytes,
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Self {
            address,
            shared,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The store URL that reaches its bucket, keys under `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        format!(
            "s3://{BUCKET}/{prefix}?endpoint=http://{}&region=us-east-1&path_style=true\
             &allow_http=true&access_key_id={ACCESS_KEY}&secret_access_key={SECRET_KEY}",
            self.address
        )
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, settings: FaultSettings) {
        self.shared.faults.set(settings);
    }

    /// From now on only requests that are signed with another secret are answered.
    pub fn rotate(&self, secret: &str) {
        *self.shared.secret.lock() = secret.to_owned();
    }

    /// Requests that something went wrong with.
    pub fn injected(&self) -> u64 {
        self.shared.faults.injected()
    }

    /// Requests so far: puts, gets (heads included), others.
    pub fn requests(&self) -> (u64, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            count(&self.shared.puts),
            count(&self.shared.gets),
            count(&self.shared.others),
        )
    }

    /// Bytes of objects so far: stored, and read.
    pub fn bytes(&self) -> (u64, u64) {
        self.shared.bytes.so_far()
    }

    /// Closes the socket and every connection. What it stored is gone.
    pub async fn shutdown(self) {
        // The task is gone only if it panicked, which the join tells.
        let _ = self.stop.send(());
        self.task.await.expect("the accept loop does not panic");
        let mut late = std::mem::take(&mut *self.shared.late.lock());
        late.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // Told to, or the handle was dropped.
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                // Concerns that one connection; out of handles, a pause lets some close.
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(std::time::Duration::from_millis(10)).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Nagle's delay would be taken for the store's latency.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

// === impl Shared ===

impl Shared {
    async fn answer(&self, request: HttpRequest<Incoming>) -> Result<HttpResponse, Lost> {
        let asked = self.count(&request);
        let fate = self.faults.draw(asked);
        let request = request.map(Body::from);
        match fate.fault {
            Fault::Unavailable => {
                // The client sends its body whatever happens.
                let request = held(request).await?;
                drop(request);
                sleep(fate.before + fate.after).await;
                Ok(slow_down())
            }
            Fault::LatePut(by) => {
                let request = held(request).await?;
                let s3 = self.s3.clone();
                self.late.lock().spawn(async move {
                    sleep(by).await;
                    // It may find its place taken; nobody waits for the answer.
                    let _ = s3.call(request).await;
                });
                Ok(slow_down())
            }
            Fault::None | Fault::LostAnswer | Fault::Truncated(_) | Fault::Flipped(_) => {
                self.perform(request, fate).await
            }
        }
    }

    async fn perform(&self, request: HttpRequest, fate: Fate) -> Result<HttpResponse, Lost> {
        // A store reads the body first and then takes its time.
        let request = if fate.before.is_zero() {
            request
        } else {
            held(request).await?
        };
        sleep(fate.before).await;
        let response = self.s3.call(request).await.map_err(|error| {
            tracing::warn!(?error, "request not answered");
            Lost
        })?;
        sleep(fate.after).await;
        match fate.fault {
            Fault::LostAnswer => Err(Lost),
            Fault::Truncated(_) | Fault::Flipped(_) if response.status().is_success() => {
                spoil(response, fate.fault).await
            }
            _ => Ok(response),
        }
    }

    fn count<B>(&self, request: &HttpRequest<B>) -> Asked {
        let listing = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("list-type"));
        let (asked, counter) = match *request.method() {
            Method::PUT => (Asked::Put, &self.puts),
            Method::DELETE => (Asked::Delete, &self.others),
            _ if listing => (Asked::List, &self.others),
            _ => (Asked::Get, &self.gets),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        asked
    }
}

/// The request with its body received whole.
async fn held(request: HttpRequest) -> Result<HttpRequest, Lost> {
    let (parts, mut body) = request.into_parts();
    let bytes = body
        .store_all_limited(MAX_HELD_BYTES)
        .await
        .map_err(|_| Lost)?;
    Ok(HttpRequest::from_parts(parts, Body::from(bytes)))
}

/// The response with a damaged body and headers that fit it: nothing but its content is wrong.
async fn spoil(response: HttpResponse, fault: Fault) -> Result<HttpResponse, Lost> {
    let (mut parts, mut body) = response.into_parts();
    let bytes = body
        .store_all_limited(MAX_HELD_BYTES)
        .await
        .map_err(|_| Lost)?;
    if bytes.is_empty() {
        return Ok(HttpResponse::from_parts(parts, Body::from(bytes)));
    }
    let damaged = damage(fault, bytes);
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(damaged.len()));
    Ok(HttpResponse::from_parts(parts, Body::from(damaged)))
}

fn slow_down() -> HttpResponse {
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let mut response = HttpResponse::new(Body::from(xml.to_owned()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
