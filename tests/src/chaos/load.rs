//! Producers and a tail reader that remember everything, and when it was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::java::Java;
use crate::history::{Anomaly, History, Outcome};

pub(super) const TOPIC: &str = "chaos";
/// Between two records to one partition.
const TICK: Duration = Duration::from_millis(50);
/// The producer that is not idempotent.
const PLAIN: u32 = 2;
/// Producers of librdkafka.
const PRODUCERS: u32 = 3;
/// What writes to a paused broker without a client's wits.
pub(super) const STUBBORN: u32 = 3;
/// The Java client.
pub(super) const JAVA: u32 = 4;
/// Between two values of one producer: each has values of its own.
pub(super) const STRIDE: u64 = 8;

/// Whose acknowledgements are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Librdkafka,
    Java,
}

/// What clients did and saw.
#[derive(Default)]
pub(super) struct Seen {
    history: Mutex<History>,
    /// When records were acknowledged, by client and partition.
    acknowledged_at: Mutex<BTreeMap<(By, i32), Vec<Instant>>>,
    /// Records that failed, and acknowledgements without an offset.
    failed: AtomicU64,
    without_offset: AtomicU64,
    /// What no client may see.
    problems: Mutex<Vec<String>>,
}

/// What every client is told.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) bootstrap: String,
    /// How long they wait for one answer.
    pub(super) timeout: Duration,
}

/// Clients at work. Dropped, they end.
pub(super) struct Load {
    clients: Clients,
    partitions: i32,
    pub(super) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    java: Option<Java>,
}

/// What a record carries through librdkafka: its value and partition.
struct Deliveries(Arc<Seen>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(u64, i32)>;

    fn delivery(&self, result: &DeliveryResult<'_>, of: Box<(u64, i32)>) {
        let (value, partition) = *of;
        let seen = &self.0;
        let outcome = match result {
            Ok(message) => {
                seen.acknowledged_by(By::Librdkafka, partition);
                match message.offset() {
                    // What was found to be a duplicate has an offset that librdkafka does not know.
                    offset if offset < 0 => {
                        seen.without_offset.fetch_add(1, Ordering::Relaxed);
                        Outcome::Unknown
                    }
                    offset => Outcome::Acknowledged(offset),
                }
            }
            Err(_) => return seen.has_failed(value),
        };
        seen.sent(value, outcome);
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn problem(&self, what: String) {
        let mut problems = self.problems.lock();
        // The first few tell the story.
        if problems.len() < 50 && !problems.contains(&what) {
            problems.push(what);
        }
    }

    pub(super) fn sending(&self, producer: u32, index: i32, value: u64) {
        let at = (TOPIC.to_owned(), index);
        self.history.lock().sending(producer, &at, value);
    }

    pub(super) fn sent(&self, value: u64, outcome: Outcome) {
        self.history.lock().sent(value, outcome);
    }

    pub(super) fn has_failed(&self, value: u64) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.sent(value, Outcome::Unknown);
    }

    /// What one reader got of a partition.
    pub(super) fn read(&self, index: i32, records: Vec<(i64, u64)>) {
        let at = (TOPIC.to_owned(), index);
        self.history.lock().read(&at, records);
    }

    /// A client got an acknowledgement now.
    pub(super) fn acknowledged_by(&self, by: By, index: i32) {
        let mut at = self.acknowledged_at.lock();
        at.entry((by, index)).or_default().push(Instant::now());
    }

    /// Acknowledgements that the Java client got.
    pub(super) fn of_java(&self) -> u64 {
        let all = self.acknowledged_at.lock();
        let of_java = all.iter().filter(|((by, _), _)| *by == By::Java);
        of_java.map(|(_, times)| times.len() as u64).sum()
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.history.lock().acknowledged()
    }

    pub(super) fn failed(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.failed), count(&self.without_offset))
    }

    /// The longest time between two acknowledgements that falls into `[from, to]`, by partition.
    pub(super) fn gaps(&self, by: By, from: Instant, to: Instant) -> BTreeMap<i32, Duration> {
        let all = self.acknowledged_at.lock();
        let gap = |times: &Vec<Instant>| {
            let first = times.partition_point(|at| *at < from);
            let before = first.checked_sub(1).map_or(from, |n| times[n]);
            let until = times.partition_point(|at| *at <= to);
            let mut last = before;
            let mut longest = Duration::ZERO;
            for at in times[first..until].iter().copied().chain([to]) {
                longest = longest.max(at.saturating_duration_since(last));
                last = at;
            }
            longest
        };
        let wanted = all.iter().filter(|((of, _), _)| *of == by);
        wanted
            .map(|((_, index), times)| (*index, gap(times)))
            .collect()
    }

    /// Partitions without an acknowledgement since `since`.
    pub(super) fn silent(&self, partitions: i32, since: Instant) -> Vec<i32> {
        let all = self.acknowledged_at.lock();
        let silent = |index: &i32| {
            let last = all.get(&(By::Librdkafka, *index));
            let last = last.and_then(|times| times.last());
            last.is_none_or(|at| *at < since)
        };
        (0..partitions).filter(silent).collect()
    }

    /// What is wrong with all of it.
    pub(super) fn anomalies(&self) -> Vec<Anomaly> {
        let all = (0..PRODUCERS).chain([JAVA]);
        let idempotent: BTreeSet<u32> = all.filter(|n| *n != PLAIN).collect();
        self.history.lock().anomalies(&idempotent)
    }
}

// === impl Load ===

impl Load {
    /// Makes the topic and starts the clients.
    pub(super) fn start(
        clients: Clients,
        partitions: i32,
        bytes: usize,
        java: bool,
    ) -> Result<Self> {
        create_topic(&clients, partitions)?;
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            clients: clients.clone(),
            partitions,
            seen,
            stop,
            threads: Vec::new(),
            java: None,
        };
        for number in 0..PRODUCERS {
            let producer = producer(&clients, number, &load.seen)?;
            let (seen, stop) = (Arc::clone(&load.seen), Arc::clone(&load.stop));
            let mine: Vec<i32> = (0..partitions)
                .filter(|index| *index as u32 % PRODUCERS == number)
                .collect();
            load.threads.push(std::thread::spawn(move || {
                produce(&producer, number, &mine, bytes, &seen, &stop);
            }));
        }
        let consumer = consumer(&clients, "tail")?;
        assign(&consumer, partitions)?;
        let (seen, stop) = (Arc::clone(&load.seen), Arc::clone(&load.stop));
        let tail = std::thread::spawn(move || follow(&consumer, &seen, &stop));
        load.threads.push(tail);
        if java {
            load.java = Some(Java::start(&clients, partitions, &load.seen)?);
        }
        Ok(load)
    }

    /// Which node leads each partition, as the cluster says.
    pub(super) fn leaders(&self) -> Result<BTreeMap<i32, i32>> {
        let consumer = consumer(&self.clients, "leaders")?;
        let metadata = consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(10))?;
        let topic = metadata.topics().first().context("no such topic")?;
        let leaders = topic.partitions().iter();
        Ok(leaders.map(|one| (one.id(), one.leader())).collect())
    }

    /// Stops the clients, reads everything, and gives what was seen.
    pub(super) fn finish(mut self, limit: Duration) -> Result<Arc<Seen>> {
        self.end();
        let finals = read_all(&self.clients, self.partitions, limit)?;
        let mut history = self.seen.history.lock();
        for (index, records) in finals {
            history.read_finally(&(TOPIC.to_owned(), index), records);
        }
        drop(history);
        Ok(Arc::clone(&self.seen))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(mut java) = self.java.take() {
            java.end(&self.seen);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.seen.problem("a client has panicked".to_owned());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn config(clients: &Clients) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &clients.bootstrap)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "100")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("topic.metadata.refresh.fast.interval.ms", "50")
        .set("socket.connection.setup.timeout.ms", "3000")
        .set("socket.timeout.ms", clients.timeout.as_millis().to_string());
    config
}

fn create_topic(clients: &Clients, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(clients).create()?;
    let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let made = runtime.block_on(admin.create_topics([&topic], &options))?;
    match made.into_iter().next() {
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        other => bail!("the topic was not made: {other:?}"),
    }
}

fn producer(
    clients: &Clients,
    number: u32,
    seen: &Arc<Seen>,
) -> Result<ThreadedProducer<Deliveries>> {
    let idempotent = if number == PLAIN { "false" } else { "true" };
    Ok(config(clients)
        .set("client.id", format!("producer-{number}"))
        .set("enable.idempotence", idempotent)
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "180000")
        .create_with_context(Deliveries(Arc::clone(seen)))?)
}

/// One record to each partition at each tick, whether or not earlier ones were acknowledged.
fn produce(
    producer: &ThreadedProducer<Deliveries>,
    number: u32,
    partitions: &[i32],
    bytes: usize,
    seen: &Seen,
    stop: &AtomicBool,
) {
    let mut due = Instant::now();
    let mut next = u64::from(number);
    while !stop.load(Ordering::Relaxed) {
        for index in partitions {
            let value = next;
            next += STRIDE;
            let payload = format!("{value:<bytes$}");
            seen.sending(number, *index, value);
            let record =
                BaseRecord::<(), String, _>::with_opaque_to(TOPIC, Box::new((value, *index)))
                    .partition(*index)
                    .payload(&payload);
            if let Err((error, _)) = producer.send(record) {
                seen.has_failed(value);
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    seen.problem(format!("producer {number} cannot send: {error}"));
                }
            }
        }
        if let Some((code, text)) = producer.client().fatal_error() {
            seen.problem(format!(
                "producer {number} has failed for good: {code}: {text}"
            ));
            return;
        }
        due += TICK;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    if let Err(error) = producer.flush(Duration::from_secs(60)) {
        seen.problem(format!("producer {number} does not end: {error}"));
    }
}

fn consumer(clients: &Clients, name: &str) -> Result<BaseConsumer> {
    Ok(config(clients)
        .set("client.id", name)
        .set("group.id", name)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.error.backoff.ms", "20")
        .create()?)
}

fn assign(consumer: &BaseConsumer, partitions: i32) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for index in 0..partitions {
        list.add_partition_offset(TOPIC, index, Offset::Offset(0))?;
    }
    Ok(consumer.assign(&list)?)
}

fn value_of(payload: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(payload?).ok()?.trim_end().parse().ok()
}

/// Reads along until told to stop.
fn follow(consumer: &BaseConsumer, seen: &Seen, stop: &AtomicBool) {
    let mut read: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => match value_of(message.payload()) {
                Some(value) => {
                    let records = read.entry(message.partition()).or_default();
                    records.push((message.offset(), value));
                }
                None => seen.problem(format!("no value of ours at {}", message.offset())),
            },
            Some(Err(error)) => note(&error, seen),
            None => {}
        }
    }
    for (index, records) in read {
        seen.read(index, records);
    }
}

/// Errors that a reader may not see: those that say that data is gone. From anything else (ends,
/// lost connections, unknown leaders) it goes on by itself.
fn note(error: &KafkaError, seen: &Seen) {
    let gone = [
        RDKafkaErrorCode::AutoOffsetReset,
        RDKafkaErrorCode::OffsetOutOfRange,
        RDKafkaErrorCode::BadMessage,
        RDKafkaErrorCode::InvalidMessage,
    ];
    if error
        .rdkafka_error_code()
        .is_some_and(|code| gone.contains(&code))
    {
        seen.problem(format!("the tail reader: {error}"));
    }
}

/// All records of every partition, from the first to the end at this time.
fn read_all(
    clients: &Clients,
    partitions: i32,
    limit: Duration,
) -> Result<BTreeMap<i32, Vec<(i64, u64)>>> {
    let consumer = consumer(clients, "finally")?;
    assign(&consumer, partitions)?;
    let begun = Instant::now();
    let mut read: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    let mut at_end = BTreeSet::new();
    while at_end.len() < partitions as usize {
        if begun.elapsed() > limit {
            bail!(
                "only {} of {partitions} partitions read in {limit:?}",
                at_end.len()
            );
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = value_of(message.payload()).context("no value of ours")?;
                let records = read.entry(message.partition()).or_default();
                records.push((message.offset(), value));
            }
            Some(Err(KafkaError::PartitionEOF(index))) => {
                at_end.insert(index);
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(read)
}
