//! Starts the raft node, and follows how it fares.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use super::{LogStore, Machine, NoPeers, Raft};
use crate::error::Error;
use crate::limits::{ELECTION_MAX_MS, ELECTION_MIN_MS, HEARTBEAT_MS, SUBMIT_TIMEOUT};

/// How the node fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Who leads.
    pub(crate) leader: Option<u64>,
    /// Why it stopped for good.
    pub(crate) failed: Option<String>,
    /// Last entry of its last snapshot.
    pub(crate) snapshot: Option<u64>,
}

/// Starts a voter that is alone, and waits until it leads and has applied all of its log.
pub(crate) async fn start(
    id: u64,
    address: &str,
    store: LogStore,
    machine: Machine,
) -> Result<Raft, Error> {
    let stopped = |e: &dyn std::fmt::Display| Error::Stopped {
        reason: e.to_string(),
    };
    let config = Config {
        cluster_name: "headwater".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        enable_pre_vote: Some(true),
        // Both are ours to decide: by bytes, and keeping what the older snapshot needs.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| stopped(&e))?);
    let raft = Raft::new(id, config, NoPeers, store, machine)
        .await
        .map_err(|e| stopped(&e))?;
    if !raft.is_initialized().await.map_err(|e| stopped(&e))? {
        let members = BTreeMap::from([(id, BasicNode::new(address))]);
        raft.initialize(members).await.map_err(|e| stopped(&e))?;
    }
    if !raft.is_leader() {
        // A single voter need not wait for an election timeout.
        raft.trigger().elect(false).await.map_err(|e| stopped(&e))?;
    }
    raft.wait_for_recovery(Some(SUBMIT_TIMEOUT))
        .await
        .map_err(|e| stopped(&e))?;
    Ok(raft)
}

/// Passes on how the node fares, until it stops.
pub(crate) async fn follow(raft: Raft, status: watch::Sender<Status>) {
    let mut metrics = raft.metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            Status {
                leader: metrics.current_leader,
                failed: metrics
                    .running_state
                    .as_ref()
                    .err()
                    .map(|fatal| fatal.to_string()),
                snapshot: metrics.snapshot.as_ref().map(|id| id.index()),
            }
        };
        status.send_if_modified(|standing| {
            let moved = *standing != now;
            *standing = now;
            moved
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
