//! Everything at once, on threads: producers, readers, uploads, evictions, merges, retention.

mod drain;
mod panics;

use std::time::Duration;

use bytes::Bytes;
use protocol::{BatchBuilder, BatchView, RecordIter};

use crate::harness::{World, context, read_all, tp};
use crate::{Isolation, Partition, StorageSettings, TopicConfig};

const PARTITIONS: i32 = 3;
const PRODUCERS: i64 = 6;
const BATCHES: i32 = 150;

fn restless(settings: &StorageSettings) -> StorageSettings {
    StorageSettings {
        upload_bytes: 64 << 10,
        hot_bytes: 32 << 10,
        unuploaded_bytes: 512 << 10,
        block_cache_bytes: 256 << 10,
        compaction_slices: 4,
        compaction_interval: Duration::from_millis(5),
        segment_bytes: 1 << 20,
        segment_max_bytes: 2 << 20,
        compaction_memory_bytes: 1 << 20,
        checkpoint_bytes: 100 << 10,
        ..settings.clone()
    }
}

fn batch(producer: i64, n: i32) -> Bytes {
    let mut builder = BatchBuilder::new().producer(producer, 0, 2 * n);
    let value = vec![b'x'; 500 + (n as usize * 37) % 1_500];
    for at in 0..2 {
        let key = format!("{producer}/{}", 2 * n + at);
        builder.append(i64::from(n), Some(key.as_bytes()), Some(&value), &[]);
    }
    builder.build().expect("a batch")
}

/// Each producer's records, in order, once, with nothing between them missing.
async fn check(partition: &Partition) {
    let mut next = 0;
    let mut seen = [0; PRODUCERS as usize];
    while next < partition.high_watermark() {
        let read = partition
            .read(next, 50_000, true, Isolation::ReadCommitted)
            .await
            .unwrap();
        for bytes in &read.batches {
            let view = BatchView::new(bytes).unwrap();
            view.validate().unwrap();
            assert_eq!(view.base_offset(), next);
            for record in RecordIter::new(&view, view.payload()) {
                let record = record.unwrap();
                let key = std::str::from_utf8(record.key.unwrap()).unwrap();
                let (producer, n) = key.split_once('/').unwrap();
                let producer: usize = producer.parse().unwrap();
                assert_eq!(n.parse::<i32>().unwrap(), seen[producer], "in order, once");
                seen[producer] += 1;
            }
            next = view.next_offset();
        }
    }
    let of = |p: i64| {
        if p % i64::from(PARTITIONS) == i64::from(partition.topic_partition().partition) {
            2 * BATCHES
        } else {
            0
        }
    };
    let expected: Vec<i32> = (0..PRODUCERS).map(of).collect();
    assert_eq!(seen.to_vec(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_at_once_loses_and_doubles_nothing() {
    let mut world = World::new();
    world.settings = restless(&world.settings);
    let storage = world.storage();
    let mut partitions = Vec::new();
    for p in 0..PARTITIONS {
        partitions.push(world.open(&storage, p, 0).await);
    }
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let partition = partitions[(producer % i64::from(PARTITIONS)) as usize].clone();
        producers.spawn(async move {
            for n in 0..BATCHES {
                let appended = partition
                    .produce(&batch(producer, n), context())
                    .await
                    .unwrap();
                let offset = appended.base_offset;
                // Every so often a retry overtakes its original's answer.
                if n % 7 == 0 {
                    let again = partition
                        .produce(&batch(producer, n), context())
                        .await
                        .unwrap();
                    assert!(again.duplicate && again.base_offset == offset);
                    again.durable().await.unwrap();
                    assert!(partition.high_watermark() > offset);
                }
                appended.durable().await.unwrap();
            }
        });
    }
    let mut readers = tokio::task::JoinSet::new();
    for (reader, partition) in partitions.iter().cycle().take(6).cloned().enumerate() {
        readers.spawn(async move {
            let mut rounds = 0;
            while partition.high_watermark() < i64::from(4 * BATCHES) {
                read_all(&partition, 0, 1 + 7_000 * reader).await;
                rounds += 1;
                tokio::task::yield_now().await;
            }
            rounds
        });
    }
    while let Some(done) = producers.join_next().await {
        done.unwrap();
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    for partition in &partitions {
        check(partition).await;
    }
    storage.drain().await.unwrap();
    for partition in &partitions {
        check(partition).await;
    }
    assert_eq!(storage.unuploaded().0, 0);
    assert!(
        storage.metrics().compaction_slices.get() > 0,
        "merges took place"
    );
    assert!(storage.metrics().block_misses.get() > 0, "and cold reads");
    assert_eq!(storage.metrics().background_failures.get(), 0);
    storage.shutdown().await;

    world.restart();
    let storage = world.storage();
    for p in 0..PARTITIONS {
        let view = world.catalog.lead(tp(p), 1.into());
        let partition = storage
            .open(view, TopicConfig::kafka_default())
            .await
            .unwrap();
        check(&partition).await;
    }
    storage.shutdown().await;
}
