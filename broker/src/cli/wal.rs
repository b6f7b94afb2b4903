//! `headwater wal …`: the groups of a write-ahead log, and what to do about one that is damaged,
//! without a broker.

mod decide;
mod online;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use env::Env;
use serde_json::json;
use wal::WalId;
use wal::inspect::{DiskInspection, Inspected, ObjectInspection, disk_logs};
use wal::record::Body;

use super::offline::Offline;
use super::output::{Format, Rows};
use decide::Which;

/// Look at write-ahead logs, and decide about damaged ones.
#[derive(Args, Debug)]
pub(crate) struct WalArgs {
    /// Print a table or JSON.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Subcommand, Debug)]
enum WalCommand {
    /// List the groups of every log below a directory, or of one log in an object store.
    Inspect {
        /// Directory of the broker (its `--data-dir`).
        #[arg(long, default_value = "headwater-data")]
        data_dir: PathBuf,
        /// Only this log.
        #[arg(long)]
        wal: Option<uuid::Uuid>,
        /// Read from the object store: the prefix that holds the log's folder
        /// (`…/wal/NODE`); needs --wal.
        #[arg(long, requires = "wal")]
        prefix: Option<String>,
        #[command(flatten)]
        offline: Offline,
    },
    /// Give a log up that cannot be recovered (its volume is lost, or damaged for good). Records
    /// that are only there are lost; its partitions open again behind a gap. Through --admin it
    /// waits for the longest lease first, and seals a log in the object store: ask a broker.
    Abandon {
        #[command(flatten)]
        which: Which,
        /// Who decides and why; kept in the controller's log.
        #[arg(long)]
        reason: String,
        /// Do it; without, only tell what would be lost.
        #[arg(long)]
        yes: bool,
    },
    /// Have a log that was set aside recovered once more, after it was mended.
    Unquarantine {
        #[command(flatten)]
        which: Which,
    },
}

const COLUMNS: &[&str] = &[
    "wal", "sequence", "kind", "entries", "acked_to", "bytes", "place",
];

/// Runs `headwater wal …`.
pub(crate) async fn run(env: &Env, args: WalArgs) -> Result<()> {
    let (data_dir, wal, prefix, offline) = match args.command {
        WalCommand::Inspect {
            data_dir,
            wal,
            prefix,
            offline,
        } => (data_dir, wal, prefix, offline),
        WalCommand::Abandon { which, reason, yes } => {
            if let Some(at) = &which.admin {
                let who = (which.by(), &*reason);
                return online::abandon(env, at, which.wal, who, yes).await;
            }
            return decide::abandon(env, &which, &reason, yes).await;
        }
        WalCommand::Unquarantine { which } => {
            if let Some(at) = &which.admin {
                return online::unquarantine(env, at, which.wal, which.by()).await;
            }
            return decide::unquarantine(env, &which).await;
        }
    };
    let mut rows = Rows::new(COLUMNS);
    if let (Some(prefix), Some(wal)) = (prefix, wal) {
        let store = offline.open(env, true).await?.store;
        let mut log = ObjectInspection::open(env, store, &prefix, WalId(wal)).await?;
        let mut groups = 0_u64;
        while let Some(group) = log.next_group().await? {
            rows.push(row(WalId(wal), &group));
            groups += 1;
        }
        // A prefix with a mistake in it reads like a log without groups.
        ensure!(
            groups > 0,
            "no group of log {wal} is below {prefix}: another prefix, or all of the log is trimmed"
        );
        rows.print(args.output)?;
        return Ok(());
    }
    let dir = data_dir.join("wal");
    let logs = disk_logs(&*env.disk, &dir);
    let logs = logs.with_context(|| format!("no logs in {}", dir.display()))?;
    let mut endings = Vec::new();
    for (id, _) in logs {
        if wal.is_some_and(|wanted| WalId(wanted) != id) {
            continue;
        }
        let mut log = DiskInspection::open(&env.disk, &dir, id)?;
        while let Some(group) = log.next_group()? {
            rows.push(row(id, &group));
        }
        endings.push(format!(
            "{id}: ends at {}, {:?}",
            log.report().end,
            log.report().ending
        ));
    }
    if let Some(wanted) = wal.filter(|_| endings.is_empty()) {
        bail!("log {wanted} is not in {}", dir.display());
    }
    rows.print(args.output)?;
    for ending in endings {
        eprintln!("{ending}");
    }
    Ok(())
}

fn row(wal: WalId, inspected: &Inspected) -> Vec<serde_json::Value> {
    let meta = inspected.group.header.meta;
    let entries = match &inspected.group.body {
        Body::Entries(entries) => entries.len(),
        Body::Records(records) => records.len(),
        Body::Mark => 0,
    };
    vec![
        json!(wal.to_string()),
        json!(meta.sequence),
        json!(format!("{:?}", meta.kind)),
        json!(entries),
        json!(meta.acked_to),
        json!(inspected.bytes),
        json!(format!("{} at {}", inspected.place, inspected.position)),
    ]
}
