//! A broker whose object store is slow or away: nothing is lost, and no restart is needed.

use std::time::{Duration, Instant};

use tests::faults::{FaultSettings, Latency};
use tests::process::BrokerProcess;
use tests::s3::{S3Server, S3Settings};

use crate::pipe::Pipe;

const LIMIT: Duration = Duration::from_secs(60);

fn start(dir: &std::path::Path, kafka: &str, store: &str) -> anyhow::Result<BrokerProcess> {
    let flags = ["--wal", "object", "--object-store", store];
    // One put at a time is not to be slowed down by its own pace.
    let pace = ["--set", "wal.object.puts.per.second=1000"];
    let more: Vec<String> = flags
        .iter()
        .chain(&pace)
        .map(|flag| (*flag).to_owned())
        .collect();
    BrokerProcess::start(&dir.join("data"), kafka, "127.0.0.1:0", &more)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produces_in_flight_overlap_on_a_slow_log() {
    let server = S3Server::start(S3Settings::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &server.url("overlap")).unwrap();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let slow = Latency {
        median: Duration::from_millis(200),
        p99: Duration::from_millis(201),
    };
    server.set_faults(FaultSettings {
        latency: Some(slow),
        ..FaultSettings::default()
    });
    const COUNT: i64 = 20;
    let begun = Instant::now();
    for expected in 0..COUNT {
        pipe.produce(30_000).await;
        assert_eq!(pipe.produced().await, (0, expected));
    }
    let one_by_one = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..5 {
        pipe.produce(30_000).await;
    }
    for expected in COUNT..2 * COUNT {
        assert_eq!(pipe.produced().await, (0, expected), "in order");
        if expected + 5 < 2 * COUNT {
            pipe.produce(30_000).await;
        }
    }
    let overlapping = begun.elapsed();
    assert!(
        one_by_one >= 3 * overlapping,
        "{one_by_one:?} against {overlapping:?}"
    );
    server.set_faults(FaultSettings::default());
    broker.stop(LIMIT).unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for_in_service_and_in_recovery() {
    let server = S3Server::start(S3Settings::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &server.url("away")).unwrap();
    let kafka = broker.kafka.to_string();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    pipe.produce(30_000).await;
    assert_eq!(pipe.produced().await, (0, 0));
    let away = FaultSettings {
        away: true,
        ..FaultSettings::default()
    };
    server.set_faults(away);
    // Queued, and told that it is not durable in time; it stays queued.
    pipe.produce(500).await;
    assert_eq!(
        pipe.produced().await.0,
        protocol::ErrorCode::RequestTimedOut.code()
    );
    server.set_faults(FaultSettings::default());
    pipe.produce(30_000).await;
    assert_eq!(
        pipe.produced().await,
        (0, 2),
        "the one before has its place"
    );
    // And while a start needs it: not ready, with the reason, until it is back.
    server.set_faults(away);
    broker.kill_9().unwrap();
    let (path, url) = (dir.path().to_owned(), server.url("away"));
    let starting = tokio::task::spawn_blocking(move || start(&path, &kafka, &url));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !starting.is_finished(),
        "it cannot be ready without what it must recover"
    );
    server.set_faults(FaultSettings::default());
    let broker = starting.await.unwrap().unwrap();
    let mut pipe = Pipe::open(&broker).await;
    pipe.produce(30_000).await;
    assert_eq!(pipe.produced().await, (0, 3));
    broker.stop(LIMIT).unwrap();
    server.shutdown().await;
}
