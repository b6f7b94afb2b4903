//! `chaos`: a cluster of real processes on bad days. Run it by `cargo xtask chaos`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use tests::chaos::{Settings, Trouble, enter_network, install_java, run};
use tests::faults::Latency;

#[derive(Parser)]
#[command(
    about = "Kills, pauses, cuts off and starves a cluster of real processes under load by librdkafka \
             and the Java client, and checks every acknowledged record by value and offset. Loopback \
             only, or where the machine allows it in network namespaces of its own."
)]
struct Arguments {
    /// No further trouble begins after this many seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What everything random is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these troubles (repeatable); all but `upgrade` without it.
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
    /// Milliseconds for which librdkafka and the Java client wait for an answer. A broker that
    /// stands still is not given up earlier.
    #[arg(long, default_value_t = 10_000)]
    client_timeout_ms: u64,
    /// Seconds for which a broker is paused: SHORTEST-LONGEST.
    #[arg(long, default_value = "10-20", value_parser = pause)]
    pause: (Duration, Duration),
    /// Latency of the store in milliseconds, MEDIAN/P99, lognormal; as a regional bucket's when no
    /// value is given.
    #[arg(long, value_name = "MEDIAN/P99", num_args = 0..=1, default_missing_value = "30/150",
          require_equals = true)]
    store_latency: Option<Latency>,
    /// No Java client.
    #[arg(long)]
    no_java: bool,
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
    let troubles = match arguments.only.is_empty() {
        true => Trouble::value_variants()
            .iter()
            .copied()
            .filter(|trouble| *trouble != Trouble::Upgrade)
            .collect(),
        false => arguments.only,
    };
    // Before the network is left behind.
    let java = !arguments.no_java && install_java().inspect_err(no_java).is_ok();
    if troubles.iter().any(|trouble| trouble.needs_net()) {
        match enter_network() {
            Ok(Some(well)) => {
                ensure!(well, "chaos has found something: see above");
                return Ok(());
            }
            Ok(None) => {}
            Err(error) => println!("SKIPPED all cuts: no network of our own: {error:#}"),
        }
    }
    run(Settings {
        seed: arguments.seed,
        length: Duration::from_secs(arguments.seconds),
        troubles,
        combined: arguments.combined,
        brokers: arguments.brokers,
        partitions: arguments.partitions,
        wal: arguments.wal,
        record_bytes: arguments.record_bytes,
        java,
        client_timeout: Duration::from_millis(arguments.client_timeout_ms),
        pause: arguments.pause,
        latency: arguments.store_latency,
        settings,
        keep: arguments.keep,
        out: arguments.out,
    })
}

fn pause(text: &str) -> Result<(Duration, Duration)> {
    let (shortest, longest) = text
        .split_once('-')
        .context("SHORTEST-LONGEST, in seconds")?;
    let (shortest, longest): (u64, u64) = (shortest.parse()?, longest.parse()?);
    ensure!(shortest <= longest, "the longest pause is the shortest");
    Ok((Duration::from_secs(shortest), Duration::from_secs(longest)))
}

fn no_java(error: &anyhow::Error) {
    println!("SKIPPED the Java client: {error:#}");
}
