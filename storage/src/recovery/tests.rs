//! Takeover of a tail: crash at each step and again, with the same result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use wal::WalId;

use super::*;
use crate::harness::{
    Gate, GateCatalog, GateStore, World, batch, context, put, read_all, sequenced, tp,
};
use crate::{
    Collector, CollectorMetrics, CollectorParts, CollectorSettings, Error, ErrorKind,
    HandOverBounds, KeySpace, Partition,
};

const PREFIX: &str = "wal/1";

/// A storage whose log is in the object store, so that its tail can be read.
async fn logged(world: &World) -> Storage {
    let store = world.store.clone();
    let settings = wal::object::ObjectSettings::STANDARD;
    let backend = wal::object::create(&world.env, store, PREFIX.to_owned(), world.wal_id, settings);
    world.storage_over(backend)
}

async fn tail(world: &World, wal_id: WalId, trim: Sequence) -> Tail {
    let settings = wal::object::ObjectSettings::STANDARD;
    let (store, prefix) = (world.store.clone(), PREFIX.to_owned());
    wal::object::recover(&world.env, store, prefix, wal_id, trim, settings)
        .await
        .unwrap()
}

/// A broker that wrote to three partitions, uploaded some of it, and died.
struct Dead {
    wal_id: WalId,
    /// (partition, epoch at the fence, high watermark)
    partitions: Vec<(TopicPartition, LeaderEpoch, i64)>,
}

async fn die(world: &mut World) -> Dead {
    // The owner uploads nothing by itself, the heir in small rounds.
    let upload_bytes = std::mem::replace(&mut world.settings.upload_bytes, 64 << 20);
    let storage = logged(world).await;
    let mut partitions = Vec::new();
    for p in 0..3 {
        partitions.push(world.open(&storage, p, 4).await);
    }
    let (first, rest) = (&partitions[0], &partitions[1..]);
    put(first, &sequenced(7, 0, 0, 3)).await.unwrap();
    storage.drain().await.unwrap();
    for n in 0..4 {
        put(first, &sequenced(7, 0, 3 + n, 1)).await.unwrap();
        for partition in rest {
            put(partition, &batch(2, 400_000, i64::from(n)))
                .await
                .unwrap();
        }
    }
    let told = |p: &Partition| (p.topic_partition(), p.leader_epoch(), p.high_watermark());
    let dead = Dead {
        wal_id: world.wal_id,
        partitions: partitions.iter().map(told).collect(),
    };
    storage.shutdown().await;
    world.settings.upload_bytes = upload_bytes;
    world.restart();
    dead
}

fn claim(world: &World, dead: &Dead) -> TailClaim {
    let (claim, trim) = world.catalog.claim(dead.wal_id, world.epoch);
    let partitions: BTreeMap<_, _> = dead
        .partitions
        .iter()
        .filter_map(|(tp, leader_epoch, _)| {
            let committed_end = world.catalog.view(*tp)?.committed_end;
            Some((
                *tp,
                ClaimedPartition {
                    leader_epoch: *leader_epoch,
                    committed_end,
                },
            ))
        })
        .collect();
    TailClaim {
        wal_id: dead.wal_id,
        claim,
        trim,
        partitions,
    }
}

async fn recover(world: &World, dead: &Dead) -> Result<Recovered, Error> {
    let claim = claim(world, dead);
    let tail = tail(world, dead.wal_id, claim.trim).await;
    let storage = Storage::new(world.parts());
    let turn = storage.recovery_turn().await;
    storage.recover_tail(claim, tail, &turn, None).await
}

fn check_ends(world: &World, dead: &Dead) {
    for (tp, _, high_watermark) in &dead.partitions {
        assert_eq!(
            world.catalog.view(*tp).unwrap().committed_end,
            *high_watermark
        );
    }
}

/// All is there, once, and the idempotent producer goes on.
async fn check(world: &World, dead: &Dead) {
    check_ends(world, dead);
    let storage = world.storage();
    for (tp, epoch, high_watermark) in &dead.partitions {
        let partition = world.open(&storage, tp.partition, epoch.0 + 1).await;
        let found = read_all(&partition, 0, 500_000).await;
        assert_eq!(found.last().unwrap().1 + 1, *high_watermark);
    }
    let partition = storage.partition(tp(0)).unwrap();
    let retry = partition
        .produce(&sequenced(7, 0, 6, 1), context())
        .await
        .unwrap();
    assert!(retry.duplicate && retry.base_offset == 6);
    assert_eq!(put(&partition, &sequenced(7, 0, 7, 1)).await.unwrap(), 7);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_tail_is_committed_beyond_what_was_committed_before() {
    let mut world = World::new();
    let dead = die(&mut world).await;
    let before = world.catalog.commits().len();
    let recovered = recover(&world, &dead).await.unwrap();
    assert_eq!(recovered.entries, 12);
    let commits = &world.catalog.commits()[before..];
    assert!(
        commits.len() > 1,
        "rounds are cut to the upload size: memory is bounded"
    );
    assert!(commits.iter().all(|commit| commit.claim == Some(1)));
    assert_eq!(world.catalog.trim_point(dead.wal_id), recovered.tail.end);
    check(&world, &dead).await;
}

/// A move was under way: what it committed of one partition stands in the log still.
#[tokio::test(start_paused = true)]
async fn what_was_committed_without_a_trim_is_not_taken_again() {
    let mut world = World::new();
    let storage = logged(&world).await;
    let moving = world.open(&storage, 0, 4).await;
    let staying = world.open(&storage, 1, 4).await;
    for n in 0..4 {
        put(&moving, &sequenced(7, 0, n, 1)).await.unwrap();
        put(&staying, &batch(2, 1_000, i64::from(n))).await.unwrap();
    }
    let bounds = HandOverBounds {
        serving: Duration::from_secs(10),
        held: Duration::from_secs(2),
    };
    let given = [(moving.topic_partition(), moving.leader_epoch())];
    let held = storage.hand_over(&given, bounds).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(world.catalog.trim_point(world.wal_id), 0);
    let told = |p: &Partition| (p.topic_partition(), p.leader_epoch(), p.high_watermark());
    let dead = Dead {
        wal_id: world.wal_id,
        partitions: vec![told(&moving), told(&staying)],
    };
    storage.shutdown().await;
    world.restart();
    let before = world.catalog.commits().len();
    let recovered = recover(&world, &dead).await.unwrap();
    assert_eq!(recovered.entries, 4, "those of the other partition");
    let commits = &world.catalog.commits()[before..];
    let slices = commits.iter().flat_map(|commit| &commit.slices);
    for slice in slices {
        assert_eq!(slice.topic_partition, staying.topic_partition());
    }
    for (tp, _, high_watermark) in &dead.partitions {
        let stands = world.catalog.view(*tp).unwrap();
        assert_eq!(stands.committed_end, *high_watermark);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_epoch_at_the_fence_counts() {
    // Entries of partition 0 at epoch 4 lie in the log, which it was fenced at epoch 5 of.
    let mut world = World::new();
    let dead = die(&mut world).await;
    let mut claim = claim(&world, &dead);
    claim.partitions.get_mut(&tp(0)).unwrap().leader_epoch = LeaderEpoch(5);
    claim.partitions.remove(&tp(2));
    let tail = tail(&world, dead.wal_id, claim.trim).await;
    let storage = Storage::new(world.parts());
    let turn = storage.recovery_turn().await;
    let recovered = storage
        .recover_tail(claim, tail, &turn, None)
        .await
        .unwrap();
    assert_eq!(recovered.entries, 4, "those of partition 1 alone");
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 3);
    assert_eq!(world.catalog.view(tp(2)).unwrap().committed_end, 0);
    assert_eq!(world.catalog.trim_point(dead.wal_id), recovered.tail.end);
}

#[tokio::test(start_paused = true)]
async fn an_empty_tail_is_recovered_too() {
    let mut world = World::new();
    let storage = logged(&world).await;
    world.open(&storage, 0, 0).await;
    storage.shutdown().await;
    let dead = Dead {
        wal_id: world.wal_id,
        partitions: vec![(tp(0), LeaderEpoch(0), 0)],
    };
    world.restart();
    let recovered = recover(&world, &dead).await.unwrap();
    assert_eq!((recovered.entries, recovered.bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_superseded_claim_is_fenced() {
    let mut world = World::new();
    let dead = die(&mut world).await;
    let old = claim(&world, &dead);
    let _newer = claim(&world, &dead);
    let tail = tail(&world, dead.wal_id, old.trim).await;
    let storage = Storage::new(world.parts());
    let turn = storage.recovery_turn().await;
    let error = storage
        .recover_tail(old, tail, &turn, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    recover(&world, &dead).await.unwrap();
    check(&world, &dead).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_recovery_and_no_more() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    let store = GateStore::new(&gate);
    world.store = store.clone();
    let dead = die(&mut world).await;
    store
        .failing_puts
        .store(15, std::sync::atomic::Ordering::Relaxed);
    store
        .failing_gets
        .store(15, std::sync::atomic::Ordering::Relaxed);
    let recovered = recover(&world, &dead).await.unwrap();
    assert_eq!(recovered.entries, 12);
    check(&world, &dead).await;
}

/// With such a patience.
async fn recover_within(
    world: &World,
    dead: &Dead,
    patience: Duration,
) -> Result<Recovered, Error> {
    let claim = claim(world, dead);
    let tail = tail(world, dead.wal_id, claim.trim).await;
    let storage = Storage::new(world.parts());
    let turn = storage.recovery_turn().await;
    let recovered = storage
        .recover_tail(claim, tail, &turn, Some(patience))
        .await;
    assert_eq!(storage.shared().recovery.held().0, 0, "all is given back");
    recovered
}

#[tokio::test(start_paused = true)]
async fn an_heir_whose_store_goes_away_gives_up_after_its_patience() {
    let patience = Duration::from_secs(30);
    for reading in [true, false] {
        let mut world = World::new();
        let gate = Arc::new(Gate::default());
        let store = GateStore::new(&gate);
        world.store = store.clone();
        let dead = die(&mut world).await;
        let fails = match reading {
            true => &store.failing_gets,
            false => &store.failing_puts,
        };
        // The seal of the log is put with the first attempt that succeeds: not when reading fails.
        fails.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        let error = recover_within(&world, &dead, patience).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        let waited = began.elapsed();
        assert!(waited >= patience && waited < 2 * patience, "{waited:?}");
        fails.store(0, std::sync::atomic::Ordering::Relaxed);
        // Somebody else, or the same, ends with the same result.
        recover(&world, &dead).await.unwrap();
        check(&world, &dead).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_heir_stored_of_a_round_that_it_gave_up_goes_without_its_end() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    let store = GateStore::new(&gate);
    world.store = store.clone();
    world.settings.unuploaded_bytes = 64 << 20;
    world.settings.recovery_bytes = 1 << 30;
    world.settings.upload_bytes = 64 << 20;
    let owner = logged(&world).await;
    // An object of its own for each partition.
    let mut partitions = Vec::new();
    for p in 0..3 {
        let partition = world.open(&owner, p, 4).await;
        put(&partition, &batch(1, 9 << 20, 0)).await.unwrap();
        partitions.push((partition.topic_partition(), LeaderEpoch(4), 1));
    }
    let wal_id = world.wal_id;
    owner.shutdown().await;
    world.restart();
    let dead = Dead { wal_id, partitions };
    store
        .data_puts_left
        .store(2, std::sync::atomic::Ordering::Relaxed);
    let storage = Storage::new(world.parts());
    let claim = claim(&world, &dead);
    let tail = tail(&world, wal_id, claim.trim).await;
    let turn = storage.recovery_turn().await;
    let patience = Some(Duration::from_secs(30));
    let error = storage
        .recover_tail(claim, tail, &turn, patience)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    drop(turn);
    let data = Path::from("test/00000001/data");
    let stored = async || store.list(Some(&data)).count().await;
    assert_eq!(stored().await, 2);
    let mut tasks = tokio::task::JoinSet::new();
    let collector = Collector::spawn(
        &mut tasks,
        CollectorParts {
            env: world.env.clone(),
            store: store.clone(),
            keys: KeySpace::new("", "test", 1),
            catalog: world.catalog.clone(),
            writer: (NodeId(1), world.epoch),
            given_up: storage.given_up(),
            duty: Arc::new(|| false),
            settings: CollectorSettings::standard(),
            metrics: CollectorMetrics::default(),
        },
    );
    assert_eq!(collector.collect().await.unwrap().discarded, 3);
    assert_eq!(stored().await, 0);
    assert_eq!(collector.collect().await.unwrap().discarded, 0, "once");
    // The same broker goes on later, and what it names stays.
    store
        .data_puts_left
        .store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    recover(&world, &dead).await.unwrap();
    collector.collect().await.unwrap();
    assert_eq!(stored().await, 3);
    check_ends(&world, &dead);
}

#[tokio::test(start_paused = true)]
async fn an_heir_that_comes_on_however_slowly_has_patience() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    let store = GateStore::new(&gate);
    world.store = store.clone();
    let dead = die(&mut world).await;
    let before = world.catalog.commits().len();
    // Each put takes longer than there is patience for failures.
    gate.slow(Duration::from_secs(9));
    store
        .failing_puts
        .store(3, std::sync::atomic::Ordering::Relaxed);
    let began = Instant::now();
    let patience = Duration::from_secs(8);
    recover_within(&world, &dead, patience).await.unwrap();
    let rounds = (world.catalog.commits().len() - before) as u32;
    assert!(began.elapsed() > rounds * patience);
    gate.slow(Duration::ZERO);
    check(&world, &dead).await;
}

/// The heir dies before and after each of its steps; the next one ends with the same result.
#[tokio::test(start_paused = true)]
async fn crashes_at_every_step_end_the_same() {
    let mut steps = 1;
    let mut at = 1;
    while at <= steps {
        for after in [false, true] {
            let mut world = World::new();
            let gate = Arc::new(Gate::default());
            world.store = GateStore::new(&gate);
            let inner = world.catalog.clone();
            let dead = die(&mut world).await;
            world.gate_catalog = Some(Arc::new(GateCatalog {
                inner,
                gate: gate.clone(),
            }));
            gate.stop_at(at, after);
            let died =
                tokio::time::timeout(Duration::from_secs(3_600), recover(&world, &dead)).await;
            assert!(died.is_err(), "stopped at step {at}");
            // A new broker epoch takes over from the dead heir.
            gate.stop_at(0, false);
            world.epoch = BrokerEpoch(world.epoch.0 + 1);
            world.wal_id = WalId(uuid::Uuid::from_u128(99));
            world.catalog.open_log(world.wal_id, world.epoch);
            recover(&world, &dead).await.unwrap();
            // Counted once: how many steps a clean recovery takes.
            if at == 1 && !after {
                steps = gate.steps();
            }
            gate.open();
            check(&world, &dead).await;
        }
        at += 1;
    }
    assert!(steps >= 6, "rounds of puts and commits: {steps}");
}

#[tokio::test(start_paused = true)]
async fn a_round_names_no_more_partitions_than_a_commit_takes() {
    let mut world = World::new();
    world.settings.upload_bytes = 64 << 20;
    let storage = logged(&world).await;
    let count = MAX_SLICES_PER_ROUND as i32 + 100;
    let mut partitions = Vec::new();
    let mut queued = Vec::new();
    for p in 0..count {
        let partition = world.open(&storage, p, 4).await;
        let produced = partition.produce(&batch(1, 10, 0), context()).await;
        queued.push(produced.unwrap());
        partitions.push((partition.topic_partition(), LeaderEpoch(4), 1));
    }
    for appended in queued {
        appended.durable().await.unwrap();
    }
    let wal_id = world.wal_id;
    storage.shutdown().await;
    world.restart();
    let dead = Dead { wal_id, partitions };
    let recovered = recover(&world, &dead).await.unwrap();
    assert_eq!(recovered.entries, count as u64);
    let commits = world.catalog.commits();
    let named: Vec<usize> = commits.iter().map(|commit| commit.slices.len()).collect();
    assert_eq!(named.iter().sum::<usize>(), count as usize);
    assert!(named.len() > 1 && named.iter().all(|n| *n <= MAX_SLICES_PER_ROUND));
}

/// Four dead brokers' logs of `groups` groups each, each with a partition of its own.
async fn four_dead(world: &mut World, groups: i64) -> Vec<Dead> {
    let upload_bytes = std::mem::replace(&mut world.settings.upload_bytes, 1 << 40);
    let mut dead = Vec::new();
    for p in 0..4 {
        let storage = logged(world).await;
        let partition = world.open(&storage, p, 4).await;
        for n in 0..groups {
            put(&partition, &batch(1, 100_000, n)).await.unwrap();
        }
        let told = (
            partition.topic_partition(),
            partition.leader_epoch(),
            groups,
        );
        dead.push(Dead {
            wal_id: world.wal_id,
            partitions: vec![told],
        });
        storage.shutdown().await;
        world.restart();
    }
    world.settings.upload_bytes = upload_bytes;
    dead
}

#[tokio::test(start_paused = true)]
async fn what_recoveries_hold_at_once_stays_within_their_share() {
    let mut world = World::new();
    // Of each log 3 MB are left; the share is a third of that.
    let dead = four_dead(&mut world, 30).await;
    world.settings.upload_bytes = 64 << 20;
    world.settings.recovery_bytes = 1 << 20;
    let storage = Storage::new(world.parts());
    let one = async |dead: &Dead| {
        let turn = storage.recovery_turn().await;
        let claim = claim(&world, dead);
        let settings = wal::object::ObjectSettings {
            read_ahead_bytes: storage.recovery_ahead_bytes(),
            ..wal::object::ObjectSettings::STANDARD
        };
        let (store, prefix) = (world.store.clone(), PREFIX.to_owned());
        let tail =
            wal::object::recover(&world.env, store, prefix, dead.wal_id, claim.trim, settings);
        let tail = tail.await.unwrap();
        storage
            .recover_tail(claim, tail, &turn, None)
            .await
            .unwrap()
    };
    let all = futures::future::join_all(dead.iter().map(one)).await;
    for recovered in all {
        assert_eq!(recovered.entries, 30);
    }
    let (held, most) = storage.shared().recovery.held();
    assert_eq!(held, 0, "all is given back");
    let ahead = storage.recovery_ahead_bytes();
    // At most two at a time, each with what is read ahead for it.
    assert!(most > 200_000, "several groups make a round: {most}");
    assert!(most + 2 * ahead <= 1 << 20, "{most} and {ahead} twice");
    for (tp, _, end) in dead.iter().flat_map(|dead| &dead.partitions) {
        assert_eq!(world.catalog.view(*tp).unwrap().committed_end, *end);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_larger_than_the_share_is_recovered_all_the_same() {
    let mut world = World::new();
    world.settings.recovery_bytes = 64 << 10;
    let dead = die(&mut world).await;
    recover(&world, &dead).await.unwrap();
    check(&world, &dead).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_is_given_up_gives_its_turn_back() {
    let room = RecoveryRoom::new(1 << 20);
    let (first, second) = (room.turn().await, room.turn().await);
    let mut holding = first.hold();
    holding.add(1000);
    let third = room.turn();
    tokio::pin!(third);
    assert!(futures::poll!(third.as_mut()).is_pending());
    drop(second);
    let _third = third.await;
    drop(holding);
    assert_eq!(room.held(), (0, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_stays_in_motion_says_nothing_of_the_log() {
    let mut world = World::new();
    let dead = die(&mut world).await;
    world.catalog.inject([crate::testing::Fault::Conflict; 8]);
    let error = recover(&world, &dead).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    recover(&world, &dead).await.unwrap();
    check(&world, &dead).await;
}
