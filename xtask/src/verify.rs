//! The read-only checks: formatting, lints, docs, dependencies, tidy, manifests.

use std::path::PathBuf;

use crate::stage::{self, Stages};
use crate::{deploy, tidy};

/// The pinned release of cargo-deny.
const CARGO_DENY: &str = "0.20.2";

/// Runs every check, and fails if one of them did.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut stages = Stages::default();
    stages.stage("tidy", || tidy::run(&tidy::Args::default()));
    stages.stage("fmt", || stage::cargo(&["fmt", "--all", "--check"]).run());
    stages.stage("clippy", || {
        clippy(&["--all-targets"])?;
        // It runs alone, by its name, and so is none of "all".
        clippy(&["--test", "slow"])
    });
    stages.stage("doc", || {
        stage::cargo(&["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    });
    stages.stage("deny", deny);
    stages.stage("deploy", || deploy::run(&deploy::Args::default()));
    stages.finish()
}

fn clippy(targets: &[&str]) -> anyhow::Result<()> {
    stage::cargo(&["clippy", "--workspace", "--locked"])
        .args(targets)
        .args(&["--", "-D", "warnings"])
        .run()
}

/// Bans, licences and sources. Advisories need a database that no package registry serves.
fn deny() -> anyhow::Result<()> {
    let program = install_cargo_deny()?;
    println!("cargo-deny {CARGO_DENY}: bans, licenses, sources (advisories are left out)");
    stage::program(program)
        .args(&[
            "--locked",
            "--log-level",
            "warn",
            "check",
            "--hide-inclusion-graph",
        ])
        .args(&["bans", "licenses", "sources"])
        .run()
}

fn install_cargo_deny() -> anyhow::Result<PathBuf> {
    let folder = stage::tools().join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = folder.join("bin").join("cargo-deny");
    if binary.exists() {
        return Ok(binary);
    }
    println!(
        "installing cargo-deny {CARGO_DENY} into {}",
        folder.display()
    );
    let build = folder.join("build");
    // An unoptimised build takes a third of the time and checks this tree in seconds.
    stage::cargo(&[
        "install",
        "cargo-deny",
        "--version",
        CARGO_DENY,
        "--locked",
        "--debug",
    ])
    .args(&["--root", &folder.display().to_string()])
    .args(&["--target-dir", &build.display().to_string()])
    .env("CARGO_PROFILE_DEV_DEBUG", "0")
    .run()?;
    std::fs::remove_dir_all(&build)?;
    Ok(binary)
}
