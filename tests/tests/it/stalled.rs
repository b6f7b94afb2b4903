//! A broker that stands still for a while, under load.

use std::time::{Duration, Instant};

use protocol::ErrorCode;
use rdkafka::producer::Producer;

use crate::load::{LIMIT, Load, check, read_all, start};
use crate::pipe::Pipe;

/// A process that stood still for `pause` goes on by itself.
async fn stands_still(more: &[&str], pause: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", more);
    let pid = broker.pid();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let mut load = Load::new(&broker);
    load.send("load", 500);
    load.producer.flush(LIMIT).unwrap();
    load.send("load", 500);
    broker.signal("STOP").unwrap();
    let before = load.acknowledged.count();
    pipe.produce(60_000).await;
    load.send("load", 500);
    // The very thing that is tested: time passes while the process stands still.
    tokio::time::sleep(pause).await;
    // What had left before the stop may have arrived since.
    assert!(load.acknowledged.count() <= before + 500);
    broker.signal("CONT").unwrap();
    let begun = Instant::now();
    // Asked for while nobody held a lease: refused, cut off, or taken once it is held again.
    let answer = pipe.produced_or_closed().await.map(|(code, _)| code);
    let fair = [None, Some(0), Some(ErrorCode::NotLeaderOrFollower.code())];
    assert!(fair.contains(&answer), "{answer:?}");
    load.producer.flush(LIMIT).unwrap();
    println!(
        "{answer:?}; all acknowledged {:?} after CONT",
        begun.elapsed()
    );
    let log = std::fs::read_to_string(dir.path().join("data.log")).unwrap();
    assert!(
        log.contains("the lease has lapsed: clients are disconnected"),
        "{log}"
    );
    assert!(
        broker
            .metric("headwater_broker_lease_lapses_total")
            .unwrap()
            >= 1.0
    );
    assert_eq!(broker.get("/status").map(|_| broker.pid()).unwrap(), pid);
    check(&read_all(&broker, "load"), &load.acknowledged, load.sent);
    broker.stop(LIMIT).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stopped_for_five_leases_goes_on_without_a_restart() {
    stands_still(&["--set", "lease.ms=1000"], Duration::from_secs(5)).await;
}

/// As long as it takes: with the lease that a broker has when nobody says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stopped_for_30_seconds_goes_on_without_a_restart() {
    stands_still(&[], Duration::from_secs(30)).await;
}
