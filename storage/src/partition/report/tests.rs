use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::harness::{World, batch, context, put, sequenced, tp};
use crate::{AppendContext, Error};

/// Offsets that may be given out before the next report.
const GAP: i64 = 100;

fn world() -> World {
    let mut world = World::new();
    world.settings.unreported_offsets = GAP;
    world
}

async fn soon<T>(work: impl Future<Output = T>) -> bool {
    timeout(Duration::from_millis(10), work).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn no_offset_beyond_the_gap_is_given_out_before_the_next_report() {
    let world = world();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 3).await;
    let epoch = partition.leader_epoch();
    assert_eq!(put(&partition, &batch(50, 1, 0)).await.unwrap(), 0);
    assert!(
        !soon(storage.report_wanted()).await,
        "there is half of it left"
    );
    assert_eq!(put(&partition, &batch(49, 1, 0)).await.unwrap(), 50);
    assert!(soon(storage.report_wanted()).await, "it comes near");
    // The last one that may be given, to the offset.
    assert_eq!(put(&partition, &batch(1, 1, 0)).await.unwrap(), 99);
    assert!(
        !soon(storage.report_wanted()).await,
        "one report is asked for once"
    );

    let short = AppendContext {
        deadline: Instant::now() + Duration::from_secs(1),
        ..context()
    };
    let refused = partition.produce(&batch(1, 1, 0), short).await;
    assert!(matches!(refused, Err(Error::Ahead { .. })), "{refused:?}");
    assert_eq!(partition.log_end(), GAP);

    // It waits for the report, and none of an earlier epoch or partition is one.
    let waits = tokio::spawn({
        let partition = partition.clone();
        async move { put(&partition, &batch(5, 1, 0)).await }
    });
    storage.reported(tp(0), protocol::LeaderEpoch(2), GAP);
    storage.reported(tp(1), epoch, GAP);
    storage.reported(tp(0), epoch, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    storage.reported(tp(0), epoch, 5);
    assert_eq!(waits.await.unwrap().unwrap(), 100);
    let refused = partition.produce(&batch(1, 1, 0), short).await;
    assert!(matches!(refused, Err(Error::Ahead { .. })));
    assert_eq!(partition.high_watermark(), 5 + GAP);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_tells_the_controllers_as_much_as_a_report() {
    let world = world();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(100, 1, 0)).await.unwrap();
    let waits = tokio::spawn({
        let partition = partition.clone();
        async move { put(&partition, &batch(100, 1, 0)).await }
    });
    tokio::task::yield_now().await;
    storage.drain().await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), 100);
    assert_eq!(partition.position().committed_end, 100);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_is_there_waits_for_no_report() {
    let world = world();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &sequenced(9, 0, 0, 100)).await.unwrap();
    let retry = sequenced(9, 0, 0, 100);
    let again = partition.produce(&retry, context()).await.unwrap();
    assert!(again.duplicate);
    again.durable().await.unwrap();
    // A sequence that was not taken is not remembered either.
    let short = AppendContext {
        deadline: Instant::now() + Duration::from_secs(1),
        ..context()
    };
    let refused = partition.produce(&sequenced(9, 0, 100, 1), short).await;
    assert!(matches!(refused, Err(Error::Ahead { .. })));
    storage.reported(tp(0), partition.leader_epoch(), 100);
    assert_eq!(
        put(&partition, &sequenced(9, 0, 100, 1)).await.unwrap(),
        100
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_wider_than_the_gap_is_refused() {
    let world = world();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let wide = partition.produce(&batch(101, 1, 0), context()).await;
    assert!(matches!(wide, Err(Error::InvalidBatch { .. })));
    assert_eq!(put(&partition, &batch(100, 1, 0)).await.unwrap(), 0);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_when_the_partition_closes() {
    let world = world();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(100, 1, 0)).await.unwrap();
    let waits = tokio::spawn({
        let partition = partition.clone();
        let context = AppendContext {
            deadline: Instant::now() + Duration::from_secs(1000),
            ..context()
        };
        async move { partition.produce(&batch(1, 1, 0), context).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    storage.close_partition(tp(0));
    let refused = timeout(Duration::from_secs(1), waits)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(refused, Err(Error::NotLeader { .. })),
        "{refused:?}"
    );
    storage.shutdown().await;
}
