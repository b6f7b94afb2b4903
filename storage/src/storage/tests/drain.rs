//! A stop loses nothing that was acknowledged, and waits for no writer.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::harness::{Gate, GateStore, World, batch, context, put, tp};
use crate::uploader::HandOverBounds;
use crate::{HookBatch, Hooks, RecordError, SliceRef};

/// Stops the log's thread between publishing an entry and queueing it for upload.
struct Between {
    entered: Mutex<mpsc::Sender<()>>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Hooks for Between {
    fn validate(&self, _batch: HookBatch<'_>) -> Result<(), Vec<RecordError>> {
        Ok(())
    }

    fn durable(&self, _batch: HookBatch<'_>) {
        self.entered.lock().send(()).unwrap();
        self.go_on.lock().recv().unwrap();
    }

    fn finished(&self, _slice: &SliceRef) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drain_waits_for_what_is_published_and_not_yet_queued() {
    let mut world = World::new();
    let (entered, enters) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    world.hooks = Some(Arc::new(Between {
        entered: Mutex::new(entered),
        go_on: Mutex::new(goes_on),
    }));
    let storage = world.storage();
    let partition = world.open(&storage, 0, 0).await;
    let appended = partition.produce(&batch(1, 100, 0), context()).await;
    appended.unwrap().durable().await.unwrap();
    // It is acknowledged, and no round can see it.
    let enters = tokio::task::spawn_blocking(move || enters.recv());
    enters.await.unwrap().unwrap();
    let draining = tokio::spawn({
        let storage = storage.clone();
        async move { storage.drain().await }
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!draining.is_finished());
    assert_eq!(partition.position().committed_end, 0);
    go_on.send(()).unwrap();
    draining.await.unwrap().unwrap();
    assert_eq!(partition.position().committed_end, 1);
    assert_eq!(world.catalog.view(tp(0)).unwrap().committed_end, 1);
    storage.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn writes_that_outrun_uploads_do_not_keep_a_move_waiting() {
    let mut world = World::new();
    let gate = Arc::new(Gate::default());
    world.store = GateStore::new(&gate);
    world.settings.upload_bytes = 64 << 10;
    world.settings.unuploaded_bytes = 1 << 20;
    let storage = world.storage();
    let quiet = world.open(&storage, 0, 0).await;
    let hot = world.open(&storage, 1, 0).await;
    put(&quiet, &batch(1, 100, 0)).await.unwrap();
    // Each object takes a while, and there is always more than a round waiting.
    gate.slow(Duration::from_millis(100));
    let writer = tokio::spawn({
        let hot = hot.clone();
        async move {
            loop {
                let Ok(appended) = hot.produce(&batch(1, 32 << 10, 0), context()).await else {
                    return;
                };
                drop(appended);
                tokio::task::yield_now().await;
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = storage.metrics().upload_rounds.get();
    let bounds = HandOverBounds {
        serving: Duration::from_secs(10),
        held: Duration::from_secs(2),
    };
    let moving = [(quiet.topic_partition(), quiet.leader_epoch())];
    let held = tokio::time::timeout(Duration::from_secs(60), storage.hand_over(&moving, bounds));
    let held = held.await.expect("it has its turn").unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].end, 1);
    let rounds = storage.metrics().upload_rounds.get() - before;
    assert!(rounds < 10, "{rounds} rounds went first");
    writer.abort();
    storage.shutdown().await;
}
