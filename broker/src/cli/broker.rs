//! `headwater broker`: who leads partitions, and who shall not.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use env::Env;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::admin::Admin;
use super::output::{Format, Rows};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Drain brokers, and have them take partitions again.
#[derive(Args, Debug)]
pub(crate) struct BrokerArgs {
    #[command(flatten)]
    admin: Admin,
    /// Print a table or JSON.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: BrokerCommand,
}

#[derive(Subcommand, Debug)]
enum BrokerCommand {
    /// Every broker, and how many partitions it leads.
    List,
    /// Have a broker give its partitions to others, and take none until it is resumed, however
    /// often it restarts.
    Drain {
        /// Its `node.id`.
        node: i32,
        /// Return only when it leads none.
        #[arg(long)]
        wait: bool,
        /// Longest wait, seconds.
        #[arg(long, default_value_t = 300)]
        within: u64,
    },
    /// Have a broker take partitions again.
    Resume {
        /// Its `node.id`.
        node: i32,
    },
}

/// Runs `headwater broker …`.
pub(crate) async fn run(env: &Env, args: BrokerArgs) -> Result<()> {
    let page = match args.command {
        BrokerCommand::List => args.admin.get(env, "/v1/brokers").await?,
        BrokerCommand::Drain { node, wait, within } => {
            let path = format!("/v1/brokers/{node}/drain");
            let page = args.admin.post(env, &path).await?;
            match wait {
                true => drained(env, &args.admin, node, Duration::from_secs(within)).await?,
                false => page,
            }
        }
        BrokerCommand::Resume { node } => {
            let path = format!("/v1/brokers/{node}/resume");
            args.admin.post(env, &path).await?
        }
    };
    let mut rows = Rows::new(&["node", "state", "drained", "leads"]);
    for broker in page.as_array().into_iter().flatten() {
        let field = |name: &str| broker.get(name).cloned().unwrap_or(Value::Null);
        rows.push(["node", "state", "drained", "leads"].map(field).to_vec());
    }
    rows.print(args.output)?;
    Ok(())
}

/// Waits until the node leads nothing, saying how far it is.
async fn drained(env: &Env, admin: &Admin, node: i32, within: Duration) -> Result<Value> {
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        let page = admin.get(env, "/v1/brokers").await?;
        let brokers = page.as_array().into_iter().flatten();
        let mut own =
            brokers.filter(|b| b.get("node").and_then(Value::as_i64) == Some(node.into()));
        let leads = own
            .next()
            .and_then(|b| b.get("leads"))
            .and_then(Value::as_u64);
        let leads = leads.unwrap_or(0);
        if leads == 0 {
            return Ok(page);
        }
        if last != Some(leads) {
            eprintln!("broker {node} leads {leads} partitions still");
            last = Some(leads);
        }
        if Instant::now() >= deadline {
            bail!(
                "broker {node} leads {leads} partitions after {} s",
                within.as_secs()
            );
        }
        sleep(LOOK).await;
    }
}
