//! Runs other programs, and names, times and counts the stages of a recipe.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_path_buf()
}

/// The folder for pinned tools: kept between runs, outside the checkout.
pub(crate) fn tools() -> PathBuf {
    match std::env::var_os("HEADWATER_TOOLS") {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir().join("headwater-tools"),
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// What makes `cargo test` optimise, with every assertion and overflow check of our own crates. The
/// dependencies are those of the release build, so that nobody builds them twice.
pub(crate) const OPTIMISED: [&str; 9] = [
    "--release",
    "--config=profile.release.debug-assertions=true",
    "--config=profile.release.overflow-checks=true",
    // What is built anew with every change is built in half the time so.
    "--config=profile.release.package.broker.opt-level=1",
    "--config=profile.release.package.controller.opt-level=1",
    "--config=profile.release.package.storage.opt-level=1",
    "--config=profile.release.package.tests.opt-level=1",
    "--config=profile.release.package.wal.opt-level=1",
    "--config=profile.release.package.protocol.opt-level=1",
];

/// A program to run in the root of the checkout.
pub(crate) struct Program {
    command: Command,
    shown: String,
}

/// `cargo ARGUMENTS`.
pub(crate) fn cargo(arguments: &[&str]) -> Program {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut program = Program {
        command: Command::new(cargo),
        shown: "cargo".to_string(),
    };
    program.command.current_dir(root());
    program.args(arguments);
    program
}

/// Any program by name or path.
pub(crate) fn program(path: impl AsRef<Path>) -> Program {
    let path = path.as_ref();
    let mut command = Command::new(path);
    command.current_dir(root());
    Program {
        command,
        shown: path.display().to_string(),
    }
}

impl Program {
    /// Adds arguments.
    pub(crate) fn args<S: AsRef<str>>(&mut self, arguments: &[S]) -> &mut Self {
        for argument in arguments {
            let argument = argument.as_ref();
            self.command.arg(argument);
            self.shown.push(' ');
            self.shown.push_str(argument);
        }
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with this process's output; an error unless it exits with 0.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let status = self
            .command
            .status()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.shown);
        }
        Ok(())
    }

    /// The command itself, for callers that redirect its output.
    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }
}

/// The stages of one recipe. A failing stage does not stop the ones after it.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    /// Runs one stage and remembers how it went.
    pub(crate) fn stage(&mut self, name: &str, body: impl FnOnce() -> anyhow::Result<()>) {
        println!("== {name}");
        let start = Instant::now();
        let result = body();
        let took = start.elapsed();
        if let Err(error) = &result {
            eprintln!("error in {name}: {error:#}");
        }
        self.done.push((name.to_string(), took, result.is_ok()));
    }

    /// Prints what each stage took; an error names those that failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        println!("== summary");
        let mut failed = Vec::new();
        for (name, took, passed) in self.done {
            let word = if passed { "ok" } else { "FAILED" };
            println!("{:>8.1} s  {word:<6}  {name}", took.as_secs_f64());
            if !passed {
                failed.push(name);
            }
        }
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
