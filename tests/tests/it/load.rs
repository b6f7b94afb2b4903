//! Load by librdkafka that remembers what was acknowledged, and what must be there afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, types::RDKafkaErrorCode};
use tests::process::BrokerProcess;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn start(dir: &Path, kafka: &str, more: &[&str]) -> BrokerProcess {
    let more: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
    BrokerProcess::start(&dir.join("data"), kafka, "127.0.0.1:0", &more).unwrap()
}

/// Notes the offset of every record that was acknowledged, by its number.
#[derive(Clone, Default)]
pub(crate) struct Acknowledged(pub(crate) Arc<Mutex<BTreeMap<u64, (i32, i64)>>>);

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
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn wait_for(&self, count: usize) {
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

/// A client by addresses of brokers.
pub(crate) fn client_at(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("reconnect.backoff.max.ms", "200");
    config
}

pub(crate) struct Load {
    pub(crate) producer: ThreadedProducer<Acknowledged>,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) sent: u64,
    /// Values are padded to this many bytes.
    width: usize,
}

impl Load {
    pub(crate) fn new(broker: &BrokerProcess) -> Self {
        Self::sized(broker, 0)
    }

    /// Load whose values take `width` bytes each.
    pub(crate) fn sized(broker: &BrokerProcess, width: usize) -> Self {
        Self::at(&broker.kafka.to_string(), width)
    }

    /// The same by addresses of brokers.
    pub(crate) fn at(bootstrap: &str, width: usize) -> Self {
        let acknowledged = Acknowledged::default();
        let producer = client_at(bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("batch.num.messages", "50")
            .set("message.timeout.ms", "600000")
            .set("retry.backoff.max.ms", "200")
            .create_with_context(acknowledged.clone())
            .unwrap();
        Self {
            producer,
            acknowledged,
            sent: 0,
            width,
        }
    }

    pub(crate) fn send(&mut self, topic: &str, count: u64) {
        for _ in 0..count {
            let (key, mut value) = (format!("k{}", self.sent), format!("value {}", self.sent));
            if value.len() < self.width {
                value.push_str(&" ".repeat(self.width - value.len()));
            }
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
pub(crate) fn read_all(broker: &BrokerProcess, topic: &str) -> Vec<(i64, String)> {
    read_all_at(&broker.kafka.to_string(), topic)
}

/// The same by addresses of brokers.
pub(crate) fn read_all_at(bootstrap: &str, topic: &str) -> Vec<(i64, String)> {
    let consumer: BaseConsumer = client_at(bootstrap)
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
                let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
                records.push((message.offset(), value.trim_end().to_owned()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(0))) => return records,
            // A connection that broke is made again.
            Some(Err(_)) | None => {}
        }
    }
}

/// Every acknowledged record is there, at its offset.
pub(crate) fn check_acknowledged(records: &[(i64, String)], acknowledged: &Acknowledged) {
    let by_offset: BTreeMap<i64, &str> = records
        .iter()
        .map(|(offset, value)| (*offset, value.as_str()))
        .collect();
    for (number, (_, offset)) in acknowledged.0.lock().unwrap().iter() {
        let expected = format!("value {number}");
        // Librdkafka does not know the offset of what it finds was a duplicate.
        if *offset >= 0 {
            let found = by_offset.get(offset).copied();
            assert_eq!(found, Some(expected.as_str()), "at {offset}");
        }
    }
}

/// The same, and everything that was sent, in order, once.
pub(crate) fn check(records: &[(i64, String)], acknowledged: &Acknowledged, sent: u64) {
    check_acknowledged(records, acknowledged);
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
