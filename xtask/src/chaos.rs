//! `cargo xtask chaos`: a cluster of real processes on bad days.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::stage;

/// The build before this one, as its users have it: one node, level 1.
const OLD_COMMIT: &str = "0f6c9cf54fabad80f970b1043087fbf6468fa687";
/// How the chaos program is told of it; set by hand, nothing is built.
const OLD_BIN: &str = "HEADWATER_OLD_BIN";

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let asked = |pair: &[String]| pair[0] == "--only" && pair[1] == "upgrade";
    let upgrade = arguments.windows(2).any(asked);
    let upgrade = upgrade || arguments.iter().any(|one| one == "--only=upgrade");
    if !upgrade || std::env::var_os(OLD_BIN).is_some() {
        return crate::on_release("chaos", arguments);
    }
    let old = old_build().context("the build before this one")?;
    crate::on_release_with("chaos", arguments, &[(OLD_BIN, old)])
}

/// The program of the build before: built apart, since crates of the same name in one target
/// directory are taken for each other.
fn old_build() -> anyhow::Result<PathBuf> {
    let dir = stage::target().join("upgrade");
    let kept = dir.join(format!("headwater-{}", &OLD_COMMIT[..12]));
    if kept.is_file() {
        return Ok(kept);
    }
    std::fs::create_dir_all(&dir)?;
    let tree = dir.join("tree");
    let path = tree.to_string_lossy();
    if !tree.is_dir() {
        let add = ["worktree", "add", "--force", "--detach", &path, OLD_COMMIT];
        stage::program("git").args(&add).run()?;
    }
    let manifest = tree.join("Cargo.toml");
    let target = dir.join("build");
    let build = ["build", "--release", "--locked", "-p", "broker"];
    let mut cargo = stage::cargo(&build);
    cargo.args(&["--manifest-path", &manifest.to_string_lossy()]);
    cargo.args(&["--target-dir", &target.to_string_lossy()]);
    let built = cargo.run();
    let remove = ["worktree", "remove", "--force", &path];
    stage::program("git").args(&remove).run()?;
    built?;
    std::fs::copy(target.join("release/headwater"), &kept)?;
    Ok(kept)
}
