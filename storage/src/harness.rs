//! A storage over memory, for this crate's own tests: a clock that stands still until it is told
//! to move, seeded entropy, a store with faults, the fake catalog, the memory log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Entropy, Env};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use protocol::{
    BatchBuilder, BatchView, BrokerEpoch, Compression, LeaderEpoch, NodeId, TopicId, TopicPartition,
};
use tokio::time::Instant;
use uuid::Uuid;
use wal::WalId;

use crate::testing::MemoryCatalog;
use crate::{
    AppendContext, Appended, Error, Hooks, Isolation, KeySpace, Partition, ReadBudget, Storage,
    StorageMetrics, StorageParts, StorageSettings, TopicConfig,
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
        read_bytes: ReadBudget { tail: 8 << 20, catch_up: 8 << 20 },
        read_requests: ReadBudget { tail: 4, catch_up: 4 },
        compaction_interval: Duration::from_secs(1_000_000),
        retention_interval: Duration::from_secs(1_000_000),
        ..StorageSettings::within(64 << 20)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
        let entropy = Arc::new(TestEntropy(AtomicU64::new(0x9e37_79b9_7f4a_7c15)));
        let env = Env { clock: clock.clone(), entropy, ..env::real::env() };
        let catalog = Arc::new(MemoryCatalog::new());
        let (epoch, wal_id) = (BrokerEpoch(1), WalId(Uuid::from_u128(1)));
        catalog.open_log(wal_id, epoch);
        Self {
            env,
            clock,
            store: Arc::new(InMemory::new()),
            catalog,
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
            catalog: self.catalog.clone(),
            broker_epoch: self.epoch,
            settings: self.settings.clone(),
            metrics: StorageMetrics::default(),
            store_metrics: crate::store::StoreMetrics::default(),
            hooks: self.hooks.clone(),
        }
    }

    /// Storage over a log that makes everything durable at once.
    pub(crate) fn storage(&self) -> Storage {
        let storage = Storage::new(self.parts());
        let settings = wal::LogSettings::standard(wal::Metrics::default());
        let backend = wal::memory::create();
        let durable = storage.on_durable();
        storage.attach(wal::Log::start(&self.env, self.wal_id, backend, settings, durable));
        storage
    }

    pub(crate) async fn open(&self, storage: &Storage, partition: i32, epoch: i32) -> Partition {
        let view = self.catalog.lead(tp(partition), LeaderEpoch(epoch));
        storage.open(view, TopicConfig::kafka_default()).await.expect("opens")
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
    builder.compression(Compression::None).build().expect("a batch")
}

pub(crate) fn context() -> AppendContext {
    AppendContext { deadline: Instant::now() + Duration::from_secs(5), internal: false }
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
pub(crate) async fn read_all(partition: &Partition, offset: i64, max_bytes: usize) -> Vec<(i64, i64)> {
    let mut next = offset;
    let mut found: Vec<(i64, i64)> = Vec::new();
    while next < partition.high_watermark() {
        let isolation = Isolation::ReadUncommitted;
        let read = partition.read(next, max_bytes, true, isolation).await.expect("reads");
        assert!(!read.batches.is_empty(), "nothing at {next} below the high watermark");
        assert!(read.bytes <= max_bytes || read.batches.len() == 1, "byte limits hold");
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
