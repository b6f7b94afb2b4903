//! `chaos`: a cluster of real processes on bad days. Run it by `cargo xtask chaos`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use tests::chaos::{Settings, Trouble, run};
use tests::faults::Latency;

#[derive(Parser)]
#[command(
    about = "Kills, pauses and starves a cluster of real processes under load by librdkafka, and \
             checks every acknowledged record by value and offset. Loopback only."
)]
struct Arguments {
    /// No further trouble begins after this many seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What everything random is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these troubles (repeatable); all without it.
    #[arg(long, value_enum)]
    only: Vec<Trouble>,
    /// Nodes that are controllers and brokers.
    #[arg(long, default_value_t = 3)]
    combined: i32,
    /// Nodes that are brokers only.
    #[arg(long, default_value_t = 2)]
    brokers: i32,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 24)]
    partitions: i32,
    /// Where records become durable: object or disk.
    #[arg(long, default_value = "object")]
    wal: String,
    /// Bytes of a record.
    #[arg(long, default_value_t = 100)]
    record_bytes: usize,
    /// Median latency of the store in milliseconds; 0 for none.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Any setting of every node, as KEY=VALUE (repeatable).
    #[arg(long = "set")]
    set: Vec<String>,
    /// Keep data and logs in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Append each case as a line of JSON to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.combined >= 1,
        "at least one node must be a controller"
    );
    let mut settings = Vec::new();
    for setting in &arguments.set {
        let pair = setting.split_once('=');
        ensure!(pair.is_some(), "--set {setting} is not KEY=VALUE");
        settings.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let latency = (arguments.latency_ms > 0).then(|| Latency {
        median: Duration::from_millis(arguments.latency_ms),
        p99: Duration::from_millis(arguments.latency_ms * 5),
    });
    let troubles = match arguments.only.is_empty() {
        true => Trouble::value_variants().to_vec(),
        false => arguments.only,
    };
    run(Settings {
        seed: arguments.seed,
        length: Duration::from_secs(arguments.seconds),
        troubles,
        combined: arguments.combined,
        brokers: arguments.brokers,
        partitions: arguments.partitions,
        wal: arguments.wal,
        record_bytes: arguments.record_bytes,
        latency,
        settings,
        keep: arguments.keep,
        out: arguments.out,
    })
}
