//! Our S3 test server as a process, for benchmarks and clients: `s3-server --listen 127.0.0.1:9000
//! --latency-ms 30 --latency-p99-ms 150`. Prints the store URL, then serves until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tests::faults::{Conditions, FaultSettings, Latency};
use tests::s3::{S3Server, S3Settings};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Arguments {
    /// Where to listen; loopback only. Port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Key prefix in the printed URL.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Median time of a request; 0 for none.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// 99th percentile; five times the median when not given.
    #[arg(long)]
    latency_p99_ms: Option<u64>,
    /// What faults and latency are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of requests answered with 503.
    #[arg(long, default_value_t = 0.0)]
    unavailable: f64,
    /// Share of puts and deletions whose answer is lost.
    #[arg(long, default_value_t = 0.0)]
    lost_answers: f64,
    /// Share of puts that are refused and land later.
    #[arg(long, default_value_t = 0.0)]
    late_puts: f64,
    /// How much later.
    #[arg(long, default_value_t = 60_000)]
    late_by_ms: u64,
    /// Share of bodies cut short.
    #[arg(long, default_value_t = 0.0)]
    truncated: f64,
    /// Share of bodies with a flipped bit.
    #[arg(long, default_value_t = 0.0)]
    flipped: f64,
    /// What conditional creates are worth.
    #[arg(long, value_enum, default_value = "honoured")]
    conditions: ConditionsArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConditionsArgument {
    Honoured,
    Ignored,
    Racy,
}

impl Arguments {
    fn faults(&self) -> FaultSettings {
        let p99 = self.latency_p99_ms.unwrap_or(self.latency_ms * 5);
        let latency = (self.latency_ms > 0).then(|| Latency {
            median: Duration::from_millis(self.latency_ms),
            p99: Duration::from_millis(p99),
        });
        FaultSettings {
            latency,
            unavailable: self.unavailable,
            lost_answers: self.lost_answers,
            late_puts: self.late_puts,
            late_by: Duration::from_millis(self.late_by_ms),
            truncated: self.truncated,
            flipped: self.flipped,
            conditions: match self.conditions {
                ConditionsArgument::Honoured => Conditions::Honoured,
                ConditionsArgument::Ignored => Conditions::Ignored,
                ConditionsArgument::Racy => Conditions::Racy,
            },
            ..FaultSettings::default()
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = S3Settings {
        listen: arguments.listen,
        seed: arguments.seed,
        faults: arguments.faults(),
        ..S3Settings::default()
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = S3Server::start(settings).await?;
    // The one line that programs read.
    println!("{}", server.url(&arguments.prefix));
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let (puts, gets, others) = server.requests();
    eprintln!("{puts} puts, {gets} gets, {others} other requests");
    server.shutdown().await;
    Ok(())
}
