//! Closed loop for throughput, open loop for latency, and a consumer that checks what it reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

/// What a closed loop did.
#[derive(Debug)]
pub struct Produced {
    /// Records acknowledged.
    pub records: u64,
    /// From the first send to the last acknowledgement.
    pub elapsed: Duration,
}

/// What a consumer read.
#[derive(Debug)]
pub struct Consumed {
    /// Records read.
    pub records: u64,
    /// Payload bytes read.
    pub bytes: u64,
    /// From the first poll to the last record.
    pub elapsed: Duration,
}

/// Latencies in microseconds, from the intended time of sending to the acknowledgement.
#[derive(Debug)]
pub struct Latency {
    /// All of them.
    pub micros: Histogram<u64>,
    /// Records acknowledged.
    pub records: u64,
}

#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failed: Mutex<Option<String>>,
    latency: Mutex<Option<(Instant, Histogram<u64>)>>,
}

struct Context_(Arc<Deliveries>);

impl ClientContext for Context_ {}

impl ProducerContext for Context_ {
    /// Intended time of sending, in microseconds since the loop's start.
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: Box<u64>) {
        match result {
            Ok(_) => {
                self.0.acknowledged.fetch_add(1, Ordering::Relaxed);
                if let Some((start, histogram)) = self.0.latency.lock().as_mut() {
                    let now = start.elapsed().as_micros() as u64;
                    // Saturates rather than failing: an hour is the histogram's bound.
                    histogram.saturating_record(now.saturating_sub(*intended));
                }
            }
            Err((error, _)) => {
                self.0
                    .failed
                    .lock()
                    .get_or_insert_with(|| error.to_string());
            }
        }
    }
}

fn producer(
    kafka: SocketAddr,
    settings: &[(&str, &str)],
    deliveries: &Arc<Deliveries>,
) -> Result<BaseProducer<Context_>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.to_string())
        .set("acks", "all")
        .set("message.timeout.ms", "120000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "262144");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create_with_context(Context_(deliveries.clone()))?)
}

/// Payload that does not compress to nothing and differs per record.
fn payload(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Sends `records` records of `size` bytes as fast as they are taken, over `partitions`
/// partitions in blocks, and waits for every acknowledgement.
///
/// # Errors
/// When any delivery failed.
pub fn produce(
    kafka: SocketAddr,
    topic: &str,
    partitions: i32,
    records: u64,
    size: usize,
    settings: &[(&str, &str)],
) -> Result<Produced> {
    let deliveries = Arc::new(Deliveries::default());
    let producer = producer(kafka, settings, &deliveries)?;
    let mut body = payload(size);
    let begun = Instant::now();
    for n in 0..records {
        body[..8].copy_from_slice(&n.to_le_bytes());
        // Runs of one partition let batches fill, as a sticky partitioner does.
        let partition = ((n / 256) % partitions as u64) as i32;
        send(&producer, topic, Some(partition), &body, 0)?;
        if n % 1024 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(300)).context("flush")?;
    if let Some(error) = deliveries.failed.lock().take() {
        bail!("a delivery failed: {error}");
    }
    let acknowledged = deliveries.acknowledged.load(Ordering::Relaxed);
    ensure!(
        acknowledged == records,
        "{acknowledged} of {records} acknowledged"
    );
    Ok(Produced {
        records,
        elapsed: begun.elapsed(),
    })
}

fn send(
    producer: &BaseProducer<Context_>,
    topic: &str,
    partition: Option<i32>,
    body: &[u8],
    intended_us: u64,
) -> Result<()> {
    let mut record: BaseRecord<'_, (), [u8], Box<u64>> =
        BaseRecord::with_opaque_to(topic, Box::new(intended_us)).payload(body);
    if let Some(partition) = partition {
        record = record.partition(partition);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Sends `per_second` records a second for `length`, each at its intended time whatever the
/// answers do, and measures from that time.
///
/// # Errors
/// When any delivery failed.
pub fn open_loop(
    kafka: SocketAddr,
    topic: &str,
    per_second: u64,
    size: usize,
    length: Duration,
    settings: &[(&str, &str)],
) -> Result<Latency> {
    let deliveries = Arc::new(Deliveries::default());
    let producer = producer(kafka, settings, &deliveries)?;
    let mut body = payload(size);
    // Connections and metadata are not what is measured.
    send(&producer, topic, None, &body, 0)?;
    producer.flush(Duration::from_secs(60))?;
    let begun = Instant::now();
    let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
    *deliveries.latency.lock() = Some((begun, histogram));
    let total = (length.as_secs_f64() * per_second as f64) as u64;
    for n in 0..total {
        let intended_us = n * 1_000_000 / per_second;
        loop {
            let now = begun.elapsed().as_micros() as u64;
            if now >= intended_us {
                break;
            }
            // Polling is also how deliveries are counted, so wait in it.
            let wait = Duration::from_micros((intended_us - now).min(1000));
            producer.poll(Duration::ZERO);
            std::thread::sleep(wait.min(Duration::from_micros(200)));
        }
        body[..8].copy_from_slice(&n.to_le_bytes());
        send(&producer, topic, None, &body, intended_us)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(120))?;
    if let Some(error) = deliveries.failed.lock().take() {
        bail!("a delivery failed: {error}");
    }
    let records = deliveries.acknowledged.load(Ordering::Relaxed) - 1;
    ensure!(records == total, "{records} of {total} acknowledged");
    let (_, micros) = deliveries
        .latency
        .lock()
        .take()
        .context("the histogram was set")?;
    Ok(Latency { micros, records })
}

/// Reads `records` records from the start of every partition and checks that offsets have no
/// holes.
///
/// # Errors
/// When an offset is skipped or repeated, or nothing comes for a minute.
pub fn consume_all(
    kafka: SocketAddr,
    topic: &str,
    partitions: i32,
    records: u64,
) -> Result<Consumed> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.to_string())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "131072")
        .set("check.crcs", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut next = vec![0_i64; partitions as usize];
    let (mut count, mut bytes) = (0, 0);
    let begun = Instant::now();
    while count < records {
        let message = consumer
            .poll(Duration::from_secs(60))
            .with_context(|| format!("nothing for a minute after {count} of {records}"))??;
        let expected = &mut next[message.partition() as usize];
        let offset = message.offset();
        ensure!(
            offset == *expected,
            "{}: {offset} after {expected}",
            message.partition()
        );
        *expected += 1;
        count += 1;
        bytes += message.payload_len() as u64;
    }
    Ok(Consumed {
        records: count,
        bytes,
        elapsed: begun.elapsed(),
    })
}
