//! `headwater cluster`: its controllers, brokers and features, and its checkpoints in the object store.

mod describe;
mod init;
mod voters;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use controller::{CheckpointReport, verify_checkpoint, verify_newest_checkpoint};
use env::Env;
use futures::TryStreamExt;
use serde_json::json;

use super::admin::Admin;
use super::offline::Offline;
use super::output::{Format, Rows};
use super::remote::Remote;
use super::tls::TlsArgs;

/// Look at a cluster, and change its controllers.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand, Debug)]
enum ClusterCommand {
    /// Have the balancer decide now, beyond its budget a minute, and say why it moves what.
    Balance {
        #[command(flatten)]
        admin: Admin,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Waits until the voters have made the cluster, and prints its id; fails when they have not in
    /// time, and says which of them do not answer.
    Init(init::InitArgs),
    /// Shows the controllers: who leads, who votes, how far each is.
    Status,
    /// Shows the brokers, and the finalized features.
    Describe,
    /// Makes the controller that listens at an address a voter; returns when it counts.
    AddVoter {
        /// HOST:PORT of its controllers' listener.
        address: String,
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// Takes a voter out of the controllers: its disk is lost, or its node goes for good.
    RemoveVoter {
        /// Its node id.
        node: i32,
    },
    /// Finalizes the newest level that this build knows, after every node runs it. There is no way
    /// back to older builds.
    Finalize {
        /// Another level.
        #[arg(long)]
        level: Option<u16>,
    },
    /// Lets go of a broker that has gone for good.
    Unregister {
        /// Its node id.
        node: i32,
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
    let remote = args.remote;
    match args.command {
        ClusterCommand::Init(args) => init::run(env, &remote, &args).await,
        ClusterCommand::Status => voters::status(env, &remote).await,
        ClusterCommand::Describe => describe::describe(env, &remote).await,
        ClusterCommand::AddVoter { address, tls } => {
            voters::add(env, &remote, &address, &tls).await
        }
        ClusterCommand::RemoveVoter { node } => voters::remove(env, &remote, node).await,
        ClusterCommand::Finalize { level } => describe::finalize(env, &remote, level).await,
        ClusterCommand::Unregister { node } => describe::unregister(env, &remote, node).await,
        ClusterCommand::Balance { admin, dry_run } => {
            balance(env, &admin, dry_run, remote.output).await
        }
        ClusterCommand::Checkpoint {
            command: CheckpointCommand::Verify { offline, key },
        } => verify(env, offline, key, remote.output).await,
    }
}

async fn verify(env: &Env, offline: Offline, key: Option<String>, output: Format) -> Result<()> {
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
    rows.print(output)?;
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
