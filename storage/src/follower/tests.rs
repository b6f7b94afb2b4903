//! A reader beside the leader: every record once and in order, whatever the leader, the compactor
//! and the collector do meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use proptest::prelude::*;
use protocol::{BatchView, BrokerEpoch, LeaderEpoch, NodeId};

use super::*;
use crate::harness::{Gate, GateStore, World, batch, put, read_all, tp};
use crate::limits::{FOLLOWER_ANSWER, FOLLOWER_ASKS, FOLLOWER_ASKS_PACE};
use crate::testing::MemoryCatalog;
use crate::{
    Catalog, CommitUpload, Condemned, ErrorKind, ReplaceSlices, SliceOutcome, StorageParts,
};

/// Another broker over the same store and catalog.
fn beside(world: &World) -> Storage {
    Storage::new(StorageParts {
        node: NodeId(9),
        broker_epoch: BrokerEpoch(99),
        ..world.parts()
    })
}

/// How long a reader waits for the catalog.
const PATIENCE: Duration = Duration::from_secs(1);

/// As a reader does that waits for nothing else.
async fn follow(
    storage: &Storage,
    tp: TopicPartition,
    offset: i64,
    max_bytes: usize,
    min_one: bool,
    isolation: Isolation,
) -> Result<Followed, Error> {
    let mut patience = PATIENCE;
    let read = storage.read_followed(tp, offset, max_bytes, min_one, isolation, &mut patience);
    read.await
}

/// Reads as a consumer does until it is sent elsewhere: (base, last) of what came, and where it
/// was sent from.
async fn read_on(storage: &Storage, from: i64, max_bytes: usize) -> (Vec<(i64, i64)>, i64) {
    let mut next = from;
    let mut found = Vec::new();
    loop {
        let isolation = Isolation::ReadUncommitted;
        let read = follow(storage, tp(0), next, max_bytes, true, isolation);
        let read = match read.await.expect("reads") {
            Followed::Found(read) => read,
            Followed::Elsewhere(_) => return (found, next),
        };
        assert!(!read.batches.is_empty(), "an answer brings a reader on");
        for (at, bytes) in read.batches.iter().enumerate() {
            let view = BatchView::new(bytes).expect("one batch");
            view.validate().expect("checksums are right");
            if at == 0 {
                assert!(view.base_offset() <= next && next <= view.last_offset());
            } else {
                assert_eq!(view.base_offset(), next, "no skip, no repeat");
            }
            assert!(view.next_offset() <= read.position.high_watermark);
            found.push((view.base_offset(), view.last_offset()));
            next = view.next_offset();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_read_and_what_is_not_is_the_leaders() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    assert_eq!(read_on(&reader, 0, 1 << 20).await, (vec![], 0));
    for _ in 0..5 {
        put(&partition, &batch(3, 100, 1)).await.unwrap();
    }
    assert_eq!(
        read_on(&reader, 0, 1 << 20).await,
        (vec![], 0),
        "only in the log"
    );
    leader.drain().await.unwrap();
    for _ in 0..2 {
        put(&partition, &batch(2, 100, 1)).await.unwrap();
    }
    let expected: Vec<_> = (0..5).map(|n| (3 * n, 3 * n + 2)).collect();
    for max_bytes in [1, 500, 1 << 20] {
        assert_eq!(read_on(&reader, 0, max_bytes).await, (expected.clone(), 15));
    }
    // Beyond what is committed, and beyond the log, the leader answers.
    for offset in [15, 17, 19, 20, 1 << 40, -1] {
        assert_eq!(read_on(&reader, offset, 1 << 20).await, (vec![], offset));
    }
    leader.drain().await.unwrap();
    assert_eq!(read_on(&reader, 15, 1 << 20).await.1, 19);
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn no_room_is_no_end() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    put(&partition, &batch(3, 100, 1)).await.unwrap();
    leader.drain().await.unwrap();
    let isolation = Isolation::ReadCommitted;
    assert_eq!(read_on(&reader, 0, 1).await.1, 3);
    for max_bytes in [0, 10, 61, 100] {
        let read = follow(&reader, tp(0), 0, max_bytes, false, isolation);
        let Followed::Found(read) = read.await.unwrap() else {
            panic!("there is something")
        };
        assert_eq!((read.bytes, read.position.high_watermark), (0, 3));
        assert_eq!(read.aborted, Some(Vec::new()));
        // At its end nothing is told before there is room to look for more: the leader has it.
        let read = follow(&reader, tp(0), 3, max_bytes, false, isolation);
        match read.await.unwrap() {
            Followed::Found(read) => {
                assert!(max_bytes < LEAST_BATCH_BYTES);
                assert_eq!((read.bytes, read.position), (0, Position::UNKNOWN));
            }
            Followed::Elsewhere(_) => assert!(max_bytes >= LEAST_BATCH_BYTES),
        }
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn log_start_and_deletion_are_seen_in_time() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    for _ in 0..5 {
        put(&partition, &batch(3, 100, 1)).await.unwrap();
    }
    leader.drain().await.unwrap();
    assert_eq!(read_on(&reader, 0, 1 << 20).await.1, 15);
    partition.delete_records(7).await.unwrap();
    tokio::time::sleep(FOLLOWER_AGE + Duration::from_secs(1)).await;
    assert_eq!(
        read_on(&reader, 0, 1 << 20).await,
        (vec![], 0),
        "below log start"
    );
    assert_eq!(read_on(&reader, 7, 1 << 20).await.0.first(), Some(&(6, 8)));
    world.catalog.delete(tp(0));
    tokio::time::sleep(FOLLOWER_AGE + Duration::from_secs(1)).await;
    for _ in 0..2 {
        let isolation = Isolation::ReadUncommitted;
        let read = follow(&reader, tp(0), 7, 1 << 20, true, isolation);
        assert!(matches!(read.await, Err(Error::NotLeader { .. })));
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_merged_slice_whose_objects_are_gone_is_found_anew_and_a_lost_one_is_alarmed() {
    let mut world = World::new();
    let store = GateStore::new(&Arc::new(Gate::default()));
    world.store = store.clone();
    world.settings.compaction_slices = 2;
    world.settings.compaction_interval = Duration::from_secs(30);
    // Nothing is kept, so that every read goes to the store.
    world.settings.block_cache_bytes = 0;
    world.settings.index_cache_bytes = 0;
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    let mut expected = Vec::new();
    for n in 0..4 {
        put(&partition, &batch(2, 100, 1)).await.unwrap();
        expected.push((2 * n, 2 * n + 1));
        leader.drain().await.unwrap();
    }
    let before = partition.slices();
    assert_eq!(read_on(&reader, 0, 1).await, (expected.clone(), 8));
    while partition.slices() == before {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let kept: Vec<_> = partition
        .slices()
        .into_iter()
        .map(|s| s.object.key)
        .collect();
    let gone = before
        .iter()
        .filter(|slice| !kept.contains(&slice.object.key));
    for slice in gone {
        world
            .store
            .delete(&Path::from(slice.object.key.as_str()))
            .await
            .unwrap();
    }
    assert_eq!(read_on(&reader, 0, 1).await, (expected.clone(), 8));
    assert_eq!(reader.metrics().lost.get(), 0);
    for slice in partition.slices() {
        world
            .store
            .delete(&Path::from(slice.object.key.as_str()))
            .await
            .unwrap();
    }
    let read = follow(&reader, tp(0), 0, 1, true, Isolation::ReadUncommitted);
    assert!(matches!(read.await, Err(Error::Lost { .. })));
    assert_eq!(reader.metrics().lost.get(), 1);
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_an_error_and_no_end() {
    let mut world = World::new();
    let store = GateStore::new(&Arc::new(Gate::default()));
    world.store = store.clone();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    put(&partition, &batch(2, 100, 1)).await.unwrap();
    leader.drain().await.unwrap();
    let isolation = Isolation::ReadUncommitted;
    let read = |offset| follow(&reader, tp(0), offset, 100, true, isolation);
    store.failing_gets.store(1 << 20, Ordering::Relaxed);
    assert_eq!(read(0).await.unwrap_err().kind(), ErrorKind::Retry);
    store.failing_gets.store(0, Ordering::Relaxed);
    assert!(matches!(read(0).await.unwrap(), Followed::Found(_)));
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_read_for_longest_makes_room() {
    let mut world = World::new();
    world.settings.followed_bytes = 100 * FOLLOWER_BYTES;
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    let read = |partition| {
        let isolation = Isolation::ReadUncommitted;
        let read = follow(&reader, tp(partition), 0, 1, true, isolation);
        async move { read.await.unwrap() }
    };
    let held = || reader.shared().followers.held();
    for partition in 1..=100 {
        world.catalog.lead(tp(partition), LeaderEpoch(1));
        assert!(matches!(read(partition).await, Followed::Elsewhere(_)));
    }
    assert_eq!(held(), (1..=100).map(tp).collect::<Vec<_>>());
    assert!(matches!(read(1).await, Followed::Elsewhere(_)));
    assert!(matches!(read(0).await, Followed::Elsewhere(_)));
    let kept: Vec<_> = [0, 1].into_iter().chain(3..=100).map(tp).collect();
    assert_eq!(held(), kept, "the second was not read for longest");
    // What grows takes the room of others once it is seen.
    for _ in 0..8 {
        put(&partition, &batch(1, 10, 1)).await.unwrap();
        leader.drain().await.unwrap();
    }
    assert!(matches!(read(0).await, Followed::Found(_)));
    let taken = (8 * FOLLOWED_SLICE_BYTES).div_ceil(FOLLOWER_BYTES);
    assert_eq!(held().len(), 100 - taken);
    assert!(held().contains(&tp(0)) && held().contains(&tp(1)));
    let bytes = reader.metrics().followed_bytes.get();
    assert_eq!(
        bytes as usize,
        (100 - taken) * FOLLOWER_BYTES + 8 * FOLLOWED_SLICE_BYTES
    );
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_read_once_is_counted_with_its_slices() {
    const COUNT: i32 = 40;
    const SLICES: usize = 8;
    let mut world = World::new();
    let one = FOLLOWER_BYTES + SLICES * FOLLOWED_SLICE_BYTES;
    // The last does not fit whole.
    let most = 10 * one + one / 2;
    world.settings.followed_bytes = most;
    let leader = world.storage();
    for _ in 0..SLICES {
        written(&world, &leader, COUNT).await;
    }
    let check = |reader: &Storage| {
        let followers = &reader.shared().followers;
        assert_eq!(followers.bytes(), followers.taken());
        assert!(followers.bytes() <= most, "{}", followers.bytes());
    };
    let reader = beside(&world);
    for partition in 0..COUNT {
        let read = read_first(&reader, partition).await;
        assert!(matches!(read.unwrap(), Followed::Found(_)));
        check(&reader);
    }
    let held = reader.shared().followers.held();
    assert_eq!(held, (COUNT - 10..COUNT).map(tp).collect::<Vec<_>>());
    // All at once: who makes room for others while it looks is read, and is not counted.
    let reader = beside(&world);
    let reads = (0..COUNT).map(|partition| read_first(&reader, partition));
    for read in join_all(reads).await {
        assert!(matches!(read.unwrap(), Followed::Found(_)));
    }
    check(&reader);
    assert_eq!(reader.shared().followers.held().len(), 10);
    leader.shutdown().await;
}

#[test]
fn what_is_counted_is_what_it_takes() {
    let follower = size_of::<Follower>() + size_of::<Inner>();
    assert!(
        (FOLLOWER_BYTES / 4..FOLLOWER_BYTES).contains(&follower),
        "{follower}"
    );
    let slice = size_of::<Slice>() + 2 * 64 + 4;
    assert!(
        (FOLLOWED_SLICE_BYTES / 4..FOLLOWED_SLICE_BYTES).contains(&slice),
        "{slice}"
    );
}

/// The fake catalog, which counts who asks for what.
#[derive(Default)]
struct Asked {
    inner: Arc<MemoryCatalog>,
    counts: Mutex<BTreeMap<TopicPartition, usize>>,
    /// Asked and not answered: now, and at most.
    open: AtomicUsize,
    most_open: AtomicUsize,
    silent: AtomicBool,
    failing: AtomicBool,
    /// How long it takes to answer.
    answers_after: Mutex<Duration>,
}

/// Questions that are open until they are dropped.
struct Open<'a>(&'a Asked);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asked {
    fn of(world: &World) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(&world.catalog),
            ..Self::default()
        })
    }

    fn beside(self: &Arc<Self>, world: &World) -> Storage {
        Storage::new(StorageParts {
            node: NodeId(9),
            broker_epoch: BrokerEpoch(99),
            catalog: self.clone(),
            ..world.parts()
        })
    }

    /// How often in all, and the most for one partition.
    fn counts(&self) -> (usize, usize) {
        let counts = self.counts.lock();
        (
            counts.values().sum(),
            counts.values().copied().max().unwrap_or(0),
        )
    }
}

#[async_trait::async_trait]
impl Catalog for Asked {
    async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionView>, CatalogError> {
        *self.counts.lock().entry(tp).or_default() += 1;
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let _open = Open(self);
        self.most_open.fetch_max(open, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let answers_after = *self.answers_after.lock();
        if !answers_after.is_zero() {
            tokio::time::sleep(answers_after).await;
        }
        if self.failing.load(Ordering::Relaxed) {
            return Err(CatalogError::Unavailable("failing".to_owned()));
        }
        self.inner.partition(tp).await
    }

    async fn commit_upload(&self, _: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        unreachable!("a reader commits nothing")
    }

    async fn replace(&self, _: ReplaceSlices) -> Result<(), CatalogError> {
        unreachable!("a reader rewrites nothing")
    }

    async fn set_log_start(
        &self,
        _: BrokerEpoch,
        _: TopicPartition,
        _: LeaderEpoch,
        _: i64,
    ) -> Result<(), CatalogError> {
        unreachable!("a reader deletes nothing")
    }

    async fn condemned(
        &self,
        _: i64,
        _: Option<&Condemned>,
        _: usize,
    ) -> Result<Vec<Condemned>, CatalogError> {
        unreachable!("a reader collects nothing")
    }

    async fn forget_condemned(&self, _: Vec<String>) -> Result<(), CatalogError> {
        unreachable!("a reader collects nothing")
    }

    async fn orphans(&self, _: Vec<String>) -> Result<Vec<String>, CatalogError> {
        unreachable!("a reader collects nothing")
    }
}

async fn read_first(reader: &Storage, partition: i32) -> Result<Followed, Error> {
    let isolation = Isolation::ReadUncommitted;
    let read = follow(reader, tp(partition), 0, 1 << 20, true, isolation);
    read.await
}

/// A batch more in each of `count` partitions, all of which lie in the store.
async fn written(world: &World, leader: &Storage, count: i32) {
    for number in 0..count {
        let partition = match leader.partition(tp(number)) {
            Some(open) => open,
            None => world.open(leader, number, 1).await,
        };
        put(&partition, &batch(1, 10, 1)).await.unwrap();
    }
    leader.drain().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn however_many_are_read_the_catalog_is_asked_at_a_bounded_rate() {
    const COUNT: i32 = 300;
    let mut world = World::new();
    let (leader, asked) = (world.storage(), Asked::of(&world));
    written(&world, &leader, COUNT).await;
    // All are kept: each is asked for once, and again when its view is old.
    let reader = asked.beside(&world);
    let begun = Instant::now();
    for round in 1..=20u32 {
        for partition in 0..COUNT {
            let read = read_first(&reader, partition).await;
            assert!(matches!(read.unwrap(), Followed::Found(_)));
        }
        tokio::time::sleep(FOLLOWER_AGE / 8).await;
        let ages = begun.elapsed().div_duration_f64(FOLLOWER_AGE).ceil() as usize;
        let (all, most) = asked.counts();
        assert!(
            all >= COUNT as usize && most <= ages,
            "round {round}: {most} in {ages}"
        );
    }
    // Few are kept: whoever reads waits for a turn.
    world.settings.followed_bytes = 10 * FOLLOWER_BYTES;
    let (reader, before, begun) = (asked.beside(&world), asked.counts().0, Instant::now());
    for _ in 0..2 {
        let reads = (0..COUNT).map(|partition| read_first(&reader, partition));
        for read in join_all(reads).await {
            assert!(matches!(read.unwrap(), Followed::Found(_)));
        }
    }
    let turns = begun.elapsed().div_duration_f64(FOLLOWER_ASKS_PACE) as usize + 1;
    let all = asked.counts().0 - before;
    assert!((COUNT as usize..=turns).contains(&all), "{all} in {turns}");
    assert!(reader.shared().followers.held().len() <= 10);
    leader.shutdown().await;
}

/// Reads `per_second` for ten seconds, each of which needs a look: how many found something in
/// each second, and after them.
async fn found_each_second(reader: &Storage, partitions: i32, per_second: u32) -> [usize; 11] {
    let begun = Instant::now();
    let reads = (0..10 * per_second).map(|number| async move {
        sleep_until(begun + Duration::from_secs(1) * number / per_second).await;
        let read = read_first(reader, number as i32 % partitions).await;
        (matches!(read, Ok(Followed::Found(_)))).then(|| begun.elapsed().as_secs())
    });
    let mut found = [0; 11];
    for second in join_all(reads).await.into_iter().flatten() {
        found[second.min(10) as usize] += 1;
    }
    found
}

#[tokio::test(start_paused = true)]
async fn more_looks_than_the_pace_allows_leave_it_to_those_it_helps() {
    const COUNT: i32 = 40;
    let mut world = World::new();
    // One is kept: each read looks.
    world.settings.followed_bytes = 1;
    let (leader, asked) = (world.storage(), Asked::of(&world));
    written(&world, &leader, COUNT).await;
    *asked.answers_after.lock() = Duration::from_millis(5);
    for per_second in [600, 1_000, 3_000] {
        let (reader, before, begun) = (asked.beside(&world), asked.counts().0, Instant::now());
        let found = found_each_second(&reader, COUNT, per_second).await;
        let enough = found[..10].iter().all(|count| *count >= 400);
        assert!(enough, "{per_second}: {found:?}");
        // Nothing is asked in vain, nor faster than the pace.
        let turns = begun.elapsed().div_duration_f64(FOLLOWER_ASKS_PACE) as usize + 1;
        let all = asked.counts().0 - before;
        assert_eq!(all, found.iter().sum::<usize>());
        assert!(all <= turns, "{all} in {turns}");
        // What was too much is over at once.
        for partition in 0..COUNT {
            let read = read_first(&reader, partition).await;
            assert!(matches!(read.unwrap(), Followed::Found(_)));
        }
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_the_pace_is_waited_for_takes_no_place_in_it() {
    let asks = Asks::default();
    let later = || Instant::now() + PATIENCE;
    drop(asks.turn(later()).await.expect("nobody was before"));
    let begun = Instant::now();
    let short = (0..1_000).map(|_| timeout(FOLLOWER_ASKS_PACE / 2, asks.turn(later())));
    let short = join_all(short).await;
    assert!(short.iter().all(Result::is_err), "it is the turn of none");
    drop(asks.turn(later()).await.expect("there is time"));
    assert!(begun.elapsed() <= FOLLOWER_ASKS_PACE + Duration::from_millis(1));
    // Who has no time for an answer left asks if nobody else does, and waits for no turn.
    tokio::time::sleep(FOLLOWER_ASKS_PACE).await;
    let soon = Instant::now() + FOLLOWER_ANSWER / 2;
    assert!(asks.turn(soon).await.is_some());
    assert!(asks.turn(soon).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn no_room_asks_nothing_and_many_at_once_ask_once() {
    let world = World::new();
    let (leader, asked) = (world.storage(), Asked::of(&world));
    written(&world, &leader, 1).await;
    let reader = asked.beside(&world);
    for max_bytes in [0, LEAST_BATCH_BYTES - 1] {
        let isolation = Isolation::ReadUncommitted;
        let read = follow(&reader, tp(0), 0, max_bytes, false, isolation);
        let Followed::Found(read) = read.await.unwrap() else {
            panic!("nobody looked")
        };
        assert_eq!((read.bytes, read.position), (0, Position::UNKNOWN));
    }
    assert_eq!(asked.counts(), (0, 0));
    let reads = join_all((0..50).map(|_| read_first(&reader, 0))).await;
    for read in reads {
        assert!(matches!(read.unwrap(), Followed::Found(_)));
    }
    assert_eq!(asked.counts(), (1, 1));
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_says_nothing_is_waited_for_as_long_as_the_reader_will() {
    let world = World::new();
    let (leader, asked) = (world.storage(), Asked::of(&world));
    written(&world, &leader, 40).await;
    let reader = asked.beside(&world);
    assert!(matches!(
        read_first(&reader, 0).await.unwrap(),
        Followed::Found(_)
    ));
    asked.silent.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let reads = (0..120).map(|number| read_first(&reader, 1 + number % 39));
    for read in join_all(reads).await {
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Retry);
    }
    assert!(begun.elapsed() <= PATIENCE + Duration::from_millis(10));
    assert_eq!(asked.most_open.load(Ordering::Relaxed), FOLLOWER_ASKS);
    assert_eq!(asked.open.load(Ordering::Relaxed), 0);
    // All partitions of one request share what it will wait.
    let (mut patience, begun) = (PATIENCE, Instant::now());
    for partition in 1..20 {
        let isolation = Isolation::ReadUncommitted;
        let read = reader.read_followed(tp(partition), 0, 1, true, isolation, &mut patience);
        assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Retry);
    }
    assert!(begun.elapsed() <= PATIENCE + Duration::from_millis(10));
    // What is known is read, as long as it is not too old.
    assert!(matches!(
        read_first(&reader, 0).await.unwrap(),
        Followed::Found(_)
    ));
    tokio::time::sleep(FOLLOWER_AGE).await;
    assert_eq!(
        read_first(&reader, 0).await.unwrap_err().kind(),
        ErrorKind::Retry
    );
    // Whose patience is over asks nobody.
    let before = asked.counts();
    let isolation = Isolation::ReadUncommitted;
    let mut patience = Duration::ZERO;
    let late = reader.read_followed(tp(1), 0, 1, true, isolation, &mut patience);
    assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(asked.counts(), before);
    asked.silent.store(false, Ordering::Relaxed);
    let reads = (0..120).map(|number| read_first(&reader, number % 40));
    for read in join_all(reads).await {
        assert!(matches!(read.unwrap(), Followed::Found(_)));
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_fails_is_not_asked_at_once_again() {
    let world = World::new();
    let (leader, asked) = (world.storage(), Asked::of(&world));
    written(&world, &leader, 1).await;
    let reader = asked.beside(&world);
    asked.failing.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(
            read_first(&reader, 0).await.unwrap_err().kind(),
            ErrorKind::Retry
        );
    }
    let looks = begun.elapsed().div_duration_f64(FOLLOWER_LOOKS) as usize + 1;
    assert!(asked.counts().0 <= looks, "{:?} in {looks}", asked.counts());
    asked.failing.store(false, Ordering::Relaxed);
    assert!(matches!(
        read_first(&reader, 0).await.unwrap(),
        Followed::Found(_)
    ));
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_lies_ahead_is_counted_in_proportion() {
    let world = World::new();
    let leader = world.storage();
    let partition = world.open(&leader, 0, 1).await;
    for _ in 0..2 {
        for _ in 0..10 {
            put(&partition, &batch(1, 1_000, 1)).await.unwrap();
        }
        leader.drain().await.unwrap();
    }
    let all = partition.committed_bytes_from(0);
    assert!(all > 20_000);
    assert_eq!(partition.committed_bytes_from(5), all * 3 / 4);
    assert_eq!(partition.committed_bytes_from(10), all / 2);
    assert_eq!(partition.committed_bytes_from(20), 0);
    assert_eq!(partition.committed_bytes_from(i64::MAX), 0);
    assert_eq!(partition.committed_bytes_from(-5), all);
    leader.shutdown().await;
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Upload,
    /// The leader dies; another one takes over what was uploaded.
    Takeover,
    Wait(u64),
    LogStart(u8),
    Read {
        from: u8,
        max_bytes: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..4).prop_map(Step::Put),
        3 => Just(Step::Upload),
        1 => Just(Step::Takeover),
        2 => (1u64..40).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::LogStart),
        5 => (any::<u8>(), prop_oneof![Just(1usize), 100usize..2_000, Just(1 << 20)])
            .prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Whatever the reader gives is what the leader would have given, as far as it gives any, and it
/// reaches the committed end.
async fn run(steps: Vec<Step>) {
    let mut world = World::new();
    world.settings.compaction_slices = 2;
    world.settings.compaction_interval = Duration::from_secs(5);
    let reader = beside(&world);
    let mut leader = world.storage();
    let mut partition = world.open(&leader, 0, 1).await;
    let mut epoch = 1;
    for step in steps {
        match step {
            Step::Put(count) => {
                put(&partition, &batch(count, 300, 1)).await.unwrap();
            }
            Step::Upload => leader.drain().await.unwrap(),
            Step::Takeover => {
                leader.drain().await.unwrap();
                leader.shutdown().await;
                world.restart();
                epoch += 1;
                leader = world.storage();
                partition = world.open(&leader, 0, epoch).await;
            }
            Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::LogStart(part) => {
                let position = partition.position();
                let span = position.committed_end - position.log_start;
                let to = position.log_start + span * i64::from(part) / 256;
                partition.delete_records(to).await.unwrap();
            }
            Step::Read { from, max_bytes } => {
                let position = partition.position();
                let span = position.log_end - position.log_start;
                let from = position.log_start + span * i64::from(from) / 256;
                let (found, end) = read_on(&reader, from, max_bytes).await;
                let all = read_all(&partition, from, 1 << 20).await;
                assert!(all.starts_with(&found), "{found:?} of {all:?} from {from}");
                // An upload may end meanwhile.
                let ends = [position, partition.position()].map(|one| one.committed_end.max(from));
                assert!((ends[0]..=ends[1]).contains(&end), "{end} of {ends:?}");
            }
        }
    }
    leader.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn every_record_is_read_once_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}
