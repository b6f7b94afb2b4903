//! What may go goes, also when cut off half-way; nothing else ever does.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::StreamExt;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::*;
use crate::{CatalogError, CommitUpload, Condemned, PartitionView, ReplaceSlices, SliceOutcome};

const GRACE_MS: i64 = 1_000;

#[derive(Default)]
struct State {
    condemned: BTreeMap<String, i64>,
    named: BTreeSet<String>,
    closed: BTreeSet<u64>,
    /// Calls that fail from now on.
    away: bool,
    /// `forget_condemned` fails after this many successes.
    forgets_left: Option<u32>,
    asked: usize,
    /// As an older build, it tells the first ones again and again.
    knows_no_pages: bool,
}

/// A catalog that only knows about objects.
struct Objects {
    keys: KeySpace,
    state: Mutex<State>,
}

impl Objects {
    fn check(&self) -> Result<(), CatalogError> {
        if self.state.lock().away {
            return Err(CatalogError::Unavailable("away".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Catalog for Objects {
    async fn commit_upload(&self, _: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        panic!("a collector commits nothing")
    }
    async fn replace(&self, _: ReplaceSlices) -> Result<(), CatalogError> {
        panic!("a collector replaces nothing")
    }
    async fn set_log_start(
        &self,
        _: BrokerEpoch,
        _: TopicPartition,
        _: LeaderEpoch,
        _: i64,
    ) -> Result<(), CatalogError> {
        panic!("a collector moves nothing")
    }
    async fn partition(&self, _: TopicPartition) -> Result<Option<PartitionView>, CatalogError> {
        panic!("a collector opens nothing")
    }
    async fn condemned(
        &self,
        before: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, CatalogError> {
        self.check()?;
        let state = self.state.lock();
        let after = after.filter(|_| !state.knows_no_pages);
        let old = state.condemned.iter().filter(|(_, at)| **at < before);
        let mut old: Vec<_> = old
            .map(|(key, at)| Condemned {
                key: key.clone(),
                condemned_at_ms: *at,
            })
            .filter(|object| after.is_none_or(|after| object.place() > after.place()))
            .collect();
        old.sort_by(|a, b| a.place().cmp(&b.place()));
        old.truncate(limit);
        Ok(old)
    }
    async fn forget_condemned(&self, keys: Vec<String>) -> Result<(), CatalogError> {
        self.check()?;
        let mut state = self.state.lock();
        if let Some(left) = &mut state.forgets_left {
            if *left == 0 {
                return Err(CatalogError::Unavailable("lost".into()));
            }
            *left -= 1;
        }
        for key in keys {
            state.condemned.remove(&key);
        }
        Ok(())
    }
    async fn orphans(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError> {
        self.check()?;
        let mut state = self.state.lock();
        state.asked += keys.len();
        let orphan = |key: &String| {
            let parsed = self
                .keys
                .parse_data(key)
                .expect("only data keys are asked about");
            !state.named.contains(key) && state.closed.contains(&parsed.broker_epoch.0)
        };
        Ok(keys.iter().filter(|key| orphan(key)).cloned().collect())
    }
}

/// A store whose deletions fail after a number of them: a crash half-way.
#[derive(Debug)]
struct Failing {
    inner: InMemory,
    deletes_left: Mutex<Option<u32>>,
    /// Keys that a rule of the bucket keeps.
    kept: Arc<Mutex<BTreeSet<String>>>,
    /// Deletions of such.
    refused: Arc<Mutex<usize>>,
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failing")
    }
}

type StoreResult<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, l: &Path, p: PutPayload, o: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(l, p, o).await
    }
    async fn put_multipart_opts(
        &self,
        l: &Path,
        o: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(l, o).await
    }
    async fn get_opts(&self, l: &Path, o: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(l, o).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        if let Some(left) = &mut *self.deletes_left.lock() {
            if *left == 0 {
                let source = "connection reset".into();
                let error = object_store::Error::Generic {
                    store: "failing",
                    source,
                };
                return futures::stream::iter([Err(error)]).boxed();
            }
            *left -= 1;
        }
        let (kept, refused) = (Arc::clone(&self.kept), Arc::clone(&self.refused));
        let locations = locations.map(move |location| match location {
            Ok(path) if kept.lock().contains(path.as_ref()) => {
                *refused.lock() += 1;
                let (path, source) = (path.to_string(), "locked".into());
                Err(object_store::Error::PermissionDenied { path, source })
            }
            other => other,
        });
        self.inner.delete_stream(locations.boxed())
    }
    fn list(&self, p: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(p)
    }
    async fn list_with_delimiter(&self, p: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(p).await
    }
    async fn copy_opts(&self, a: &Path, b: &Path, o: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(a, b, o).await
    }
}

struct Clock(Mutex<i64>);

impl env::Clock for Clock {
    fn wall_ms(&self) -> i64 {
        *self.0.lock()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(*self.0.lock() as u64)
    }
}

struct World {
    store: Arc<Failing>,
    catalog: Arc<Objects>,
    clock: Arc<Clock>,
    keys: KeySpace,
    parts: CollectorParts,
}

const US: (NodeId, BrokerEpoch) = (NodeId(1), BrokerEpoch(10));

fn world() -> World {
    let keys = KeySpace::new("p", "c", 1);
    let store = Arc::new(Failing {
        inner: InMemory::new(),
        deletes_left: Mutex::new(None),
        kept: Arc::default(),
        refused: Arc::default(),
    });
    let catalog = Arc::new(Objects {
        keys: keys.clone(),
        state: Mutex::default(),
    });
    let clock = Arc::new(Clock(Mutex::new(100_000)));
    let mut env = env::real::env();
    env.clock = Arc::clone(&clock) as Arc<dyn env::Clock>;
    let parts = CollectorParts {
        env,
        store: Arc::clone(&store) as Arc<dyn ObjectStore>,
        keys: keys.clone(),
        catalog: Arc::clone(&catalog) as Arc<dyn Catalog>,
        writer: US,
        given_up: GivenUp::default(),
        duty: Arc::new(|| true),
        settings: CollectorSettings {
            grace: Duration::from_millis(GRACE_MS as u64),
            interval: Duration::from_secs(3600),
            listed_parts: 256,
        },
        metrics: CollectorMetrics::default(),
    };
    World {
        store,
        catalog,
        clock,
        keys,
        parts,
    }
}

impl World {
    async fn object(&self, epoch: u64, nonce: u128) -> String {
        let key = self
            .keys
            .data(US.0, BrokerEpoch(epoch), Uuid::from_u128(nonce));
        self.put(&key).await;
        key
    }

    async fn put(&self, key: &str) {
        let payload = PutPayload::from_static(b"bytes");
        self.store
            .inner
            .put(&Path::from(key), payload)
            .await
            .unwrap();
    }

    async fn left(&self) -> Vec<String> {
        let listed: Vec<_> = self.store.inner.list(None).try_collect().await.unwrap();
        listed
            .into_iter()
            .map(|meta| meta.location.to_string())
            .collect()
    }

    fn condemn(&self, key: &str, age_ms: i64) {
        let at = *self.clock.0.lock() - age_ms;
        self.catalog
            .state
            .lock()
            .condemned
            .insert(key.to_owned(), at);
    }

    fn worker(&self) -> Worker {
        Worker::new(self.parts.clone(), Arc::default())
    }
}

#[tokio::test]
async fn condemned_objects_go_after_their_grace() {
    let world = world();
    let (old, young) = (world.object(1, 1).await, world.object(1, 2).await);
    world.condemn(&old, GRACE_MS + 1);
    world.condemn(&young, GRACE_MS);
    let mut worker = world.worker();
    assert_eq!(worker.round().await.unwrap().condemned, 1);
    assert_eq!(world.left().await, [young]);
    *world.clock.0.lock() += 1;
    assert_eq!(worker.round().await.unwrap().condemned, 1);
    assert!(world.left().await.is_empty());
    assert!(world.catalog.state.lock().condemned.is_empty());
    assert_eq!(worker.round().await.unwrap(), Collected::default());
}

#[tokio::test]
async fn a_round_takes_as_many_batches_as_there_are() {
    let world = world();
    for nonce in 0..700 {
        let key = world.object(1, nonce).await;
        world.condemn(&key, GRACE_MS + 1);
    }
    assert_eq!(world.worker().round().await.unwrap().condemned, 700);
    assert!(world.left().await.is_empty());
}

#[tokio::test]
async fn condemned_checkpoints_go_too_and_strangers_block_nobody() {
    let world = world();
    for n in 0..300 {
        // First in the catalog's order, and more than a page of them.
        world.condemn(&format!("a/stranger-{n}"), GRACE_MS + 1);
    }
    let name = |n: u128| format!("checkpoint-{n:020}-{}", Uuid::from_u128(n).as_simple());
    let (old, kept) = (world.keys.meta(&name(1)), world.keys.meta(&name(2)));
    let object = world.object(1, 1).await;
    for key in [&old, &kept] {
        world.put(key).await;
    }
    world.condemn(&old, GRACE_MS + 1);
    world.condemn(&object, GRACE_MS + 1);
    assert_eq!(world.worker().round().await.unwrap().condemned, 2);
    assert_eq!(world.left().await, [kept]);
    assert_eq!(world.parts.metrics.refusals(), 300, "each once in a round");
    assert_eq!(world.catalog.state.lock().condemned.len(), 300);
}

#[tokio::test]
async fn however_many_strangers_block_nobody() {
    let world = world();
    // More than one round looks at.
    let pages = 20_000;
    for n in 0..pages {
        world.condemn(&format!("a/stranger-{n}"), GRACE_MS + 1);
    }
    let key = world.object(1, 9).await;
    world.condemn(&key, GRACE_MS + 1);
    let mut worker = world.worker();
    let first = worker.round().await.unwrap().condemned;
    let second = worker.round().await.unwrap().condemned;
    assert_eq!((first, second), (0, 1));
    assert!(world.left().await.is_empty());
    assert_eq!(world.parts.metrics.refusals(), pages, "each once");
    // Then it begins with the oldest.
    worker.round().await.unwrap();
    assert!(world.parts.metrics.refusals() > pages);
}

#[tokio::test]
async fn what_the_store_will_not_delete_keeps_nobody_waiting() {
    let world = world();
    let mut kept = BTreeSet::new();
    for nonce in 0..1_000 {
        let key = world.object(1, nonce).await;
        world.condemn(&key, 3 * GRACE_MS);
        kept.insert(key);
    }
    *world.store.kept.lock() = kept.clone();
    let key = world.object(1, 5_000).await;
    world.condemn(&key, 2 * GRACE_MS);
    world.catalog.state.lock().closed.insert(2);
    let orphan = world.object(2, 1).await;
    world.parts.given_up.add(kept.first().unwrap().clone());
    world.parts.given_up.add(world.object(US.1.0, 2).await);
    let mut worker = world.worker();
    let mut rounds = 0;
    while world.left().await.contains(&key) {
        worker.round().await.unwrap_err();
        rounds += 1;
        assert!(rounds < 10, "it is never come by");
        let refused = std::mem::take(&mut *world.store.refused.lock());
        assert!(refused < 600, "{refused} of them are tried in one round");
    }
    let left: BTreeSet<String> = world.left().await.into_iter().collect();
    assert_eq!(left, kept, "{orphan} and what was given up is gone, too");
    assert_eq!(world.catalog.state.lock().condemned.len(), kept.len());
    assert!(world.parts.metrics.failures() > 0, "it shows");
    // Freed, they go.
    world.store.kept.lock().clear();
    for _ in 0..2 {
        worker.round().await.unwrap();
    }
    assert!(world.left().await.is_empty());
    assert!(world.catalog.state.lock().condemned.is_empty());
}

#[tokio::test]
async fn a_catalog_without_pages_is_asked_no_further() {
    let world = world();
    world.catalog.state.lock().knows_no_pages = true;
    for n in 0..300 {
        world.condemn(&format!("a/stranger-{n}"), GRACE_MS + 1);
    }
    let mut worker = world.worker();
    assert_eq!(worker.round().await.unwrap().condemned, 0);
    assert_eq!(world.parts.metrics.refusals(), 256);
    for nonce in 0..600 {
        let key = world.object(1, nonce).await;
        world.condemn(&key, GRACE_MS + 2);
    }
    worker.round().await.unwrap();
    assert!(world.left().await.is_empty());
}

#[tokio::test]
async fn cut_off_anywhere_it_is_finished_by_the_next() {
    // After any number of deletions, and with the answer to `forget` lost.
    for deletes in 0..6 {
        for forgets in [None, Some(0)] {
            let world = world();
            for nonce in 0..3 {
                let key = world.object(1, nonce).await;
                world.condemn(&key, GRACE_MS + 1);
            }
            for nonce in 3..5 {
                world.object(2, nonce).await;
            }
            let kept = world.object(3, 9).await;
            world.catalog.state.lock().closed.insert(2);
            *world.store.deletes_left.lock() = Some(deletes);
            world.catalog.state.lock().forgets_left = forgets;
            let first = world.worker().round().await;
            assert_eq!(
                first.is_ok(),
                deletes >= 5 && forgets.is_none(),
                "{deletes} {forgets:?}"
            );
            // A new process: nothing is remembered.
            *world.store.deletes_left.lock() = None;
            world.catalog.state.lock().forgets_left = None;
            world.worker().round().await.unwrap();
            assert_eq!(world.left().await, [kept]);
            assert!(world.catalog.state.lock().condemned.is_empty());
        }
    }
}

#[tokio::test]
async fn orphans_go_only_when_unnamed_and_their_epoch_is_closed() {
    let world = world();
    let named = world.object(2, 1).await;
    let orphan = world.object(2, 2).await;
    let open = world.object(3, 3).await;
    let ours = world.object(US.1.0, 4).await;
    let wal = world.keys.wal(NodeId(1), WalId(Uuid::nil()), 0);
    let meta = world.keys.meta("checkpoint");
    let stranger = format!("{}/stranger", world.keys.data_part(0));
    for key in [&wal, &meta, &stranger] {
        world.put(key).await;
    }
    {
        let mut state = world.catalog.state.lock();
        state.named.insert(named.clone());
        state.closed.extend([2, US.1.0]);
    }
    let mut worker = world.worker();
    assert_eq!(worker.round().await.unwrap().orphans, 1);
    let left = world.left().await;
    assert!(!left.contains(&orphan));
    for kept in [&named, &open, &ours, &wal, &meta, &stranger] {
        assert!(left.contains(kept), "{kept}");
    }
    assert_eq!(
        world.catalog.state.lock().asked,
        3,
        "neither ours nor strangers are asked about"
    );
    world.catalog.state.lock().closed.insert(3);
    assert_eq!(worker.round().await.unwrap().orphans, 1);
    assert!(!world.left().await.contains(&open));
}

#[tokio::test]
async fn the_log_is_never_touched_whoever_asks() {
    let world = world();
    let wal = world.keys.wal(NodeId(1), WalId(Uuid::nil()), 7);
    world.put(&wal).await;
    world.condemn(&wal, GRACE_MS + 1);
    let mut worker = world.worker();
    for key in [wal.clone(), world.object(9, 1).await] {
        world.parts.given_up.add(key);
    }
    assert_eq!(worker.round().await.unwrap(), Collected::default());
    assert_eq!(world.left().await.len(), 2);
    assert_eq!(world.parts.metrics.refusals(), 3);
    assert!(
        world.catalog.state.lock().condemned.contains_key(&wal),
        "and not forgotten either"
    );
}

#[tokio::test]
async fn without_the_duty_only_own_failures_go() {
    let mut world = world();
    world.parts.duty = Arc::new(|| false);
    let (condemned, orphan, own) = (
        world.object(1, 1).await,
        world.object(2, 2).await,
        world.object(US.1.0, 3).await,
    );
    world.condemn(&condemned, 2 * GRACE_MS);
    world.catalog.state.lock().closed.insert(2);
    let mut worker = world.worker();
    world.parts.given_up.add(own);
    let collected = worker.round().await.unwrap();
    assert_eq!((collected.condemned, collected.orphans), (0, 0));
    assert_eq!(collected.discarded, 1);
    let mut left = [condemned, orphan];
    left.sort();
    assert_eq!(world.left().await, left);
}

#[tokio::test]
async fn two_that_collect_at_once_delete_the_same_and_nothing_else() {
    let world = world();
    let mut kept = vec![world.object(1, 1).await];
    world.catalog.state.lock().closed.insert(2);
    world.catalog.state.lock().named.insert(kept[0].clone());
    for nonce in 10..400 {
        let key = world.object(1, nonce).await;
        world.condemn(&key, 2 * GRACE_MS);
        world.object(2, nonce).await;
    }
    kept.sort();
    let (mut one, mut other) = (world.worker(), world.worker());
    let (one, other) = tokio::join!(one.round(), other.round());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.condemned + other.condemned >= 390);
    assert!(one.orphans + other.orphans >= 390);
    assert_eq!(world.left().await, kept);
    assert!(world.catalog.state.lock().condemned.is_empty());
}

#[tokio::test]
async fn own_failures_are_deleted_even_if_not_at_first() {
    let world = world();
    let key = world.object(US.1.0, 1).await;
    let never_landed = world.keys.data(US.0, US.1, Uuid::from_u128(2));
    let mut worker = world.worker();
    world.parts.given_up.add(key);
    world.parts.given_up.add(never_landed);
    *world.store.deletes_left.lock() = Some(0);
    worker.round().await.unwrap_err();
    assert_eq!(world.left().await.len(), 1);
    *world.store.deletes_left.lock() = None;
    assert_eq!(worker.round().await.unwrap().discarded, 2);
    assert!(world.left().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_actor_collects_by_itself_survives_failures_and_drains() {
    let world = world();
    let mut tasks = JoinSet::new();
    let collector = Collector::spawn(&mut tasks, world.parts.clone());
    let key = world.object(1, 1).await;
    world.condemn(&key, GRACE_MS + 1);
    world.catalog.state.lock().away = true;
    collector.collect().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(3601)).await;
    assert_eq!(world.parts.metrics.failures(), 2);
    assert_eq!(world.parts.metrics.last_round(), 0, "none came to its end");
    assert_eq!(world.left().await.len(), 1);
    world.catalog.state.lock().away = false;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.left().await.is_empty());
    let now = world.parts.env.clock.wall_ms() / 1000;
    assert_eq!(world.parts.metrics.last_round(), now);

    let key = world.object(US.1.0, 2).await;
    world.parts.given_up.add(key);
    assert_eq!(collector.collect().await.unwrap().discarded, 1);
    let other = collector.clone();
    collector.drain().await;
    tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(other.collect().await, Err(Error::NotOpen)));
}
