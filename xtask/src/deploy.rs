//! What lies in deploy/ is held against the product and against what it speaks to. A tool that
//! cannot be installed is a failure, never a skip.
//!
//! ```text
//! helm lint · helm template ─▶ deploy/helm/golden ─▶ deploy/check ─▶ Kubernetes' schemas
//!                                                                ─▶ `headwater config`, metrics, help
//! ```

mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::stage;
use tools::Tools;

/// The release and namespace that golden files are rendered for.
const RELEASE: &str = "headwater";
const NAMESPACE: &str = "kafka";
const CHART: &str = "deploy/helm/headwater";
const VALUES: &str = "deploy/helm/values";
const GOLDEN: &str = "deploy/helm/golden";

/// Values that must be refused, over minimal.yaml, and a word of the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("controllers.replicas=2", "1, 3 or 5"),
    ("objectStore.url=", "objectStore.url is empty"),
    (
        "brokers.memoryMiB=600,brokers.memoryBudgetPercent=20",
        "memory.budget.bytes",
    ),
    ("brokers.replicas=100", "at most 99"),
    ("config.node\\.id=7", "computed by the chart"),
    ("external.type=loadBalancer", "external.host"),
    (
        "brokers.wal=disk,brokers.autoscaling.enabled=true",
        "object WAL",
    ),
    ("brokers.wall=disk", "wall"),
];

/// What to do besides checking.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Rewrites the golden renderings instead of comparing with them.
    #[arg(long)]
    bless: bool,
}

/// Checks everything, golden files first.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let tools = Tools::install()?;
    let values = yaml_files(VALUES)?;
    if values.len() < 5 {
        bail!("{VALUES} holds {} files; five belong there", values.len());
    }
    let mut stale = Vec::new();
    for file in &values {
        tools.lint(file)?;
        let rendered = tools.template(file, &[])?;
        let golden = golden_of(file);
        if args.bless {
            std::fs::write(&golden, rendered)
                .with_context(|| format!("cannot write {}", golden.display()))?;
        } else if std::fs::read_to_string(&golden).ok() != Some(rendered) {
            stale.push(golden.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} differ from what the chart renders; look at it, then `cargo xtask deploy --bless`",
            stale.join(", ")
        );
    }
    no_more_golden_files(&values)?;
    refusals(&tools)?;
    println!(
        "{} values files rendered, {} refused values refused",
        values.len(),
        REFUSED.len()
    );
    let golden: Vec<PathBuf> = values.iter().map(|file| golden_of(file)).collect();
    tools.check(&golden)
}

fn golden_of(values: &Path) -> PathBuf {
    let name = values.file_name().expect("listed from a folder");
    stage::root().join(GOLDEN).join(name)
}

fn no_more_golden_files(values: &[PathBuf]) -> anyhow::Result<()> {
    for golden in yaml_files(GOLDEN)? {
        if !values.iter().any(|file| golden_of(file) == golden) {
            bail!("{} belongs to no values file", golden.display());
        }
    }
    Ok(())
}

/// What cannot work is refused when it is rendered, not when it fails to start.
fn refusals(tools: &Tools) -> anyhow::Result<()> {
    let base = stage::root().join(VALUES).join("minimal.yaml");
    for (settings, word) in REFUSED {
        match tools.template(&base, &["--set", settings]) {
            Ok(_) => bail!("--set {settings} is rendered; it must be refused"),
            Err(error) => {
                let told = format!("{error:#}");
                if !told.contains(word) {
                    bail!("--set {settings}: {word:?} is not in: {told}");
                }
            }
        }
    }
    Ok(())
}

/// The YAML files of a folder of the checkout, in order of names.
fn yaml_files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    files(folder, "yaml")
}

/// The files of a folder of the checkout with this extension, in order of names.
fn files(folder: &str, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = stage::root().join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&path).with_context(|| format!("cannot read {folder}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
