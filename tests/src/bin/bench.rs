//! `bench core`: the figures of one broker. Run it by `cargo xtask bench core`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::bench::{Report, core};

#[derive(Parser)]
#[command(about = "Measures Headwater with librdkafka; the broker runs as a process of its own.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Figures of one broker: throughput, latency, start, memory, recovery.
    Core {
        /// Only these benchmarks (repeatable); all without it.
        #[arg(long)]
        only: Vec<String>,
        /// MiB of a throughput window.
        #[arg(long, default_value_t = 1024)]
        window_mib: u64,
        /// Seconds of an open loop.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Commits to `__consumer_offsets`.
        #[arg(long, default_value_t = 5_000_000)]
        commits: u64,
        /// Append each figure as a JSON line to this file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Names of the benchmarks.
    List,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Core {
            only,
            window_mib,
            seconds,
            commits,
            out,
        } => {
            let mut report = Report::new(out.as_deref())?;
            core::run(
                &core::Settings {
                    only,
                    window_mib,
                    seconds,
                    commits,
                },
                &mut report,
            )
        }
        Command::List => {
            println!("{}", core::names());
            Ok(())
        }
    }
}
