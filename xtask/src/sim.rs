//! Runs the simulation, and the check that the same seed gives the same bytes.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::stage;

// The target is chosen from the whole workspace, so that nothing is built again with other features
// than those of `cargo test --workspace`.

/// The test that runs seeds.
const SEEDS_TEST: &str = "no_seed_loses_a_record";
/// The test that kills processes in the middle of acts.
const ACTS_TEST: &str = "a_crash_at_any_step_of_an_act_loses_nothing";
/// The test that writes a trace of one seed.
const TRACE_TEST: &str = "determinism_trace";

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Begins no seed after so many minutes: for hunts through the night.
    #[arg(long, conflicts_with_all = ["replay", "crash_points"])]
    minutes: Option<u64>,
    /// Which worlds: one machine, a cluster, an upgrade, or each seed in what `all` means.
    #[arg(long, value_enum, default_value_t = World::All)]
    world: World,
    /// Only seeds in which this kind of trouble comes, as reports name it.
    #[arg(long, value_name = "TROUBLE", conflicts_with = "replay")]
    having: Option<String>,
    /// Runs this one seed of one world again instead, and tells its story.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    replay: Option<u64>,
    /// Runs it optimised, for long hunts: assertions and overflow checks stay on.
    #[arg(long)]
    release: bool,
    /// Troubles to leave out of a replay: kinds, and #N for single events, between commas.
    #[arg(long, requires = "replay")]
    without: Option<String>,
    /// Kills processes in the middle of acts (takeover, move, drain, upload, …) instead, at every
    /// step of each, or at so many, and at twenty pairs of steps.
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "1000000",
          conflicts_with = "replay")]
    crash_points: Option<u64>,
    /// Which acts, between commas; all when it is not given.
    #[arg(long, requires = "crash_points")]
    acts: Option<String>,
    /// How many pairs of steps of each act.
    #[arg(long, requires = "crash_points", default_value_t = 20)]
    pairs: u64,
}

/// The worlds that there are.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum World {
    /// One machine, controller and broker.
    Single,
    /// Three controllers and several brokers.
    Cluster,
    /// A cluster that is begun with an older build, which is replaced on a bad day.
    Upgrade,
    /// One machine and a cluster, and every fourth seed an upgrade.
    All,
}

impl World {
    fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cluster => "cluster",
            Self::Upgrade => "upgrade",
            Self::All => "all",
        }
    }
}

/// Which seed to compare.
#[derive(clap::Args)]
pub(crate) struct DeterminismArgs {
    /// The seed that both processes run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of which world.
    #[arg(long, value_enum, default_value_t = World::Cluster)]
    world: World,
}

/// Runs the simulation's test target: all of it, or one seed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    require_target()?;
    let mut program = stage::cargo(&["test", "--locked", "--workspace", "--test", "sim"]);
    program.env("HEADWATER_SIM_WORLD", args.world.name());
    program.env(
        "HEADWATER_SIM_HAVING",
        args.having.as_deref().unwrap_or_default(),
    );
    if let Some(minutes) = args.minutes {
        program.env("HEADWATER_SIM_MINUTES", minutes.to_string());
    }
    if args.release {
        program.args(&stage::OPTIMISED);
    }
    program.args(&["--", "--nocapture"]);
    if let Some(points) = args.crash_points {
        program.args(&[ACTS_TEST, "--exact"]);
        program.env("HEADWATER_SIM_FROM", args.from.to_string());
        program.env("HEADWATER_SIM_ACT_POINTS", points.to_string());
        program.env("HEADWATER_SIM_ACT_PAIRS", args.pairs.to_string());
        program.env(
            "HEADWATER_SIM_ACTS",
            args.acts.as_deref().unwrap_or_default(),
        );
        return program.run();
    }
    let Some(seed) = args.replay else {
        program.env("HEADWATER_SIM_SEEDS", args.seeds.to_string());
        program.env("HEADWATER_SIM_FROM", args.from.to_string());
        return program.run();
    };
    if args.world == World::All {
        bail!("say which world: --world single or --world cluster");
    }
    let trace = stage::target().join(format!("sim-{}-{seed}.trace", args.world.name()));
    let without = args.without.as_deref().unwrap_or_default();
    program.args(&[SEEDS_TEST, "--exact"]);
    program.env("HEADWATER_SIM_REPLAY", seed.to_string());
    program.env("HEADWATER_SIM_WITHOUT", without);
    program.env("HEADWATER_SIM_STORY", "1");
    program.env("HEADWATER_SIM_TRACE", &trace);
    let result = program.run();
    println!("the whole trace: {}", trace.display());
    result
}

/// Compares the traces of one seed from two processes.
pub(crate) fn determinism(args: &DeterminismArgs) -> anyhow::Result<()> {
    require_target()?;
    let folder = stage::target().join("determinism");
    std::fs::create_dir_all(&folder)?;
    if args.world == World::All {
        bail!("say which world: --world single or --world cluster");
    }
    let first = trace(args, &folder.join("first.trace"))?;
    let second = trace(args, &folder.join("second.trace"))?;
    match difference(&first, &second) {
        None => {
            println!(
                "seed {}: two processes, the same {} bytes",
                args.seed,
                first.len()
            );
            Ok(())
        }
        Some(line) => bail!(
            "seed {}: the traces differ from line {line} on; both are kept in {}",
            args.seed,
            folder.display()
        ),
    }
}

/// One run of the seed in a process of its own; returns the trace it wrote.
fn trace(args: &DeterminismArgs, file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    stage::cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--test",
        "sim",
        TRACE_TEST,
        "--",
    ])
    .args(&["--exact"])
    .env("HEADWATER_SIM_TRACE", file)
    .env("HEADWATER_SIM_WORLD", args.world.name())
    .env("HEADWATER_SIM_REPLAY", args.seed.to_string())
    .run()?;
    let bytes = std::fs::read(file)
        .with_context(|| format!("the test `{TRACE_TEST}` of target `sim` wrote no trace"))?;
    if bytes.is_empty() {
        bail!(
            "the trace of seed {} is empty, so there is nothing to compare",
            args.seed
        );
    }
    Ok(bytes)
}

/// The first line, from 1, at which two traces differ.
fn difference(first: &[u8], second: &[u8]) -> Option<usize> {
    if first == second {
        return None;
    }
    let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    Some(first[..same].iter().filter(|byte| **byte == b'\n').count() + 1)
}

/// An error in words if the simulation's test target is not there.
fn require_target() -> anyhow::Result<()> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(stage::root().join("Cargo.toml"))
        .no_deps()
        .exec()?;
    let has_target = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == "tests")
        .flat_map(|package| &package.targets)
        .any(|target| target.name == "sim");
    if !has_target {
        bail!("the crate `tests` has no test target `sim`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(difference(b"a\nb\n", b"a\nb\n"), None);
    }

    #[test]
    fn the_first_differing_line_is_named() {
        assert_eq!(difference(b"a\nb\nc\n", b"a\nx\nc\n"), Some(2));
        assert_eq!(difference(b"a\nb\n", b"a\nb\nc\n"), Some(3));
    }
}
