//! `headwater object`: reads what lies in the object store, without a broker.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use env::Env;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::json;
use storage::format::{Report, verify_object};
use storage::store::probe;

use super::offline::Offline;
use super::output::{Format, Rows, line};
use crate::node::home;

/// Look at objects, check every byte of them, and probe a store.
#[derive(Args, Debug)]
pub(crate) struct ObjectArgs {
    #[command(flatten)]
    offline: Offline,
    /// Print a table or JSON.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: ObjectCommand,
}

#[derive(Subcommand, Debug)]
enum ObjectCommand {
    /// Keys and sizes.
    Ls {
        /// Only keys below this prefix.
        prefix: Option<String>,
    },
    /// What slices one object holds.
    Inspect {
        /// Its key.
        key: String,
    },
    /// Check every byte of one object, or of all data objects.
    Verify {
        /// Its key; all without it.
        key: Option<String>,
    },
    /// Check that the store keeps what Headwater relies on (writes and deletes probe objects).
    Probe,
}

/// Runs `headwater object …`.
pub(crate) async fn run(env: &Env, args: ObjectArgs) -> Result<()> {
    let probing = matches!(args.command, ObjectCommand::Probe);
    let opened = args.offline.open(env, !probing).await?;
    match args.command {
        ObjectCommand::Ls { prefix } => {
            let mut rows = Rows::new(&["key", "bytes"]);
            let prefix = prefix.unwrap_or_else(|| opened.prefix.clone());
            for (key, bytes) in list(&opened.store, &prefix).await? {
                rows.push(vec![json!(key), json!(bytes)]);
            }
            rows.print(args.output)?;
            Ok(())
        }
        ObjectCommand::Inspect { key } => {
            let report = verify_object(&opened.store, &key, None).await?;
            slices(&report).print(args.output)?;
            complain(&[report])
        }
        ObjectCommand::Verify { key: Some(key) } if key.ends_with("/meta/home") => {
            home::verify(&*opened.store, &key).await?;
            line(format!("{key} is whole."))?;
            Ok(())
        }
        ObjectCommand::Verify { key } => {
            verify(&opened.store, &opened.prefix, key, args.output).await
        }
        ObjectCommand::Probe => {
            probe(env, &opened.store, &opened.prefix).await?;
            line(format!("{} keeps what Headwater relies on.", opened.shown))?;
            Ok(())
        }
    }
}

async fn list(store: &Arc<dyn ObjectStore>, prefix: &str) -> Result<Vec<(String, u64)>> {
    let prefix = Path::from(prefix);
    let listing = store.list((!prefix.as_ref().is_empty()).then_some(&prefix));
    let found = listing.map_ok(|meta| (meta.location.to_string(), meta.size));
    let mut found: Vec<_> = found.try_collect().await?;
    found.sort();
    Ok(found)
}

fn slices(report: &Report) -> Rows {
    let columns = &[
        "topic_id",
        "partition",
        "leader_epoch",
        "first_offset",
        "end_offset",
        "blocks",
        "bytes",
        "checkpoint",
    ];
    let mut rows = Rows::new(columns);
    for slice in &report.slices {
        let blocks = slice.index.as_ref().map(|index| &index.blocks);
        rows.push(vec![
            json!(slice.entry.topic_partition.topic.to_string()),
            json!(slice.entry.topic_partition.partition),
            json!(slice.entry.leader_epoch.0),
            json!(slice.entry.first_offset),
            json!(slice.entry.end_offset),
            json!(blocks.map(Vec::len)),
            json!(blocks.map(|blocks| blocks.iter().map(|b| b.length).sum::<u64>())),
            json!(slice.entry.checkpoint),
        ]);
    }
    rows
}

async fn verify(
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
    key: Option<String>,
    output: Format,
) -> Result<()> {
    let keys = match key {
        Some(key) => vec![key],
        None => {
            let all = list(store, prefix).await?.into_iter().map(|(key, _)| key);
            all.filter(|key| key.contains("/data/")).collect()
        }
    };
    let mut rows = Rows::new(&["key", "bytes", "slices", "whole", "errors"]);
    let mut reports = Vec::new();
    for key in keys {
        let report = verify_object(store, &key, None).await?;
        let errors: Vec<String> = report.all_errors().map(ToString::to_string).collect();
        rows.push(vec![
            json!(report.key),
            json!(report.length),
            json!(report.slices.len()),
            json!(report.is_whole()),
            json!(errors.join("; ")),
        ]);
        reports.push(report);
    }
    rows.print(output)?;
    complain(&reports)
}

/// Damage is a failure of the command too, for scripts.
fn complain(reports: &[Report]) -> Result<()> {
    let damaged: Vec<&str> = reports
        .iter()
        .filter(|r| !r.is_whole())
        .map(|r| r.key.as_str())
        .collect();
    if damaged.is_empty() {
        return Ok(());
    }
    bail!(
        "{} of {} objects damaged: {}",
        damaged.len(),
        reports.len(),
        damaged.join(", ")
    )
}
