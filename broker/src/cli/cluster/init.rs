//! `headwater cluster init`: waits for the voters to make their cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use controller::{NEWEST_LEVEL, Observer, ObserverSettings, Tls, TlsFiles, identify};
use env::Env;
use protocol::NodeId;
use serde_json::json;
use tokio::time::timeout;

use crate::cli::output::{Format, Rows, line};
use crate::cli::remote::Remote;
use crate::cli::settings::of_file;
use crate::cli::tls::TlsArgs;

/// How long one voter may take to say who it is.
const ASKED: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// The voters, as in controller.quorum.voters: ID@HOST:PORT between commas.
    #[arg(long, required_unless_present = "config")]
    voters: Option<String>,
    /// A node's configuration that names them.
    #[arg(long, value_name = "FILE", conflicts_with = "voters")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

pub(super) async fn run(env: &Env, remote: &Remote, args: &InitArgs) -> Result<()> {
    let (voters, configured) = named(args)?;
    let tls = args.tls.open(env, configured).await?;
    let settings = ObserverSettings {
        controllers: voters.values().cloned().collect(),
        // Nothing is kept with it.
        lease: remote.timeout(),
        tls: tls.clone(),
        newest_level: NEWEST_LEVEL,
    };
    let made = timeout(remote.timeout(), Observer::start(env.clone(), settings)).await;
    let rows = ask_all(env, tls.as_ref(), &voters).await?;
    let Ok(observer) = made else {
        rows.print(remote.output)?;
        bail!("no cluster within {:?}", remote.timeout());
    };
    let observer = observer?;
    let cluster = observer.client().image().borrow().cluster;
    observer.shutdown().await?;
    let cluster = cluster.context("the cluster has no id")?.to_string();
    match remote.output {
        Format::Table => {
            line(format!("Cluster {cluster}\n"))?;
            rows.print(remote.output)?;
        }
        Format::Json => {
            let voters: serde_json::Value = serde_json::from_str(&rows.render(remote.output))?;
            line(format!(
                "{:#}",
                json!({ "cluster": cluster, "voters": voters })
            ))?;
        }
    }
    Ok(())
}

fn named(args: &InitArgs) -> Result<(BTreeMap<NodeId, String>, Option<TlsFiles>)> {
    let (voters, tls) = match (&args.voters, &args.config) {
        (Some(text), _) => {
            let voters = crate::config::voters(text).map_err(|why| anyhow::anyhow!(why))?;
            (voters, None)
        }
        (None, Some(path)) => {
            let quorum = of_file(path)?.quorum;
            (quorum.voters, quorum.tls)
        }
        (None, None) => (BTreeMap::new(), None),
    };
    ensure!(!voters.is_empty(), "no voters are named");
    let voters = voters.into_iter();
    let voters = voters.map(|(id, at)| (id, at.to_string())).collect();
    Ok((voters, tls))
}

/// Who answers, and as whom.
async fn ask_all(env: &Env, tls: Option<&Tls>, voters: &BTreeMap<NodeId, String>) -> Result<Rows> {
    let mut rows = Rows::new(&["voter", "address", "answers", "log", "directory", "why"]);
    let asked = voters.iter().map(|(id, address)| async move {
        (id, address, identify(env, address, tls, ASKED).await)
    });
    for (id, address, found) in futures::future::join_all(asked).await {
        match found {
            Ok(found) => {
                let other = found.node != *id;
                let why = other.then(|| format!("it is node {}", found.node));
                rows.push(vec![
                    json!(id.0),
                    json!(address),
                    json!(true),
                    json!(if found.has_log { "begun" } else { "empty" }),
                    json!(found.directory.to_string()),
                    json!(why),
                ]);
            }
            Err(error) => rows.push(vec![
                json!(id.0),
                json!(address),
                json!(false),
                json!(null),
                json!(null),
                json!(error.to_string()),
            ]),
        }
    }
    Ok(rows)
}
