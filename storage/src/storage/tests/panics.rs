//! What a bug in one task does to the others: nothing goes on as if it had not been.

use std::time::Duration;

use super::TopicConfig;
use crate::harness::{World, batch, context, put};
use crate::testing::Fault;
use crate::{ErrorKind, Partition, Storage};

const HOUR: Duration = Duration::from_secs(3_600);

fn forever() -> TopicConfig {
    TopicConfig {
        retention_ms: -1,
        retention_bytes: -1,
        ..TopicConfig::kafka_default()
    }
}

/// Five slices, a second apart.
async fn with_slices(world: &World, config: TopicConfig) -> (Storage, Partition) {
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    partition.set_config(config);
    for n in 0..5 {
        let batch = batch(2, 1_000, 1_000_000 + n * 1_000);
        put(&partition, &batch).await.unwrap();
        storage.drain().await.unwrap();
    }
    assert_eq!(partition.slices().len(), 5);
    (storage, partition)
}

#[tokio::test(start_paused = true)]
async fn without_its_uploader_storage_stops_and_says_so() {
    let world = World::new();
    let (storage, partition) = with_slices(&world, forever()).await;
    world.catalog.inject([Fault::Panic]);
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    assert!(storage.drain().await.is_err(), "it does not wait for ever");
    let mut failure = storage.failure();
    let failed = failure.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(failed.unwrap().kind(), ErrorKind::Internal);
    let refused = partition.produce(&batch(1, 100, 0), context()).await;
    assert!(refused.is_err());
    assert_eq!(storage.metrics().background_failures.get(), 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn retention_that_panicked_is_begun_again() {
    let mut world = World::new();
    world.settings.retention_interval = Duration::from_secs(60);
    world.settings.compaction_slices = 100;
    let (storage, partition) = with_slices(&world, forever()).await;
    partition.set_config(TopicConfig {
        retention_ms: 1,
        ..forever()
    });
    world.advance_ms(1_000_000);
    world.catalog.inject([Fault::Panic]);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(storage.metrics().background_failures.get(), 1, "it is told");
    assert_eq!(partition.log_start(), 0);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(partition.log_start(), 10);
    assert_eq!(storage.metrics().background_failures.get(), 1);
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn compaction_that_panicked_is_begun_again() {
    let mut world = World::new();
    world.settings.compaction_slices = 100;
    world.settings.compaction_interval = Duration::from_secs(60);
    let (storage, partition) = with_slices(&world, forever()).await;
    // What is few is merged once an hour.
    world.catalog.inject([Fault::Panic]);
    tokio::time::sleep(HOUR + HOUR / 2).await;
    assert_eq!(storage.metrics().background_failures.get(), 1, "it is told");
    assert_eq!(partition.slices().len(), 5);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(partition.slices().len(), 1);
    assert_eq!(storage.metrics().background_failures.get(), 1);
    put(&partition, &batch(1, 100, 0)).await.unwrap();
    storage.shutdown().await;
}
