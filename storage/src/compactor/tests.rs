//! What is rewritten reads the same, whatever happens on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::ObjectStore;
use protocol::{BatchBuilder, BatchView, Compression, RecordIter};

use super::merge::merge_once;
use super::put_off::PutOff;
use crate::harness::{
    Gate, GateCatalog, GateStore, World, batch, context, keyed, put, read_all, sequenced, tp,
};
use crate::testing::Fault;
use crate::{Isolation, Partition, Storage, TopicConfig};

async fn merge_all(storage: &Storage, min_slices: usize) -> usize {
    let mut merges = 0;
    while merge_once(storage.shared(), min_slices, &mut PutOff::default())
        .await
        .unwrap()
    {
        merges += 1;
        assert!(merges < 1_000, "compaction comes to an end");
    }
    merges
}

async fn object_count(store: &dyn ObjectStore) -> usize {
    use futures::TryStreamExt;
    store
        .list(None)
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .len()
}

/// `rounds` bundles of three partitions.
async fn bundled(world: &World, storage: &Storage, rounds: i64) -> Vec<Partition> {
    let mut partitions = Vec::new();
    for p in 0..3 {
        partitions.push(world.open(storage, p, 1).await);
    }
    for round in 0..rounds {
        for (p, partition) in partitions.iter().enumerate() {
            put(partition, &batch(1 + p, 100 * (1 + p), round))
                .await
                .unwrap();
        }
        put(&partitions[0], &sequenced(7, 0, round as i32, 1))
            .await
            .unwrap();
        storage.drain().await.unwrap();
    }
    partitions
}

async fn read_everything(partitions: &[Partition]) -> Vec<Vec<(i64, i64)>> {
    let mut all = Vec::new();
    for partition in partitions {
        all.push(read_all(partition, 0, 1_000).await);
    }
    all
}

fn agrees_with_catalog(world: &World, partition: &Partition) {
    let view = world.catalog.view(partition.topic_partition()).unwrap();
    assert_eq!(view.slices, partition.slices());
}

#[tokio::test(start_paused = true)]
async fn bundles_are_merged_once_for_all_partitions_in_them() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    let store = GateStore::new(&gate);
    world.store = store.clone();
    let storage = world.storage();
    let partitions = bundled(&world, &storage, 20).await;
    let before = read_everything(&partitions).await;
    store.gets.store(0, Ordering::Relaxed);
    assert_eq!(merge_all(&storage, 16).await, 1);
    assert_eq!(
        store.gets.load(Ordering::Relaxed),
        20,
        "each bundle is read once, whole"
    );
    for partition in &partitions {
        assert_eq!(partition.slices().len(), 1);
        agrees_with_catalog(&world, partition);
        assert_eq!(
            partition.slices()[0].object,
            partitions[0].slices()[0].object
        );
    }
    assert_eq!(read_everything(&partitions).await, before);
    let condemned = crate::Catalog::condemned(world.catalog.as_ref(), i64::MAX, None, 100);
    assert_eq!(condemned.await.unwrap().len(), 20);
    assert!(storage.metrics().compaction_read_bytes.get() > 0);
    assert!(storage.metrics().compaction_written_bytes.get() > 0);
    assert_eq!(storage.metrics().compaction_slices.get(), 60);
    storage.shutdown().await;

    // The producer's state came along.
    world.restart();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 2).await;
    let retry = partition
        .produce(&sequenced(7, 0, 17, 1), context())
        .await
        .unwrap();
    assert!(retry.duplicate && retry.base_offset == 35);
    put(&partition, &sequenced(7, 0, 20, 1)).await.unwrap();
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_merge_keeps_the_checkpoint_at_the_end_of_the_run() {
    let mut world = World::new();
    world.settings.upload_age = Duration::from_secs(1);
    let storage = world.storage();
    let partition = world.open(&storage, 0, 1).await;
    put(&partition, &sequenced(7, 0, 0, 1)).await.unwrap();
    // A checkpoint by the drain, then changes only.
    storage.drain().await.unwrap();
    for n in 1..6 {
        put(&partition, &sequenced(7, 0, n, 1)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let flags: Vec<bool> = partition
        .slices()
        .iter()
        .map(|slice| slice.checkpoint)
        .collect();
    assert_eq!(flags, [true, false, false, false, false, false]);
    assert_eq!(merge_all(&storage, 4).await, 1);
    let slices = partition.slices();
    assert!(slices.len() == 1 && slices[0].checkpoint);
    let index = storage
        .shared()
        .objects
        .reader()
        .slice_index(&slices[0])
        .await
        .unwrap();
    let state = index.producer_checkpoint.unwrap();
    let mut expected = crate::producers::Producers::default();
    index
        .batches
        .iter()
        .for_each(|line| expected.record(&line.into()));
    assert_eq!(
        crate::producers::Producers::decode(&state).unwrap(),
        expected,
        "R5"
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn epochs_stay_apart() {
    let mut world = World::new();
    let storage = world.storage();
    bundled(&world, &storage, 6).await;
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 5).await;
    for n in 0..6 {
        put(&partition, &batch(2, 50, n)).await.unwrap();
        storage.drain().await.unwrap();
    }
    let before = read_all(&partition, 0, 1).await;
    assert_eq!(merge_all(&storage, 8).await, 1);
    let slices = partition.slices();
    let epochs: Vec<i32> = slices.iter().map(|slice| slice.leader_epoch.0).collect();
    assert_eq!(epochs, [1, 5]);
    assert_eq!(slices[0].end_offset, slices[1].first_offset);
    assert_eq!(read_all(&partition, 0, 1).await, before);
    agrees_with_catalog(&world, &partition);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_merge_leaves_nothing_behind() {
    let world = World::new();
    let storage = world.storage();
    let partitions = bundled(&world, &storage, 6).await;
    let objects = object_count(world.store.as_ref()).await;
    world.catalog.inject([Fault::Conflict]);
    let mut put_off = PutOff::default();
    assert!(!merge_once(storage.shared(), 4, &mut put_off).await.unwrap());
    assert_eq!(object_count(world.store.as_ref()).await, objects);
    assert_eq!(partitions[0].slices().len(), 6);
    assert_eq!(put_off.len(), 3);
    let again = merge_once(storage.shared(), 4, &mut put_off).await;
    assert!(!again.unwrap(), "left alone for a while");
    for _ in 0..16 {
        put_off.next_pass();
    }
    assert_eq!(put_off.len(), 0);
    // Unknown outcomes are asked again under the same id.
    world
        .catalog
        .inject([Fault::Unavailable, Fault::LostAnswer]);
    assert!(merge_once(storage.shared(), 4, &mut put_off).await.unwrap());
    agrees_with_catalog(&world, &partitions[0]);
    assert_eq!(partitions[0].slices().len(), 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn retention_and_appends_may_move_meanwhile() {
    let world = World::new();
    let storage = world.storage();
    let partitions = bundled(&world, &storage, 6).await;
    let middle = partitions[0].slices()[2].first_offset + 1;
    partitions[0].delete_records(middle).await.unwrap();
    assert!(
        merge_once(storage.shared(), 4, &mut PutOff::default())
            .await
            .unwrap()
    );
    agrees_with_catalog(&world, &partitions[0]);
    put(&partitions[0], &batch(1, 10, 0)).await.unwrap();
    storage.drain().await.unwrap();
    let found = read_all(&partitions[0], middle, 1).await;
    assert_eq!(found.last().unwrap().1 + 1, partitions[0].high_watermark());
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn many_small_rounds_are_rewritten_few_times() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 1).await;
    let mut most = 0;
    for n in 0..200 {
        put(&partition, &batch(1, 1_000, n)).await.unwrap();
        storage.drain().await.unwrap();
        merge_all(&storage, 8).await;
        most = most.max(partition.slices().len());
    }
    assert!(most <= 16, "{most} slices");
    let uploaded = storage.metrics().upload_bytes.get();
    let written = storage.metrics().compaction_written_bytes.get();
    assert!(
        written <= 6 * uploaded,
        "{written} bytes written for {uploaded}"
    );
    assert_eq!(read_all(&partition, 0, 5_000).await.len(), 200);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn large_runs_become_segments_within_bounded_memory() {
    let mut world = World::new();
    world.settings.segment_bytes = 2 << 20;
    world.settings.segment_max_bytes = 4 << 20;
    world.settings.compaction_memory_bytes = 3 << 20;
    let storage = world.storage();
    let (big, small) = (
        world.open(&storage, 0, 1).await,
        world.open(&storage, 1, 1).await,
    );
    for n in 0..12 {
        put(&big, &batch(1, 500_000, n)).await.unwrap();
        put(&small, &batch(1, 100, n)).await.unwrap();
        storage.drain().await.unwrap();
    }
    assert!(merge_all(&storage, 4).await > 1);
    let slices = big.slices();
    assert!(slices.len() <= 4, "{}", slices.len());
    let segment = slices.iter().find(|slice| slice.bytes >= 2 << 20).unwrap();
    assert!(
        segment.object.length < segment.bytes + 10_000,
        "an object of its own"
    );
    for partition in [&big, &small] {
        assert_eq!(read_all(partition, 0, 600_000).await.len(), 12);
        agrees_with_catalog(&world, partition);
    }
    storage.shutdown().await;
}

/// The process dies before and after each step of a merge; nothing is lost, and the next merge
/// works.
#[tokio::test(start_paused = true)]
async fn crashes_at_every_step_of_a_merge_lose_nothing() {
    for step in 1..=2 {
        for after in [false, true] {
            let mut world = World::new();
            let gate = Arc::new(Gate::default());
            world.store = GateStore::new(&gate);
            let inner = world.catalog.clone();
            world.gate_catalog = Some(Arc::new(GateCatalog {
                inner,
                gate: gate.clone(),
            }));
            let storage = world.storage();
            let partitions = bundled(&world, &storage, 6).await;
            let before = read_everything(&partitions).await;
            gate.stop_at(step, after);
            let mut put_off = PutOff::default();
            let merge = merge_once(storage.shared(), 4, &mut put_off);
            let died = tokio::time::timeout(Duration::from_secs(60), merge).await;
            assert!(died.is_err());
            // What is served meanwhile is right, whichever side of the change it is on.
            gate.open();
            assert_eq!(read_everything(&partitions).await, before);
            storage.shutdown().await;
            world.restart();
            let storage = world.storage();
            let mut partitions = Vec::new();
            for p in 0..3 {
                partitions.push(world.open(&storage, p, 2).await);
            }
            assert_eq!(read_everything(&partitions).await, before);
            merge_all(&storage, 4).await;
            assert_eq!(partitions[0].slices().len(), 1);
            assert_eq!(read_everything(&partitions).await, before);
            storage.shutdown().await;
        }
    }
}

/// Records of a compacted partition as consumers see them, by key; checks that offsets ascend.
async fn replay(partition: &Partition) -> BTreeMap<String, (i64, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut next = partition.log_start();
    while next < partition.high_watermark() {
        let isolation = Isolation::ReadUncommitted;
        let read = partition
            .read(next, 1 << 20, true, isolation)
            .await
            .unwrap();
        assert!(
            !read.batches.is_empty(),
            "a reader is never stuck at {next}"
        );
        for bytes in &read.batches {
            let view = BatchView::new(bytes).unwrap();
            view.validate().unwrap();
            assert!(view.last_offset() >= next);
            let payload = view.decompress(1 << 30).unwrap();
            for record in RecordIter::new(&view, &payload) {
                let record = record.unwrap();
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                found.insert(key, (record.offset, record.value.map(<[u8]>::to_vec)));
            }
            next = view.next_offset();
        }
    }
    found
}

async fn open_compacted(world: &World, storage: &Storage, epoch: i32) -> Partition {
    let view = world.catalog.lead(tp(0), epoch.into());
    storage
        .open(view, TopicConfig::internal_compacted())
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_record_of_a_key_stays_at_its_offset() {
    let mut world = World::new();
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 0).await;
    for round in 0..6 {
        for key in ["a", "b", "c"] {
            let value = format!("{key}{round}");
            put(&partition, &keyed(key, Some(value.as_bytes()), 999_000))
                .await
                .unwrap();
        }
        if round == 3 {
            put(&partition, &keyed("gone", None, 999_000))
                .await
                .unwrap();
            put(&partition, &keyed("old", None, 1)).await.unwrap();
        }
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        for n in 0..4 {
            let key = format!("m{}", n * (round % 2));
            builder.append(
                5,
                Some(key.as_bytes()),
                Some(&[round as u8]),
                &[("h", Some(b"x"))],
            );
        }
        put(&partition, &builder.build().unwrap()).await.unwrap();
        storage.drain().await.unwrap();
    }
    world.advance_ms(86_400_000 - 10_000);
    let mut before = replay(&partition).await;
    let (start, end) = (partition.log_start(), partition.high_watermark());
    assert!(partition.compact().await.unwrap());
    let after = replay(&partition).await;
    assert_eq!(
        before.remove("old"),
        Some((25, None)),
        "an old tombstone goes, a young one stays"
    );
    assert_eq!(after, before);
    assert_eq!(
        (partition.log_start(), partition.high_watermark()),
        (start, end)
    );
    let slices = partition.slices();
    assert_eq!(
        (slices[0].first_offset, slices.last().unwrap().end_offset),
        (start, end)
    );
    agrees_with_catalog(&world, &partition);
    assert!(!partition.compact().await.unwrap(), "nothing is dirty");

    // More comes, and supersedes what was clean; another life reads the same.
    put(&partition, &keyed("a", Some(b"last"), 999_999))
        .await
        .unwrap();
    storage.drain().await.unwrap();
    assert!(partition.compact().await.unwrap());
    before.insert("a".to_owned(), (end, Some(b"last".to_vec())));
    assert_eq!(replay(&partition).await, before);
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 1).await;
    assert_eq!(replay(&partition).await, before);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn emptied_slices_of_an_epoch_keep_their_offsets() {
    let mut world = World::new();
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 0).await;
    for _ in 0..3 {
        put(&partition, &keyed("k", Some(b"old"), 1)).await.unwrap();
    }
    storage.drain().await.unwrap();
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 1).await;
    put(&partition, &keyed("k", Some(b"new"), 2)).await.unwrap();
    storage.drain().await.unwrap();
    assert!(partition.compact().await.unwrap());
    let slices = partition.slices();
    assert_eq!(slices.len(), 2);
    assert_eq!(
        (
            slices[0].first_offset,
            slices[0].end_offset,
            slices[0].bytes
        ),
        (0, 3, 0)
    );
    assert_eq!(replay(&partition).await["k"], (3, Some(b"new".to_vec())));
    let found = partition.offset_for_timestamp(1).await.unwrap().unwrap();
    assert_eq!(found.offset, 3);
    // It merges like any other.
    put(&partition, &keyed("k", Some(b"newer"), 2))
        .await
        .unwrap();
    storage.drain().await.unwrap();
    merge_all(&storage, 2).await;
    assert_eq!(replay(&partition).await["k"].0, 4);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn crashes_at_every_step_of_a_rewrite_lose_nothing() {
    for step in 1..=2 {
        for after in [false, true] {
            let mut world = World::new();
            let gate = Arc::new(Gate::default());
            world.store = GateStore::new(&gate);
            let inner = world.catalog.clone();
            world.gate_catalog = Some(Arc::new(GateCatalog {
                inner,
                gate: gate.clone(),
            }));
            let storage = world.storage();
            let partition = open_compacted(&world, &storage, 0).await;
            for n in 0..10 {
                let key = format!("k{}", n % 3);
                put(&partition, &keyed(&key, Some(&[n]), 1)).await.unwrap();
                storage.drain().await.unwrap();
            }
            let before = replay(&partition).await;
            gate.stop_at(step, after);
            let died = tokio::time::timeout(Duration::from_secs(60), partition.compact()).await;
            assert!(died.is_err());
            gate.open();
            storage.shutdown().await;
            world.restart();
            let storage = world.storage();
            let partition = open_compacted(&world, &storage, 1).await;
            assert_eq!(replay(&partition).await, before);
            assert!(partition.compact().await.unwrap());
            assert_eq!(replay(&partition).await, before);
            storage.shutdown().await;
        }
    }
}

/// Commits of many groups, again and again: what a restart reads stays small, and each group's
/// last commit is there.
#[tokio::test(start_paused = true)]
async fn a_busy_offsets_partition_stays_small_by_itself() {
    const GROUPS: usize = 500;
    const BATCHES: usize = 300;
    let mut world = World::new();
    world.settings.upload_bytes = 64 << 20;
    world.settings.unuploaded_internal_bytes = 64 << 20;
    world.settings.compaction_memory_bytes = 32 << 20;
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 0).await;
    let value = [b'x'; 150];
    let mut written = 0_u64;
    for n in 0..BATCHES {
        let mut builder = BatchBuilder::new();
        for group in 0..GROUPS {
            let key = format!("group-{group}");
            let value = [&value[..], &(n as u32).to_be_bytes()].concat();
            builder.append(1, Some(key.as_bytes()), Some(&value), &[]);
        }
        let batch = builder.build().unwrap();
        written += batch.len() as u64;
        let internal = crate::AppendContext {
            internal: true,
            ..context()
        };
        partition
            .produce(&batch, internal)
            .await
            .unwrap()
            .durable()
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let size = partition.size_bytes();
        assert!(size <= 16 << 20, "{size} bytes to read after {n} batches");
    }
    assert!(written > 24 << 20);
    tokio::time::sleep(Duration::from_secs(100)).await;
    storage.drain().await.unwrap();
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = open_compacted(&world, &storage, 1).await;
    assert!(partition.size_bytes() <= 16 << 20);
    let found = replay(&partition).await;
    assert_eq!(found.len(), GROUPS);
    for (_, value) in found.values() {
        assert!(
            value
                .as_ref()
                .unwrap()
                .ends_with(&(BATCHES as u32 - 1).to_be_bytes())
        );
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_be_given_away_is_left_out() {
    let world = World::new();
    let storage = world.storage();
    let partitions = bundled(&world, &storage, 20).await;
    let before = read_everything(&partitions).await;
    partitions[1].set_leaving(true);
    assert_eq!(merge_all(&storage, 16).await, 1);
    let slices = |at: usize| partitions[at].slices().len();
    assert_eq!([slices(0), slices(1), slices(2)], [1, 20, 1]);
    // It stays after all.
    partitions[1].set_leaving(false);
    assert_eq!(merge_all(&storage, 16).await, 1);
    assert_eq!(slices(1), 1);
    assert_eq!(read_everything(&partitions).await, before);
    storage.shutdown().await;
}
