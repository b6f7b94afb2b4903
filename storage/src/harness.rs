//! A storage over memory, for this crate's own tests: a clock that stands still until it is told
//! to move, seeded entropy, a store with faults, the fake catalog, the memory log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Entropy, Env};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use protocol::{
    BatchBuilder, BatchView, BrokerEpoch, Compression, LeaderEpoch, NodeId, TopicId, TopicPartition,
};
use tokio::time::Instant;
use uuid::Uuid;
use wal::WalId;

use crate::testing::MemoryCatalog;
use crate::{
    AppendContext, Appended, Catalog, CatalogError, CommitUpload, Condemned, Error, Hooks,
    Isolation, KeySpace, Partition, PartitionView, ReadBudget, ReplaceSlices, SliceOutcome,
    Storage, StorageMetrics, StorageParts, StorageSettings, TopicConfig,
};

/// A clock that is set.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed) as u64)
    }
}

#[derive(Debug)]
struct TestEntropy(AtomicU64);

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        for byte in out {
            let mut x = self.0.load(Ordering::Relaxed);
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            self.0.store(x, Ordering::Relaxed);
            *byte = (x >> 24) as u8;
        }
    }
}

/// What a test's world is made of.
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    /// Stands in for `catalog` when set.
    pub(crate) gate_catalog: Option<Arc<GateCatalog>>,
    pub(crate) settings: StorageSettings,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) epoch: BrokerEpoch,
    pub(crate) wal_id: WalId,
}

pub(crate) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(7)), partition)
}

/// Small budgets; nothing happens by itself but what a test asks for.
pub(crate) fn settings() -> StorageSettings {
    StorageSettings {
        upload_bytes: 1 << 20,
        upload_age: Duration::from_secs(60),
        unuploaded_bytes: 8 << 20,
        unuploaded_internal_bytes: 1 << 20,
        hot_bytes: 0,
        block_cache_bytes: 4 << 20,
        index_cache_bytes: 1 << 20,
        read_bytes: ReadBudget {
            tail: 8 << 20,
            catch_up: 8 << 20,
        },
        read_requests: ReadBudget {
            tail: 4,
            catch_up: 4,
        },
        compaction_interval: Duration::from_secs(1_000_000),
        compaction_slices: 1_000,
        retention_interval: Duration::from_secs(1_000_000),
        ..StorageSettings::within(64 << 20)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
        let entropy = Arc::new(TestEntropy(AtomicU64::new(0x9e37_79b9_7f4a_7c15)));
        let env = Env {
            clock: clock.clone(),
            entropy,
            ..env::real::env()
        };
        let catalog = Arc::new(MemoryCatalog::new());
        let (epoch, wal_id) = (BrokerEpoch(1), WalId(Uuid::from_u128(1)));
        catalog.open_log(wal_id, epoch);
        Self {
            env,
            clock,
            store: Arc::new(InMemory::new()),
            catalog,
            gate_catalog: None,
            settings: settings(),
            hooks: None,
            epoch,
            wal_id,
        }
    }

    /// The next broker epoch, with a log of its own.
    pub(crate) fn restart(&mut self) {
        self.catalog.fence(self.epoch);
        self.epoch = BrokerEpoch(self.epoch.0 + 1);
        self.wal_id = WalId(Uuid::from_u128(u128::from(self.epoch.0)));
        self.catalog.open_log(self.wal_id, self.epoch);
    }

    pub(crate) fn parts(&self) -> StorageParts {
        StorageParts {
            env: self.env.clone(),
            store: Arc::clone(&self.store),
            keys: KeySpace::new("", "test", 1),
            node: NodeId(1),
            catalog: match &self.gate_catalog {
                Some(gated) => gated.clone(),
                None => self.catalog.clone(),
            },
            broker_epoch: self.epoch,
            settings: self.settings.clone(),
            metrics: StorageMetrics::default(),
            store_metrics: crate::store::StoreMetrics::default(),
            hooks: self.hooks.clone(),
        }
    }

    /// Storage over a log that makes everything durable at once.
    pub(crate) fn storage(&self) -> Storage {
        self.storage_over(wal::memory::create())
    }

    pub(crate) fn storage_over(&self, backend: Box<dyn wal::Backend>) -> Storage {
        let storage = Storage::new(self.parts());
        let settings = wal::LogSettings::standard(wal::Metrics::default());
        let durable = storage.on_durable();
        storage.attach(wal::Log::start(
            &self.env,
            self.wal_id,
            backend,
            settings,
            durable,
        ));
        storage
    }

    pub(crate) async fn open(&self, storage: &Storage, partition: i32, epoch: i32) -> Partition {
        let view = self.catalog.lead(tp(partition), LeaderEpoch(epoch));
        storage
            .open(view, TopicConfig::kafka_default())
            .await
            .expect("opens")
    }

    pub(crate) fn advance_ms(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// A batch of `count` records of about `value_bytes` each, timestamps ascending from `timestamp`.
pub(crate) fn batch(count: usize, value_bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    let value = vec![b'v'; value_bytes];
    for n in 0..count {
        builder.append(timestamp + n as i64, Some(b"key"), Some(&value), &[]);
    }
    builder.build().expect("a batch")
}

/// A batch of one keyed record.
pub(crate) fn keyed(key: &str, value: Option<&[u8]>, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(timestamp, Some(key.as_bytes()), value, &[]);
    builder.build().expect("a batch")
}

/// An idempotent producer's batch.
pub(crate) fn sequenced(id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
    for _ in 0..count {
        builder.append(5, None, Some(b"v"), &[]);
    }
    builder
        .compression(Compression::None)
        .build()
        .expect("a batch")
}

pub(crate) fn context() -> AppendContext {
    AppendContext {
        deadline: Instant::now() + Duration::from_secs(5),
        internal: false,
    }
}

/// Appends and waits until it is durable.
pub(crate) async fn put(partition: &Partition, batch: &[u8]) -> Result<i64, Error> {
    let appended: Appended = partition.produce(batch, context()).await?;
    let base_offset = appended.base_offset;
    appended.durable().await?;
    Ok(base_offset)
}

/// Everything from `offset` on, read in steps of `max_bytes`, as (base, last) offsets; checks that
/// nothing is skipped or repeated, given that offsets have no holes.
pub(crate) async fn read_all(
    partition: &Partition,
    offset: i64,
    max_bytes: usize,
) -> Vec<(i64, i64)> {
    let mut next = offset;
    let mut found: Vec<(i64, i64)> = Vec::new();
    while next < partition.high_watermark() {
        let isolation = Isolation::ReadUncommitted;
        let read = partition
            .read(next, max_bytes, true, isolation)
            .await
            .expect("reads");
        assert!(
            !read.batches.is_empty(),
            "nothing at {next} below the high watermark"
        );
        assert!(
            read.bytes <= max_bytes || read.batches.len() == 1,
            "byte limits hold"
        );
        for (at, bytes) in read.batches.iter().enumerate() {
            let view = BatchView::new(bytes).expect("one batch");
            view.validate().expect("checksums are right");
            if at == 0 {
                assert!(view.base_offset() <= next && next <= view.last_offset());
            } else {
                assert_eq!(view.base_offset(), next, "no skip, no repeat");
            }
            found.push((view.base_offset(), view.last_offset()));
            next = view.next_offset();
        }
    }
    found
}

/// Stops the world at the n-th step of whatever goes through it: before the step takes effect, or
/// after it did and before its answer.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    steps: AtomicU64,
    /// Twice the step's number, and one more to stop after it; 0 never stops.
    stop_at: AtomicU64,
    /// Milliseconds that every step takes.
    slow_ms: AtomicU64,
}

impl Gate {
    pub(crate) fn slow(&self, step: Duration) {
        self.slow_ms
            .store(step.as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn stop_at(&self, step: u64, after: bool) {
        self.steps.store(0, Ordering::Relaxed);
        self.stop_at
            .store(2 * step + u64::from(after), Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.stop_at.store(0, Ordering::Relaxed);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    async fn step<T>(&self, work: impl Future<Output = T>) -> T {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(self.slow_ms.load(Ordering::Relaxed))).await;
        let stop_at = self.stop_at.load(Ordering::Relaxed);
        let stopped = stop_at > 0 && step > stop_at / 2;
        if stopped || stop_at == 2 * step {
            std::future::pending::<()>().await;
        }
        let result = work.await;
        if stop_at == 2 * step + 1 {
            std::future::pending::<()>().await;
        }
        result
    }
}

/// A store behind a [`Gate`], which can also fail puts, lose objects and flip bits.
#[derive(Debug)]
pub(crate) struct GateStore {
    pub(crate) inner: InMemory,
    pub(crate) gate: Arc<Gate>,
    /// Puts to fail from now on.
    pub(crate) failing_puts: AtomicU64,
    /// Puts of data objects that succeed from now on, before all fail.
    pub(crate) data_puts_left: AtomicU64,
    /// Gets of whatever key to fail from now on.
    pub(crate) failing_gets: AtomicU64,
    /// Gets to answer with one byte flipped.
    pub(crate) flipped_gets: AtomicU64,
    /// Requests and bytes read.
    pub(crate) gets: AtomicU64,
    pub(crate) get_bytes: AtomicU64,
}

impl GateStore {
    pub(crate) fn new(gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            gate: Arc::clone(gate),
            failing_puts: AtomicU64::new(0),
            data_puts_left: AtomicU64::new(u64::MAX),
            failing_gets: AtomicU64::new(0),
            flipped_gets: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            get_bytes: AtomicU64::new(0),
        })
    }
}

fn count_down(counter: &AtomicU64) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

fn injected() -> object_store::Error {
    object_store::Error::Generic {
        store: "gate",
        source: "injected".into(),
    }
}

impl std::fmt::Display for GateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GateStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for GateStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let data = location.as_ref().contains("/data/");
        if count_down(&self.failing_puts) || (data && !count_down(&self.data_puts_left)) {
            return Err(injected());
        }
        self.gate
            .step(self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, opts: GetOptions) -> object_store::Result<GetResult> {
        if count_down(&self.failing_gets) {
            return Err(injected());
        }
        let head = opts.head;
        let result = self.inner.get_opts(location, opts).await?;
        if head {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let mut bytes = result.bytes().await?.to_vec();
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.get_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if count_down(&self.flipped_gets) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let chunk = Bytes::from(bytes);
        Ok(GetResult {
            payload: GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(chunk)]))),
            meta,
            range,
            attributes: Attributes::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The fake catalog behind a [`Gate`].
pub(crate) struct GateCatalog {
    pub(crate) inner: Arc<MemoryCatalog>,
    pub(crate) gate: Arc<Gate>,
}

#[async_trait::async_trait]
impl Catalog for GateCatalog {
    async fn commit_upload(&self, commit: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        self.gate.step(self.inner.commit_upload(commit)).await
    }

    async fn replace(&self, replace: ReplaceSlices) -> Result<(), CatalogError> {
        self.gate.step(self.inner.replace(replace)).await
    }

    async fn set_log_start(
        &self,
        broker_epoch: BrokerEpoch,
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log_start: i64,
    ) -> Result<(), CatalogError> {
        let moved =
            self.inner
                .set_log_start(broker_epoch, topic_partition, leader_epoch, log_start);
        self.gate.step(moved).await
    }

    async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionView>, CatalogError> {
        self.inner.partition(tp).await
    }

    async fn condemned(
        &self,
        before_ms: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, CatalogError> {
        self.inner.condemned(before_ms, after, limit).await
    }

    async fn forget_condemned(&self, keys: Vec<String>) -> Result<(), CatalogError> {
        self.inner.forget_condemned(keys).await
    }

    async fn orphans(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError> {
        self.inner.orphans(keys).await
    }
}

/// A log backend that makes everything durable at once and remembers how far it was trimmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trims(Arc<AtomicU64>);

struct TrimsBackend(Trims);

/// A backend that tells when it is dropped.
#[derive(Default)]
pub(crate) struct DropTold(pub(crate) Arc<tokio::sync::Notify>, Trims);

impl Drop for DropTold {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Trims {
    pub(crate) fn backend(&self) -> Box<dyn wal::Backend> {
        Box::new(TrimsBackend(self.clone()))
    }

    pub(crate) fn highest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! durable_at_once {
    ($backend:ty, $trims:expr) => {
        impl wal::Backend for $backend {
            fn window(&self) -> usize {
                1
            }

            fn attach(&mut self, _status: wal::Status) {}

            fn store(
                &mut self,
                group: wal::backend::PendingGroup,
            ) -> BoxFuture<'static, wal::backend::Stored> {
                Box::pin(async move { (group.group, Ok(())) })
            }

            fn pace(
                &mut self,
                _now: Instant,
                _queued: usize,
                _in_flight: usize,
            ) -> wal::backend::Pace {
                wal::backend::Pace::Now
            }

            fn idle_after(&self) -> Option<Duration> {
                None
            }

            fn mark(
                &mut self,
                _mark: wal::backend::Mark,
                _next: wal::Sequence,
            ) -> BoxFuture<'static, Result<(), wal::Error>> {
                Box::pin(async { Ok(()) })
            }

            fn trim(&mut self, to: wal::Sequence) {
                $trims(self).0.fetch_max(to, Ordering::Relaxed);
            }

            fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
                drop(self);
                Box::pin(async {})
            }
        }
    };
}

durable_at_once!(TrimsBackend, |backend: &mut TrimsBackend| backend.0.clone());
durable_at_once!(DropTold, |backend: &mut DropTold| backend.1.clone());
