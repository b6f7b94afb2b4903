//! `headwater cluster`: its checkpoints in the object store.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use controller::{CheckpointReport, verify_checkpoint, verify_newest_checkpoint};
use env::Env;
use futures::TryStreamExt;
use serde_json::json;

use super::admin::Admin;
use super::offline::Offline;
use super::output::{Format, Rows};

/// Look at the state of a cluster.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// Print a table or JSON.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand, Debug)]
enum ClusterCommand {
    /// Have the balancer decide now, and say why it moves what.
    Balance {
        #[command(flatten)]
        admin: Admin,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Checkpoints of the cluster's state in the object store.
    Checkpoint {
        #[command(subcommand)]
        command: CheckpointCommand,
    },
}

#[derive(Subcommand, Debug)]
enum CheckpointCommand {
    /// Read a checkpoint back into a state that gives the same bytes again.
    Verify {
        #[command(flatten)]
        offline: Offline,
        /// Its key; the newest of each cluster in the store without it.
        key: Option<String>,
    },
}

const COLUMNS: &[&str] = &[
    "key",
    "bytes",
    "applied",
    "cluster",
    "brokers",
    "topics",
    "partitions",
    "slices",
    "objects",
];

/// Runs `headwater cluster …`.
pub(crate) async fn run(env: &Env, args: ClusterArgs) -> Result<()> {
    let (offline, key) = match args.command {
        ClusterCommand::Balance { admin, dry_run } => {
            return balance(env, &admin, dry_run, args.output).await;
        }
        ClusterCommand::Checkpoint {
            command: CheckpointCommand::Verify { offline, key },
        } => (offline, key),
    };
    let opened = offline.open(env, true).await?;
    let store = &*opened.store;
    let mut reports = Vec::new();
    if let Some(key) = key {
        reports.push(verify_checkpoint(store, &key).await?);
    } else {
        let prefix = object_store::path::Path::from(opened.prefix.as_str());
        let listing = store.list((!prefix.as_ref().is_empty()).then_some(&prefix));
        let keys: Vec<String> = listing
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await?;
        let bases = keys
            .iter()
            .filter_map(|key| key.split_once("/meta/checkpoint-"));
        let bases: std::collections::BTreeSet<&str> = bases.map(|(base, _)| base).collect();
        for base in bases {
            reports.extend(verify_newest_checkpoint(store, base).await?);
        }
    }
    if reports.is_empty() {
        bail!("no checkpoint in {}", opened.shown);
    }
    let mut rows = Rows::new(COLUMNS);
    for report in reports {
        rows.push(row(&report));
    }
    rows.print(args.output)?;
    Ok(())
}

async fn balance(env: &Env, admin: &Admin, dry_run: bool, output: Format) -> Result<()> {
    let page = match dry_run {
        true => admin.get(env, "/v1/balance").await?,
        false => admin.post(env, "/v1/balance").await?,
    };
    const COLUMNS: &[&str] = &["topic", "partition", "from", "to", "reason"];
    let mut rows = Rows::new(COLUMNS);
    for one in page.as_array().into_iter().flatten() {
        let field = |name: &&str| one.get(*name).cloned().unwrap_or_default();
        rows.push(COLUMNS.iter().map(field).collect());
    }
    rows.print(output)?;
    Ok(())
}

fn row(report: &CheckpointReport) -> Vec<serde_json::Value> {
    vec![
        json!(report.key),
        json!(report.bytes),
        json!(report.applied),
        json!(report.cluster.map(|id| id.to_string())),
        json!(report.brokers),
        json!(report.topics),
        json!(report.partitions),
        json!(report.slices),
        json!(report.objects),
    ]
}
