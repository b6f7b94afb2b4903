//! What one broker's death costs: seconds until its partitions take writes, and requests to the
//! store, by the tail that it leaves and the partitions of a topic.
//!
//! ```text
//!   three nodes ─▶ fill one's log ─▶ kill -9 ─▶ a write to each of its partitions ─▶ figures
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::fleet::{Fleet, Node, Plan};
use crate::bench::Report;
use crate::s3::{S3Server, S3Settings};

const NODES: i32 = 3;
const TOPIC: &str = "tail";
const RECORD_BYTES: usize = 64 << 10;
/// Records on the way while a log is filled.
const IN_FLIGHT: usize = 64;
/// Longest that any wait may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What `/metrics` calls bytes that are durable in the log and not yet in objects.
const UNUPLOADED: &str = "headwater_storage_unuploaded_bytes";
const RECOVERED: &str = "headwater_broker_takeover_recovered_total";
const SECONDS: &str = "headwater_broker_takeover_seconds_sum";
/// What recoveries hold in memory.
const HELD: &str = "headwater_storage_memory_recovery_bytes";

/// Which tails and how many partitions: each with each.
#[derive(Clone, Debug)]
pub struct RecoverySettings {
    /// MiB that the dead broker leaves in its log.
    pub mib: Vec<u64>,
    /// Partitions of the topic; a third of them is the dead broker's.
    pub partitions: Vec<i32>,
}

/// A cluster over a store that counts.
struct Bench {
    runtime: Runtime,
    server: S3Server,
    fleet: Fleet,
    _dir: tempfile::TempDir,
}

/// Measures each combination.
///
/// # Errors
/// The first that fails; figures of those before it are kept.
pub fn run(settings: &RecoverySettings, report: &mut Report) -> Result<()> {
    for partitions in &settings.partitions {
        for mib in &settings.mib {
            let name = format!("takeover-{mib}mib-{partitions}");
            let figures = one(*mib, *partitions).with_context(|| name.clone())?;
            report.add(&name, figures)?;
        }
    }
    Ok(())
}

fn one(mib: u64, partitions: i32) -> Result<Value> {
    let mut bench = Bench::start(mib)?;
    bench.create(partitions)?;
    let leads = bench
        .fleet
        .controller()
        .context("nobody leads the controllers")?;
    let dead = (1..=NODES)
        .find(|node| *node != leads)
        .context("no node is left")?;
    let led = bench.led(dead)?;
    ensure!(!led.is_empty(), "node {dead} leads nothing");
    let producer = bench.producer()?;
    bench.fill(&producer, &led, mib)?;
    let left = bench.fleet.metric(dead, UNUPLOADED)?;

    let quiet = bench.requests_within(Duration::from_secs(5));
    let before = bench.server.requests();
    bench.fleet.kill_9(dead)?;
    let killed = Instant::now();
    let writes = bench.writes(&producer, &led, killed);
    let (closed, held_most) = bench.closed(killed)?;
    let requests = since(before, bench.server.requests());
    let mut gaps = bench.runtime.block_on(writes)??;
    gaps.sort_unstable();
    let gap = |permille: usize| millis(gaps[(gaps.len() - 1) * permille / 1000]);
    let recovery: f64 = bench
        .survivors()
        .map(|node| bench.fleet.metric(node, SECONDS))
        .sum::<Result<f64>>()?;
    Ok(json!({
        "partitions_of_the_dead": led.len(),
        "tail_mib": left / f64::from(1 << 20),
        "ms_to_first_write": gap(0),
        "ms_to_write_p50": gap(500),
        "ms_to_write_p99": gap(990),
        "ms_to_last_write": gap(1000),
        "ms_to_closed": millis(closed),
        "recovery_seconds": recovery,
        "recovery_held_most_mib": held_most / f64::from(1 << 20),
        "requests": { "puts": requests.0, "gets": requests.1, "others": requests.2 },
        "requests_in_5_s_of_rest": { "puts": quiet.0, "gets": quiet.1, "others": quiet.2 },
    }))
}

type Requests = (u64, u64, u64);

fn since(before: Requests, now: Requests) -> Requests {
    (now.0 - before.0, now.1 - before.1, now.2 - before.2)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl Bench ===

impl Bench {
    fn start(mib: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let server = runtime.block_on(S3Server::start(S3Settings::default()))?;
        // What is to be left in a log is not uploaded before: neither for its size nor its age.
        let tail = mib << 20;
        let budget = (16 * tail).max(1 << 30);
        let settings = [
            ("wal.backend", "object".to_owned()),
            ("memory.budget.bytes", budget.to_string()),
            ("upload.bytes", (2 * tail).to_string()),
            ("upload.age.ms", "3600000".to_owned()),
        ];
        let plan = Plan {
            combined: NODES,
            brokers: 0,
            store_url: server.url("bench"),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            net: None,
        };
        let mut fleet = Fleet::new(dir.path(), plan)?;
        for node in fleet.nodes() {
            fleet.start(node)?;
        }
        fleet.wait_until_ready(PATIENCE)?;
        Ok(Self {
            runtime,
            server,
            fleet,
            _dir: dir,
        })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.fleet.bootstrap());
        config
    }

    fn create(&self, partitions: i32) -> Result<()> {
        let admin: AdminClient<_> = self.config().create()?;
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        for result in self
            .runtime
            .block_on(admin.create_topics([&topic], &options))?
        {
            result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        }
        Ok(())
    }

    /// The partitions that `node` leads.
    fn led(&self, node: Node) -> Result<Vec<i32>> {
        let client: BaseConsumer = self.config().create()?;
        let metadata = client.fetch_metadata(Some(TOPIC), PATIENCE)?;
        let topics = metadata.topics().iter();
        let partitions = topics.flat_map(|topic| topic.partitions());
        let led = partitions.filter(|partition| partition.leader() == node);
        Ok(led.map(|partition| partition.id()).collect())
    }

    fn producer(&self) -> Result<FutureProducer> {
        let mut config = self.config();
        config
            .set("linger.ms", "0")
            .set("message.timeout.ms", "300000")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "100")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "100")
            .set("queue.buffering.max.messages", "1000000");
        Ok(config.create()?)
    }

    /// Writes `mib` over `partitions`.
    fn fill(&self, producer: &FutureProducer, partitions: &[i32], mib: u64) -> Result<()> {
        let body = vec![b'x'; RECORD_BYTES];
        let records = (mib << 20) / RECORD_BYTES as u64;
        let of: Vec<i32> = partitions
            .iter()
            .copied()
            .cycle()
            .take(records as usize)
            .collect();
        let send = |partition: &i32| {
            let record: FutureRecord<'_, (), [u8]> =
                FutureRecord::to(TOPIC).partition(*partition).payload(&body);
            producer.send(record, Timeout::After(PATIENCE))
        };
        for some in of.chunks(IN_FLIGHT) {
            for sent in self.runtime.block_on(join_all(some.iter().map(send))) {
                sent.map_err(|(error, _)| error)?;
            }
        }
        producer.flush(PATIENCE)?;
        Ok(())
    }

    /// Writes once to each of `partitions`, and says how long after `killed` each was acknowledged.
    fn writes(
        &self,
        producer: &FutureProducer,
        partitions: &[i32],
        killed: Instant,
    ) -> tokio::task::JoinHandle<Result<Vec<Duration>>> {
        let (producer, partitions) = (producer.clone(), partitions.to_vec());
        self.runtime.spawn(async move {
            let write = async |partition: i32| {
                let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(TOPIC)
                    .partition(partition)
                    .payload(b"after");
                let sent = producer.send(record, Timeout::After(PATIENCE)).await;
                sent.map_err(|(error, _)| error)?;
                Ok(killed.elapsed())
            };
            let all = join_all(partitions.into_iter().map(write)).await;
            all.into_iter().collect()
        })
    }

    fn survivors(&self) -> impl Iterator<Item = Node> {
        let absent = self.fleet.absent();
        self.fleet
            .nodes()
            .into_iter()
            .filter(move |node| !absent.contains(node))
    }

    /// When the dead one's log is closed, and the most that recovery was seen to hold until then.
    fn closed(&self, killed: Instant) -> Result<(Duration, f64)> {
        let mut most: f64 = 0.0;
        while killed.elapsed() < PATIENCE {
            let mut recovered = 0.0;
            for node in self.survivors() {
                most = most.max(self.fleet.metric(node, HELD)?);
                recovered += self.fleet.metric(node, RECOVERED)?;
            }
            if recovered > 0.0 {
                return Ok((killed.elapsed(), most));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("its log is not recovered after {PATIENCE:?}")
    }

    fn requests_within(&self, length: Duration) -> Requests {
        let before = self.server.requests();
        std::thread::sleep(length);
        since(before, self.server.requests())
    }
}
