//! Runs the simulation, and the check that the same seed gives the same bytes.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::stage;

// The target is chosen from the whole workspace, so that nothing is built again with other features
// than those of `cargo test --workspace`.

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
    /// Runs this one seed again instead, with its trace.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    replay: Option<u64>,
}

/// Which seed to compare.
#[derive(clap::Args)]
pub(crate) struct DeterminismArgs {
    /// The seed that both processes run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the simulation's test target.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    require_target()?;
    let mut program = stage::cargo(&["test", "--locked", "--workspace", "--test", "sim"]);
    match args.replay {
        Some(seed) => {
            program.env("HEADWATER_SIM_REPLAY", seed.to_string());
        }
        None => {
            program.env("HEADWATER_SIM_SEEDS", args.seeds.to_string());
            program.env("HEADWATER_SIM_FROM", args.from.to_string());
        }
    }
    program.args(&["--", "--nocapture"]).run()
}

/// Compares the traces of one seed from two processes.
pub(crate) fn determinism(args: &DeterminismArgs) -> anyhow::Result<()> {
    require_target()?;
    let folder = stage::target().join("determinism");
    std::fs::create_dir_all(&folder)?;
    let first = trace(args.seed, &folder.join("first.trace"))?;
    let second = trace(args.seed, &folder.join("second.trace"))?;
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
fn trace(seed: u64, file: &Path) -> anyhow::Result<Vec<u8>> {
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
    .env("HEADWATER_SIM_REPLAY", seed.to_string())
    .run()?;
    let bytes = std::fs::read(file)
        .with_context(|| format!("the test `{TRACE_TEST}` of target `sim` wrote no trace"))?;
    if bytes.is_empty() {
        bail!("the trace of seed {seed} is empty, so there is nothing to compare");
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
