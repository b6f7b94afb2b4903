//! Rules of the house that no compiler knows.
//!
//! ```text
//! cargo metadata ─▶ directions ─┐
//! sources ─▶ source (comments, strings, tests blanked) ─▶ lengths, doors, words ─▶ findings
//! ```

mod directions;
mod doors;
mod lengths;
mod paths;
mod source;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::stage;
use source::Source;

/// Where the committed lengths above the limits stand, from the root of the checkout.
const BASELINE: &str = "xtask/tidy-baseline.txt";

/// What to do besides checking.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Rewrites the baseline of lengths above the limits, downwards only.
    #[arg(long)]
    shrink: bool,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    rule: &'static str,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: [{}] {}",
            self.path, self.line, self.rule, self.text
        )
    }
}

/// Checks the whole checkout.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = stage::root();
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()?;
    let mut findings = directions::check(&metadata);

    let sources = read_sources(&root)?;
    for source in &sources {
        findings.extend(doors::check(source));
        findings.extend(words::check(source));
    }

    let baseline_path = root.join(BASELINE);
    let text = std::fs::read_to_string(&baseline_path)
        .with_context(|| format!("cannot read {BASELINE}"))?;
    let baseline = lengths::Baseline::parse(&text)?;
    let excesses: Vec<_> = sources.iter().flat_map(lengths::measure).collect();
    if args.shrink {
        std::fs::write(&baseline_path, baseline.shrunk(&excesses).to_string())?;
        println!("{BASELINE} written");
        return Ok(());
    }
    findings.extend(baseline.compare(&excesses));

    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!(
            "tidy: {} findings in {} files",
            findings.len(),
            sources.len()
        );
    }
    println!("tidy: {} files, no finding", sources.len());
    Ok(())
}

/// Every Rust file that git knows or would know, in order of path.
fn read_sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let output = stage::program("git")
        .args(&[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            "*.rs",
        ])
        .command()
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(output.stdout)?.lines() {
        match std::fs::read_to_string(root.join(path)) {
            Ok(text) => sources.push(Source::new(path, &text)),
            // Known to git, and deleted in the work tree.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources.dedup_by(|a, b| a.path == b.path);
    Ok(sources)
}
