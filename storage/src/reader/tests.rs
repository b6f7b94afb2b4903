//! Reads across every boundary: batch, block, slice, object, epoch, cold and hot, with budgets
//! that end in the middle; and what happens when stored bytes are not as they should be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use protocol::{BatchBuilder, BatchView, Compression};

use super::*;
use crate::harness::{Gate, GateStore, World, batch, put, read_all, tp};
use crate::{ErrorKind, Storage, TopicConfig};

const BATCH: usize = 100_000;

/// Three slices in three objects of two epochs, of several blocks each, and a hot end.
async fn layered(world: &mut World) -> (Storage, Partition) {
    let storage = world.storage();
    let partition = world.open(&storage, 0, 1).await;
    for round in 0..2 {
        for n in 0..7 {
            put(
                &partition,
                &batch(1 + n % 3, BATCH / (1 + n % 3), round * 10),
            )
            .await
            .unwrap();
        }
        storage.drain().await.unwrap();
    }
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 2).await;
    for n in 0..5 {
        put(&partition, &batch(1, BATCH / 2 * (1 + n % 2), 50))
            .await
            .unwrap();
    }
    storage.drain().await.unwrap();
    for _ in 0..3 {
        put(&partition, &batch(2, 500, 60)).await.unwrap();
    }
    assert_eq!(partition.slices().len(), 3);
    assert!(partition.inner.state.lock().hot.first_offset().is_some());
    (storage, partition)
}

fn gated(world: &mut World) -> Arc<GateStore> {
    let store = GateStore::new(&Arc::new(Gate::default()));
    world.store = store.clone();
    store
}

#[tokio::test(start_paused = true)]
async fn every_offset_and_every_budget_reads_without_a_skip() {
    let mut world = World::new();
    let (storage, partition) = layered(&mut world).await;
    let all = read_all(&partition, 0, 1).await;
    assert_eq!(all.first().unwrap().0, 0);
    assert_eq!(all.last().unwrap().1 + 1, partition.high_watermark());
    let budgets = [
        1,
        600,
        BATCH / 2,
        BATCH - 1,
        BATCH + 200,
        2 * BATCH,
        5 * BATCH + 1_000,
        7 * BATCH + 3_000,
        16 * BATCH,
        64 << 20,
    ];
    for offset in 0..partition.high_watermark() {
        for budget in budgets {
            let found = read_all(&partition, offset, budget).await;
            let expected = all.iter().filter(|(_, last)| *last >= offset);
            assert!(found.iter().eq(expected), "from {offset} by {budget}");
        }
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn byte_limits_hold_but_for_a_first_batch() {
    let mut world = World::new();
    let (storage, partition) = layered(&mut world).await;
    let isolation = Isolation::ReadUncommitted;
    for offset in [0, partition.log_end() - 1] {
        let none = partition.read(offset, 10, false, isolation).await.unwrap();
        assert!(none.batches.is_empty());
        let one = partition.read(offset, 10, true, isolation).await.unwrap();
        assert_eq!(one.batches.len(), 1);
    }
    // One read crosses slices, objects and epochs, into memory.
    let all = partition.read(0, 64 << 20, true, isolation).await.unwrap();
    assert_eq!(all.batches.len(), 7 + 7 + 5 + 3);
    let epochs: Vec<i32> = all
        .batches
        .iter()
        .map(|b| BatchView::new(b).unwrap().leader_epoch())
        .collect();
    assert!(epochs.is_sorted() && epochs[0] == 1 && epochs[21] == 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_readers_fetch_each_block_once() {
    let mut world = World::new();
    let store = gated(&mut world);
    let (storage, partition) = layered(&mut world).await;
    store.gets.store(0, Ordering::Relaxed);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let partition = partition.clone();
            tokio::spawn(async move {
                partition
                    .read(0, 1, true, Isolation::ReadUncommitted)
                    .await
                    .unwrap()
                    .bytes
            })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert_eq!(
        store.gets.load(Ordering::Relaxed),
        2,
        "one index, one block"
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn read_ahead_grows_while_a_reader_is_sequential() {
    let mut world = World::new();
    let store = gated(&mut world);
    world.settings.upload_bytes = 16 << 20;
    world.settings.unuploaded_bytes = 32 << 20;
    world.settings.block_cache_bytes = 256 << 20;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for n in 0..24 {
        put(&partition, &batch(1, 500_000, n)).await.unwrap();
    }
    storage.drain().await.unwrap();
    assert_eq!(partition.slices().len(), 1);
    let slice = partition.inner.state.lock().slices[0].clone();
    let blocks = storage
        .shared()
        .read_path
        .index(&slice)
        .await
        .unwrap()
        .blocks
        .len();
    assert!(blocks >= 12);
    store.gets.store(0, Ordering::Relaxed);
    let mut next = 0;
    while next < 24 {
        let read = partition
            .read(next, 1, true, Isolation::ReadUncommitted)
            .await
            .unwrap();
        next = BatchView::new(&read.batches[0]).unwrap().next_offset();
    }
    let gets = store.gets.load(Ordering::Relaxed);
    assert!(gets <= 6, "{gets} requests for {blocks} blocks");
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn readers_side_by_side_fetch_each_byte_about_once() {
    let mut world = World::new();
    let _store = gated(&mut world);
    world.settings.upload_bytes = 48 << 20;
    world.settings.unuploaded_bytes = 96 << 20;
    world.settings.hot_bytes = 0;
    world.settings.block_cache_bytes = 16 << 20;
    let storage = world.storage();
    let mut readers = Vec::new();
    for number in 0..4 {
        let partition = world.open(&storage, number, 0).await;
        for n in 0..24 {
            put(&partition, &batch(1, 500_000, n)).await.unwrap();
        }
        readers.push((partition, 0));
    }
    storage.drain().await.unwrap();
    let before = storage.metrics().read_bytes.get();
    let mut served = 0;
    while readers.iter().any(|(_, next)| *next < 24) {
        for (partition, next) in &mut readers {
            // Ends within a block, so that its rest must still be there the next time.
            let read = partition
                .read(*next, 1_300_000, true, Isolation::ReadUncommitted)
                .await
                .unwrap();
            served += read.bytes as u64;
            if let Some(last) = read.batches.last() {
                *next = BatchView::new(last).unwrap().next_offset();
            }
        }
    }
    let fetched = storage.metrics().read_bytes.get() - before;
    assert!(served >= 4 * 24 * 500_000);
    assert!(fetched >= served / 2, "read cold: {fetched} for {served}");
    assert!(fetched <= served / 10 * 11, "{fetched} for {served}");
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_flip_on_the_way_is_read_again_and_one_in_the_store_is_never_served() {
    let mut world = World::new();
    let store = gated(&mut world);
    let (storage, partition) = layered(&mut world).await;
    let isolation = Isolation::ReadUncommitted;
    store.flipped_gets.store(1, Ordering::Relaxed);
    read_all(&partition, 0, 1).await;
    assert_eq!(store.flipped_gets.load(Ordering::Relaxed), 0);
    assert_eq!(storage.metrics().damaged.get(), 0);
    storage.shutdown().await;

    // A byte of every block, one after the other, wrong in the store itself.
    let mut world = World::new();
    let store = gated(&mut world);
    let (storage, partition) = layered(&mut world).await;
    let slice = partition.slices()[1].clone();
    let path = Path::from(slice.object.key.as_str());
    let bytes = store.inner.get(&path).await.unwrap().bytes().await.unwrap();
    let mut damaged = bytes.to_vec();
    damaged[1_000] ^= 4;
    store
        .inner
        .put(&path, PutPayload::from(damaged))
        .await
        .unwrap();
    let error = partition
        .read(slice.first_offset, 1, true, isolation)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Damaged { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(storage.metrics().damaged.get() >= 1);
    // What lies before it is served up to the damage, what lies behind too.
    let before = partition.read(0, 64 << 20, true, isolation).await.unwrap();
    let last = BatchView::new(before.batches.last().unwrap()).unwrap();
    assert_eq!(last.next_offset(), slice.first_offset);
    let after = partition
        .read(slice.end_offset, 1, true, isolation)
        .await
        .unwrap();
    assert_eq!(after.batches.len(), 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_named_and_gone_is_a_loss_and_a_moved_one_is_found_again() {
    let mut world = World::new();
    let (storage, partition) = layered(&mut world).await;
    let isolation = Isolation::ReadUncommitted;
    let slice = partition.slices()[0].clone();
    let path = Path::from(slice.object.key.as_str());
    let bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap();
    world.store.delete(&path).await.unwrap();
    let error = partition.read(0, 1, true, isolation).await.unwrap_err();
    assert!(matches!(&error, Error::Lost { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Retry, "never out of range");
    assert_eq!(storage.metrics().lost.get(), 1);

    // Another writer replaced the run, which this owner has not heard of.
    let other = Path::from("elsewhere/data");
    world
        .store
        .put(&other, PutPayload::from(bytes))
        .await
        .unwrap();
    let mut moved = slice.clone();
    moved.object.key = other.to_string();
    let replace = crate::ReplaceSlices {
        command_id: uuid::Uuid::from_u128(5),
        broker_epoch: world.epoch,
        runs: vec![crate::ReplaceRun {
            topic_partition: tp(0),
            leader_epoch: partition.leader_epoch(),
            old: vec![slice],
            new: vec![moved],
        }],
    };
    crate::Catalog::replace(world.catalog.as_ref(), replace)
        .await
        .unwrap();
    let all = read_all(&partition, 0, 300_000).await;
    assert_eq!(all.len(), 7 + 7 + 5 + 3);
    assert!(storage.metrics().replans.get() >= 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_source_is_worth_another_try_and_never_out_of_range() {
    let mut world = World::new();
    let (storage, partition) = layered(&mut world).await;
    let removed = partition.inner.state.lock().slices.remove(1);
    let offset = removed.reference.first_offset;
    let isolation = Isolation::ReadUncommitted;
    let error = partition
        .read(offset, 1, true, isolation)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }));
    assert_eq!(error.kind(), ErrorKind::Retry);
    // A read that comes to the hole stops before it.
    let before = partition.read(0, 64 << 20, true, isolation).await.unwrap();
    assert_eq!(
        BatchView::new(before.batches.last().unwrap())
            .unwrap()
            .next_offset(),
        offset
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn reads_see_nothing_below_log_start_and_nothing_beyond_the_watermark() {
    let mut world = World::new();
    let (storage, partition) = layered(&mut world).await;
    let middle = partition.slices()[1].first_offset + 3;
    assert_eq!(partition.delete_records(middle).await.unwrap(), middle);
    let isolation = Isolation::ReadUncommitted;
    let below = partition.read(middle - 1, 1, true, isolation).await;
    assert!(matches!(below, Err(Error::OutOfRange { .. })));
    let at = partition.read(middle, 1, true, isolation).await.unwrap();
    let view = BatchView::new(&at.batches[0]).unwrap();
    assert!(
        view.base_offset() <= middle && middle <= view.last_offset(),
        "the whole batch"
    );
    assert_eq!(
        partition.slices().len(),
        2,
        "what lies wholly below is forgotten"
    );
    // Beyond the committed end: the rest is committed all the same.
    let end = partition.high_watermark();
    assert_eq!(partition.delete_records(-1).await.unwrap(), end);
    storage.drain().await.unwrap();
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, end);
    assert!(partition.slices().is_empty());
    assert!(matches!(
        partition.delete_records(end + 1).await,
        Err(Error::OutOfRange { .. })
    ));
    partition.set_config(TopicConfig::internal_compacted());
    assert!(matches!(
        partition.delete_records(0).await,
        Err(Error::Policy { .. })
    ));
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn catch_up_readers_are_paced_and_tail_readers_are_not() {
    let mut world = World::new();
    world.settings.catch_up_bytes_per_second = 10_000;
    let (storage, partition) = layered(&mut world).await;
    let path = &storage.shared().read_path;
    let slice = partition.inner.state.lock().slices[0].clone();
    let index = path.index(&slice).await.unwrap();
    let timed = |number, class| {
        let (slice, index) = (slice.clone(), index.clone());
        async move {
            let start = tokio::time::Instant::now();
            path.blocks(&slice, &index, number, &mut Ahead::default(), class)
                .await
                .unwrap();
            start.elapsed()
        }
    };
    assert_eq!(
        timed(0, Class::CatchUp).await,
        Duration::ZERO,
        "the first goes at once"
    );
    assert!(timed(1, Class::CatchUp).await > Duration::from_secs(5));
    let slice = partition.inner.state.lock().slices[1].clone();
    let index = path.index(&slice).await.unwrap();
    let start = tokio::time::Instant::now();
    path.blocks(&slice, &index, 0, &mut Ahead::default(), Class::Tail)
        .await
        .unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    storage.shutdown().await;
}

/// Batches of given timestamps per record, compressed or not.
fn stamped(timestamps: &[i64], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    for timestamp in timestamps {
        builder.append(*timestamp, None, Some(b"v"), &[]);
    }
    builder.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn timestamps_are_found_within_batches_wherever_they_lie() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 3).await;
    let batches: [&[i64]; 5] = [&[10, 30, 20], &[25, 26], &[40], &[5, 50, 50, 45], &[60]];
    for (n, timestamps) in batches.iter().enumerate() {
        let compression = if n % 2 == 0 {
            Compression::None
        } else {
            Compression::Lz4
        };
        put(&partition, &stamped(timestamps, compression))
            .await
            .unwrap();
        if n == 1 || n == 3 {
            storage.drain().await.unwrap();
        }
    }
    let all: Vec<i64> = batches.concat();
    for log_start in [0, 1, 4, 6, 8] {
        partition.delete_records(log_start).await.unwrap();
        for wanted in 0..=61 {
            let found = partition.offset_for_timestamp(wanted).await.unwrap();
            let from = log_start as usize;
            let expected = (from..all.len()).find(|at| all[*at] >= wanted);
            assert_eq!(
                found.map(|f| f.offset as usize),
                expected,
                "{wanted} from {from}"
            );
            if let Some(found) = found {
                assert_eq!(found.timestamp_ms, all[found.offset as usize]);
                assert_eq!(found.leader_epoch.0, 3);
            }
        }
    }
    assert_eq!(partition.max_timestamp().await.unwrap().unwrap().offset, 10);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_largest_timestamp_is_that_of_what_is_left() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 3).await;
    assert_eq!(partition.max_timestamp().await.unwrap(), None);
    put(&partition, &stamped(&[90, 10], Compression::None))
        .await
        .unwrap();
    put(&partition, &stamped(&[20, 80], Compression::None))
        .await
        .unwrap();
    storage.drain().await.unwrap();
    put(&partition, &stamped(&[70, 60], Compression::None))
        .await
        .unwrap();
    let max = |found: Option<RecordAt>| found.map(|f| (f.offset, f.timestamp_ms));
    assert_eq!(max(partition.max_timestamp().await.unwrap()), Some((0, 90)));
    partition.delete_records(2).await.unwrap();
    assert_eq!(max(partition.max_timestamp().await.unwrap()), Some((3, 80)));
    partition.delete_records(4).await.unwrap();
    assert_eq!(max(partition.max_timestamp().await.unwrap()), Some((4, 70)));
    storage.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Any interleaving of appends, uploads and evictions reads back whole, by any budget.
    #[test]
    fn any_history_reads_back_whole(
        steps in prop::collection::vec((0..10u8, 1..4usize, 1..60_000usize), 1..40),
        budget in 1..200_000usize,
        hot in 0..200_000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            world.settings.hot_bytes = hot;
            let storage = world.storage();
            let partition = world.open(&storage, 0, 0).await;
            let mut expected = Vec::new();
            for (kind, count, bytes) in steps {
                if kind < 8 {
                    let base = put(&partition, &batch(count, bytes, 0)).await.unwrap();
                    expected.push((base, base + count as i64 - 1));
                } else {
                    storage.drain().await.unwrap();
                }
                assert_eq!(read_all(&partition, 0, budget).await, expected);
            }
            storage.shutdown().await;
        });
    }
}
