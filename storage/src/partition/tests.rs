use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{BatchView, LeaderEpoch};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::harness::{DropTold, Gate, GateStore, World, batch, context, keyed, put, sequenced, tp};
use crate::{
    AppendContext, Error, HookBatch, Hooks, Isolation, RecordError, SliceRef, TopicConfig,
};

#[tokio::test(start_paused = true)]
async fn appends_become_readable_at_their_offsets() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 3).await;
    assert_eq!(put(&partition, &batch(3, 10, 50)).await.unwrap(), 0);
    assert_eq!(put(&partition, &batch(2, 10, 60)).await.unwrap(), 3);
    assert_eq!(partition.high_watermark(), 5);
    assert_eq!(partition.last_stable_offset(), 5);

    let read = partition
        .read(4, 1 << 20, true, Isolation::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(
        read.batches.len(),
        1,
        "the whole batch that holds the offset"
    );
    let view = BatchView::new(&read.batches[0]).unwrap();
    assert_eq!((view.base_offset(), view.leader_epoch()), (3, 3));
    view.validate().unwrap();

    let end = partition
        .read(5, 1 << 20, true, Isolation::ReadCommitted)
        .await
        .unwrap();
    assert!(end.batches.is_empty());
    assert_eq!(end.aborted, Some(Vec::new()));
    for wrong in [-1, 6] {
        let read = partition
            .read(wrong, 1, true, Isolation::ReadUncommitted)
            .await;
        assert!(matches!(read, Err(Error::OutOfRange { .. })));
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_answered_as_its_original_once_that_is_durable() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let first = partition
        .produce(&sequenced(9, 0, 0, 2), context())
        .await
        .unwrap();
    let again = partition
        .produce(&sequenced(9, 0, 0, 2), context())
        .await
        .unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((first.base_offset, again.base_offset), (0, 0));
    again.durable().await.unwrap();
    assert_eq!(partition.high_watermark(), 2);
    first.durable().await.unwrap();
    assert_eq!(put(&partition, &sequenced(9, 0, 0, 2)).await.unwrap(), 0);
    let gap = partition.produce(&sequenced(9, 0, 3, 1), context()).await;
    assert!(matches!(gap, Err(Error::OutOfOrderSequence { .. })));
    assert_eq!(partition.log_end(), 2);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn memory_is_waited_for_and_a_timeout_queues_nothing() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    world.store = GateStore::new(&gate);
    world.settings.unuploaded_bytes = 10_000;
    world.settings.upload_bytes = 1 << 30;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 8_000, 0)).await.unwrap();
    gate.slow(Duration::from_secs(30));
    let deadline = Instant::now() + Duration::from_secs(1);
    let late = AppendContext {
        deadline,
        internal: false,
    };
    let refused = partition.produce(&batch(1, 8_000, 0), late).await;
    assert!(matches!(refused, Err(Error::Timeout { .. })));
    assert_eq!(partition.log_end(), 1, "nothing was queued");
    // The broker's own data has room still.
    let internal = AppendContext {
        internal: true,
        ..context()
    };
    partition
        .produce(&batch(1, 8_000, 0), internal)
        .await
        .unwrap()
        .durable()
        .await
        .unwrap();
    // Uploading makes room.
    storage.drain().await.unwrap();
    gate.slow(Duration::ZERO);
    put(&partition, &batch(1, 8_000, 0)).await.unwrap();
    assert_eq!(partition.high_watermark(), 3);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_memory_starts_an_upload() {
    let mut world = World::new();
    world.settings.unuploaded_bytes = 10_000;
    world.settings.unuploaded_internal_bytes = 10_000;
    world.settings.upload_bytes = 1 << 30;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for internal in [false, true] {
        let start = Instant::now();
        for _ in 0..10 {
            let context = AppendContext {
                internal,
                ..context()
            };
            let appended = partition
                .produce(&batch(1, 4_000, 0), context)
                .await
                .unwrap();
            appended.durable().await.unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(1), "not by age");
    }
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_dropped_frees_its_memory() {
    let mut world = World::new();
    world.settings.unuploaded_bytes = 10_000;
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    for _ in 0..10 {
        drop(partition.reserve(9_000, context()).await.unwrap());
    }
    let reservation = partition.reserve(9_000, context()).await.unwrap();
    assert!(matches!(
        partition.append(reservation, b"no batch"),
        Err(Error::InvalidBatch { .. })
    ));
    put(&partition, &batch(1, 8_000, 0)).await.unwrap();
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_partition_takes_and_gives_nothing() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let queued = partition
        .produce(&batch(1, 10, 0), context())
        .await
        .unwrap();
    storage.close_partition(tp(0));
    assert!(matches!(
        queued.durable().await,
        Err(Error::NotLeader { .. })
    ));
    assert!(matches!(
        partition.produce(&batch(1, 10, 0), context()).await,
        Err(Error::NotLeader { .. })
    ));
    assert!(matches!(
        partition
            .read(0, 10, true, Isolation::ReadUncommitted)
            .await,
        Err(Error::NotLeader { .. })
    ));
    assert!(storage.partition(tp(0)).is_none());
    // What was queued is uploaded all the same.
    storage.drain().await.unwrap();
    while world.catalog.view(tp(0)).unwrap().committed_end == 0 {
        tokio::task::yield_now().await;
        storage.drain().await.unwrap();
    }
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn waiters_wake_on_movement_of_any_of_their_partitions() {
    let world = World::new();
    let storage = world.storage();
    let partitions = [
        world.open(&storage, 0, 0).await,
        world.open(&storage, 1, 0).await,
    ];
    let notify = Arc::new(Notify::new());
    for partition in &partitions {
        partition.wake_on_change(&notify);
    }
    put(&partitions[1], &batch(1, 10, 0)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), notify.notified())
        .await
        .unwrap();
    partitions[0].wake_on_change(&notify);
    storage.close_partition(tp(0));
    tokio::time::timeout(Duration::from_secs(1), notify.notified())
        .await
        .unwrap();
    // The dead cost nothing for long.
    for _ in 0..10_000 {
        partitions[1].wake_on_change(&Arc::new(Notify::new()));
    }
    assert!(partitions[1].inner.state.lock().wakers.len() < 1_000);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn log_append_time_is_the_brokers() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    partition.set_config(TopicConfig {
        log_append_time: true,
        ..TopicConfig::kafka_default()
    });
    let appended = partition
        .produce(&batch(2, 10, 5), context())
        .await
        .unwrap();
    assert_eq!(appended.log_append_time_ms, 1_000_000);
    appended.durable().await.unwrap();
    let read = partition
        .read(0, 1 << 20, true, Isolation::ReadUncommitted)
        .await
        .unwrap();
    let view = BatchView::new(&read.batches[0]).unwrap();
    view.validate().unwrap();
    assert_eq!(view.max_timestamp(), 1_000_000);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn epochs_end_where_the_next_begins() {
    let mut world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 2).await;
    put(&partition, &batch(4, 10, 0)).await.unwrap();
    storage.drain().await.unwrap();
    storage.shutdown().await;
    world.restart();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 5).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    let end = |epoch: i32| {
        partition
            .epoch_end_offset(epoch.into())
            .map(|(e, end)| (e.0, end))
    };
    assert_eq!(end(1), None);
    assert_eq!(end(2), Some((2, 4)));
    assert_eq!(end(4), Some((2, 4)));
    assert_eq!(end(5), Some((5, 5)));
    assert_eq!(end(9), Some((5, 5)));
    assert_eq!(partition.epoch_at(3).unwrap().0, 2);
    assert_eq!(partition.epoch_at(4).unwrap().0, 5);
    storage.shutdown().await;
}

#[derive(Default)]
struct Watcher {
    seen: Mutex<Vec<String>>,
}

impl Hooks for Watcher {
    fn validate(&self, batch: HookBatch<'_>) -> Result<(), Vec<RecordError>> {
        self.seen
            .lock()
            .push(format!("validate {}", batch.base_offset));
        if batch.bytes.len() > 500 {
            return Err(vec![RecordError {
                index: 1,
                message: "too long".to_owned(),
            }]);
        }
        Ok(())
    }

    fn durable(&self, batch: HookBatch<'_>) {
        self.seen.lock().push(format!(
            "durable {}-{}",
            batch.base_offset, batch.last_offset
        ));
    }

    fn finished(&self, slice: &SliceRef) {
        self.seen.lock().push(format!(
            "finished {}-{}",
            slice.first_offset, slice.end_offset
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_see_everything_in_order_and_may_refuse() {
    let mut world = World::new();
    let watcher = Arc::new(Watcher::default());
    world.hooks = Some(watcher.clone());
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(2, 10, 0)).await.unwrap();
    let refused = partition.produce(&batch(1, 1_000, 0), context()).await;
    let Err(Error::Rejected { records }) = refused else {
        panic!("refused by the hook")
    };
    assert_eq!(records[0].index, 1);
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    storage.drain().await.unwrap();
    let seen = watcher.seen.lock().clone();
    assert_eq!(
        seen,
        [
            "validate 0",
            "durable 0-1",
            "validate 2",
            "validate 2",
            "durable 2-2",
            "finished 0-3"
        ]
    );
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_storage_lets_go_of_its_log_though_handles_stay() {
    let mut world = World::new();
    world.settings.upload_bytes = 1 << 30;
    let backend = DropTold::default();
    let dropped = backend.0.clone();
    let storage = world.storage_over(Box::new(backend));
    let partition = world.open(&storage, 0, 0).await;
    put(&partition, &batch(1, 10, 0)).await.unwrap();
    storage.shutdown().await;
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .expect("dropped");
    let refused = partition.produce(&batch(1, 10, 0), context()).await;
    assert!(matches!(
        refused,
        Err(Error::NotOpen | Error::NotLeader { .. })
    ));
}

/// A log that was given up left [1, 5) empty.
#[tokio::test(start_paused = true)]
async fn a_gap_at_the_end_is_no_data_and_a_tombstone_above_it_stays() {
    let mut world = World::new();
    let storage = world.storage();
    let compacted = TopicConfig::internal_compacted;
    let view = world.catalog.lead(tp(0), LeaderEpoch(0));
    let partition = storage.open(view, compacted()).await.unwrap();
    assert_eq!(partition.data_end(), 0);
    put(&partition, &keyed("k", Some(b"v"), 1)).await.unwrap();
    storage.drain().await.unwrap();
    storage.shutdown().await;

    world.restart();
    world.catalog.set_committed_end(tp(0), 5);
    let mut view = world.catalog.lead(tp(0), LeaderEpoch(1));
    view.gaps = vec![(1, 5)];
    let storage = world.storage();
    let partition = storage.open(view, compacted()).await.unwrap();
    assert_eq!((partition.data_end(), partition.log_end()), (1, 5));
    put(&partition, &keyed("k", None, 1)).await.unwrap();
    put(&partition, &keyed("z", Some(b"v"), 1)).await.unwrap();
    assert_eq!(partition.data_end(), 7);
    storage.drain().await.unwrap();
    world.advance_ms(86_400_000);
    assert!(partition.compact().await.unwrap());
    let isolation = Isolation::ReadUncommitted;
    let read = partition.read(5, 1, true, isolation).await.unwrap();
    let first = BatchView::new(&read.batches[0]).unwrap();
    assert_eq!(first.base_offset(), 5, "it hides the value below the gap");
    storage.shutdown().await;
}

/// Notes the high watermark at the moment it is woken.
struct Seen {
    partition: crate::Partition,
    at: Mutex<Vec<i64>>,
}

impl std::task::Wake for Seen {
    fn wake(self: Arc<Self>) {
        self.at.lock().push(self.partition.high_watermark());
    }
}

#[tokio::test(start_paused = true)]
async fn r3_a_reply_leaves_only_after_the_high_watermark_has_moved() {
    let world = World::new();
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let appended = partition.produce(&batch(3, 10, 0), context()).await;
    let mut durable = Box::pin(appended.unwrap().durable());
    let seen = Arc::new(Seen {
        partition: partition.clone(),
        at: Mutex::default(),
    });
    let waker = std::task::Waker::from(Arc::clone(&seen));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(durable.as_mut().poll(&mut context).is_pending());
    assert_eq!(partition.high_watermark(), 0);
    tokio::time::timeout(Duration::from_secs(60), async {
        while seen.at.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(*seen.at.lock(), [3], "whoever is answered can read it");
    assert!(durable.as_mut().poll(&mut context).is_ready());
    storage.shutdown().await;
}

#[test]
fn r5_what_is_folded_into_the_committed_state_counts_once() {
    let mut committed = super::Committed {
        producers: crate::producers::Producers::default(),
        at: 0,
        bytes_since_checkpoint: 0,
        checkpoint_at_ms: 0,
    };
    let entry = |base_offset: i64, sequence| wal::Entry {
        topic_partition: tp(0),
        leader_epoch: LeaderEpoch(0),
        base_offset,
        last_offset: base_offset + 1,
        appended_at_ms: 7,
        batches: sequenced(1, 0, sequence, 2),
    };
    let first = entry(0, 0);
    for folded in [&first, &entry(2, 2), &entry(4, 4)] {
        committed.fold(folded).unwrap();
    }
    let (once, at) = (committed.producers.clone(), committed.at);
    assert_eq!(at, 6);
    // A round that is cut again brings entries that the state is past already.
    committed.fold(&first).unwrap();
    assert_eq!(committed.at, at, "the state never goes back");
    assert_eq!(committed.producers, once);
}
