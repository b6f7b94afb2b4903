//! `headwater serve`: a broker and its controller, until told to stop.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settings::Settings;
use crate::config::Config;
use crate::node::{Node, NodeParts};

/// Arguments of `headwater serve`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// What is logged to standard error, as in RUST_LOG; HEADWATER_LOG says the same.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.settings.load()?;
    start_log(arguments.log.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("headwater")
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config));
    // Nothing is waited for that was not waited for above.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn start_log(filter: Option<&str>) -> anyhow::Result<()> {
    let environment = std::env::var("HEADWATER_LOG").ok();
    let filter = filter
        .or(environment.as_deref())
        .unwrap_or("info,openraft=error");
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("log filter {filter:?}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    say(&format!(
        "Data lies in {}; objects in {}",
        config.data_dir.display(),
        shown(&config)
    ));
    say(&format!("Write-ahead log on {}", config.wal.guarantee()));
    let node = Node::start(env::real::env(), config, NodeParts::default()).await?;
    tokio::select! {
        biased;
        () = signals.stop() => {
            node.stop().await?;
            return Ok(());
        }
        ready = node.ready() => ready?,
    }
    for (name, address) in node.kafka() {
        say(&format!("Kafka listens on {name}://{address}"));
    }
    if let Some(address) = node.controller() {
        say(&format!("Controllers are reached on {address}"));
    }
    say(&format!("Admin listens on http://{}", node.admin()));
    tokio::select! {
        biased;
        () = signals.stop() => {}
        ended = node.ended() => return Ok(ended?),
    }
    say("Stopping");
    node.stop().await?;
    say("Stopped");
    Ok(())
}

/// The store's URL without what could be a secret.
fn shown(config: &Config) -> String {
    match storage::store::StoreUrl::parse(&config.object_store_url) {
        Ok(url) => url.to_string(),
        Err(_) => "an object store".to_owned(),
    }
}

/// To standard output, where nobody may be listening any more.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
