//! Giving away: nothing lost, nothing twice, wherever it is cut off.

use std::sync::atomic::Ordering;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use protocol::BrokerEpoch;
use uuid::Uuid;
use wal::WalId;

use super::*;
use crate::harness::{
    Gate, GateCatalog, GateStore, Trims, World, batch, context, put, read_all, sequenced, tp,
};
use crate::testing::Fault;
use crate::{Partition, Storage, TopicConfig};

const BOUNDS: HandOverBounds = HandOverBounds {
    serving: Duration::from_secs(10),
    held: Duration::from_secs(2),
};

fn all(partitions: &[Partition]) -> Vec<(TopicPartition, LeaderEpoch)> {
    let key = |p: &Partition| (p.topic_partition(), p.leader_epoch());
    partitions.iter().map(key).collect()
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

/// A second broker over the same store and catalog.
fn other(world: &mut World) -> Storage {
    world.epoch = BrokerEpoch(world.epoch.0 + 1);
    world.wal_id = WalId(Uuid::from_u128(u128::from(world.epoch.0)));
    world.catalog.open_log(world.wal_id, world.epoch);
    world.storage()
}

#[tokio::test(start_paused = true)]
async fn what_is_given_away_goes_on_elsewhere_record_by_record() {
    let mut world = World::new();
    let trims = Trims::default();
    let storage = world.storage_over(trims.backend());
    let first_wal = world.wal_id;
    let moving = world.open(&storage, 0, 0).await;
    let staying = world.open(&storage, 1, 0).await;
    for n in 0..6 {
        put(&moving, &sequenced(9, 0, 2 * n, 2)).await.unwrap();
        put(&staying, &batch(1, 100_000, 0)).await.unwrap();
    }
    let held = storage
        .hand_over(&all(std::slice::from_ref(&moving)), BOUNDS)
        .await
        .unwrap();
    let (topic_partition, leader_epoch) = (tp(0), LeaderEpoch(0));
    let ready = Held {
        topic_partition,
        leader_epoch,
        end: 12,
    };
    assert_eq!(held, [ready]);
    assert_eq!(
        world.catalog.trim_point(first_wal),
        0,
        "no trim: others wait"
    );
    // Reads go on, appends wait, the other partition minds nothing.
    assert_eq!(read_all(&moving, 0, 50).await.len(), 6);
    put(&staying, &batch(1, 10, 0)).await.unwrap();
    let late = tokio::spawn({
        let moving = moving.clone();
        async move { put(&moving, &sequenced(9, 0, 12, 2)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!late.is_finished());
    let heir = other(&mut world);
    let opened = world.open(&heir, 0, 1).await;
    storage.released(topic_partition, leader_epoch);
    let refused = late.await.unwrap().unwrap_err();
    assert!(matches!(refused, Error::NotLeader { .. }), "{refused}");
    assert_eq!(read_all(&opened, 0, 50).await.len(), 6);
    // A repetition is known as one, the next in sequence is taken.
    assert_eq!(put(&opened, &sequenced(9, 0, 10, 2)).await.unwrap(), 10);
    assert_eq!(put(&opened, &sequenced(9, 0, 12, 2)).await.unwrap(), 12);
    // The ordinary round comes to the same entries: all committed already.
    let slices = world.catalog.view(tp(0)).unwrap().slices.len();
    storage.drain().await.unwrap();
    assert!(trims.highest() > 0, "the log is free of them");
    assert_eq!(world.catalog.view(tp(0)).unwrap().slices.len(), slices);
    let last = world.catalog.commits().pop().unwrap();
    let others = last.slices.iter().all(|s| s.topic_partition == tp(1));
    assert!(others, "nothing of it is uploaded twice");
    assert_eq!(storage.unuploaded().0, 0);
    heir.drain().await.unwrap();
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 14);
    storage.shutdown().await;
    heir.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn kept_after_all_it_takes_appends_and_ordinary_rounds_go_on() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let staying = world.open(&storage, 1, 0).await;
    for n in 0..8 {
        put(&partition, &batch(1, 40_000, n)).await.unwrap();
        put(&staying, &batch(1, 90_000, n)).await.unwrap();
    }
    let moving = all(std::slice::from_ref(&partition));
    let held = storage.hand_over(&moving, BOUNDS).await.unwrap();
    assert_eq!(held[0].end, 8);
    let waiting = tokio::spawn({
        let partition = partition.clone();
        async move { put(&partition, &batch(1, 100, 0)).await }
    });
    tokio::task::yield_now().await;
    storage.keep(tp(0), LeaderEpoch(0));
    assert_eq!(waiting.await.unwrap().unwrap(), 8);
    // Not at an epoch that is not its own.
    storage.released(tp(0), LeaderEpoch(1));
    storage.drain().await.unwrap();
    assert_eq!(partition.size_bytes(), {
        let slices = world.catalog.view(tp(0)).unwrap().slices;
        slices.iter().map(|s| s.bytes).sum::<u64>()
    });
    assert_eq!(read_all(&partition, 0, 1).await.len(), 9);
    let again = storage.hand_over(&moving, BOUNDS).await.unwrap();
    assert_eq!(again[0].end, 9);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn many_share_one_bundle_and_one_command() {
    let mut world = World::new();
    world.settings.upload_bytes = 4 << 20;
    let storage = world.storage();
    let mut partitions = Vec::new();
    for n in 0..100 {
        partitions.push(world.open(&storage, n, 0).await);
    }
    let staying = world.open(&storage, 100, 0).await;
    for partition in &partitions {
        put(partition, &batch(3, 50, 0)).await.unwrap();
        put(&staying, &batch(1, 1000, 0)).await.unwrap();
    }
    let held = storage.hand_over(&all(&partitions), BOUNDS).await.unwrap();
    assert_eq!(held.len(), 100);
    assert!(held.iter().all(|held| held.end == 3));
    let commits = world.catalog.commits();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].slices.len(), 100);
    assert!(commits[0].slices.iter().all(|slice| slice.checkpoint));
    let keys: std::collections::BTreeSet<_> =
        commits[0].slices.iter().map(|s| &s.object.key).collect();
    assert_eq!(keys.len(), 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nobody_is_held() {
    let mut world = World::new();
    let (_gate, store) = gated(&mut world);
    let storage = Arc::new(world.storage());
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    store.failing_puts.store(u64::MAX, Ordering::Relaxed);
    let began = Instant::now();
    let moving = all(std::slice::from_ref(&partition));
    let handing = tokio::spawn({
        let (storage, moving) = (Arc::clone(&storage), moving.clone());
        async move { storage.hand_over(&moving, BOUNDS).await }
    });
    let mut appended = 1;
    while !handing.is_finished() {
        let before = Instant::now();
        assert_eq!(put(&partition, &batch(1, 100, 0)).await.unwrap(), appended);
        assert_eq!(before.elapsed(), Duration::ZERO, "held");
        appended += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() <= Duration::from_millis(10_100));
    assert_eq!(handing.await.unwrap().unwrap(), []);
    store.failing_puts.store(0, Ordering::Relaxed);
    let held = storage.hand_over(&moving, BOUNDS).await.unwrap();
    assert_eq!(held[0].end, appended);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_grows_fast_keeps_nobody_else_and_goes_alone() {
    let mut world = World::new();
    world.settings.upload_bytes = 8 << 20;
    let (gate, _store) = gated(&mut world);
    let storage = world.storage();
    let hot = world.open(&storage, 0, 0).await;
    let mut moving = all(std::slice::from_ref(&hot));
    for n in 1..50 {
        let quiet = world.open(&storage, n, 0).await;
        put(&quiet, &batch(1, 100, 0)).await.unwrap();
        moving.extend(all(std::slice::from_ref(&quiet)));
    }
    // About 1.5 MB in every upload's time.
    gate.slow(Duration::from_millis(150));
    let growing = tokio::spawn({
        let hot = hot.clone();
        async move {
            while put(&hot, &batch(1, 50_000, 0)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = storage.hand_over(&moving, BOUNDS).await.unwrap();
    let held: Vec<_> = held.iter().map(|h| h.topic_partition).collect();
    assert_eq!(held, (1..50).map(tp).collect::<Vec<_>>());
    let alone = storage.hand_over(&moving[..1], BOUNDS).await.unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].end, hot.position().committed_end);
    growing.abort();
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_given_up_when_nobody_waits_for_it() {
    let mut world = World::new();
    let (gate, _store) = gated(&mut world);
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    gate.stop_at(1, false);
    let moving = all(std::slice::from_ref(&partition));
    let handing = storage.hand_over(&moving, BOUNDS);
    let gone = tokio::time::timeout(Duration::from_secs(1), handing).await;
    assert!(gone.is_err());
    gate.open();
    let began = Instant::now();
    storage.drain().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "a stop waits");
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 1);
    storage.shutdown().await;
}

/// Holds the log's task up between publishing an entry and queueing it for upload.
#[derive(Default)]
struct HeldUp(parking_lot::Mutex<Option<std::sync::mpsc::Receiver<()>>>);

impl crate::Hooks for HeldUp {
    fn durable(&self, _batch: crate::HookBatch<'_>) {
        if let Some(go_on) = self.0.lock().take() {
            go_on.recv().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_durable_and_not_queued_yet_is_waited_for() {
    let mut world = World::new();
    let (go_on, told) = std::sync::mpsc::channel();
    world.hooks = Some(Arc::new(HeldUp(parking_lot::Mutex::new(Some(told)))));
    let storage = Arc::new(world.storage());
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    let moving = all(std::slice::from_ref(&partition));
    let handing = tokio::spawn({
        let storage = Arc::clone(&storage);
        async move { storage.hand_over(&moving, BOUNDS).await }
    });
    let held = || partition.inner.state.lock().status == crate::partition::Status::Held;
    while !held() && !handing.is_finished() {
        tokio::task::yield_now().await;
    }
    // Whoever would not wait has time to be done.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    go_on.send(()).unwrap();
    let held = handing.await.unwrap().unwrap();
    assert_eq!(held.len(), 1, "put off for nothing");
    assert_eq!(held[0].end, 1);
    storage.shutdown().await;
}

/// Cut off before and after every step through store and catalog, it gives up within its bound;
/// afterwards the old owner goes on, and all is there once.
#[tokio::test(start_paused = true)]
async fn wherever_it_is_cut_off_the_old_owner_goes_on() {
    for step in 1..=4 {
        for after in [false, true] {
            let mut world = World::new();
            world.settings.upload_bytes = 4 << 20;
            let (gate, _store) = gated(&mut world);
            let storage = world.storage();
            let moving = world.open(&storage, 0, 0).await;
            let staying = world.open(&storage, 1, 0).await;
            for n in 0..10 {
                put(&moving, &batch(1, 40_000, n)).await.unwrap();
                put(&staying, &batch(1, 90_000, n)).await.unwrap();
            }
            gate.stop_at(step, after);
            let held = storage
                .hand_over(&all(std::slice::from_ref(&moving)), BOUNDS)
                .await
                .unwrap();
            let cut_off = held.is_empty();
            gate.open();
            held.iter()
                .for_each(|held| storage.keep(held.topic_partition, held.leader_epoch));
            assert!(cut_off || step > 2, "step {step}, after {after}");
            assert_eq!(put(&moving, &batch(1, 10, 0)).await.unwrap(), 10);
            storage.drain().await.unwrap();
            let view = world.catalog.view(tp(0)).unwrap();
            assert_eq!(view.committed_end, 11);
            let found = read_all(&moving, 0, 1).await;
            assert_eq!(found.len(), 11, "step {step}, after {after}");
            let (storage, config) = (other(&mut world), TopicConfig::kafka_default());
            let view = world.catalog.lead(tp(0), LeaderEpoch(1));
            let again = storage.open(view, config).await.unwrap();
            assert_eq!(read_all(&again, 0, 1).await, found);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_that_comes_between_reservation_and_hold_waits_too() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let batch = batch(1, 100, 0);
    let reservation = partition.reserve(batch.len(), context()).await.unwrap();
    let moving = all(std::slice::from_ref(&partition));
    storage.hand_over(&moving, BOUNDS).await.unwrap();
    let refused = partition.append(reservation, &batch).unwrap_err();
    assert!(matches!(refused, Error::Held { .. }), "{refused}");
    let refused = partition.reserve(batch.len(), context()).await.unwrap_err();
    assert!(
        matches!(refused, Error::Held { .. }),
        "at the deadline: {refused}"
    );
    storage.shutdown().await;
}

/// The catalog knows the repetition of an early commit only for a while: judged anew, it is told
/// "dropped" of slices that stand.
#[tokio::test(start_paused = true)]
async fn an_early_commit_that_the_catalog_forgot_keeps_its_object() {
    let mut world = World::new();
    let storage = world.storage();
    let moving = world.open(&storage, 0, 0).await;
    for n in 0..4 {
        put(&moving, &sequenced(9, 0, 2 * n, 2)).await.unwrap();
    }
    world.catalog.inject([Fault::Forgotten]);
    let held = storage
        .hand_over(&all(std::slice::from_ref(&moving)), BOUNDS)
        .await
        .unwrap();
    assert_eq!(held[0].end, 8);
    for key in world.catalog.named_objects() {
        let there = world.store.head(&Path::from(key.as_str())).await;
        assert!(there.is_ok(), "{key} is named, and gone");
    }
    let heir = other(&mut world);
    let opened = world.open(&heir, 0, 1).await;
    storage.released(tp(0), LeaderEpoch(0));
    assert_eq!(read_all(&opened, 0, 50).await.len(), 4);
    assert_eq!(put(&opened, &sequenced(9, 0, 6, 2)).await.unwrap(), 6);
    storage.shutdown().await;
    heir.shutdown().await;
}

/// Cut off after the catalog took it, and then told by the catalog how far it is committed, the
/// owner still gives the producers of those batches along.
#[tokio::test(start_paused = true)]
async fn producers_of_what_the_catalog_told_the_owner_are_given_along() {
    let mut world = World::new();
    let (gate, _store) = gated(&mut world);
    let storage = world.storage();
    let moving = world.open(&storage, 0, 0).await;
    for n in 0..3 {
        put(&moving, &sequenced(9, 0, 2 * n, 2)).await.unwrap();
    }
    gate.stop_at(2, true);
    let moves = all(std::slice::from_ref(&moving));
    assert_eq!(storage.hand_over(&moves, BOUNDS).await.unwrap(), []);
    gate.open();
    assert_eq!(moving.position().committed_end, 0);
    storage.shared().refresh(tp(0)).await.unwrap();
    assert_eq!(moving.position().committed_end, 6, "told by the catalog");
    // Another producer: the checkpoint at the end must not forget the first.
    put(&moving, &sequenced(10, 0, 0, 1)).await.unwrap();
    let held = storage.hand_over(&moves, BOUNDS).await.unwrap();
    assert_eq!(held[0].end, 7);
    let heir = other(&mut world);
    let opened = world.open(&heir, 0, 1).await;
    storage.released(tp(0), LeaderEpoch(0));
    assert_eq!(put(&opened, &sequenced(9, 0, 4, 2)).await.unwrap(), 4);
    assert_eq!(put(&opened, &sequenced(9, 0, 6, 2)).await.unwrap(), 7);
    storage.drain().await.unwrap();
    assert_eq!(storage.unuploaded().0, 0);
    storage.shutdown().await;
    heir.shutdown().await;
}

/// Slices of which it was told.
#[derive(Default)]
struct Told(parking_lot::Mutex<Vec<(i64, i64)>>);

impl crate::Hooks for Told {
    fn finished(&self, slice: &crate::SliceRef) {
        self.0.lock().push((slice.first_offset, slice.end_offset));
    }
}

/// Cut off before and after every step: whichever round comes to know of a commit tells of it.
#[tokio::test(start_paused = true)]
async fn every_slice_is_told_of_once_wherever_it_is_cut_off() {
    for step in 1..=4 {
        for after in [false, true] {
            let mut world = World::new();
            let told = Arc::new(Told::default());
            world.hooks = Some(told.clone());
            let (gate, _store) = gated(&mut world);
            let storage = world.storage();
            let moving = world.open(&storage, 0, 0).await;
            for n in 0..3 {
                put(&moving, &sequenced(9, 0, 2 * n, 2)).await.unwrap();
            }
            gate.stop_at(step, after);
            let moves = all(std::slice::from_ref(&moving));
            let held = storage.hand_over(&moves, BOUNDS).await.unwrap();
            gate.open();
            held.iter()
                .for_each(|held| storage.keep(held.topic_partition, held.leader_epoch));
            put(&moving, &sequenced(9, 0, 6, 1)).await.unwrap();
            storage.drain().await.unwrap();
            storage.drain().await.unwrap();
            let told = told.0.lock().clone();
            let mut next = 0;
            for (first, end) in &told {
                assert_eq!(*first, next, "step {step}, after {after}: {told:?}");
                next = *end;
            }
            assert_eq!(next, 7, "step {step}, after {after}: {told:?}");
            storage.shutdown().await;
        }
    }
}
