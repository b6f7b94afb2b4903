//! Clients that announce much and send little cost little: memory is for what has arrived.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use tests::bench::{consume_all, produce};
use tests::process::BrokerProcess;

/// What the broker may hold for requests, un-uploaded data and caches.
const BUDGET: u64 = 256 << 20;
/// Beyond the budget: the program, its threads' stacks, sockets, what the allocator keeps.
const BESIDE: u64 = 200 << 20;
const STALLED: usize = 64;
const PRODUCERS: usize = 16;
const RECORDS: u64 = 2_000;

fn start(dir: &Path) -> BrokerProcess {
    let more = ["--set", &format!("memory.budget.bytes={BUDGET}")].map(str::to_owned);
    BrokerProcess::start(&dir.join("data"), "127.0.0.1:0", "127.0.0.1:0", &more).unwrap()
}

/// A connection that announces a Produce request of 100 MiB, sends a part of it, and waits.
fn stall(broker: &BrokerProcess, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(broker.kafka).unwrap();
    let mut frame = Vec::new();
    frame.extend_from_slice(&(100_i32 << 20).to_be_bytes());
    // Produce, version 3, correlation id 1, client id "x".
    frame.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 1, 0, 1, b'x']);
    frame.resize(sent, 0);
    // The broker stops reading when its budget is out: the socket's buffers hold the rest.
    stream.set_nonblocking(true).unwrap();
    let mut rest = &frame[..];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("a stalled connection was closed at once: {error}"),
        }
    }
    stream
}

#[test]
fn producers_go_on_beside_connections_that_announce_100_mib_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    let kafka = broker.kafka;
    let stalled: Vec<TcpStream> = (0..STALLED)
        .map(|n| stall(&broker, (n + 1) << 17))
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|n| {
            let settings = [("linger.ms", "5"), ("enable.idempotence", "true")];
            // Auto-created; each its own, so that reading back counts each.
            let topic = format!("beside-{n}");
            std::thread::spawn(move || produce(kafka, &topic, 1, RECORDS, 1024, &settings))
        })
        .collect();
    for producer in producers {
        assert_eq!(producer.join().unwrap().unwrap().records, RECORDS);
    }
    let (_, peak) = broker.resident_bytes().unwrap();
    assert!(peak < BUDGET + BESIDE, "{peak} bytes at the peak");
    for n in 0..PRODUCERS {
        let read = consume_all(kafka, &format!("beside-{n}"), 1, RECORDS).unwrap();
        assert_eq!(read.records, RECORDS);
    }
    drop(stalled);
    broker.stop(std::time::Duration::from_secs(60)).unwrap();
}
