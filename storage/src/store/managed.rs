//! Time-outs, short retries and counters around any object store.
//!
//! A put whose outcome is unknown (time-out, lost answer) is sent again with the same bytes; when
//! the store then says that the object exists, it is read back: ours is success, another is not.

mod get;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use env::{Entropy, Env};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::{Instant, sleep, timeout};

use super::create::holds;
use super::local::is_no_space;
use super::metrics::{Operation, Outcome, StoreMetrics};

const STORE: &str = "object store";

/// How long and how often to ask.
#[derive(Clone, Debug)]
pub struct RequestSettings {
    /// Attempts per request, the first included.
    pub attempts: u32,
    /// Time for one attempt, beside what its bytes take.
    pub timeout: Duration,
    /// Bytes a second that a transfer gets time for on top of `timeout`.
    pub slowest_bytes_per_second: u64,
    /// First pause between attempts; it doubles, with jitter.
    pub backoff: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// A get that takes longer is sent a second time; `None` never.
    pub hedge_gets_after: Option<Duration>,
}

impl RequestSettings {
    /// What `serve` uses: failures surface within half a minute, and callers go on from there.
    pub fn standard() -> Self {
        Self {
            attempts: 3,
            timeout: Duration::from_secs(10),
            slowest_bytes_per_second: 4 * 1024 * 1024,
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            hedge_gets_after: None,
        }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.slowest_bytes_per_second.max(1) as f64;
        self.timeout + Duration::from_secs_f64(seconds)
    }
}

/// Any object store, asked politely.
#[derive(Clone)]
pub struct ManagedStore {
    inner: Arc<dyn ObjectStore>,
    entropy: Arc<dyn Entropy>,
    metrics: StoreMetrics,
    settings: RequestSettings,
}

impl std::fmt::Debug for ManagedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManagedStore({:?})", self.inner)
    }
}

impl std::fmt::Display for ManagedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

// === impl ManagedStore ===

impl ManagedStore {
    /// `inner`, whose own retries should be off.
    pub fn new(
        env: &Env,
        inner: Arc<dyn ObjectStore>,
        metrics: StoreMetrics,
        settings: RequestSettings,
    ) -> Self {
        assert!(settings.attempts > 0, "a request is sent at least once");
        Self {
            inner,
            entropy: Arc::clone(&env.entropy),
            metrics,
            settings,
        }
    }

    /// One attempt within its time, counted.
    async fn attempt<T>(
        &self,
        operation: Operation,
        limit: Duration,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        let result = match timeout(limit, request).await {
            Ok(result) => result,
            Err(_) => {
                let took = start.elapsed();
                self.metrics.attempt(operation, Outcome::Timeout, took);
                return Err(generic(format!("no answer within {limit:?}").into()));
            }
        };
        let outcome = result.as_ref().err().map_or(Outcome::Success, outcome_of);
        self.metrics.attempt(operation, outcome, start.elapsed());
        result
    }

    /// Waits before attempt number `attempt` + 1: between half and all of a doubling pause.
    async fn back_off(&self, operation: Operation, attempt: u32) {
        self.metrics.retry(operation);
        let doubled = self
            .settings
            .backoff
            .saturating_mul(1 << attempt.min(16).saturating_sub(1));
        let pause = doubled.min(self.settings.backoff_max);
        let jitter = (self.entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        sleep(pause.mul_f64(0.5 + jitter / 2.0)).await;
    }

    /// Sends an idempotent request until it is answered, a few times.
    async fn repeat<T, F: Future<Output = Result<T>>>(
        &self,
        operation: Operation,
        limit: Duration,
        request: impl Fn() -> F,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(operation, limit, request()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if attempt >= self.settings.attempts || !may_pass(&error) {
                return Err(error);
            }
            self.back_off(operation, attempt).await;
            attempt += 1;
        }
    }

    async fn create(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let limit = self.settings.time_for(bytes);
        let mut unknown = None;
        let mut attempt = 1;
        loop {
            let request = self
                .inner
                .put_opts(location, payload.clone(), options.clone());
            let error = match self.attempt(Operation::Put, limit, request).await {
                Ok(result) => {
                    self.metrics.sent(bytes);
                    return Ok(result);
                }
                Err(error) => error,
            };
            if matches!(error, Error::AlreadyExists { .. }) {
                let Some(before) = unknown.take() else {
                    return Err(error);
                };
                // It may be our own earlier attempt, or a 409 where nothing landed.
                match holds(self, location, &payload).await {
                    Ok(Some(true)) => return Ok(no_tag()),
                    Ok(Some(false)) => return Err(error),
                    Ok(None) | Err(_) if attempt >= self.settings.attempts => return Err(before),
                    Ok(None) | Err(_) => unknown = Some(before),
                }
            } else if attempt >= self.settings.attempts || !may_pass(&error) {
                return Err(error);
            } else {
                unknown = Some(error);
            }
            self.back_off(Operation::Put, attempt).await;
            attempt += 1;
        }
    }

    async fn delete_one(&self, location: Path) -> Result<Path> {
        let mut attempt = 1;
        loop {
            let once = futures::stream::iter([Ok(location.clone())]).boxed();
            let request = async {
                let mut results = self.inner.delete_stream(once);
                results
                    .next()
                    .await
                    .unwrap_or_else(|| Err(generic("no answer".into())))
            };
            let limit = self.settings.timeout;
            let error = match self.attempt(Operation::Delete, limit, request).await {
                Ok(_) => return Ok(location),
                // Our own earlier attempt, whose answer was lost.
                Err(Error::NotFound { .. }) if attempt > 1 => return Ok(location),
                Err(error) => error,
            };
            if attempt >= self.settings.attempts || !may_pass(&error) {
                return Err(error);
            }
            self.back_off(Operation::Delete, attempt).await;
            attempt += 1;
        }
    }
}

#[async_trait]
impl ObjectStore for ManagedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode != PutMode::Create {
            return Err(not_supported(
                "put: objects are only created, never overwritten",
            ));
        }
        self.create(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported("multipart put: it has no create-only mode"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.get(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move { this.delete_one(location?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch_list(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch_list(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let limit = self.settings.timeout;
        self.repeat(Operation::List, limit, || {
            self.inner.list_with_delimiter(prefix)
        })
        .await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_supported("copy"))
    }
}

impl ManagedStore {
    /// A listing that ends with an error when the next name does not come in time. It is not
    /// resumed: whoever lists comes again.
    fn watch_list(
        &self,
        names: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        futures::stream::unfold(Some((names, false)), move |state| {
            let this = this.clone();
            async move {
                let (mut names, _) = state?;
                let start = Instant::now();
                let next = match timeout(this.settings.timeout, names.next()).await {
                    Ok(next) => next,
                    Err(_) => Some(Err(generic("the listing stalled".into()))),
                };
                match next {
                    Some(Ok(meta)) => Some((Ok(meta), Some((names, true)))),
                    Some(Err(error)) => {
                        this.metrics
                            .attempt(Operation::List, outcome_of(&error), start.elapsed());
                        Some((Err(error), None))
                    }
                    None => {
                        this.metrics
                            .attempt(Operation::List, Outcome::Success, start.elapsed());
                        None
                    }
                }
            }
        })
        .boxed()
    }
}

/// Whether asking again may help within seconds.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. }) && !is_no_space(error)
}

fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::NotFound { .. } => Outcome::NotFound,
        Error::AlreadyExists { .. } => Outcome::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Outcome::Denied,
        error if is_no_space(error) => Outcome::NoSpace,
        error if get::is_wrong_length(error) => Outcome::WrongLength,
        _ => Outcome::Error,
    }
}

fn no_tag() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
        extensions: Default::default(),
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic {
        store: STORE,
        source,
    }
}

fn not_supported(what: &str) -> Error {
    Error::NotSupported {
        source: what.to_owned().into(),
    }
}
