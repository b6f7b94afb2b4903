//! `bench core`: the figures of one broker; `bench recovery`: what a broker's death costs; `bench
//! move`: what moves cost; `bench controller`: what the controllers do and weigh. Run by `cargo
//! xtask bench core|recovery|move|controller`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::bench::{ControllerBench, Report, controllers, core};
use tests::chaos::{moves, recovery};
use tests::faults::Latency;

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
    /// What one broker's death costs, by the tail it leaves and the partitions of a topic: seconds
    /// until writes go on, and requests to the store. Takes long, and much memory with large tails.
    Recovery {
        /// MiB of tail.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
        mib: Vec<u64>,
        /// Partitions of the topic.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
        partitions: Vec<i32>,
        /// Append each figure as a JSON line to this file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// What a planned move of many partitions costs: seconds, write gaps, and bytes to and from the
    /// store. Holds up to three times what the partitions hold on disk.
    Move {
        /// Partitions that move.
        #[arg(long, default_value_t = 100)]
        partitions: i32,
        /// MiB in each of them.
        #[arg(long, default_value_t = 100)]
        mib: u64,
        /// Latency of the store in milliseconds, MEDIAN/P99, lognormal; as a regional bucket's when
        /// no value is given.
        #[arg(long, value_name = "MEDIAN/P99", num_args = 0..=1, default_missing_value = "30/150",
              require_equals = true)]
        store_latency: Option<Latency>,
        /// Where a directory of its own is made for objects and logs.
        #[arg(long, default_value = "/tmp")]
        dir: PathBuf,
        /// Append each figure as a JSON line to this file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Three controllers in one process: commands and commits of objects a second, with real fsync,
    /// and bytes of memory a partition and an object.
    Controller {
        /// Where their directories are made: on the disk that is to be measured.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// Seconds of each rate.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Partitions that are weighed.
        #[arg(long, default_value_t = 100_000)]
        partitions: u32,
        /// Objects that are weighed, of one slice each.
        #[arg(long, default_value_t = 100_000)]
        objects: u64,
        /// Slices of an object, for the second rate of commits.
        #[arg(long, default_value_t = 100)]
        slices: u32,
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
        Command::Recovery {
            mib,
            partitions,
            out,
        } => {
            let mut report = Report::new(out.as_deref())?;
            let settings = recovery::RecoverySettings { mib, partitions };
            recovery::run(&settings, &mut report)
        }
        Command::Move {
            partitions,
            mib,
            store_latency,
            dir,
            out,
        } => {
            let mut report = Report::new(out.as_deref())?;
            let settings = moves::MoveSettings {
                partitions,
                mib,
                latency: store_latency,
                dir,
            };
            moves::run(&settings, &mut report)
        }
        Command::Controller {
            dir,
            seconds,
            partitions,
            objects,
            slices,
            out,
        } => {
            let mut report = Report::new(out.as_deref())?;
            let settings = ControllerBench {
                dir,
                seconds,
                partitions,
                objects,
                slices,
            };
            controllers(&settings, &mut report)
        }
        Command::List => {
            println!("{}", core::names());
            Ok(())
        }
    }
}
