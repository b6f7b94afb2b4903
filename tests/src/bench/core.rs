//! The core's figures: one broker, disk, memory and object WAL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use serde_json::{Value, json};

use super::report::quiet_disk;
use super::{Report, consume_all, offsets, open_loop, produce};
use crate::process::{BrokerProcess, binary};

pub(super) const MIB: f64 = (1 << 20) as f64;
const RECORD_BYTES: usize = 1024;
const PARTITIONS: i32 = 8;
/// What `/metrics` calls bytes that are durable in the WAL but not yet in objects.
const UNUPLOADED: &str = "headwater_storage_unuploaded_bytes";
/// And bytes that merging has written.
const MERGED: &str = "headwater_storage_compaction_written_bytes_total";
/// How long after a window memory counts as at rest: what was freed has gone back by then.
const REST: Duration = Duration::from_secs(20);

/// What to run and how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names of benchmarks; empty runs all.
    pub only: Vec<String>,
    /// MiB produced in a throughput window.
    pub window_mib: u64,
    /// Seconds of each open loop.
    pub seconds: u64,
    /// Commits to `__consumer_offsets`.
    pub commits: u64,
}

/// A name and what it runs.
type Benchmark = (&'static str, fn(&Settings) -> Result<Value>);

const ALL: &[Benchmark] = &[
    ("start", start),
    ("produce-disk-16k", |s| throughput(s, "disk", "16384")),
    ("produce-disk-256k", |s| throughput(s, "disk", "262144")),
    ("produce-memory-16k", |s| throughput(s, "memory", "16384")),
    ("produce-memory-256k", |s| throughput(s, "memory", "262144")),
    ("consume", consume),
    ("latency-disk", latency_disk),
    ("latency-object-10", |s| latency_object(s, 10, 1)),
    ("latency-object-2000", |s| latency_object(s, 2000, 1)),
    ("latency-object-20mib", |s| latency_object(s, 20 * 1024, 1)),
    ("partitions-1000", |_| partitions(1_000)),
    ("partitions-10000", |_| partitions(10_000)),
    ("recovery", recovery),
    ("offsets", |s| offsets::run(s.commits)),
];

/// Runs the benchmarks that `settings` names.
///
/// # Errors
/// The first that fails; figures of those before it are kept.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for name in &settings.only {
        ensure!(
            ALL.iter().any(|(n, _)| n == name),
            "no benchmark {name:?}; there are: {}",
            names()
        );
    }
    for (name, benchmark) in ALL {
        if settings.only.is_empty() || settings.only.iter().any(|n| n == name) {
            let dirty = quiet_disk()?;
            let mut figures = benchmark(settings).with_context(|| (*name).to_owned())?;
            figures["dirty_bytes_before"] = json!(dirty);
            report.add(name, figures)?;
        }
    }
    Ok(())
}

/// Names of all benchmarks, for help.
pub fn names() -> String {
    ALL.iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn broker(dir: &tempfile::TempDir, more: &[&str]) -> Result<BrokerProcess> {
    let more: Vec<String> = more.iter().map(|s| (*s).to_owned()).collect();
    BrokerProcess::start(
        &dir.path().join("data"),
        "127.0.0.1:0",
        "127.0.0.1:0",
        &more,
    )
}

/// Makes a topic and waits until it can be written.
pub(super) fn create_topic(kafka: SocketAddr, name: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka.to_string())
        .create()?;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new()
        .request_timeout(Some(Duration::from_secs(120)))
        .operation_timeout(Some(Duration::from_secs(120)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for result in runtime.block_on(admin.create_topics([&topic], &options))? {
        result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    Ok(())
}

/// Waits until no more is un-uploaded than at the window's start.
fn wait_uploaded(broker: &BrokerProcess, at_most: f64) -> Result<()> {
    let begun = Instant::now();
    while broker.metric(UNUPLOADED)? > at_most {
        ensure!(
            begun.elapsed() < Duration::from_secs(300),
            "uploads do not catch up"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn start(_: &Settings) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let mut new_ms = Vec::new();
    let mut first_ack_ms = Vec::new();
    let mut again_ms = Vec::new();
    let mut idle_mib = 0.0;
    for round in 0..5 {
        let data = dir.path().join(format!("data-{round}"));
        for again in [false, true] {
            let broker = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &[])?;
            let ready = broker.started_in.as_secs_f64() * 1e3;
            if again { &mut again_ms } else { &mut new_ms }.push(ready);
            idle_mib = broker.resident_bytes()?.0 as f64 / MIB;
            let begun = Instant::now();
            if !again {
                create_topic(broker.kafka, "first", 1)?;
                produce(
                    broker.kafka,
                    "first",
                    1,
                    1,
                    RECORD_BYTES,
                    &[("linger.ms", "0")],
                )?;
                first_ack_ms.push(ready + begun.elapsed().as_secs_f64() * 1e3);
            }
            broker.stop(Duration::from_secs(60))?;
        }
    }
    Ok(json!({
        "listening_ms_median_new": median(&mut new_ms),
        "listening_ms_median_after_clean_stop": median(&mut again_ms),
        "first_acknowledged_ms_median": median(&mut first_ack_ms),
        "resident_idle_mib": idle_mib,
        "binary": binary()?.display().to_string(),
    }))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn throughput(settings: &Settings, wal: &str, batch: &str) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let broker = broker(&dir, &["--wal", wal])?;
    create_topic(broker.kafka, "load", PARTITIONS)?;
    let client = [
        ("batch.size", batch),
        ("linger.ms", "5"),
        ("batch.num.messages", "1000000"),
    ];
    let warm_up = 64 * 1024;
    produce(
        broker.kafka,
        "load",
        PARTITIONS,
        warm_up,
        RECORD_BYTES,
        &client,
    )?;
    let before = broker.metric(UNUPLOADED)?;
    let merged_before = broker.metric(MERGED)?;
    let (cpu, begun) = (broker.cpu_user_and_system()?, Instant::now());
    let records = settings.window_mib * 1024;
    let done = produce(
        broker.kafka,
        "load",
        PARTITIONS,
        records,
        RECORD_BYTES,
        &client,
    )?;
    wait_uploaded(&broker, before)?;
    let after = broker.cpu_user_and_system()?;
    let (user, system) = (after.0 - cpu.0, after.1 - cpu.1);
    let mib = settings.window_mib as f64;
    let mut figures = json!({
        "wal": wal,
        "batch_bytes": batch,
        "produce_mib_per_s": mib / done.elapsed.as_secs_f64(),
        "window_mib_per_s": mib / begun.elapsed().as_secs_f64(),
        "cpu_s_per_gib": (user + system) / (mib / 1024.0),
        // The kernel's part varies with the machine: first touch of its memory, write-back.
        "cpu_s_per_gib_user": user / (mib / 1024.0),
        "merged_in_window_mib": (broker.metric(MERGED)? - merged_before) / MIB,
        "resident_mib": broker.resident_bytes()?.0 as f64 / MIB,
        "resident_peak_mib": broker.resident_bytes()?.1 as f64 / MIB,
    });
    std::thread::sleep(REST);
    figures["resident_at_rest_mib"] = json!(broker.resident_bytes()?.0 as f64 / MIB);
    broker.stop(Duration::from_secs(120))?;
    Ok(figures)
}

fn consume(settings: &Settings) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    // Small enough to be all in the cache when it was just written.
    let mib = settings.window_mib.min(48);
    let client = [
        ("batch.size", "262144"),
        ("linger.ms", "5"),
        ("batch.num.messages", "1000000"),
    ];
    let server = broker(&dir, &[])?;
    create_topic(server.kafka, "hot", PARTITIONS)?;
    produce(
        server.kafka,
        "hot",
        PARTITIONS,
        mib * 1024,
        RECORD_BYTES,
        &client,
    )?;
    let (mut cached_bytes, mut cached_time, cpu) = (0, 0.0, server.cpu_seconds()?);
    for _ in 0..20 {
        let read = consume_all(server.kafka, "hot", PARTITIONS, mib * 1024)?;
        cached_bytes += read.bytes;
        cached_time += read.elapsed.as_secs_f64();
    }
    let cached_cpu = server.cpu_seconds()? - cpu;
    create_topic(server.kafka, "cold", PARTITIONS)?;
    let records = settings.window_mib * 1024;
    produce(
        server.kafka,
        "cold",
        PARTITIONS,
        records,
        RECORD_BYTES,
        &client,
    )?;
    server.stop(Duration::from_secs(120))?;
    evict(dir.path())?;
    let server = broker(&dir, &[])?;
    let cpu = server.cpu_seconds()?;
    let cold = consume_all(server.kafka, "cold", PARTITIONS, records)?;
    let cold_cpu = server.cpu_seconds()? - cpu;
    let fetched = server.metric("headwater_storage_read_bytes_total")?;
    let merged = server.metric(MERGED)?;
    server.stop(Duration::from_secs(120))?;
    let gib = |bytes: u64| bytes as f64 / MIB / 1024.0;
    Ok(json!({
        "cached_mib_per_s": cached_bytes as f64 / MIB / cached_time,
        "cached_cpu_s_per_gib": cached_cpu / gib(cached_bytes),
        "cold_mib_per_s": cold.bytes as f64 / MIB / cold.elapsed.as_secs_f64(),
        "cold_cpu_s_per_gib": cold_cpu / gib(cold.bytes),
        "cold_bytes_read_per_byte": fetched / cold.bytes as f64,
        "cold_merged_meanwhile_mib": merged / MIB,
    }))
}

/// Drops the pages of every file below `dir` from the page cache.
fn evict(dir: &std::path::Path) -> Result<()> {
    let _ = Command::new("sync").status()?;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                // `dd` with nocache asks for POSIX_FADV_DONTNEED over the whole file.
                let of = format!("if={}", entry.path().display());
                let status = Command::new("dd")
                    .args([&of, "iflag=nocache", "count=0", "status=none"])
                    .status()?;
                ensure!(status.success(), "cannot evict {}", entry.path().display());
            }
        }
    }
    Ok(())
}

fn quantiles(latency: &super::Latency) -> Value {
    let at = |q: f64| latency.micros.value_at_quantile(q) as f64 / 1e3;
    json!({
        "records": latency.records,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": latency.micros.max() as f64 / 1e3,
    })
}

fn latency_disk(settings: &Settings) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let broker = broker(&dir, &[])?;
    create_topic(broker.kafka, "ticks", 1)?;
    let length = Duration::from_secs(settings.seconds);
    let client = [("linger.ms", "0")];
    let latency = open_loop(broker.kafka, "ticks", 2000, RECORD_BYTES, length, &client)?;
    let mut figures = quantiles(&latency);
    figures["per_second"] = json!(2000);
    broker.stop(Duration::from_secs(60))?;
    Ok(figures)
}

/// A store over HTTP whose every request takes a lognormal time: median 30 ms, p99 150 ms.
struct SlowStore {
    child: Child,
    url: String,
}

impl SlowStore {
    fn start() -> Result<Self> {
        let mut program = std::env::current_exe()?;
        program.set_file_name("s3-server");
        let mut child = Command::new(&program)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--latency-ms",
                "30",
                "--latency-p99-ms",
                "150",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let at = line
            .find("s3://")
            .with_context(|| format!("no URL in {line:?}"))?;
        let url = line[at..]
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for SlowStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn latency_object(settings: &Settings, per_second: u64, partitions: i32) -> Result<Value> {
    let store = SlowStore::start()?;
    let dir = tempfile::tempdir()?;
    let broker = broker(&dir, &["--wal", "object", "--object-store", &store.url])?;
    create_topic(broker.kafka, "ticks", partitions)?;
    let puts = "headwater_wal_group_bytes_count";
    let length = Duration::from_secs(settings.seconds.max(20));
    let before = broker.metric(puts)?;
    let begun = Instant::now();
    let client = [("linger.ms", "5")];
    let latency = open_loop(
        broker.kafka,
        "ticks",
        per_second,
        RECORD_BYTES,
        length,
        &client,
    )?;
    let groups = broker.metric(puts)? - before;
    let mut figures = quantiles(&latency);
    figures["per_second"] = json!(per_second);
    figures["wal_puts_per_hour"] = json!(groups / begun.elapsed().as_secs_f64() * 3600.0);
    broker.stop(Duration::from_secs(120))?;
    Ok(figures)
}

fn partitions(count: i32) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let broker = broker(&dir, &[])?;
    create_topic(broker.kafka, "one", 1)?;
    let before = broker.resident_bytes()?.0;
    let begun = Instant::now();
    create_topic(broker.kafka, "many", count)?;
    let created = begun.elapsed();
    let after = broker.resident_bytes()?.0;
    let figures = json!({
        "partitions": count,
        "seconds_to_create": created.as_secs_f64(),
        "resident_bytes_per_partition": (after.saturating_sub(before)) as f64 / f64::from(count),
    });
    broker.stop(Duration::from_secs(120))?;
    Ok(figures)
}

fn recovery(_: &Settings) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let client = [
        ("batch.size", "262144"),
        ("linger.ms", "5"),
        ("batch.num.messages", "1000000"),
    ];
    // Held back from uploading by its own thresholds: 64 MiB stay in the WAL.
    let hold = [
        "--set",
        "upload.bytes=268435456",
        "--set",
        "upload.age.ms=600000",
    ];
    let server = broker(&dir, &hold)?;
    create_topic(server.kafka, "tail", PARTITIONS)?;
    produce(
        server.kafka,
        "tail",
        PARTITIONS,
        64 * 1024,
        RECORD_BYTES,
        &client,
    )?;
    let unuploaded = server.metric(UNUPLOADED)?;
    let data: PathBuf = dir.path().join("data");
    server.kill_9()?;
    let begun = Instant::now();
    let server = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &[])?;
    produce(
        server.kafka,
        "tail",
        PARTITIONS,
        8,
        RECORD_BYTES,
        &[("linger.ms", "0")],
    )?;
    let seconds = begun.elapsed().as_secs_f64();
    let read = consume_all(server.kafka, "tail", PARTITIONS, 64 * 1024 + 8)?;
    server.stop(Duration::from_secs(120))?;
    Ok(json!({
        "unuploaded_mib_at_kill": unuploaded / MIB,
        "seconds_to_first_acknowledged": seconds,
        "records_read_back": read.records,
    }))
}
