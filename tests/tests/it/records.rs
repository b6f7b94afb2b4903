//! Records in and out of a real broker, across kill -9, SIGSTOP and a clean stop.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, types::RDKafkaErrorCode};
use tests::process::BrokerProcess;

const LIMIT: Duration = Duration::from_secs(120);

fn start(dir: &Path, kafka: &str, more: &[&str]) -> BrokerProcess {
    let more: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
    BrokerProcess::start(&dir.join("data"), kafka, "127.0.0.1:0", &more).unwrap()
}

/// Notes the offset of every record that was acknowledged, by its number.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeMap<u64, (i32, i64)>>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        if let Ok(message) = result {
            let at = (message.partition(), message.offset());
            self.0.lock().unwrap().insert(*number, at);
        }
    }
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.count() < count {
            assert!(
                begun.elapsed() < LIMIT,
                "{} of {count} acknowledged",
                self.count()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn client(broker: &BrokerProcess) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.kafka.to_string())
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("reconnect.backoff.max.ms", "200");
    config
}

struct Load {
    producer: ThreadedProducer<Acknowledged>,
    acknowledged: Acknowledged,
    sent: u64,
}

impl Load {
    fn new(broker: &BrokerProcess) -> Self {
        let acknowledged = Acknowledged::default();
        let producer = client(broker)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("batch.num.messages", "50")
            .set("message.timeout.ms", "120000")
            .set("retry.backoff.max.ms", "200")
            .create_with_context(acknowledged.clone())
            .unwrap();
        Self {
            producer,
            acknowledged,
            sent: 0,
        }
    }

    fn send(&mut self, topic: &str, count: u64) {
        for _ in 0..count {
            let (key, value) = (format!("k{}", self.sent), format!("value {}", self.sent));
            let mut record = BaseRecord::with_opaque_to(topic, Box::new(self.sent))
                .partition(0)
                .key(&key)
                .payload(&value);
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((error, back))
                        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                    {
                        std::thread::sleep(Duration::from_millis(5));
                        record = back;
                    }
                    Err((error, _)) => panic!("{error}"),
                }
            }
            self.sent += 1;
        }
    }
}

/// All records of partition 0, in order: offset and value.
fn read_all(broker: &BrokerProcess, topic: &str) -> Vec<(i64, String)> {
    let consumer: BaseConsumer = client(broker)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let (begun, mut records) = (Instant::now(), Vec::new());
    loop {
        assert!(begun.elapsed() < LIMIT, "{} records read", records.len());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                records.push((message.offset(), value));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(0))) => return records,
            // A connection that broke is made again.
            Some(Err(_)) | None => {}
        }
    }
}

/// Every acknowledged record is there, at its offset, in order, once.
fn check(records: &[(i64, String)], acknowledged: &Acknowledged, sent: u64) {
    let by_offset: BTreeMap<i64, &str> = records
        .iter()
        .map(|(offset, value)| (*offset, value.as_str()))
        .collect();
    for (number, (_, offset)) in acknowledged.0.lock().unwrap().iter() {
        let expected = format!("value {number}");
        // Librdkafka does not know the offset of what it finds was a duplicate.
        if *offset >= 0 {
            assert_eq!(
                by_offset.get(offset).copied(),
                Some(expected.as_str()),
                "at {offset}"
            );
        }
    }
    let values: Vec<&str> = records.iter().map(|(_, value)| value.as_str()).collect();
    let expected: Vec<String> = (0..sent).map(|number| format!("value {number}")).collect();
    assert_eq!(values.len(), expected.len(), "lost or repeated");
    assert!(
        values
            .iter()
            .zip(&expected)
            .all(|(value, expected)| value == expected),
        "order"
    );
}

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
fn a_stopped_process_goes_on_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &["--set", "lease.ms=1000"]);
    let mut load = Load::new(&broker);
    load.send("log", 500);
    load.producer.flush(LIMIT).unwrap();
    load.send("log", 500);
    broker.signal("STOP").unwrap();
    // The very thing that is tested: time passes while the process stands still.
    std::thread::sleep(Duration::from_secs(4));
    let before = load.acknowledged.count();
    load.send("log", 500);
    broker.signal("CONT").unwrap();
    load.producer.flush(LIMIT).unwrap();
    assert!(before < 1500);
    check(&read_all(&broker, "log"), &load.acknowledged, load.sent);
    broker.stop(LIMIT).unwrap();
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
