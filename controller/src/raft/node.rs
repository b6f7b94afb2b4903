//! Starts the raft node, and follows how it fares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use super::{LogStore, Machine, Peers, Raft, Voter};
use crate::error::Error;
use crate::limits::{
    ELECTION_MAX_MS, ELECTION_MIN_MS, HEARTBEAT_MS, MAX_APPEND_ENTRIES, SNAPSHOT_TIMEOUT,
    SUBMIT_TIMEOUT,
};
use crate::rpc::Channels;

/// How the node fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Who leads.
    pub(crate) leader: Option<u64>,
    /// Why it stopped for good.
    pub(crate) failed: Option<String>,
    /// Last entry of its last snapshot.
    pub(crate) snapshot: Option<u64>,
    /// Last entry that its log no longer holds.
    pub(crate) purged: Option<u64>,
}

/// Starts a voter on its log; it serves and votes, if it is a member.
pub(crate) async fn start(
    id: u64,
    channels: Channels,
    store: LogStore,
    machine: Machine,
) -> Result<Raft, Error> {
    let config = Config {
        cluster_name: "headwater".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        enable_pre_vote: Some(true),
        max_payload_entries: MAX_APPEND_ENTRIES,
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        // Both are ours to decide: by bytes, and keeping what the older snapshot needs.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // Entries go to followers before they are durable here. One who led, lost the last of them
        // in a crash and led on in the same term would write others under the same ids.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| stopped(&e))?);
    Raft::new(id, config, Peers { channels }, store, machine)
        .await
        .map_err(|e| stopped(&e))
}

/// Makes the cluster, of these members. Done on one of them only, when none has a log.
/// False when a vote or an entry of a cluster came first.
pub(crate) async fn initialize(raft: &Raft, members: BTreeMap<u64, Voter>) -> Result<bool, Error> {
    match raft.initialize(members).await {
        Ok(()) => Ok(true),
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
        Err(error) => Err(stopped(&error)),
    }
}

/// True when the log has a first entry. (To openraft a vote is enough: it may be one for a cluster
/// that never came to be.)
pub(crate) async fn is_initialized(raft: &Raft) -> Result<bool, Error> {
    // The first entry names the members, and so does every snapshot.
    let looked = raft.with_raft_state(|state| {
        let members = state.membership_state.effective();
        members.log_id().is_some()
    });
    looked.await.map_err(|e| stopped(&e))
}

/// Waits until a voter that is alone leads, without an election timeout, and has applied its log.
pub(crate) async fn lead_alone(raft: &Raft) -> Result<(), Error> {
    if !raft.is_leader() {
        raft.trigger().elect(false).await.map_err(|e| stopped(&e))?;
    }
    let recovered = raft.wait_for_recovery(Some(SUBMIT_TIMEOUT)).await;
    recovered.map(drop).map_err(|e| stopped(&e))
}

/// True when this voter is the only one.
pub(crate) fn is_alone(raft: &Raft, id: u64) -> bool {
    raft.voter_ids().eq([id])
}

fn stopped(reason: &dyn std::fmt::Display) -> Error {
    Error::Stopped {
        reason: reason.to_string(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How the node fares now.
pub(crate) fn status(raft: &Raft) -> Status {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let failed = metrics.running_state.as_ref().err();
    Status {
        leader: metrics.current_leader,
        failed: failed.map(|fatal| fatal.to_string()),
        snapshot: metrics.snapshot.as_ref().map(|id| id.index()),
        purged: metrics.purged.as_ref().map(|id| id.index()),
    }
}

/// Passes on how the node fares and where the members are, until it stops.
pub(crate) async fn follow(raft: Raft, following: watch::Sender<Status>, channels: Channels) {
    let mut metrics = raft.metrics();
    let own = *raft.node_id();
    let mut members = None;
    let mut member = false;
    loop {
        let committed = metrics.borrow_watched().committed_membership_config.clone();
        let now_member = committed.membership().get_node(&own).is_some();
        if member && !now_member {
            tracing::error!(
                voter = own,
                "this voter was removed: it takes no commands any more"
            );
        }
        member = now_member;
        let standing = metrics.borrow_watched().membership_config.clone();
        if members.as_ref() != Some(&standing) {
            let nodes = standing.membership().nodes();
            channels.set_members(nodes.map(|(id, voter)| (*id, voter.target(*id))).collect());
            members = Some(standing);
        }
        let now = status(&raft);
        following.send_if_modified(|standing| {
            let moved = *standing != now;
            *standing = now;
            moved
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
