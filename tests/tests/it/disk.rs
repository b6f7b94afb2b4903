//! The real binary on a disk that fails: syncs, space, and syncs that hang.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::ErrorCode;
use rdkafka::producer::Producer;
use tests::process::BrokerProcess;
use tests::shim::DiskFaults;

use crate::load::{LIMIT, Load, check, check_acknowledged, read_all};
use crate::pipe::Pipe;

/// Small, so that little data fills what was set aside.
const SMALL: [&str; 4] = [
    "--set",
    "wal.segment.bytes=1048576",
    "--set",
    "upload.bytes=1048576",
];
const WIDTH: usize = 1000;

fn start(dir: &Path, faults: &DiskFaults, kafka: &str, more: &[&str]) -> BrokerProcess {
    let more: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
    let data = dir.join("data");
    let environment = faults.environment();
    BrokerProcess::start_in(&environment, &data, kafka, "127.0.0.1:0", &more).unwrap()
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("data.log")).unwrap()
}

/// `at_once`: what fails stands before every acknowledgement.
async fn a_failed_sync_ends_the_process(below: &str, at_once: bool) {
    let dir = tempfile::tempdir().unwrap();
    let faults = DiskFaults::new(dir.path()).unwrap();
    let mut broker = start(dir.path(), &faults, "127.0.0.1:0", &[]);
    let kafka = broker.kafka.to_string();
    let mut load = Load::new(&broker);
    load.send("load", 1500);
    load.acknowledged.wait_for(1000);
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let below = dir.path().join("data").join(below);
    faults.fail_syncs(&below).unwrap();
    load.send("load", 1500);
    if at_once {
        pipe.produce(30_000).await;
        // The outcome is unknown: no leader, or no answer at all.
        let answer = pipe.produced_or_closed().await.map(|(code, _)| code);
        let unknown = Some(ErrorCode::NotLeaderOrFollower.code());
        assert!(answer == unknown || answer.is_none(), "{answer:?}");
    }
    let status = broker.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = log_of(dir.path());
    let told = log.lines().last().unwrap();
    for part in [
        &format!("sync of {}/", below.display()),
        ".wal failed (Input/output error",
        "this process must end. Check the volume",
        "then start again",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert!(!at_once || load.acknowledged.count() < 3000, "it went on");
    faults.heal().unwrap();
    let broker = start(dir.path(), &faults, &kafka, &[]);
    load.producer.flush(LIMIT).unwrap();
    assert_eq!(load.acknowledged.count(), 3000);
    check(&read_all(&broker, "load"), &load.acknowledged, 3000);
    broker.stop(LIMIT).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_log_ends_the_process_and_loses_nothing() {
    a_failed_sync_ends_the_process("wal", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_controller_ends_the_process_and_loses_nothing() {
    a_failed_sync_ends_the_process("raft", false).await;
}

/// Produces until the answer is that there is no space; every answer until then is one that clients
/// try again after.
async fn until_full(pipe: &mut Pipe) -> Vec<i16> {
    let (begun, mut codes) = (Instant::now(), Vec::new());
    while codes.last() != Some(&ErrorCode::KafkaStorageError.code()) {
        assert!(begun.elapsed() < LIMIT, "{codes:?}");
        pipe.produce(500).await;
        let (code, _) = pipe.produced().await;
        let retriable = [
            ErrorCode::None,
            ErrorCode::RequestTimedOut,
            ErrorCode::KafkaStorageError,
        ];
        assert!(retriable.iter().any(|known| known.code() == code), "{code}");
        codes.push(code);
    }
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out_in_service_and_in_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let faults = DiskFaults::new(dir.path()).unwrap();
    let broker = start(dir.path(), &faults, "127.0.0.1:0", &SMALL);
    let kafka = broker.kafka.to_string();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let mut load = Load::sized(&broker, WIDTH);
    load.send("full", 2000);
    load.producer.flush(LIMIT).unwrap();

    // In service: told so, waited for, and everything stays readable.
    faults.fill(&data, 0).unwrap();
    load.send("full", 8000);
    let codes = until_full(&mut pipe).await;
    println!("answers on a full disk: {codes:?}");
    let read = read_all(&broker, "full");
    check_acknowledged(&read, &load.acknowledged);
    faults.heal().unwrap();
    let healed = Instant::now();
    load.producer.flush(LIMIT).unwrap();
    println!(
        "everything acknowledged {:?} after space came",
        healed.elapsed()
    );
    check(&read_all(&broker, "full"), &load.acknowledged, 10_000);

    // Killed while full: with one round's space, at the latest, it recovers.
    faults.fill(&data, 0).unwrap();
    load.send("full", 8000);
    until_full(&mut pipe).await;
    broker.kill_9().unwrap();
    let starting = std::thread::spawn({
        let (dir, kafka) = (dir.path().to_owned(), kafka.clone());
        let faults = DiskFaults::new(&dir).unwrap();
        move || start(&dir, &faults, &kafka, &SMALL)
    });
    // Whether it has to wait depends on what the dead process had left to upload.
    let begun = Instant::now();
    while !starting.is_finished() && begun.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("recovered without space: {}", starting.is_finished());
    faults.fill(&data, 8 << 20).unwrap();
    let broker = tokio::task::spawn_blocking(|| starting.join().unwrap())
        .await
        .unwrap();
    check_acknowledged(&read_all(&broker, "full"), &load.acknowledged);
    until_full(&mut Pipe::open(&broker).await).await;
    check_acknowledged(&read_all(&broker, "full"), &load.acknowledged);
    faults.heal().unwrap();
    load.producer.flush(LIMIT).unwrap();
    check(&read_all(&broker, "full"), &load.acknowledged, 18_000);
    broker.stop(LIMIT).unwrap();
}

/// The controller's disk hangs: the lease lapses, the fence waits in the same log, and is applied
/// when the disk is back. Nothing but this process can then serve the partitions again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_broker_registers_again_within_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let faults = DiskFaults::new(dir.path()).unwrap();
    let lease = ["--set", "lease.ms=1500"];
    let broker = start(dir.path(), &faults, "127.0.0.1:0", &lease);
    let (pid, kafka) = (broker.pid(), broker.kafka.to_string());
    let mut load = Load::new(&broker);
    load.send("log", 1000);
    load.acknowledged.wait_for(500);
    let raft = dir.path().join("data").join("raft");
    for round in 1..=2 {
        faults.hang_syncs(&raft).unwrap();
        let begun = Instant::now();
        while log_of(dir.path()).matches("lease ran out: fencing").count() < round {
            assert!(begun.elapsed() < LIMIT, "never fenced");
            // High watermarks that move are what renewals wait for the log with.
            load.send("log", 10);
            std::thread::sleep(Duration::from_millis(20));
        }
        // Slow enough that clients ask while nobody is registered: they are told of this broker
        // all the same, or they would have none to come back to.
        faults
            .slow_syncs(&raft, Duration::from_millis(100))
            .unwrap();
        let mut pipe = Pipe::open(&broker).await;
        while log_of(dir.path()).matches("registered epoch=").count() <= round {
            assert!(begun.elapsed() < LIMIT, "never registered again");
            match pipe.brokers().await {
                Some(brokers) => assert_eq!(brokers, 1),
                None => pipe = Pipe::open(&broker).await,
            }
        }
        faults.heal().unwrap();
        load.send("log", 1000);
        load.producer.flush(LIMIT).unwrap();
        let log = log_of(dir.path());
        assert!(log.matches("registering again").count() >= round, "{log}");
        // Its own log of the epoch before, by the path that takeover uses.
        assert!(log.matches("recovered a log").count() >= round, "{log}");
    }
    assert_eq!(
        (broker.pid(), broker.kafka.to_string()),
        (pid, kafka.clone())
    );
    check(&read_all(&broker, "log"), &load.acknowledged, load.sent);
    broker.kill_9().unwrap();
    let broker = start(dir.path(), &faults, &kafka, &lease);
    check(&read_all(&broker, "log"), &load.acknowledged, load.sent);
    broker.stop(LIMIT).unwrap();
}
