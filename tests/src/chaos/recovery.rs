//! What one broker's death costs: seconds until its partitions take writes, and requests to the
//! store, by the tail that it leaves and the partitions of a topic.
//!
//! ```text
//!   three nodes ─▶ fill one's log ─▶ kill -9 ─▶ a write to each of its partitions ─▶ figures
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::{Value, json};

use super::bench::{Bench, NODES, PATIENCE, since};
use super::fleet::Node;
use super::report::millis;
use crate::bench::Report;
use crate::s3::S3Settings;

const TOPIC: &str = "tail";
/// Records on the way while a log is filled.
const IN_FLIGHT: usize = 64;
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
    let dir = tempfile::tempdir()?;
    let mut bench = start(dir.path(), mib)?;
    bench.create(TOPIC, partitions)?;
    let leads = bench
        .fleet
        .controller()
        .context("nobody leads the controllers")?;
    let dead = (1..=NODES)
        .find(|node| *node != leads)
        .context("no node is left")?;
    let led = bench.led(TOPIC, dead)?;
    ensure!(!led.is_empty(), "node {dead} leads nothing");
    let producer = bench.producer()?;
    bench.fill(&producer, TOPIC, &led, mib, IN_FLIGHT)?;
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

/// What is to be left in a log is not uploaded before: neither for its size nor its age.
fn start(dir: &Path, mib: u64) -> Result<Bench> {
    let tail = mib << 20;
    let budget = (16 * tail).max(1 << 30);
    let settings = [
        ("wal.backend", "object".to_owned()),
        ("memory.budget.bytes", budget.to_string()),
        ("upload.bytes", (2 * tail).to_string()),
        ("upload.age.ms", "3600000".to_owned()),
    ];
    Bench::start(dir, S3Settings::default(), &settings)
}

// === impl Bench ===

impl Bench {
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
}
