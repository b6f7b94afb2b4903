//! How a cluster of several voters comes to be, and how one with an empty disk is kept from
//! pretending that it is still the same voter.
//!
//! ```text
//!   log there ──▶ go on
//!   lowest id, all others answer and none has a log ──▶ initialize with everybody's directory
//!   else ──▶ wait to be reached by the leader
//! ```

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::time::sleep;
use uuid::Uuid;

use crate::error::Error;
use crate::limits::{BOOTSTRAP_PAUSE, RPC_TIMEOUT};
use crate::raft::{Local, Voter, node};
use crate::rpc::{Target, method, wire};

/// What is known of another voter.
enum Found {
    /// It has no log either.
    Fresh(Voter),
    /// It belongs to a cluster.
    Member,
    /// It does not answer, or somebody else does.
    Silent(String),
}

/// Returns when this voter has a log: its own, the one it made, or the leader's.
/// `told` hears what is waited for.
pub(super) async fn join(
    local: &Local,
    voters: &BTreeMap<u64, String>,
    told: &(impl Fn(&str) + Sync),
) -> Result<(), Error> {
    let own = &local.voter;
    let mut said = String::new();
    loop {
        if node::is_initialized(&local.raft).await? {
            return Ok(());
        }
        let others = voters.iter().filter(|(id, _)| **id != own.node);
        let found = join_all(others.map(|(id, address)| identify(local, *id, address))).await;
        let waits = match decide(own, voters, found) {
            Ok(members) => {
                tracing::info!(voters = ?voters, "making the cluster");
                if node::initialize(&local.raft, members).await? {
                    return Ok(());
                }
                "this voter has voted in a cluster: waiting for its leader".to_owned()
            }
            Err(waits) => waits,
        };
        if said != waits {
            tracing::warn!(voter = own.node, "{waits}");
            told(&waits);
            said = waits;
        }
        sleep(BOOTSTRAP_PAUSE).await;
    }
}

/// The members to begin with, or what is waited for.
fn decide(
    own: &Target,
    voters: &BTreeMap<u64, String>,
    found: Vec<(u64, Found)>,
) -> Result<BTreeMap<u64, Voter>, String> {
    let mut members = BTreeMap::from([(
        own.node,
        Voter {
            address: voters.get(&own.node).cloned().unwrap_or_default(),
            directory: own.directory.as_u128(),
        },
    )]);
    let mut silent = Vec::new();
    for (id, found) in found {
        match found {
            Found::Fresh(voter) => {
                members.insert(id, voter);
            }
            Found::Member => {
                return Err(format!(
                    "this voter's log is empty, voter {id} has one: if this is a new disk, have it \
                     replaced with `headwater cluster remove-voter {0}` and `add-voter`",
                    own.node
                ));
            }
            Found::Silent(reason) => silent.push(format!("voter {id} ({reason})")),
        }
    }
    if !silent.is_empty() {
        return Err(format!("waiting for {}", silent.join(", ")));
    }
    match members.first_key_value() {
        Some((first, _)) if *first == own.node => Ok(members),
        first => Err(format!(
            "waiting for voter {} to make the cluster",
            first.map_or(0, |(id, _)| *id)
        )),
    }
}

async fn identify(local: &Local, node: u64, address: &str) -> (u64, Found) {
    let target = Target {
        node,
        address: address.to_owned(),
        directory: Uuid::nil(),
    };
    let question = wire::Nothing {};
    let asked = local
        .channels
        .ask(&target, method::IDENTIFY, question, RPC_TIMEOUT);
    let found = match asked.await {
        Err(status) => Found::Silent(status.message().to_owned()),
        Ok(wire::Identity { node: other, .. }) if other != node => {
            Found::Silent(format!("{address} is voter {other}"))
        }
        Ok(identity) if identity.initialized => Found::Member,
        Ok(identity) => match Uuid::from_slice(&identity.directory) {
            Ok(directory) => Found::Fresh(Voter {
                address: address.to_owned(),
                directory: directory.as_u128(),
            }),
            Err(error) => Found::Silent(format!("its directory: {error}")),
        },
    };
    (node, found)
}
