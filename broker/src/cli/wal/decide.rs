//! `headwater wal abandon` and `headwater wal unquarantine`: what an operator decides about a log
//! that cannot be recovered. Done on the node's own directory while no broker runs there: its lock
//! proves that nobody writes the log any more. While one runs, `online` asks it instead.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use controller::{
    Client, Command, Controller, ControllerSettings, Image, NEWEST_LEVEL, WalImage, WalPhase,
};
use env::{DirLock, Env};
use protocol::NodeId;
use wal::WalId;

/// Of the state machine; no lease is granted here.
const LEASE: Duration = Duration::from_secs(6);

/// Which log of which node.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Directory of the broker (its `--data-dir`); stop the broker first.
    #[arg(long, default_value = "headwater-data")]
    data_dir: PathBuf,
    /// Number of the node (its `node.id`).
    #[arg(long, default_value_t = 1)]
    node_id: i32,
    /// The log, as the broker's message and `/status` name it.
    #[arg(long)]
    pub(super) wal: uuid::Uuid,
    /// Admin address (HOST:PORT) of any node that runs, instead of the directory of one that is
    /// stopped: the only way with several controllers.
    #[arg(long)]
    pub(super) admin: Option<String>,
    /// Who decides, for the record; the system's user when not said.
    #[arg(long, env = "USER")]
    by: Option<String>,
}

impl Which {
    /// Who decides.
    pub(super) fn by(&self) -> &str {
        self.by.as_deref().unwrap_or("an operator")
    }
}

/// The node's controller, without its broker.
struct Opened {
    controller: Controller,
    client: Client,
    _lock: Box<dyn DirLock>,
}

/// Gives a log up: what is in it and not in objects is lost; its partitions open again 1,000,000
/// offsets beyond the last high watermark that was reported of them.
pub(super) async fn abandon(env: &Env, which: &Which, reason: &str, yes: bool) -> Result<()> {
    let opened = open(env, which).await?;
    let done = abandon_with(&opened.client, which, reason, yes).await;
    opened.controller.shutdown().await?;
    done
}

async fn abandon_with(client: &Client, which: &Which, reason: &str, yes: bool) -> Result<()> {
    let wal = WalId(which.wal);
    let image = Arc::clone(&client.image().borrow());
    let found = find(&image, wal)?;
    if found.node != NodeId(which.node_id) {
        bail!(
            "log {wal} is of node {}: that no process writes it is known only of logs of this \
             directory's node. Ask a node that runs, with --admin",
            found.node
        );
    }
    let topics = image.topics.values();
    let partitions = topics.flat_map(|topic| &topic.partitions);
    let waiting = partitions.filter(|p| p.awaits == Some(wal) || p.broker == Some(found.broker));
    let waiting = waiting.count();
    eprintln!(
        "log {wal} of node {}: {:?}, {}; {waiting} partitions have their newest records in it",
        found.node,
        found.phase,
        found
            .quarantine
            .as_deref()
            .unwrap_or("not known to be damaged"),
    );
    if !yes {
        bail!(
            "nothing is done: acknowledged records that are only in this log will be lost. If it \
             cannot be brought back, say --yes"
        );
    }
    if matches!(found.phase, WalPhase::Active) {
        let broker = found.broker;
        client.submit(Command::FenceBroker { broker }).await?;
    }
    let reason = reason.to_owned();
    client.submit(Command::AbandonWal { wal, reason }).await?;
    eprintln!(
        "given up: at the next start its partitions open, at least 1,000,000 offsets further on"
    );
    Ok(())
}

/// Has a log that was set aside recovered once more at the next start.
pub(super) async fn unquarantine(env: &Env, which: &Which) -> Result<()> {
    let opened = open(env, which).await?;
    let done = unquarantine_with(&opened.client, WalId(which.wal)).await;
    opened.controller.shutdown().await?;
    done
}

async fn unquarantine_with(client: &Client, wal: WalId) -> Result<()> {
    let image = Arc::clone(&client.image().borrow());
    if find(&image, wal)?.quarantine.is_none() {
        bail!("log {wal} is not set aside");
    }
    client.submit(Command::UnquarantineWal { wal }).await?;
    eprintln!("log {wal} is recovered at the next start");
    Ok(())
}

fn find(image: &Image, wal: WalId) -> Result<&WalImage> {
    image.wals.get(&wal).ok_or_else(|| {
        let open: Vec<_> = image.wals.keys().map(ToString::to_string).collect();
        anyhow!(
            "no log {wal} is open; {}",
            match open.is_empty() {
                true => "none is".to_owned(),
                false => format!("these are: {}", open.join(", ")),
            }
        )
    })
}

async fn open(env: &Env, which: &Which) -> Result<Opened> {
    let dir = &which.data_dir;
    let raft = dir.join("raft");
    let identity = raft.join("identity");
    if env.disk.file_len(&identity)?.is_none() {
        bail!(
            "{} holds no controller: is this the broker's --data-dir?",
            dir.display()
        );
    }
    let lock = env.disk.lock_dir(dir).with_context(|| {
        format!(
            "cannot lock {}: is its broker running? Stop it first, or name the admin address of \
             a node with --admin",
            dir.display()
        )
    })?;
    let node = NodeId(which.node_id);
    let settings = ControllerSettings {
        dir: raft,
        node,
        voters: [(node, String::new())].into(),
        listener: None,
        cluster: None,
        generation: 1,
        lease: LEASE,
        tls: None,
        newest_level: NEWEST_LEVEL,
    };
    let controller = Controller::start(env.clone(), settings).await?;
    Ok(Opened {
        client: controller.client(),
        controller,
        _lock: lock,
    })
}
