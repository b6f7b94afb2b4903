use crate::TopicConfig;
use crate::harness::{World, batch, put, tp};
use crate::testing::Fault;

/// Five slices of one batch each, 1,000 ms apart.
async fn aged(world: &World, config: TopicConfig) -> (crate::Storage, crate::Partition) {
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    partition.set_config(config);
    for n in 0..5 {
        put(&partition, &batch(2, 1_000, 1_000_000 + n * 1_000))
            .await
            .unwrap();
        storage.drain().await.unwrap();
    }
    (storage, partition)
}

fn forever() -> TopicConfig {
    TopicConfig {
        retention_ms: -1,
        retention_bytes: -1,
        ..TopicConfig::kafka_default()
    }
}

#[tokio::test(start_paused = true)]
async fn old_slices_go_by_time() {
    let world = World::new();
    let config = TopicConfig {
        retention_ms: 2_500,
        ..forever()
    };
    let (storage, partition) = aged(&world, config).await;
    super::pass(storage.shared()).await;
    assert_eq!(partition.log_start(), 0, "none is old yet");
    world.advance_ms(4_501);
    super::pass(storage.shared()).await;
    assert_eq!(
        partition.log_start(),
        4,
        "slices of 1,000,001 and 1,001,001"
    );
    assert_eq!(world.catalog.view(tp(0)).unwrap().log_start, 4);
    assert_eq!(partition.slices().len(), 3);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_go_by_size_but_the_limit_stays() {
    let world = World::new();
    let (storage, partition) = aged(&world, forever()).await;
    let each = partition.size_bytes() / 5;
    let limit = i64::try_from(each * 2 + 1).unwrap();
    partition.set_config(TopicConfig {
        retention_bytes: limit,
        ..forever()
    });
    super::pass(storage.shared()).await;
    assert_eq!(partition.slices().len(), 3, "two would be below the limit");
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_without_delete_is_never_touched() {
    let world = World::new();
    let config = TopicConfig {
        delete: false,
        compact: true,
        retention_ms: 1,
        retention_bytes: 1,
        ..forever()
    };
    let (storage, partition) = aged(&world, config).await;
    world.advance_ms(1_000_000_000);
    super::pass(storage.shared()).await;
    assert_eq!((partition.log_start(), partition.slices().len()), (0, 5));
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_is_away_puts_it_off() {
    let world = World::new();
    let (storage, partition) = aged(
        &world,
        TopicConfig {
            retention_ms: 1,
            ..forever()
        },
    )
    .await;
    world.advance_ms(1_000_000);
    world.catalog.inject([Fault::Unavailable]);
    super::pass(storage.shared()).await;
    assert_eq!(partition.log_start(), 0);
    assert_eq!(storage.metrics().background_failures.get(), 1);
    super::pass(storage.shared()).await;
    assert_eq!(partition.log_start(), 10, "all that is committed");
    assert_eq!(partition.high_watermark(), 10);
    storage.shutdown().await;
}
