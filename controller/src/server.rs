//! The local voter: log, state machine and raft node, started and stopped in order.

mod bootstrap;
mod feed;
mod membership;
mod service;
mod storage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use env::{Env, IoThread, Listener};
use protocol::{BrokerEpoch, NodeId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::client::{Client, Way};
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::level::VERSION_FEATURE;
use crate::limits::{
    BOOTSTRAP_PAUSE, FENCE_TIMEOUT, LEASE_TICK, LEASE_TICK_LATE, MAX_VOTERS, SNAPSHOT_TIMEOUT,
};
use crate::raft::node::{self, Status};
use crate::raft::{Local, LogKeeper, Machine, NotDone, Raft, Snapshots};
use crate::rpc::tls::Tls;
use crate::rpc::{self, Channels, Target};
use crate::state::Cluster;
use crate::tether;
use crate::types::ClusterId;
use service::VoterService;

/// What a controller is started with.
pub struct ControllerSettings {
    /// Directory of its own: `{data.dir}/raft` or the like.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// The voters that a new cluster begins with, this one among them: where each is reached.
    /// Later changes go through [`Client::add_voter`] and [`Client::remove_voter`].
    pub voters: BTreeMap<NodeId, String>,
    /// Where other nodes' calls come in; a voter that is alone needs none.
    pub listener: Option<Box<dyn Listener>>,
    /// Identity for a cluster that has none; drawn when `None`.
    pub cluster: Option<ClusterId>,
    /// Generation for a cluster that has none.
    pub generation: u32,
    /// How long a broker may be silent.
    pub lease: Duration,
    /// Mutual TLS for all calls between nodes, if any.
    pub tls: Option<Tls>,
    /// The newest level that this process knows, at which it begins a new cluster:
    /// [`NEWEST_LEVEL`](crate::NEWEST_LEVEL), less only where a simulation stands in for an older
    /// build.
    pub newest_level: u16,
}

/// A running voter.
pub struct Controller {
    client: Client,
    local: Arc<Local>,
    raft: Raft,
    log: LogKeeper,
    failure: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

// === impl Controller ===

impl Controller {
    /// Starts the voter and waits until somebody leads, it has applied the log, and the cluster
    /// has an identity. With several voters that takes a quorum of them.
    ///
    /// # Errors
    /// `Corrupt` for a damaged log or snapshot; `Io`; `Settings`.
    pub async fn start(env: Env, settings: ControllerSettings) -> Result<Self, Error> {
        Self::start_telling(env, settings, |_| {}).await
    }

    /// As [`start`](Self::start); `waits` is told what is waited for, whenever that changes.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_telling(
        env: Env,
        mut settings: ControllerSettings,
        waits: impl Fn(&str) + Send + Sync,
    ) -> Result<Self, Error> {
        let id = voter_id(settings.node)?;
        let voters = settings.voters.iter();
        let voters = voters.map(|(node, address)| Ok((voter_id(*node)?, address.clone())));
        let voters = voters.collect::<Result<BTreeMap<_, _>, Error>>()?;
        check_voters(id, &voters, settings.listener.is_some())?;
        let files = env.threads.io_thread("raft-files");
        let (log_id, store, log) = storage::open(&env, &files, &settings, id).await?;
        let (disk, dir) = (env.disk.clone(), settings.dir.join("snapshots"));
        let snapshots = files.run(move || Snapshots::open(disk, dir)).await?;
        let machine =
            Machine::open(snapshots.clone(), files.clone(), settings.newest_level).await?;
        if store.is_empty() && machine.shared().read(|state| state.applied) > 0 {
            let what = settings.dir.join("log").display().to_string();
            return Err(Error::corrupt(what, "the log is gone, a snapshot is there"));
        }
        let shared = machine.shared();
        let channels = Channels::new(env.net.clone(), settings.tls.clone());
        let raft = node::start(id, channels.clone(), store, machine).await?;
        let own = Target {
            node: id,
            address: voters.get(&id).cloned().unwrap_or_default(),
            directory: log_id.0,
        };
        let lease = settings.lease;
        let mut local = Local::new(env.clone(), raft.clone(), shared, lease, own, channels);
        local.listens = settings.listener.is_some();
        let local = Arc::new(local);
        let mut tasks = JoinSet::new();
        let (following, status) = watch::channel(Status::default());
        let (failed, failure) = watch::channel(None);
        if let Some(listener) = settings.listener.take() {
            tasks.spawn(serve(local.clone(), listener));
        }
        let known = local.channels.clone();
        tasks.spawn(node::follow(raft.clone(), following, known));
        tasks.spawn(membership::watch(local.clone(), failed.clone()));
        tasks.spawn(watch_failure(status.clone(), log.failure(), failed));
        watch_others(&mut tasks, &local, &status, settings.node);
        tasks.spawn(snapshot_when_due(
            raft.clone(),
            status,
            local.clone(),
            snapshots,
            files,
        ));
        let controller = Self {
            client: Client::new(env, lease, Way::Local(local.clone())),
            local,
            raft,
            log,
            failure,
            tasks,
        };
        match controller.ensure_cluster(&settings, &voters, &waits).await {
            Ok(()) => Ok(controller),
            Err(error) => {
                // Leave no task behind that holds the directory.
                controller.shutdown().await?;
                Err(error)
            }
        }
    }

    /// Waits for a quorum for as long as it takes.
    async fn ensure_cluster(
        &self,
        settings: &ControllerSettings,
        voters: &BTreeMap<u64, String>,
        waits: &(impl Fn(&str) + Sync),
    ) -> Result<(), Error> {
        let local = &self.local;
        bootstrap::join(local, voters, waits).await?;
        let mut said = String::new();
        loop {
            let failed = match self.begin(settings).await {
                Err(failed) if failed.kind() == ErrorKind::Retry => failed.to_string(),
                ended => return ended,
            };
            let failed = match membership::is_out(local).await {
                true => membership::removed(local.voter.node),
                false => failed,
            };
            if said != failed {
                tracing::warn!(voter = local.voter.node, "waiting for a quorum: {failed}");
                waits(&failed);
                said = failed;
            }
            sleep(BOOTSTRAP_PAUSE).await;
        }
    }

    async fn begin(&self, settings: &ControllerSettings) -> Result<(), Error> {
        let local = &self.local;
        if node::is_alone(&self.raft, local.voter.node) {
            node::lead_alone(&self.raft).await?;
            local.shared.set_controller(Some(settings.node));
            local.introduce_alone().await.map_err(NotDone::into_error)?;
        }
        let standing = self.client.read(|state| state.cluster).await?;
        if standing.is_none() {
            // Before it has a name: a start that is cut short in between is begun again.
            let (name, level) = (VERSION_FEATURE.to_owned(), settings.newest_level);
            let finalize = Command::FinalizeFeature { name, level };
            self.client.submit(finalize).await?;
            let cluster = settings.cluster.unwrap_or_else(|| self.draw_cluster_id());
            return name_cluster(&self.client, cluster, settings).await;
        }
        check_cluster(standing, settings)
    }

    /// Ids that begin with a dash are drawn again: they pass for options on command lines.
    fn draw_cluster_id(&self) -> ClusterId {
        loop {
            let id = ClusterId(self.local.env.entropy.uuid());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// Snapshots are taken after `bytes` of log, or as many as the last snapshot had: for
    /// simulations, which have to see them.
    pub fn snapshot_after(&self, bytes: u64) {
        self.local.shared.snapshot_after(bytes);
    }

    /// The way to ask and command it.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Says when the voter has failed for good, and why: the process must end.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Stops the voter, and marks its log as cleanly closed.
    ///
    /// # Errors
    /// `Io` when the mark cannot be written; the log then ends as after a kill.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.tasks.shutdown().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the raft node did not end well");
        }
        self.log.close().await
    }
}

/// Everything that has an eye on other voters and on brokers.
fn watch_others(
    tasks: &mut JoinSet<()>,
    local: &Arc<Local>,
    status: &watch::Receiver<Status>,
    node: NodeId,
) {
    let own = local.voter.node;
    tasks.spawn(watch_leader(status.clone(), local.clone()));
    tasks.spawn(settle_members(status.clone(), own, local.clone()));
    tasks.spawn(watch_leases(local.clone(), node));
    tasks.spawn(tether::brokers::keep(local.clone(), node));
    tasks.spawn(tether::leader::keep(local.clone()));
}

/// Gives the cluster its identity, unless another voter was quicker.
async fn name_cluster(
    client: &Client,
    cluster: ClusterId,
    settings: &ControllerSettings,
) -> Result<(), Error> {
    let generation = settings.generation;
    let init = Command::InitCluster {
        cluster,
        generation,
    };
    let Err(refused) = client.submit(init).await else {
        return Ok(());
    };
    match client.read(|state| state.cluster).await? {
        None => Err(refused),
        standing => check_cluster(standing, settings),
    }
}

fn check_cluster(standing: Option<Cluster>, settings: &ControllerSettings) -> Result<(), Error> {
    match (standing, settings.cluster) {
        (Some(standing), Some(wanted)) if standing.id != wanted => Err(Error::Settings {
            reason: format!("the cluster is {}, not {wanted}", standing.id),
        }),
        _ => Ok(()),
    }
}

fn voter_id(node: NodeId) -> Result<u64, Error> {
    u64::try_from(node.0).map_err(|_| Error::Settings {
        reason: format!("node.id {node} is negative"),
    })
}

fn check_voters(own: u64, voters: &BTreeMap<u64, String>, listens: bool) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Settings { reason });
    if voters.len() > MAX_VOTERS {
        return invalid(format!(
            "{} voters: {MAX_VOTERS} are the most",
            voters.len()
        ));
    }
    if !voters.contains_key(&own) {
        return invalid(format!("voter {own} is not among the voters"));
    }
    if voters.len() > 1 && !listens {
        return invalid("several voters, and nowhere to listen for their calls".to_owned());
    }
    Ok(())
}

/// Answers other nodes' calls.
async fn serve(local: Arc<Local>, listener: Box<dyn Listener>) {
    let tls = local.channels.tls().cloned();
    if let Some(tls) = &tls {
        tls.warn_unless_it_serves(&local.voter.address);
    }
    rpc::serve(listener, tls, VoterService::new(local)).await;
}

/// The first failure, of the log or of the node.
async fn watch_failure(
    mut status: watch::Receiver<Status>,
    mut log: watch::Receiver<Option<String>>,
    failed: watch::Sender<Option<String>>,
) {
    loop {
        let of_log = log.borrow_and_update().clone();
        let reason = of_log.or_else(|| status.borrow_and_update().failed.clone());
        if reason.is_some() {
            failed.send_replace(reason);
            return;
        }
        let changed = tokio::select! {
            biased;
            changed = log.changed() => changed,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Puts the leader into the image.
async fn watch_leader(mut status: watch::Receiver<Status>, local: Arc<Local>) {
    let mut last = None;
    loop {
        let leader = status.borrow_and_update().leader;
        if leader.is_some() && leader != last {
            last = leader;
            local.led_anew();
        }
        let node = leader.and_then(|id| i32::try_from(id).ok()).map(NodeId);
        local.shared.set_controller(node);
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Ends what a leader that was lost left half done.
async fn settle_members(mut status: watch::Receiver<Status>, own: u64, local: Arc<Local>) {
    loop {
        let leads = status.borrow_and_update().leader == Some(own);
        if leads && local.confirm().await.is_ok() {
            let settled = local.settle_members().await;
            if let Err(error) = settled {
                tracing::warn!(
                    ?error,
                    "a change of voters stays half done until the next one"
                );
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Takes a snapshot when enough log has gathered, then gives up the log behind the older one.
async fn snapshot_when_due(
    raft: Raft,
    mut status: watch::Receiver<Status>,
    local: Arc<Local>,
    snapshots: Snapshots,
    files: IoThread,
) {
    let mut due = local.shared.snapshot_due();
    while due.changed().await.is_ok() {
        let room = snapshots.clone();
        match files.run(move || room.has_room()).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("no space for a snapshot: the raft log grows until there is");
                local.shared.snapshot_put_off();
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "cannot look for space for a snapshot");
                local.shared.snapshot_put_off();
                continue;
            }
        }
        let before = status.borrow_and_update().snapshot;
        if before >= Some(local.shared.image().borrow().applied) {
            // Just got one from the leader.
            local.shared.snapshot_put_off();
            continue;
        }
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let newer = status.wait_for(|status| status.snapshot > before);
        match timeout(SNAPSHOT_TIMEOUT, newer).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::error!("no snapshot within {SNAPSHOT_TIMEOUT:?}: it is tried again");
                local.shared.snapshot_put_off();
                continue;
            }
        }
        let kept = snapshots.clone();
        match files.run(move || kept.oldest_index()).await {
            Ok(None) => {}
            Ok(Some(upto)) => {
                if raft.trigger().purge_log(upto).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "cannot list the snapshots"),
        }
    }
}

/// Fences brokers whose lease ran out, while this voter leads.
async fn watch_leases(local: Arc<Local>, node: NodeId) {
    let mut ticks = interval(LEASE_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let image = local.shared.image().borrow().clone();
        if image.controller != Some(node) || !local.raft.is_leader() {
            continue;
        }
        let (term, now) = (local.term(), local.env.clock.monotonic());
        let live: Vec<_> = image.live_brokers().map(|(epoch, _)| epoch).collect();
        let lapsed = {
            let mut sessions = local.sessions.lock();
            if !sessions.in_term(term) {
                continue;
            }
            sessions.tick(now, live)
        };
        if !lapsed.is_empty() {
            fence(&local, term, lapsed).await;
        }
    }
}

/// Once each, here: a leader that is none any more has no say over leases that another one keeps.
async fn fence(local: &Local, term: u64, lapsed: Vec<BrokerEpoch>) {
    let confirmed = timeout(LEASE_TICK_LATE, local.confirm()).await;
    if !matches!(confirmed, Ok(Ok(_))) {
        tracing::warn!("leases ran out, but no quorum confirms this controller: nobody is fenced");
        local.sessions.lock().held_up();
        return;
    }
    for broker in lapsed {
        let now = local.env.clock.monotonic();
        let begun = {
            let mut sessions = local.sessions.lock();
            sessions.in_term(term) && sessions.begin_fence(broker, now)
        };
        if !begun {
            continue;
        }
        tracing::warn!(%broker, "lease ran out: fencing");
        match timeout(FENCE_TIMEOUT, local.fence(broker)).await {
            Ok(Ok(())) => {}
            Ok(Err(NotDone::Failed(error))) if error.kind() != ErrorKind::Retry => {
                tracing::error!(%broker, %error, "cannot fence");
            }
            // It may still be done: the broker stays marked for as long as this voter leads.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
