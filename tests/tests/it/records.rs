//! Records in and out of a real broker, across kill -9, SIGSTOP and a clean stop.

use std::io::{Read, Write};
use std::net::TcpStream;

use rdkafka::producer::Producer;
use tests::process::BrokerProcess;

use crate::load::{LIMIT, Load, check, read_all, start};

fn survives_kill_9(more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start(dir.path(), "127.0.0.1:0", more);
    let kafka = broker.kafka.to_string();
    let mut load = Load::new(&broker);
    for round in 1..=4u64 {
        load.send("log", 3000);
        // Killed in the middle: some of these are on their way.
        load.acknowledged
            .wait_for(usize::try_from(round * 3000 - 1500).unwrap());
        broker.kill_9().unwrap();
        broker = start(dir.path(), &kafka, more);
    }
    load.producer.flush(LIMIT).unwrap();
    assert_eq!(load.acknowledged.count() as u64, load.sent);
    check(&read_all(&broker, "log"), &load.acknowledged, load.sent);
    // And once more after a clean stop, from the object store alone.
    broker.stop(LIMIT).unwrap();
    let broker = start(dir.path(), &kafka, more);
    assert_eq!(
        broker
            .metric("headwater_broker_background_failures_total")
            .unwrap(),
        0.0
    );
    check(&read_all(&broker, "log"), &load.acknowledged, load.sent);
    broker.stop(LIMIT).unwrap();
}

#[test]
fn acknowledged_records_survive_kill_9_on_the_disk_wal() {
    survives_kill_9(&[]);
}

#[test]
fn acknowledged_records_survive_kill_9_on_the_object_wal() {
    survives_kill_9(&["--wal", "object"]);
}

#[test]
fn bad_frames_cost_their_connection_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &[]);
    let oversized = (101i32 << 20).to_be_bytes().to_vec();
    let negative = (-1i32).to_be_bytes().to_vec();
    let undersized = [&3i32.to_be_bytes()[..], &[0; 3]].concat();
    let unknown_key = [&8i32.to_be_bytes()[..], &[0x03, 0xe7, 0, 0, 0, 0, 0, 1]].concat();
    let produce_0 = [&8i32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0, 0, 1]].concat();
    let four_bytes = [
        &12i32.to_be_bytes()[..],
        &[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff],
    ];
    for bytes in [
        oversized,
        negative,
        undersized,
        unknown_key,
        produce_0,
        four_bytes.concat(),
    ] {
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{bytes:?}");
    }
    assert_eq!(
        broker
            .metric("headwater_kafka_connections_refused_total")
            .unwrap(),
        6.0
    );
    let mut load = Load::new(&broker);
    load.send("log", 10);
    load.producer.flush(LIMIT).unwrap();
    check(&read_all(&broker, "log"), &load.acknowledged, 10);
    broker.stop(LIMIT).unwrap();
}

#[test]
fn a_directory_has_one_process_and_an_empty_volume_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &[]);
    let data = dir.path().join("data");
    let second = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &[]).unwrap_err();
    assert!(
        second.to_string().contains("is in use by another process"),
        "{second}"
    );
    let mut load = Load::new(&broker);
    load.send("log", 10);
    load.producer.flush(LIMIT).unwrap();
    broker.kill_9().unwrap();
    // The volume of the log is gone: its records are, too, and nobody may pretend otherwise.
    std::fs::rename(data.join("wal"), dir.path().join("aside")).unwrap();
    let empty = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &[]).unwrap_err();
    assert!(
        empty.to_string().contains("headwater wal abandon"),
        "{empty}"
    );
    std::fs::remove_dir_all(data.join("wal")).unwrap_or_default();
    std::fs::rename(dir.path().join("aside"), data.join("wal")).unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &[]);
    check(&read_all(&broker, "log"), &load.acknowledged, 10);
    broker.stop(LIMIT).unwrap();
}
