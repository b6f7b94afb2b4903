//! R4, R5, R6, R7: what may be committed, trimmed and evicted, and when.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt};
use protocol::LeaderEpoch;

use super::{Committer, Round};
use crate::harness::{
    Gate, GateCatalog, GateStore, Trims, World, batch, context, put, read_all, sequenced, tp,
};
use crate::testing::Fault;
use crate::{CatalogError, Error, ErrorKind, Isolation, Partition, Storage, TopicConfig};

async fn objects(store: &dyn ObjectStore) -> Vec<String> {
    use futures::TryStreamExt;
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    metas
        .into_iter()
        .map(|meta| meta.location.to_string())
        .collect()
}

/// Lets background tasks run until nothing more happens without time passing.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn gated(world: &mut World) -> (Arc<Gate>, Arc<GateStore>) {
    let gate = Arc::new(Gate::default());
    let store = GateStore::new(&gate);
    world.store = store.clone();
    let inner = world.catalog.clone();
    world.gate_catalog = Some(Arc::new(GateCatalog {
        inner,
        gate: gate.clone(),
    }));
    (gate, store)
}

#[tokio::test(start_paused = true)]
async fn big_partitions_get_objects_of_their_own_and_small_ones_share() {
    let mut world = World::new();
    world.settings.upload_bytes = 64 << 20;
    world.settings.unuploaded_bytes = 64 << 20;
    let storage = world.storage();
    let big = world.open(&storage, 0, 0).await;
    let small = [
        world.open(&storage, 1, 0).await,
        world.open(&storage, 2, 0).await,
    ];
    for n in 0..9 {
        put(&big, &batch(1, 1 << 20, n)).await.unwrap();
        put(&small[n as usize % 2], &batch(1, 100, n))
            .await
            .unwrap();
    }
    storage.drain().await.unwrap();
    let commits = world.catalog.commits();
    assert_eq!(commits.len(), 1, "one round, one command");
    let slices = &commits[0].slices;
    assert_eq!(slices.len(), 3);
    let key = |p: i32| {
        &slices
            .iter()
            .find(|s| s.topic_partition == tp(p))
            .unwrap()
            .object
            .key
    };
    assert_ne!(key(0), key(1));
    assert_eq!(key(1), key(2));
    assert_eq!(
        (commits[0].from, world.catalog.trim_point(world.wal_id)),
        (0, commits[0].to)
    );
    assert_eq!(storage.unuploaded().0, 0);
    for partition in [&big, &small[0], &small[1]] {
        let found = read_all(partition, 0, 100).await;
        assert_eq!(found.len() as i64, partition.high_watermark());
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn rounds_start_by_size_and_by_age_and_follow_each_other() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for n in 0..30 {
        put(&partition, &batch(1, 100_000, n)).await.unwrap();
    }
    settle().await;
    let commits = world.catalog.commits();
    assert!(commits.len() >= 2, "un-uploaded bytes passed 1 MiB twice");
    let left = storage.unuploaded().0;
    assert!(left > 0 && left < 1 << 20);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let commits = world.catalog.commits();
    assert_eq!(storage.unuploaded().0, 0, "age");
    for pair in commits.windows(2) {
        assert_eq!(pair[0].to, pair[1].from, "R4: rounds are contiguous");
        assert_eq!(pair[0].slices[0].end_offset, pair[1].slices[0].first_offset);
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_while_one_of_two_objects_is_missing() {
    let mut world = World::new();
    let (gate, store) = gated(&mut world);
    world.settings.upload_bytes = 64 << 20;
    world.settings.unuploaded_bytes = 64 << 20;
    let trims = Trims::default();
    let storage = world.storage_over(trims.backend());
    let (big, small) = (
        world.open(&storage, 0, 0).await,
        world.open(&storage, 1, 0).await,
    );
    for n in 0..9 {
        put(&big, &batch(1, 1 << 20, n)).await.unwrap();
    }
    put(&small, &batch(1, 100, 0)).await.unwrap();
    gate.stop_at(2, false);
    let draining = tokio::spawn({
        let storage = storage.clone();
        async move { storage.drain().await }
    });
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(
        objects(store.as_ref()).await.len(),
        1,
        "one of two is stored"
    );
    assert!(world.catalog.commits().is_empty());
    assert_eq!(trims.highest(), 0, "nothing is trimmed");
    assert_eq!(
        read_all(&big, 0, 1).await.len(),
        9,
        "all is still in memory"
    );
    assert!(storage.unuploaded().0 > 9 << 20);
    draining.abort();
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_nothing_is_lost() {
    let mut world = World::new();
    let (_, store) = gated(&mut world);
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    store.failing_puts.store(20, Ordering::Relaxed);
    storage.drain().await.unwrap();
    assert_eq!(store.failing_puts.load(Ordering::Relaxed), 0);
    assert_eq!(world.catalog.commits().len(), 1);
    assert!(storage.metrics().upload_retries.get() >= 20);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_asked_again_under_the_same_id() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    world
        .catalog
        .inject([Fault::Unavailable, Fault::LostAnswer, Fault::Unavailable]);
    storage.drain().await.unwrap();
    assert_eq!(world.catalog.commits().len(), 1, "committed once");
    assert_eq!(partition.position().committed_end, 1);
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    storage.drain().await.unwrap();
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_round_is_cut_again_and_its_objects_are_deleted() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    world.catalog.inject([Fault::Conflict, Fault::Conflict]);
    storage.drain().await.unwrap();
    let stored = objects(world.store.as_ref()).await;
    assert_eq!(stored.len(), 1, "only what is named stands there");
    assert!(world.catalog.named_objects().contains(&stored[0]));
    assert_eq!(storage.metrics().upload_conflicts.get(), 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_already_is_left_out_after_a_refusal() {
    // The catalog has [0, 3) by an early upload that this owner does not know of.
    let world = World::new();
    let storage = world.storage();
    let early = world.catalog.lead(tp(0), LeaderEpoch(0));
    let partition = storage
        .open(early, TopicConfig::kafka_default())
        .await
        .unwrap();
    put(&partition, &batch(3, 10, 0)).await.unwrap();
    put(&partition, &batch(2, 10, 0)).await.unwrap();
    world.catalog.set_committed_end(tp(0), 3);
    storage.drain().await.unwrap();
    let commits = world.catalog.commits();
    assert_eq!(commits.len(), 1);
    let slice = &commits[0].slices[0];
    assert_eq!((slice.first_offset, slice.end_offset), (3, 5));
    assert_eq!(world.catalog.trim_point(world.wal_id), commits[0].to);
    assert_eq!(
        partition.position().committed_end,
        5,
        "the catalog was asked"
    );
    storage.shutdown().await;
}

/// A partition whose catalog entry ends at `committed_end` while the owner begins at `begins`.
async fn at_odds(world: &World, storage: &Storage, begins: i64, committed_end: i64) -> Partition {
    let mut view = world.catalog.lead(tp(0), LeaderEpoch(0));
    world.catalog.set_committed_end(tp(0), committed_end);
    view.committed_end = begins;
    view.log_start = begins;
    storage
        .open(view, TopicConfig::kafka_default())
        .await
        .unwrap()
}

async fn stays_refused(begins: i64, committed_end: i64) {
    let world = World::new();
    let trims = Trims::default();
    let storage = world.storage_over(trims.backend());
    let partition = at_odds(&world, &storage, begins, committed_end).await;
    let other = world.open(&storage, 1, 0).await;
    put(&other, &batch(1, 10, 0)).await.unwrap();
    put(&partition, &batch(3, 10, 0)).await.unwrap();
    let error = storage.drain().await.unwrap_err();
    assert!(
        matches!(error, Error::Catalog(CatalogError::Corrupt(_))),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        world.catalog.commits().is_empty(),
        "refused whole: the other slice too"
    );
    assert_eq!(world.catalog.trim_point(world.wal_id), 0);
    assert_eq!(
        trims.highest(),
        0,
        "what is neither committed nor dropped is never trimmed"
    );
    assert!(objects(world.store.as_ref()).await.is_empty());
    assert!(storage.failure().borrow().is_some(), "alarmed");
    assert!(
        other.produce(&batch(1, 10, 0), context()).await.is_err(),
        "stopped"
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_stays_is_corruption() {
    stays_refused(5, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_straddles_the_committed_end_is_corruption() {
    stays_refused(0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn slices_of_deleted_topics_are_dropped_while_the_rest_stands() {
    let world = World::new();
    let trims = Trims::default();
    let storage = world.storage_over(trims.backend());
    let (kept, gone) = (
        world.open(&storage, 0, 0).await,
        world.open(&storage, 1, 0).await,
    );
    put(&kept, &batch(1, 10, 0)).await.unwrap();
    put(&gone, &batch(1, 10, 0)).await.unwrap();
    world.catalog.delete(tp(1));
    storage.drain().await.unwrap();
    assert_eq!(kept.position().committed_end, 1);
    assert_eq!(gone.position().committed_end, 0);
    assert_eq!(trims.highest(), world.catalog.trim_point(world.wal_id));
    // A round of nothing but dropped slices trims too, and leaves no object behind.
    let before = objects(world.store.as_ref()).await;
    put(&gone, &batch(1, 10, 0)).await.unwrap();
    storage.drain().await.unwrap();
    assert_eq!(objects(world.store.as_ref()).await, before);
    assert_eq!(world.catalog.commits().len(), 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_broker_stops_and_trims_nothing() {
    let world = World::new();
    let trims = Trims::default();
    let storage = world.storage_over(trims.backend());
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    world.catalog.fence(world.epoch);
    let error = storage.drain().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(trims.highest(), 0);
    assert!(!partition.is_open());
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_cache_evicts_only_what_the_owner_has_applied() {
    let mut world = World::new();
    let (gate, store) = gated(&mut world);
    world.settings.hot_bytes = 0;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for n in 0..5 {
        put(&partition, &batch(1, 1_000, n)).await.unwrap();
    }
    // The commit takes effect in the catalog; its answer is on the way for ever.
    gate.stop_at(2, true);
    let draining = tokio::spawn({
        let storage = storage.clone();
        async move { storage.drain().await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        world.catalog.view(tp(0)).unwrap().committed_end,
        5,
        "committed"
    );
    assert_eq!(partition.position().committed_end, 0, "and not applied");
    let gets = store.gets.load(Ordering::Relaxed);
    assert_eq!(read_all(&partition, 0, 1).await.len(), 5);
    assert_eq!(store.gets.load(Ordering::Relaxed), gets, "from memory");
    draining.abort();
    storage.shutdown().await;

    // Applied, it is evicted and read from the object.
    let mut world = World::new();
    world.settings.hot_bytes = 0;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for n in 0..5 {
        put(&partition, &batch(1, 1_000, n)).await.unwrap();
    }
    storage.drain().await.unwrap();
    assert_eq!(partition.inner.state.lock().hot.first_offset(), None);
    assert_eq!(read_all(&partition, 0, 1).await.len(), 5);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "R7")]
async fn evicting_what_is_not_applied_is_a_bug_that_stops() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    partition.inner.evict_below(1);
}

/// R5: what is stored with a slice is the state at its end, not that of the moment it is stored.
#[tokio::test(start_paused = true)]
async fn producer_state_is_that_at_the_end_of_the_slice() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &sequenced(7, 0, 0, 2)).await.unwrap();
    let shared = storage.shared();
    let groups = shared.queue.cut(u64::MAX, usize::MAX);
    // After the round was begun, the producer goes on, and another comes.
    put(&partition, &sequenced(7, 0, 2, 1)).await.unwrap();
    put(&partition, &sequenced(8, 0, 0, 1)).await.unwrap();
    let round = Round {
        from: 0,
        to: groups.last().unwrap().sequence + 1,
        groups,
        checkpoint: true,
    };
    Committer::new(shared, world.wal_id)
        .upload(&round)
        .await
        .unwrap();
    // The object is stored; its index tells the state.
    let slice = index_of_only_object(&world).await;
    let state = crate::producers::Producers::decode(&slice.producer_checkpoint.unwrap()).unwrap();
    let mut expected = crate::producers::Producers::default();
    for line in &slice.batches {
        expected.record(&line.into());
    }
    assert_eq!(slice.end_offset, 2);
    assert_eq!(state, expected);
    assert_eq!(state.len(), 1, "producer 8 wrote beyond the slice");
    storage.shutdown().await;
}

async fn index_of_only_object(world: &World) -> crate::format::SliceIndex {
    let keys = objects(world.store.as_ref()).await;
    let [key] = keys.as_slice() else {
        panic!("one object")
    };
    let path = object_store::path::Path::from(key.as_str());
    let bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap();
    let report = crate::format::verify_object(&world.store, key, None)
        .await
        .unwrap();
    assert!(report.is_whole() && report.length == bytes.len() as u64);
    report.slices.into_iter().next().unwrap().index.unwrap()
}

#[tokio::test(start_paused = true)]
async fn idempotence_survives_a_restart_by_checkpoints_and_by_changes() {
    let mut world = World::new();
    world.settings.checkpoint_bytes = 300;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for n in 0..14 {
        put(&partition, &sequenced(7, 0, n, 1)).await.unwrap();
        if n % 2 == 1 {
            // By age: checkpoints only by size, every few slices.
            tokio::time::sleep(Duration::from_secs(61)).await;
        }
    }
    let view = world.catalog.view(tp(0)).unwrap();
    assert_eq!(view.committed_end, 14);
    let checkpoints = view.slices.iter().filter(|slice| slice.checkpoint).count();
    assert!(
        checkpoints > 0 && checkpoints < view.slices.len(),
        "{checkpoints}"
    );
    storage.shutdown().await;

    world.restart();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 1).await;
    for n in 9..14 {
        let retry = partition
            .produce(&sequenced(7, 0, n, 1), context())
            .await
            .unwrap();
        assert!(retry.duplicate);
        assert_eq!(retry.base_offset, i64::from(n));
        retry.durable().await.unwrap();
    }
    let too_old = partition.produce(&sequenced(7, 0, 8, 1), context()).await;
    assert!(matches!(too_old, Err(Error::OutOfOrderSequence { .. })));
    assert_eq!(put(&partition, &sequenced(7, 0, 14, 1)).await.unwrap(), 14);
    let read = partition
        .read(0, 1 << 20, true, Isolation::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(read.batches.len(), 15);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_appends_and_still_uploads() {
    let mut world = World::new();
    world.settings.disk_reserve = Some(crate::DiskReserve {
        path: std::env::temp_dir(),
        bytes: u64::MAX,
        interval: Duration::from_secs(1),
    });
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    // The disk is looked at from another thread.
    while !matches!(
        partition.reserve(10, context()).await,
        Err(Error::DiskFull { .. })
    ) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    storage.drain().await.unwrap();
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_round_that_does_not_follow_the_trim_point_is_refused_whole() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    let shared = storage.shared();
    let mut groups = shared.queue.cut(u64::MAX, usize::MAX);
    // As an heir has them: no owner whose producers would have to be folded in order.
    let entries = groups.iter_mut().flat_map(|group| &mut group.entries);
    entries.for_each(|held| held.partition = None);
    let late = groups.split_off(1);
    let committer = Committer::new(shared, world.wal_id);
    let round = |from, to, groups| Round {
        from,
        to,
        groups,
        checkpoint: false,
    };
    let second = round(1, 2, late);
    let error = committer.upload(&second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "out of order");
    assert!(world.catalog.commits().is_empty());
    committer.upload(&round(0, 1, groups)).await.unwrap();
    committer.upload(&second).await.unwrap();
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 2);
    storage.shutdown().await;
}
