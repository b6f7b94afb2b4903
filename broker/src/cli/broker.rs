//! `headwater broker`: who leads partitions, and who shall not.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use env::Env;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::admin::Admin;
use super::output::{Format, Rows};

/// What is told of each broker.
const COLUMNS: [&str; 5] = ["node", "state", "rack", "drained", "leads"];

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
    let mut rows = Rows::new(&COLUMNS);
    for broker in page.as_array().into_iter().flatten() {
        let field = |name: &str| broker.get(name).cloned().unwrap_or(Value::Null);
        rows.push(COLUMNS.map(field).to_vec());
    }
    rows.print(args.output)?;
    Ok(())
}

/// Waits until the node leads nothing and no log of it holds what is not uploaded, saying how far it
/// is: what died in the middle is not empty.
async fn drained(env: &Env, admin: &Admin, node: i32, within: Duration) -> Result<Value> {
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        let page = admin.get(env, "/v1/brokers").await?;
        let brokers = page.as_array().into_iter().flatten();
        let mut own =
            brokers.filter(|b| b.get("node").and_then(Value::as_i64) == Some(node.into()));
        let own = own.next();
        let field = |name: &str| own.and_then(|b| b.get(name)).and_then(Value::as_u64);
        let [leads, waits, dead] = ["leads", "waits", "dead_logs"].map(|n| field(n).unwrap_or(0));
        if leads + waits + dead == 0 {
            return Ok(page);
        }
        let mut left = format!("leads {leads} partitions still");
        if waits + dead > 0 {
            left = format!("{left}; {waits} wait for {dead} logs of it that are not recovered");
        }
        if Instant::now() >= deadline {
            bail!("broker {node} {left} after {} s", within.as_secs());
        }
        if last.as_ref() != Some(&left) {
            eprintln!("broker {node} {left}");
            last = Some(left);
        }
        sleep(LOOK).await;
    }
}
