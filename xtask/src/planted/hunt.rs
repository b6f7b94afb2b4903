//! Runs what should catch a bug, with the bug planted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cargo_metadata::Message;

use super::bugs::{Bug, Place};
use crate::stage;

/// Longest that one process may take: a bug may make it wait for ever.
const PATIENCE: Duration = Duration::from_secs(900);
/// Most letters of a problem that are shown.
const SHOWN: usize = 110;

/// What came of one bug.
pub(super) struct Found {
    /// Seeds until then, in worlds.
    pub(super) seeds: Option<u64>,
    pub(super) what: Option<String>,
}

/// Test programs with all bugs in them, each asleep: by crate, and `sim`.
pub(super) struct Binaries(BTreeMap<String, (PathBuf, PathBuf)>);

impl Binaries {
    /// Those that `bugs` need.
    pub(super) fn build(bugs: &[&Bug], optimised: bool) -> anyhow::Result<Self> {
        let mut cargo = stage::cargo(&["test", "--locked", "--workspace"]);
        cargo.args(&["--features", "tests/planted"]);
        cargo.args(&["--no-run", "--message-format=json"]);
        if optimised {
            cargo.args(&stage::OPTIMISED);
        }
        if bugs.iter().any(|bug| bug.place.is_quick()) {
            cargo.args(&["--lib"]);
        }
        if bugs.iter().any(|bug| !bug.place.is_quick()) {
            cargo.args(&["--test", "sim"]);
        }
        let output = cargo.command().stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the tests do not build: {}", output.status);
        }
        let mut found = BTreeMap::new();
        for message in Message::parse_stream(&output.stdout[..]) {
            let Message::CompilerArtifact(artifact) = message? else {
                continue;
            };
            let folder = artifact.manifest_path.parent().map(Into::into);
            if let (Some(program), Some(folder)) = (artifact.executable, folder) {
                found.insert(artifact.target.name, (program.into(), folder));
            }
        }
        Ok(Self(found))
    }

    /// A test program with `bug` planted, in the folder that its tests expect.
    fn program(&self, name: &str, bug: &Bug) -> anyhow::Result<Command> {
        let found = self.0.get(name);
        let (program, folder) = found.with_context(|| format!("cargo built no {name}"))?;
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("HEADWATER_PLANTED", bug.name);
        Ok(command)
    }
}

/// Looks until something fails.
pub(super) fn hunt(binaries: &Binaries, bug: &Bug, seeds: u64) -> anyhow::Result<Found> {
    let (world, aim) = match bug.place {
        Place::Tests { program, filter } => {
            let mut command = binaries.program(program, bug)?;
            command.args(filter.split_whitespace());
            let what = failure(command, bug)?;
            return Ok(Found { seeds: None, what });
        }
        Place::World { world, aim } => (world, aim),
    };
    for seed in 1..=seeds {
        let mut command = binaries.program("sim", bug)?;
        command.args(["no_seed_loses_a_record", "--exact", "--nocapture"]);
        command.env("HEADWATER_SIM_WORLD", world);
        command.env("HEADWATER_SIM_REPLAY", seed.to_string());
        if !aim.is_empty() {
            command.env("HEADWATER_SIM_AIM", aim);
        }
        if let Some(what) = failure(command, bug)? {
            let (seeds, what) = (Some(seed), Some(what));
            return Ok(Found { seeds, what });
        }
    }
    let (seeds, what) = (Some(seeds), None);
    Ok(Found { seeds, what })
}

/// How the process failed; `None` when it did not.
fn failure(mut command: Command, bug: &Bug) -> anyhow::Result<Option<String>> {
    let folder = stage::target().join("planted");
    std::fs::create_dir_all(&folder)?;
    let kind = if bug.place.is_quick() { "tests" } else { "sim" };
    let path = folder.join(format!("{}-{kind}", bug.name));
    let said = std::fs::File::create(&path)?;
    command.stdout(said.try_clone()?).stderr(said);
    let mut running = command.spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = running.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            running.kill()?;
            running.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.is_some_and(|status| status.success()) {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    let what = match status {
        None => "it does not come to an end".to_owned(),
        Some(status) => told(&said).unwrap_or_else(|| format!("its process ended: {status}")),
    };
    let what = what.replace(['|', '\n'], " ");
    Ok(Some(what.chars().take(SHOWN).collect()))
}

/// The first problem of a world, the first test that failed, or the first panic.
fn told(said: &str) -> Option<String> {
    let problem = said.lines().find_map(|line| line.strip_prefix("PROBLEM "));
    let failed = |line: &str| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(format!("`{name}`"))
    };
    let panicked = || {
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked"));
        lines.nth(1).map(|line| format!("assertion: {line}"))
    };
    let is_world = said.contains("test no_seed_loses_a_record");
    let test = said.lines().find_map(failed).filter(|_| !is_world);
    problem.map(str::to_owned).or(test).or_else(panicked)
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_caught_it_is_named() {
        let world = "PROBLEM I1: lost\ntest no_seed_loses_a_record ... FAILED\n";
        assert_eq!(told(world).as_deref(), Some("I1: lost"));
        let tests = "test a::b ... ok\ntest a::c ... FAILED\n";
        assert_eq!(told(tests).as_deref(), Some("`a::c`"));
        let panic = "thread 'x' panicked at y.rs:1:\nslices leave no hole\n\
                     test no_seed_loses_a_record ... FAILED\n";
        assert_eq!(
            told(panic).as_deref(),
            Some("assertion: slices leave no hole")
        );
        assert_eq!(told(""), None);
    }
}
