//! Recipes of the house: everything a person or CI runs is one of these.
//!
//! ```text
//! main ─▶ verify  ─▶ fmt · clippy · doc · cargo-deny · tidy · deploy
//!      ─▶ tidy        crate directions, lengths, doors to the outside world
//!      ─▶ deploy      chart, compose file, alerts, runbooks
//!      ─▶ sim, determinism   the simulation, and that one seed gives one trace
//!      ─▶ planted     one bug after the other, and what catches it
//!      ─▶ compat      real clients against a real broker
//!      ─▶ fuzz        frames and batches
//!      ─▶ bench       the load generator
//!      ─▶ chaos       a cluster of real processes on bad days
//! ```

mod chaos;
mod compat;
mod deploy;
mod planted;
mod sim;
mod stage;
mod tidy;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Recipes of the house. Each exits with 0 only if all that it checks holds.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks formatting, lints, docs, dependencies, tidy and deploy. Changes no file of the
    /// checkout.
    ///
    /// cargo-deny and helm are installed, pinned, into $HEADWATER_TOOLS (default: a folder under
    /// the temporary directory) if they are not there; helm needs Go. The advisories check needs a
    /// database from the network and is left out.
    Verify,
    /// Checks crate directions, lengths, and who touches the outside world.
    Tidy(tidy::Args),
    /// Checks the Helm chart and its golden renderings, the compose file, alerts and runbooks.
    Deploy(deploy::Args),
    /// Runs the simulation: a bounded number of seeds, or one seed again.
    Sim(sim::Args),
    /// Plants bugs at real sites, one at a time, and shows what catches each.
    Planted(planted::Args),
    /// Runs one seed in two processes and compares their traces byte for byte.
    Determinism(sim::DeterminismArgs),
    /// Installs real Kafka clients and runs them against a fresh broker.
    Compat(compat::Args),
    /// Fuzzes frames and record batches for a bounded time, from a corpus of real frames.
    Fuzz {
        /// Seconds for each fuzz target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Builds the broker and the load generator, and runs the latter with the given arguments.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the load generator; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kills, pauses, cuts off and starves a cluster of real processes under load, and checks every
    /// acknowledged record.
    ///
    /// `--only upgrade` builds the release before this one first, from its commit, once. That takes
    /// minutes: CI opens tests/golden instead.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Arguments of the chaos program; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Verify => verify::run(),
        Command::Tidy(args) => tidy::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Planted(args) => planted::run(&args),
        Command::Determinism(args) => sim::determinism(&args),
        Command::Compat(args) => compat::run(&args),
        Command::Fuzz { seconds } => stage::program("protocol/fuzz/run.sh")
            .args(&[seconds.to_string()])
            .run(),
        Command::Bench { arguments } => on_release("bench", &arguments),
        Command::Chaos { arguments } => chaos::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program of the crate `tests` that starts the broker; both as they are released.
fn on_release(program: &str, arguments: &[String]) -> anyhow::Result<()> {
    on_release_with(program, arguments, &[])
}

/// The same, with an environment on top of ours.
fn on_release_with(
    program: &str,
    arguments: &[String],
    environment: &[(&str, PathBuf)],
) -> anyhow::Result<()> {
    stage::cargo(&["build", "--release", "--locked", "-p", "broker"]).run()?;
    let mut command = stage::cargo(&[
        "run",
        "--release",
        "--locked",
        "-p",
        "tests",
        "--bin",
        program,
        "--",
    ]);
    command.args(arguments);
    for (name, value) in environment {
        command.env(name, value);
    }
    command.run()
}
