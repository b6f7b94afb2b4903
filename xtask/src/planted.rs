//! Plants one bug after the other, and shows what catches it and after how many seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail};

use crate::stage;

/// A bug that the product can be built with: its name where `env::planted!` asks for it, the rule
/// that it breaks, and the world that it shows in.
struct Bug {
    name: &'static str,
    rule: &'static str,
    world: &'static str,
}

const fn bug(name: &'static str, rule: &'static str, world: &'static str) -> Bug {
    Bug { name, rule, world }
}

static BUGS: &[Bug] = &[
    bug("opened-before-closed", "R1, R13", "cluster"),
    bug("put-overwrites", "R2", "cluster"),
    bug("ack-before-durable", "R3", "cluster"),
    bug("drop-fsync", "R3", "single"),
    bug("trim-before-commit", "R4", "cluster"),
    bug("producers-not-restored", "R5, I4", "cluster"),
    bug("window-of-four", "I4", "cluster"),
    bug("committed-taken-again", "R6", "cluster"),
    bug("fence-not-checked", "R6", "cluster"),
    bug("conflict-is-success", "R8", "cluster"),
    bug("no-seal", "R9", "cluster"),
    bug("recovery-by-listing", "R9", "cluster"),
    bug("stale-claim-accepted", "R9", "cluster"),
    bug("last-entry-dropped", "R12", "cluster"),
    bug("foreign-epochs-taken", "R12", "cluster"),
    bug("epoch-not-raised", "I8", "cluster"),
    bug("offsets-not-replayed", "I6", "cluster"),
    bug("generation-not-restored", "I6", "cluster"),
];

/// How long to look.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Most seeds for each bug.
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
}

/// What came of one bug.
struct Found {
    seeds: u64,
    what: Option<String>,
}

/// Fails when a bug is not caught.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = build()?;
    let wanted = |bug: &&Bug| args.only.as_deref().is_none_or(|only| only == bug.name);
    let bugs: Vec<&Bug> = BUGS.iter().filter(wanted).collect();
    if bugs.is_empty() {
        bail!("no bug is called {:?}", args.only);
    }
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(bugs.len()) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = hunt(&binary, bug, args.seeds);
                    let mut found = found.lock().expect("no panic under this lock");
                    found.insert(bug.name, one);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic under this lock");
    println!(
        "{:<24} {:<8} {:<8} {:>5}  caught by",
        "bug", "rule", "world", "seeds"
    );
    let mut missed = Vec::new();
    for bug in &bugs {
        let one = found.remove(bug.name).context("each was hunted")??;
        let what = one.what.as_deref().unwrap_or("NOTHING");
        let (name, rule, world, seeds) = (bug.name, bug.rule, bug.world, one.seeds);
        println!("{name:<24} {rule:<8} {world:<8} {seeds:>5}  {what}");
        if one.what.is_none() {
            missed.push(name);
        }
    }
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    Ok(())
}

/// The simulation with all bugs in it, each asleep.
fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = stage::cargo(&["test", "--locked", "--workspace", "--test", "sim"]);
    cargo.args(&[
        "--features",
        "tests/planted",
        "--no-run",
        "--message-format=json",
    ]);
    let output = cargo.command().stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the simulation does not build: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let artifacts = text
        .lines()
        .filter(|line| line.contains("\"name\":\"sim\""));
    let mut executable = artifacts.filter_map(|line| {
        let (_, rest) = line.rsplit_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    });
    executable.next_back().context("cargo named no executable")
}

/// Runs seeds with the bug planted, until one fails.
fn hunt(binary: &std::path::Path, bug: &Bug, seeds: u64) -> anyhow::Result<Found> {
    for seed in 1..=seeds {
        let mut program = stage::program(binary);
        program.args(&["no_seed_loses_a_record", "--exact", "--nocapture"]);
        program.env("HEADWATER_PLANTED", bug.name);
        program.env("HEADWATER_SIM_WORLD", bug.world);
        program.env("HEADWATER_SIM_REPLAY", seed.to_string());
        let output = program.command().output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            let problem = said.lines().find_map(|line| line.strip_prefix("PROBLEM "));
            let panicked = || {
                errors
                    .lines()
                    .skip_while(|line| !line.contains("panicked"))
                    .nth(1)
            };
            let what = problem.or_else(panicked).unwrap_or("its process ended");
            let what = what.chars().take(100).collect();
            let what = Some(what);
            return Ok(Found { seeds: seed, what });
        }
    }
    Ok(Found { seeds, what: None })
}
