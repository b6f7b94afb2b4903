//! What a planned move of many partitions costs: how long it takes, how long writes stand still, and
//! how many bytes go to and from the store meanwhile, however much the partitions hold.
//!
//! ```text
//!   all led by one node ─▶ filled, uploaded ─▶ one record at a time to each ─▶ moved to and fro
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};

use super::bench::{Bench, NODES, PATIENCE, Requests, since};
use super::fleet::Node;
use super::report::millis;
use crate::bench::Report;
use crate::faults::{FaultSettings, Latency};
use crate::s3::S3Settings;

const TOPIC: &str = "moved";
/// Records of 64 KiB on the way while partitions are filled.
const IN_FLIGHT: usize = 512;
/// Between two records to one partition while they move.
const TICK: Duration = Duration::from_millis(50);
/// Moves to and fro.
const ROUNDS: usize = 6;
/// How long is measured without a move.
const REST: Duration = Duration::from_secs(5);
/// How long after a move its gaps are still looked for.
const AFTER: Duration = Duration::from_secs(2);
/// No more than this is left to be uploaded before the first move, and no more merged within `REST`.
const SETTLED_BYTES: f64 = 8e6;
const UNUPLOADED: &str = "headwater_storage_unuploaded_bytes";
const MERGED: &str = "headwater_storage_compaction_written_bytes_total";

/// What to move.
#[derive(Clone, Debug)]
pub struct MoveSettings {
    /// Partitions that move.
    pub partitions: i32,
    /// MiB in each of them.
    pub mib: u64,
    /// Latency of the store.
    pub latency: Option<Latency>,
    /// Where objects and logs lie meanwhile, in a directory of its own.
    pub dir: std::path::PathBuf,
}

/// When records were acknowledged, by partition.
#[derive(Default)]
struct Acknowledged {
    at: Mutex<Vec<Vec<Instant>>>,
    failed: AtomicU64,
}

struct Deliveries(Arc<Acknowledged>);

/// One record to each partition at each tick, until dropped.
struct Ticks {
    acknowledged: Arc<Acknowledged>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

/// Measures it.
///
/// # Errors
/// What keeps it from running, and records that are lost.
pub fn run(settings: &MoveSettings, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(&settings.dir)?;
    let objects = dir.path().join("objects");
    std::fs::create_dir(&objects)?;
    let store = S3Settings {
        faults: FaultSettings {
            latency: settings.latency,
            ..FaultSettings::default()
        },
        dir: Some(objects),
        ..S3Settings::default()
    };
    let bench = start(dir.path(), store)?;
    bench.create(TOPIC, settings.partitions)?;
    let all: Vec<i32> = (0..settings.partitions).collect();
    bench.move_all(1)?;
    let producer = bench.producer()?;
    let mib = settings.mib * settings.partitions as u64;
    let begun = Instant::now();
    let filled = bench.fill(&producer, TOPIC, &all, mib, IN_FLIGHT)?;
    println!("{mib} MiB written within {} ms", millis(begun.elapsed()));
    bench.settle()?;
    println!("settled {} ms after the first", millis(begun.elapsed()));
    let ticks = Ticks::start(&bench, settings.partitions)?;
    let figures = bench.rounds(&ticks, settings)?;
    let ticked = ticks.end()?;
    bench.verify(settings.partitions, filled + ticked)?;
    let name = match settings.latency {
        None => "moves".to_owned(),
        Some(latency) => format!(
            "moves-{}-{}",
            latency.median.as_millis(),
            latency.p99.as_millis()
        ),
    };
    report.add(&name, figures)
}

fn start(dir: &Path, store: S3Settings) -> Result<Bench> {
    let settings = [
        ("wal.backend", "object".to_owned()),
        ("wal.object.puts.per.second", "50".to_owned()),
        // What merging leaves behind goes at once: disks are small.
        ("collector.grace.ms", "1000".to_owned()),
    ];
    Bench::start(dir, store, &settings)
}

// === impl Bench ===

impl Bench {
    /// Moves every partition to `node` and waits until the cluster says so.
    fn move_all(&self, node: Node) -> Result<()> {
        let bootstrap = self.fleet.bootstrap();
        let to = node.to_string();
        let move_to = ["move", TOPIC, "--to", &to];
        let topic = ["topic", "--bootstrap", &bootstrap];
        self.fleet.command(&[&topic[..], &move_to].concat())?;
        Ok(())
    }

    /// Waits until all is uploaded, and little is merged any more.
    fn settle(&self) -> Result<()> {
        let sum = |name: &str| -> Result<f64> {
            let of = |node| self.fleet.metric(node, name);
            (1..=NODES).map(of).sum()
        };
        let begun = Instant::now();
        loop {
            let merged = sum(MERGED)?;
            std::thread::sleep(REST);
            if sum(UNUPLOADED)? < SETTLED_BYTES && sum(MERGED)? - merged < SETTLED_BYTES {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "uploads do not come to rest");
        }
    }

    fn rounds(&self, ticks: &Ticks, settings: &MoveSettings) -> Result<Value> {
        let all = settings.partitions as usize;
        std::thread::sleep(AFTER);
        let (from, before) = (Instant::now(), self.moved());
        std::thread::sleep(REST);
        let rest_gaps = ticks.gaps(from, Instant::now());
        let rest = self.moved().since(&before);
        let (mut took, mut gaps, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let to = [2, 1][round % 2];
            let (from, before) = (Instant::now(), self.moved());
            self.move_all(to)?;
            let done = from.elapsed();
            let moved = self.moved().since(&before);
            std::thread::sleep(AFTER);
            let led = self.led(TOPIC, to)?.len();
            ensure!(led == all, "node {to} leads {led} of {all} partitions");
            let mut of_round = ticks.gaps(from, Instant::now());
            println!(
                "{all} partitions moved within {} ms; longest gap {} ms",
                millis(done),
                of_round.last().copied().unwrap_or_default()
            );
            rounds.push(json!({
                "ms": millis(done),
                "gap_ms_longest": of_round.last(),
                "store": moved.figures(),
            }));
            took.push(millis(done));
            gaps.append(&mut of_round);
        }
        took.sort_unstable();
        gaps.sort_unstable();
        Ok(json!({
            "partitions": all,
            "mib_of_each": settings.mib,
            "ms_median": took[took.len() / 2],
            "ms_longest": took.last(),
            "gap_ms_p50": gaps[(gaps.len() - 1) / 2],
            "gap_ms_p99": gaps[(gaps.len() - 1) * 99 / 100],
            "gap_ms_longest": gaps.last(),
            "gap_ms_longest_at_rest": rest_gaps.last(),
            "store_in_5_s_of_rest": rest.figures(),
            "rounds": rounds,
        }))
    }

    fn moved(&self) -> Traffic {
        Traffic {
            requests: self.server.requests(),
            bytes: self.server.bytes(),
        }
    }

    /// Every partition holds what was acknowledged, each record once.
    fn verify(&self, partitions: i32, records: u64) -> Result<()> {
        let client: BaseConsumer = self.config().create()?;
        let mut held = 0;
        for index in 0..partitions {
            let (first, end) = client.fetch_watermarks(TOPIC, index, PATIENCE)?;
            held += end - first;
        }
        let records = i64::try_from(records)?;
        ensure!(held == records, "{held} records of {records} are there");
        Ok(())
    }
}

/// What went to and from the store.
struct Traffic {
    requests: Requests,
    bytes: (u64, u64),
}

// === impl Traffic ===

impl Traffic {
    fn since(&self, before: &Self) -> Self {
        Self {
            requests: since(before.requests, self.requests),
            bytes: (self.bytes.0 - before.bytes.0, self.bytes.1 - before.bytes.1),
        }
    }

    fn figures(&self) -> Value {
        json!({
            "puts": self.requests.0,
            "gets": self.requests.1,
            "others": self.requests.2,
            "bytes_put": self.bytes.0,
            "bytes_got": self.bytes.1,
        })
    }
}

// === impl Deliveries ===

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => self.0.at.lock()[message.partition() as usize].push(Instant::now()),
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

// === impl Ticks ===

impl Ticks {
    fn start(bench: &Bench, partitions: i32) -> Result<Self> {
        let acknowledged = Arc::new(Acknowledged::default());
        *acknowledged.at.lock() = vec![Vec::new(); partitions as usize];
        let producer: ThreadedProducer<Deliveries> = bench
            .config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "300000")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "100")
            .create_with_context(Deliveries(Arc::clone(&acknowledged)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || tick(&producer, partitions, &stopped));
        Ok(Self {
            acknowledged,
            stop,
            thread: Some(thread),
        })
    }

    /// The longest time without an acknowledgement that falls into `[from, to]` of each partition,
    /// milliseconds in rising order.
    fn gaps(&self, from: Instant, to: Instant) -> Vec<u64> {
        let all = self.acknowledged.at.lock();
        let longest = |times: &Vec<Instant>| {
            let first = times.partition_point(|at| *at < from);
            let within = times[first.saturating_sub(1)..].iter().copied();
            let ends: Vec<Instant> = within.take_while(|at| *at <= to).chain([to]).collect();
            let pairs = ends.windows(2).map(|pair| pair[1] - pair[0]);
            millis(pairs.max().unwrap_or(to - from))
        };
        let mut gaps: Vec<u64> = all.iter().map(longest).collect();
        gaps.sort_unstable();
        gaps
    }

    /// Ends, and gives how many records were acknowledged.
    fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        match thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("the producer has panicked"),
        }
        let failed = self.acknowledged.failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} records failed");
        let all = self.acknowledged.at.lock();
        Ok(all.iter().map(|times| times.len() as u64).sum())
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // An error is on its way already.
            let _ = thread.join();
        }
    }
}

fn tick(producer: &ThreadedProducer<Deliveries>, partitions: i32, stop: &AtomicBool) -> Result<()> {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for index in 0..partitions {
            let record = BaseRecord::<(), str>::to(TOPIC)
                .partition(index)
                .payload("while it moves");
            producer.send(record).map_err(|(error, _)| error)?;
        }
        due += TICK;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(producer.flush(PATIENCE)?)
}
