//! The handle to everything of one broker epoch.

mod disk;
mod hand_over;
mod open;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use env::Env;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::cache::Retained;
use crate::compactor::Compactor;
use crate::follower::{Asks, Followers};
use crate::keys::KeySpace;
use crate::limits::SEARCHES;
use crate::objects::{Backoff, GivenUp, Objects, Writer};
use crate::partition::{Inner, Partition};
use crate::reader::ReadPath;
use crate::recovery::RecoveryRoom;
use crate::retention;
use crate::store::StoreMetrics;
use crate::uploader::{DurableGroup, Queue, QueuedEntry, Uploader};
use crate::{Catalog, Error, HookBatch, Hooks, StorageMetrics, StorageSettings};
pub(crate) use open::check_view;

/// What a [`Storage`] is made of.
pub struct StorageParts {
    /// Clock, entropy, disk.
    pub env: Env,
    /// Where objects live.
    pub store: Arc<dyn ObjectStore>,
    /// Where in it: prefix, cluster, generation.
    pub keys: KeySpace,
    /// Id of this node.
    pub node: NodeId,
    /// Where objects are recorded.
    pub catalog: Arc<dyn Catalog>,
    /// Epoch of this broker.
    pub broker_epoch: BrokerEpoch,
    /// What an operator may set.
    pub settings: StorageSettings,
    /// Counters of this crate, registered by the caller.
    pub metrics: StorageMetrics,
    /// Counters of the store, which reads add to.
    pub store_metrics: StoreMetrics,
    /// Who watches appends; usually nobody.
    pub hooks: Option<Arc<dyn Hooks>>,
}

/// Storage of one broker epoch. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage(broker epoch {})", self.shared.broker_epoch)
    }
}

/// What all parts share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) objects: Objects,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) settings: StorageSettings,
    pub(crate) metrics: StorageMetrics,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) budget: Budget,
    pub(crate) retained: Retained,
    pub(crate) recovery: RecoveryRoom,
    pub(crate) queue: Queue,
    pub(crate) read_path: ReadPath,
    /// Turns of compressed batches to be searched for a time.
    pub(crate) searches: Arc<Semaphore>,
    /// `None` before it is attached and after shutdown, which must let go of it: a log ends, and
    /// frees its directory, with its last handle.
    log: RwLock<Option<wal::Log>>,
    partitions: RwLock<Partitions>,
    /// Read here and led elsewhere.
    pub(crate) followers: Followers,
    /// Turns to ask the catalog about them.
    pub(crate) asks: Asks,
    failure: watch::Sender<Option<Error>>,
    /// The controllers should be told soon of what is durable.
    pub(crate) report_wanted: Notify,
    /// Bytes left on the disk of the object store, `u64::MAX` when nobody looks.
    disk_available: AtomicU64,
    uploader: OnceLock<Uploader>,
    compactor: OnceLock<Compactor>,
    /// Owned tasks; dropped, they end.
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Default)]
struct Partitions {
    /// Those led here, at their current epoch.
    led: BTreeMap<TopicPartition, Arc<Inner>>,
    /// Closed ones that still have entries in the log's queue.
    draining: BTreeMap<(TopicPartition, LeaderEpoch), Arc<Inner>>,
}

impl Partitions {
    fn find(&self, tp: TopicPartition, epoch: LeaderEpoch) -> Option<Arc<Inner>> {
        let led = self
            .led
            .get(&tp)
            .filter(|inner| inner.leader_epoch == epoch);
        led.or_else(|| self.draining.get(&(tp, epoch))).cloned()
    }
}

impl Storage {
    /// Storage without a log yet: partitions may be opened and read; appends wait for
    /// [`Storage::attach`].
    pub fn new(parts: StorageParts) -> Self {
        let settings = parts.settings;
        let objects = Objects::new(
            parts.env.clone(),
            parts.store,
            Writer {
                keys: parts.keys,
                node: parts.node,
                broker_epoch: parts.broker_epoch,
            },
            parts.store_metrics,
        );
        let shared = Shared {
            read_path: ReadPath::new(objects.clone(), &settings, parts.metrics.clone()),
            searches: Arc::new(Semaphore::new(SEARCHES)),
            objects,
            env: parts.env,
            catalog: parts.catalog,
            broker_epoch: parts.broker_epoch,
            metrics: parts.metrics,
            hooks: parts.hooks,
            budget: Budget::new(
                settings.unuploaded_bytes,
                settings.unuploaded_internal_bytes,
            ),
            retained: Retained::new(settings.hot_bytes),
            recovery: RecoveryRoom::new(settings.recovery_bytes),
            queue: Queue::default(),
            log: RwLock::default(),
            partitions: RwLock::default(),
            followers: Followers::default(),
            asks: Asks::default(),
            failure: watch::Sender::new(None),
            report_wanted: Notify::new(),
            disk_available: AtomicU64::new(u64::MAX),
            uploader: OnceLock::new(),
            compactor: OnceLock::new(),
            tasks: Mutex::default(),
            settings,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What this broker epoch put and will never name: the collector deletes it.
    pub fn given_up(&self) -> GivenUp {
        self.shared.objects.given_up().clone()
    }

    /// What `wal::Log::start` gets as its `durable` callback.
    pub fn on_durable(&self) -> Box<dyn FnMut(wal::Group) + Send> {
        // Not an owner: a storage that is gone has nobody left to tell.
        let shared = Arc::downgrade(&self.shared);
        Box::new(move |group| {
            if let Some(shared) = shared.upgrade() {
                shared.durable(group);
            }
        })
    }

    /// Starts the background work over `log`, which must be fresh: its trim point is 0.
    ///
    /// # Panics
    /// When called twice, or outside a tokio runtime.
    pub fn attach(&self, log: wal::Log) {
        let shared = &self.shared;
        let (uploader, worker) = Uploader::new(shared, log.clone());
        assert!(
            shared.compactor.set(Compactor::new(shared)).is_ok(),
            "a storage has one log"
        );
        assert!(
            shared.uploader.set(uploader).is_ok(),
            "a storage has one log"
        );
        let failure = log.failure();
        *shared.log.write() = Some(log);
        let mut tasks = shared.tasks.lock();
        let weak = || Arc::downgrade(shared);
        tasks.spawn(watched(weak(), "the uploader", worker.run()));
        let watch = open::watch_log(weak(), failure);
        tasks.spawn(watched(weak(), "the watch of the log", watch));
        let compaction = |shared: Arc<Shared>| {
            let compactor = shared.compactor.get().expect("set above");
            compactor.worker(&shared).run().boxed()
        };
        tasks.spawn(kept(weak(), "compaction", compaction));
        let retention = |shared| retention::run(Arc::downgrade(&shared)).boxed();
        tasks.spawn(kept(weak(), "retention", retention));
        let disk = |shared| disk::watch(Arc::downgrade(&shared)).boxed();
        tasks.spawn(kept(weak(), "the watch of the disk", disk));
    }

    /// Some error once this storage has stopped for good: fenced, corrupt, or its log failed.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.shared.failure.subscribe()
    }

    /// The partition, when it is led here.
    pub fn partition(&self, tp: TopicPartition) -> Option<Partition> {
        let inner = self.shared.partitions.read().led.get(&tp).cloned()?;
        Some(Partition {
            inner,
            shared: Arc::clone(&self.shared),
        })
    }

    /// All partitions led here, in order.
    pub fn partitions(&self) -> Vec<Partition> {
        let wrap = |inner| Partition {
            inner,
            shared: Arc::clone(&self.shared),
        };
        self.shared.led().into_iter().map(wrap).collect()
    }

    /// Uploads and commits everything, with producer checkpoints. Appends should have stopped.
    ///
    /// # Errors
    /// What stopped the uploader or the log for good.
    pub async fn drain(&self) -> Result<(), Error> {
        let mut durable = Vec::new();
        for partition in self.partitions() {
            let end = partition.log_end();
            let failed = self.failure();
            tokio::select! {
                biased;
                () = partition.moved_past(end - 1) => {}
                () = failed_for_good(failed) => {}
            }
            durable.push((partition.inner, end));
        }
        if let Some(error) = self.shared.failure.borrow().clone() {
            return Err(error);
        }
        match self.shared.uploader.get() {
            Some(uploader) => uploader.drain(durable).await,
            None => Ok(()),
        }
    }

    /// The controllers know that a partition led here is durable up to `offset`.
    pub fn reported(&self, tp: TopicPartition, epoch: LeaderEpoch, offset: i64) {
        let led = self.shared.partitions.read().led.get(&tp).cloned();
        if let Some(inner) = led.filter(|inner| inner.leader_epoch == epoch) {
            inner.reported(offset);
        }
    }

    /// Resolves when the controllers should be told soon of what is durable: appends come near
    /// [`StorageSettings::unreported_offsets`].
    pub async fn report_wanted(&self) {
        self.shared.report_wanted.notified().await;
    }

    /// Ends the background work at once, uploaded or not: what is not committed is recovered from
    /// the log.
    pub async fn shutdown(&self) {
        for partition in self.partitions() {
            self.close_partition(partition.topic_partition());
        }
        let mut tasks = std::mem::take(&mut *self.shared.tasks.lock());
        tasks.shutdown().await;
        let log = self.shared.log.write().take();
        drop(log);
    }

    /// Tells the background work to end, without waiting for it: what a killed process does.
    pub fn abort(&self) {
        self.shared.tasks.lock().abort_all();
    }

    /// Bytes that are durable and in no committed object, and the age of the oldest.
    pub fn unuploaded(&self) -> (u64, Duration) {
        let (bytes, since) = self.shared.queue.unuploaded();
        (bytes, since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// This storage's counters, with its gauges brought up to date.
    pub fn metrics(&self) -> &StorageMetrics {
        let shared = &self.shared;
        let (bytes, age) = self.unuploaded();
        let (user, internal) = shared.budget.used();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        shared.metrics.unuploaded_bytes.set(gauge(bytes));
        shared
            .metrics
            .unuploaded_age_ms
            .set(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        shared.metrics.memory_user_bytes.set(gauge(user as u64));
        shared
            .metrics
            .memory_internal_bytes
            .set(gauge(internal as u64));
        let followed = shared.followers.bytes() as u64;
        shared.metrics.followed_bytes.set(gauge(followed));
        let (recovering, _) = shared.recovery.held();
        let recovery = &shared.metrics.memory_recovery_bytes;
        recovery.set(gauge(recovering as u64));
        shared
            .metrics
            .hot_bytes
            .set(gauge(shared.retained.bytes() as u64));
        shared
            .metrics
            .block_cache_bytes
            .set(gauge(shared.read_path.cached_bytes()));
        &shared.metrics
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Sees a task panic without which nothing more may be served.
async fn watched(shared: Weak<Shared>, what: &'static str, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
        return;
    }
    tracing::error!(what, "a task of storage has panicked");
    if let Some(shared) = shared.upgrade() {
        shared.fail(Error::Internal {
            what: "a task that storage cannot do without has panicked",
        });
    }
}

/// Keeps a task running that can be missed for a while: one that panics is begun again.
async fn kept(
    shared: Weak<Shared>,
    what: &'static str,
    begin: impl Fn(Arc<Shared>) -> BoxFuture<'static, ()>,
) {
    let Some(mut backoff) = shared.upgrade().map(|shared| Backoff::new(&shared.env)) else {
        return;
    };
    while let Some(work) = shared.upgrade().map(&begin) {
        if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(what, "a task of storage has panicked, and is begun again");
        match shared.upgrade() {
            Some(shared) => shared.metrics.background_failures.inc(),
            None => return,
        };
        backoff.wait().await;
    }
}

async fn failed_for_good(mut failure: watch::Receiver<Option<Error>>) {
    // The sender lives as long as the storage.
    let _ = failure.wait_for(Option::is_some).await;
}

impl Shared {
    /// The log, for appends.
    ///
    /// # Errors
    /// `NotOpen` before there is one; what stopped this storage for good.
    pub(crate) fn log(&self) -> Result<MappedRwLockReadGuard<'_, wal::Log>, Error> {
        if let Some(error) = self.failure.borrow().as_ref() {
            return Err(error.clone());
        }
        RwLockReadGuard::try_map(self.log.read(), Option::as_ref).map_err(|_| Error::NotOpen)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(crate) fn led(&self) -> Vec<Arc<Inner>> {
        self.partitions.read().led.values().cloned().collect()
    }

    /// Stops for good and says so; the broker decides what comes next.
    pub(crate) fn fail(&self, error: Error) {
        self.metrics.background_failures.inc();
        tracing::error!(%error, "storage stops");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(error);
            }
            first
        });
        for inner in self.led() {
            inner.close();
        }
    }

    /// R3: in the log's order; per entry hot cache, high watermark, waiters, replies.
    fn durable(&self, group: wal::Group) {
        let mut hurry = false;
        let mut entries = Vec::with_capacity(group.entries.len());
        for entry in group.entries {
            let partition = self
                .partitions
                .read()
                .find(entry.topic_partition, entry.leader_epoch);
            let Some(inner) = partition else {
                // Closed partitions are kept until their last entry is durable.
                tracing::error!(partition = %entry.topic_partition, "entry of an unknown partition");
                self.metrics.background_failures.inc();
                entries.push(QueuedEntry {
                    entry,
                    partition: None,
                    _memory: None,
                });
                continue;
            };
            let memory = inner.publish(&entry);
            if let Some(hooks) = &self.hooks {
                hooks.durable(HookBatch {
                    topic_partition: entry.topic_partition,
                    leader_epoch: entry.leader_epoch,
                    base_offset: entry.base_offset,
                    last_offset: entry.last_offset,
                    bytes: &entry.batches,
                });
            }
            hurry |= inner.wants_upload();
            entries.push(QueuedEntry {
                entry,
                partition: Some(inner),
                _memory: Some(memory),
            });
        }
        let group = DurableGroup {
            sequence: group.sequence,
            at: Instant::now(),
            entries,
        };
        self.queue
            .push(group, self.settings.upload_bytes, self.budget.is_pressed());
        if hurry {
            self.queue.hurry();
        }
        self.sweep_draining();
    }

    fn sweep_draining(&self) {
        if self.partitions.read().draining.is_empty() {
            return;
        }
        self.partitions
            .write()
            .draining
            .retain(|_, inner| !inner.is_settled());
    }

    /// New dirt may be worth rewriting.
    pub(crate) fn compaction_wanted<'a>(&self, partitions: impl Iterator<Item = &'a Arc<Inner>>) {
        if let Some(compactor) = self.compactor.get() {
            compactor.look_at(partitions);
        }
    }
}
