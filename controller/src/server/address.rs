//! A voter that comes back at another address tells whoever leads (KIP-853 has UpdateRaftVoter for
//! that).
//!
//! ```text
//!   own address as configured, another one in the log ──▶ find the leader ──▶ ChangeVoter ──▶ the
//!   leader looks whether this voter, with this directory, answers there ──▶ new membership
//! ```
//!
//! Others are reached by the addresses in the log, and where those do not answer by the ones of this
//! node's configuration: so even a quorum whose voters all moved finds itself again.
//!
//! **Invariant:** it is done once a process: an operator's later word (`cluster add-voter`) stands.

use std::sync::Arc;

use tokio::time::sleep;

use super::membership::newest_leader;
use crate::error::Error;
use crate::limits::{ADDRESS_PAUSE, ADDRESS_PAUSE_MOST, RPC_TIMEOUT};
use crate::raft::{Local, NotDone};
use crate::rpc::{method, wire};

/// Returns when the others know this voter by the address that it is configured with.
pub(super) async fn tell(local: Arc<Local>) {
    let own = &local.voter;
    let mut pause = ADDRESS_PAUSE;
    let mut said = String::new();
    loop {
        match local.own_address() {
            Some(known) if known == own.address => return,
            // Who is alone introduces itself. Who was not added yet comes by the right address.
            Some(_) if local.members().voter_ids().count() > 1 => {
                if let Err(error) = tell_once(&local).await {
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!(
                            voter = own.node,
                            address = own.address,
                            "the controllers do not know yet where this voter is: {error}"
                        );
                        said = error;
                    }
                }
            }
            _ => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(ADDRESS_PAUSE_MOST);
    }
}

async fn tell_once(local: &Local) -> Result<(), Error> {
    let ask = wire::Ask {
        change_voter: Some(wire::ChangeVoter {
            node: local.voter.node,
            address: Some(local.voter.address.clone()),
            directory: local.voter.directory.as_bytes().to_vec(),
        }),
        ..Default::default()
    };
    // This voter may lead: its own calls reach the others. Boxed: its type is deep.
    if local.raft.is_leader() {
        let done = Box::pin(local.answer(&ask)).await;
        return done.map(drop).map_err(NotDone::into_error);
    }
    let unavailable = |reason: &str| Error::Unavailable {
        reason: reason.to_owned(),
    };
    let leader = newest_leader(local).await;
    let (leader, _) = leader.ok_or_else(|| unavailable("no other voter says that it leads"))?;
    let asked = local.channels.ask(&leader, method::ASK, ask, RPC_TIMEOUT);
    let done: Result<wire::Outcome, _> = asked.await;
    done.map(drop).map_err(|e| unavailable(e.message()))?;
    tracing::info!(
        voter = local.voter.node,
        address = local.voter.address,
        "the controllers know this voter by its new address"
    );
    Ok(())
}
