//! The layer around every object store, over a simulated one: time-outs, retries, hedges, and what
//! an unknown outcome turns out to be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use protocol::{LeaderEpoch, TopicId, TopicPartition};
use storage::format::{
    BatchEntry, FinishedObject, ObjectReader, ObjectWriter, SliceEnd, SliceStart, verify_object,
};
use storage::store::{ManagedStore, RequestSettings, StoreMetrics, create};
use tests::faults::{FaultSettings, Latency};
use tests::simstore::SimStore;
use tokio::time::Instant;

fn managed(sim: &SimStore, hedge: Option<Duration>) -> (Arc<dyn ObjectStore>, StoreMetrics) {
    let settings = RequestSettings {
        hedge_gets_after: hedge,
        ..RequestSettings::standard()
    };
    managed_by(sim, settings)
}

fn managed_by(sim: &SimStore, settings: RequestSettings) -> (Arc<dyn ObjectStore>, StoreMetrics) {
    let metrics = StoreMetrics::default();
    let inner = Arc::new(sim.clone());
    let store = ManagedStore::new(&env::real::env(), inner, metrics.clone(), settings);
    (Arc::new(store), metrics)
}

async fn put(store: &Arc<dyn ObjectStore>, key: &str, bytes: &[u8]) -> object_store::Result<()> {
    let payload = PutPayload::from(bytes.to_vec());
    store
        .put_opts(&Path::from(key), payload, PutMode::Create.into())
        .await
        .map(drop)
}

/// Asks until it is answered.
fn patient() -> RequestSettings {
    RequestSettings {
        attempts: 50,
        ..RequestSettings::standard()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_to_be_ours() {
    let sim = SimStore::new(
        1,
        FaultSettings {
            lost_answers: 0.5,
            ..Default::default()
        },
    );
    let (store, metrics) = managed_by(&sim, patient());
    for n in 0..20_u8 {
        // Stored and lost; again: exists; read back: ours.
        put(&store, &n.to_string(), &[n; 9]).await.unwrap();
        assert_eq!(sim.snapshot()[&Path::from(n.to_string())], vec![n; 9]);
    }
    assert!(metrics.attempts("put") > 30 && metrics.attempts("get") > 5);
    for n in 0..20_u8 {
        store.delete(&Path::from(n.to_string())).await.unwrap();
    }
    assert!(sim.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_wrote_is_never_taken_for_ours() {
    let sim = SimStore::new(1, FaultSettings::default());
    let (store, metrics) = managed_by(&sim, patient());
    for faults in [
        FaultSettings::default(),
        // Also when our own earlier attempt has an unknown outcome.
        FaultSettings {
            lost_answers: 0.5,
            unavailable: 0.2,
            ..Default::default()
        },
    ] {
        sim.set_faults(FaultSettings::default());
        sim.put(&Path::from("x"), PutPayload::from_static(b"theirs"))
            .await
            .unwrap();
        sim.set_faults(faults);
        for _ in 0..20 {
            let error = put(&store, "x", b"ours!!").await.unwrap_err();
            assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        }
        if faults == FaultSettings::default() {
            assert_eq!(
                metrics.attempts("get"),
                0,
                "a plain answer needs no reading back"
            );
        }
    }
    assert!(metrics.attempts("get") > 0);
    assert_eq!(sim.snapshot()[&Path::from("x")], "theirs");
}

#[tokio::test(start_paused = true)]
async fn a_short_or_flipped_answer_makes_ours_nobody_elses() {
    let sim = SimStore::new(3, FaultSettings::default());
    let (store, _) = managed_by(&sim, patient());
    let bytes = Bytes::from(vec![7; 5_000]);
    put(&store, "x", &bytes).await.unwrap();
    sim.set_faults(FaultSettings {
        truncated: 0.4,
        flipped: 0.4,
        ..Default::default()
    });
    let (mut known, mut unknown) = (0, 0);
    for _ in 0..100 {
        match create(store.as_ref(), "x", bytes.clone().into(), false).await {
            Ok(()) => known += 1,
            Err(error) => {
                assert_eq!(error.kind(), storage::ErrorKind::Retry, "{error}");
                unknown += 1;
            }
        }
    }
    assert!(known > 50, "{known} known, {unknown} unknown");
}

#[tokio::test(start_paused = true)]
async fn a_late_put_lands_as_itself_or_not_at_all() {
    let late = FaultSettings {
        late_puts: 1.0,
        late_by: Duration::from_secs(60),
        ..Default::default()
    };
    let sim = SimStore::new(1, late);
    let (store, _) = managed(&sim, None);
    put(&store, "x", b"mine").await.unwrap_err();
    put(&store, "y", b"mine").await.unwrap_err();
    sim.set_faults(FaultSettings::default());
    put(&store, "y", b"another's").await.unwrap();
    assert_eq!(sim.landed_late(), 0);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let snapshot = sim.snapshot();
    assert_eq!(snapshot[&Path::from("x")], "mine");
    assert_eq!(snapshot[&Path::from("y")], "another's");
    assert_eq!(sim.landed_late(), 1, "one copy of several attempts");
}

#[tokio::test(start_paused = true)]
async fn failures_surface_after_a_bounded_number_of_attempts() {
    let sim = SimStore::new(
        1,
        FaultSettings {
            away: true,
            ..Default::default()
        },
    );
    let (store, metrics) = managed(&sim, None);
    put(&store, "x", b"1").await.unwrap_err();
    store.get(&Path::from("x")).await.unwrap_err();
    store.delete(&Path::from("x")).await.unwrap_err();
    for operation in ["put", "get", "delete"] {
        assert_eq!(metrics.attempts(operation), 3, "{operation}");
    }
    // A listing is not tried again: whoever lists comes again.
    let listed: Result<Vec<_>, _> = store.list(None).try_collect().await;
    listed.unwrap_err();
    assert_eq!(metrics.attempts("list"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_a_failed_attempt() {
    let slow = Latency {
        median: Duration::from_secs(3600),
        p99: Duration::from_secs(3600),
    };
    let sim = SimStore::new(
        1,
        FaultSettings {
            latency: Some(slow),
            ..Default::default()
        },
    );
    let (store, metrics) = managed(&sim, None);
    let start = Instant::now();
    let error = store.get(&Path::from("x")).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert_eq!(metrics.attempts("get"), 3);
    // Three times: ten seconds, and sixteen more for the 64 MiB that might come.
    assert!(
        start.elapsed() < Duration::from_secs(90),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn slow_gets_are_hedged() {
    let sim = SimStore::new(1, FaultSettings::default());
    let (store, _) = managed(&sim, None);
    put(&store, "x", b"1").await.unwrap();
    let tail = Latency {
        median: Duration::from_millis(20),
        p99: Duration::from_secs(2),
    };
    let worst = async |hedge: Option<Duration>| {
        sim.set_faults(FaultSettings {
            latency: Some(tail),
            ..Default::default()
        });
        let (store, _) = managed(&sim, hedge);
        let mut worst = Duration::ZERO;
        for _ in 0..300 {
            let start = Instant::now();
            store
                .get(&Path::from("x"))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            worst = worst.max(start.elapsed());
        }
        worst
    };
    let plain = worst(None).await;
    let hedged = worst(Some(Duration::from_millis(100))).await;
    assert!(
        hedged < plain / 2,
        "worst {hedged:?} hedged, {plain:?} plain"
    );
}

/// A stored object of one slice with `count` batches of equal bytes, and those bytes.
async fn stored_object(store: &Arc<dyn ObjectStore>, count: i64) -> (FinishedObject, Bytes) {
    let mut writer = ObjectWriter::new();
    let start = SliceStart {
        topic_partition: TopicPartition::new(TopicId(uuid::Uuid::from_u128(1)), 0),
        leader_epoch: LeaderEpoch(0),
        first_offset: 0,
    };
    writer.start_slice(start).unwrap();
    let batch: Bytes = (0..50_000_u32).map(|n| (n * 7) as u8).collect();
    for offset in 0..count {
        let entry = BatchEntry {
            base_offset: offset,
            last_offset: offset,
            max_timestamp_ms: offset,
            appended_at_ms: offset,
            producer_id: protocol::ProducerId(-1),
            producer_epoch: protocol::ProducerEpoch(-1),
            base_sequence: -1,
            last_sequence: -1,
            transactional: false,
            control: false,
        };
        writer.push(batch.clone(), entry).unwrap();
    }
    let end = SliceEnd {
        end_offset: count,
        ..SliceEnd::default()
    };
    writer.finish_slice(end);
    let object = writer.finish("c/data/x".to_owned()).unwrap();
    let payload = PutPayload::from_iter(object.payload.iter().cloned());
    create(store.as_ref(), &object.object.key, payload, false)
        .await
        .unwrap();
    (object, batch)
}

#[tokio::test(start_paused = true)]
async fn damaged_answers_are_never_served() {
    let sim = SimStore::new(5, FaultSettings::default());
    let (store, metrics) = managed(&sim, None);
    let (object, batch) = stored_object(&store, 40).await;
    sim.set_faults(FaultSettings {
        truncated: 0.2,
        flipped: 0.2,
        ..Default::default()
    });
    let reader = ObjectReader::new(Arc::clone(&store), metrics.clone());
    let (mut served, mut refused) = (0, 0);
    for _ in 0..60 {
        let Ok(index) = reader.slice_index(&object.slices[0]).await else {
            refused += 1;
            continue;
        };
        for block in &index.blocks {
            match reader.block(&object.object.key, block).await {
                Ok(bytes) => {
                    served += 1;
                    let batches = bytes.len() / batch.len();
                    assert_eq!(bytes, batch.repeat(batches), "served is what was written");
                }
                Err(error) => {
                    refused += 1;
                    assert_ne!(error.kind(), storage::ErrorKind::Internal, "{error}");
                }
            }
        }
    }
    assert!(served > 100, "{served} served, {refused} refused");
    assert!(metrics.damaged_reads() > 10);
}

#[tokio::test(start_paused = true)]
async fn every_4_kib_of_an_object_at_rest_flipped_once_is_found() {
    let sim = SimStore::new(5, FaultSettings::default());
    let (store, _) = managed(&sim, None);
    let (object, _) = stored_object(&store, 8).await;
    let path = Path::from(object.object.key.as_str());
    let good = sim.snapshot()[&path].clone();
    for block in 0..good.len().div_ceil(4096) {
        let mut bytes = good.to_vec();
        bytes[block * 4096] ^= 4;
        sim.corrupt(&path, bytes.into());
        let report = verify_object(&store, path.as_ref(), Some(&object.object))
            .await
            .unwrap();
        assert!(!report.is_whole(), "block {block}");
    }
}

#[tokio::test(start_paused = true)]
async fn listings_lag_when_told_to_and_nothing_else_does() {
    let lag = Duration::from_secs(30);
    let sim = SimStore::new(
        1,
        FaultSettings {
            listing_lag: lag,
            ..Default::default()
        },
    );
    let (store, _) = managed(&sim, None);
    put(&store, "a/b", b"1").await.unwrap();
    let count = async || {
        store
            .list(None)
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len()
    };
    assert_eq!(count().await, 0);
    assert_eq!(
        store
            .get(&Path::from("a/b"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "1"
    );
    tokio::time::sleep(lag).await;
    assert_eq!(count().await, 1);
    let below = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(below.common_prefixes, [Path::from("a")]);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_tells_the_same_story() {
    async fn story(seed: u64) -> Vec<String> {
        let faults = FaultSettings {
            latency: Some(Latency::regional()),
            unavailable: 0.1,
            lost_answers: 0.1,
            late_puts: 0.1,
            late_by: Duration::from_millis(100),
            truncated: 0.1,
            flipped: 0.1,
            ..Default::default()
        };
        let sim = SimStore::new(seed, faults);
        let start = Instant::now();
        let mut lines = Vec::new();
        for n in 0..200_u8 {
            let path = Path::from(format!("{}", n % 17));
            let payload = PutPayload::from(vec![n; 64]);
            let put = sim
                .put_opts(&path, payload, PutMode::Create.into())
                .await
                .map(drop);
            let got = match sim.get(&path).await {
                Ok(result) => result.bytes().await.map(|bytes| format!("{bytes:?}")),
                Err(error) => Err(error),
            };
            let put = put.map_err(|error| error.to_string());
            let got = got.map_err(|error| error.to_string());
            lines.push(format!("{:?} {put:?} {got:?}", start.elapsed()));
        }
        lines
    }
    assert_eq!(story(1).await, story(1).await);
    assert_ne!(story(1).await, story(2).await);
}
