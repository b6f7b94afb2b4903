//! A broker whose storage stands still keeps to its memory, and loses nothing.

use std::time::{Duration, Instant};

use protocol::ErrorCode;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tests::bench::consume_all;
use tests::faults::{FaultSettings, Latency};
use tests::process::BrokerProcess;
use tests::s3::{S3Server, S3Settings};

use crate::load::{Acknowledged, LIMIT, Load, check, client_at, read_all};
use crate::pipe::Pipe;

const MIB: u64 = 1 << 20;
/// The smallest that there is.
const BUDGET: u64 = 256 * MIB;
const PRODUCERS: u64 = 16;
const WIDTH: usize = 8 << 10;
/// Of each producer: all together, more than may wait for its upload.
const RECORDS: u64 = 800;

fn topic(producer: u64) -> String {
    format!("stalled-{producer}")
}

/// Sends as much as the client's own queue takes; gives how many records that were.
fn send(producer: &ThreadedProducer<Acknowledged>, name: &str, upto: u64) -> u64 {
    let value = vec![b'v'; WIDTH];
    for number in 0..upto {
        let record: BaseRecord<'_, (), _, _> =
            BaseRecord::with_opaque_to(name, Box::new(number)).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    upto
}

async fn sixteen_producers_on_stalled_storage(wal: &str) {
    let server = S3Server::start(S3Settings::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        ("--wal", wal.to_owned()),
        ("--object-store", server.url(wal)),
        ("--set", format!("memory.budget.bytes={BUDGET}")),
        ("--set", "wal.object.puts.per.second=1000".to_owned()),
    ];
    let more: Vec<String> = flags
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
    let data = dir.path().join("data");
    let broker = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &more).unwrap();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let (idle, _) = broker.resident_bytes().unwrap();
    // Every request takes an hour: nothing is refused, nothing answers.
    let hour = Duration::from_secs(3600);
    server.set_faults(FaultSettings {
        latency: Some(Latency {
            median: hour,
            p99: hour + Duration::from_secs(1),
        }),
        ..FaultSettings::default()
    });
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| {
            let acknowledged = Acknowledged::default();
            let producer: ThreadedProducer<Acknowledged> = client_at(&broker.kafka.to_string())
                .set("enable.idempotence", "true")
                .set("request.timeout.ms", "3000")
                .set("message.timeout.ms", "300000")
                .set("queue.buffering.max.messages", "100000")
                .create_with_context(acknowledged.clone())
                .unwrap();
            send(&producer, &topic(number), RECORDS);
            (producer, acknowledged)
        })
        .collect();
    let count = || -> u64 { producers.iter().map(|(_, a)| a.count() as u64).sum() };
    // Until a client is told, in the words for it, that it is to come again.
    let (begun, mut told) = (Instant::now(), 0);
    while told < 5 {
        assert!(begun.elapsed() < LIMIT, "storage is not full");
        pipe.produce(500).await;
        match pipe.produced().await.0 {
            0 => {}
            code => {
                assert_eq!(code, ErrorCode::RequestTimedOut.code());
                told += 1;
            }
        }
    }
    let stalled = count();
    assert!(stalled < PRODUCERS * RECORDS, "all went through");
    let (now, peak) = broker.resident_bytes().unwrap();
    println!(
        "{wal}: {stalled} acknowledged while stalled; MiB idle {}, now {}, peak {}",
        idle / MIB,
        now / MIB,
        peak / MIB
    );
    assert!(
        peak < BUDGET + idle,
        "{peak} bytes at the peak, {idle} idle"
    );
    server.set_faults(FaultSettings::default());
    let healed = Instant::now();
    for (producer, acknowledged) in &producers {
        producer.flush(Duration::from_secs(400)).unwrap();
        assert_eq!(acknowledged.count() as u64, RECORDS);
    }
    println!(
        "{wal}: all acknowledged {:?} after the store answered again",
        healed.elapsed()
    );
    let (_, peak) = broker.resident_bytes().unwrap();
    assert!(
        peak < BUDGET + idle,
        "{peak} bytes at the peak, {idle} idle"
    );
    for number in 0..PRODUCERS {
        let read = consume_all(broker.kafka, &topic(number), 1, RECORDS).unwrap();
        assert_eq!(read.records, RECORDS);
    }
    let mut load = Load::new(&broker);
    load.send("afterwards", 100);
    load.producer.flush(LIMIT).unwrap();
    check(&read_all(&broker, "afterwards"), &load.acknowledged, 100);
    broker.stop(LIMIT).unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_within_its_budget_on_the_disk_log() {
    sixteen_producers_on_stalled_storage("disk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_within_its_budget_on_the_object_log() {
    sixteen_producers_on_stalled_storage("object").await;
}
