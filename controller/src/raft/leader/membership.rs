//! Voters in and out.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Local, NotDone, unavailable};
use crate::error::Error;
use crate::limits::{LEARNER_PATIENCE, MAX_VOTERS, REACH_TIMEOUT};
use crate::raft::Voter;
use crate::raft::types::Members;
use crate::rpc::{Target, method, wire};

fn invalid(reason: String) -> NotDone {
    NotDone::Failed(Error::Settings { reason })
}

// === impl Local ===

impl Local {
    /// One voter in or out; what is already so is success.
    pub(super) async fn change_voter(
        &self,
        change: &wire::ChangeVoter,
    ) -> Result<wire::Outcome, NotDone> {
        self.confirm().await?;
        self.settle_members().await?;
        let standing = self.members();
        match &change.address {
            None => {
                self.drop_voter(change.node, &standing).await?;
                if change.node == self.voter.node {
                    // It leads no more, and nobody confirms it.
                    return Ok(wire::Outcome::default());
                }
            }
            Some(address) => {
                let directory = Uuid::from_slice(&change.directory)
                    .map_err(|e| invalid(format!("directory of voter {}: {e}", change.node)))?;
                if directory.is_nil() {
                    return Err(invalid(format!("voter {} has no directory", change.node)));
                }
                let voter = Voter {
                    address: address.clone(),
                    directory: directory.as_u128(),
                };
                self.take_voter(change.node, voter, &standing).await?;
            }
        }
        self.check_members_committed()?;
        let index = self.confirm().await?;
        Ok(wire::Outcome {
            index,
            ..Default::default()
        })
    }

    /// A change that lost its leader halfway is brought to its end.
    pub(crate) async fn settle_members(&self) -> Result<(), NotDone> {
        if self.members().get_joint_config().len() > 1 {
            let none = ChangeMembers::AddVoterIds(BTreeSet::new());
            self.change_members(none).await?;
        }
        Ok(())
    }

    /// Makes this voter, which is alone, known by the directory and the address that it has now.
    pub(crate) async fn introduce_alone(&self) -> Result<(), NotDone> {
        let node = self.voter.node;
        let voter = Voter {
            address: self.voter.address.clone(),
            directory: self.voter.directory.as_u128(),
        };
        if self.members().get_node(&node) == Some(&voter) {
            return Ok(());
        }
        let nodes = ChangeMembers::SetNodes(BTreeMap::from([(node, voter)]));
        self.change_members(nodes).await
    }

    /// As they stand here, committed or not.
    pub(crate) fn members(&self) -> Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    }

    /// What stands may be another leader's wish that never comes true.
    fn check_members_committed(&self) -> Result<(), NotDone> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config != metrics.committed_membership_config {
            return Err(unavailable("the voters are being changed").into());
        }
        Ok(())
    }

    async fn drop_voter(&self, node: u64, standing: &Members) -> Result<(), NotDone> {
        let voters: BTreeSet<u64> = standing.voter_ids().collect();
        let gone = BTreeSet::from([node]);
        if voters == gone {
            return Err(invalid(format!("voter {node} is the only one")));
        }
        if voters.contains(&node) {
            self.change_members(ChangeMembers::RemoveVoters(gone)).await
        } else if standing.get_node(&node).is_some() {
            self.change_members(ChangeMembers::RemoveNodes(gone)).await
        } else {
            Ok(())
        }
    }

    async fn take_voter(&self, node: u64, voter: Voter, standing: &Members) -> Result<(), NotDone> {
        let votes = standing.voter_ids().any(|id| id == node);
        let old = standing.get_node(&node);
        let moved = old.is_some_and(|old| old.directory != 0 && old.directory != voter.directory);
        if moved && votes {
            return Err(invalid(format!(
                "voter {node} stands with another directory: remove it first, then add it"
            )));
        }
        if !self.listens {
            return Err(invalid(format!(
                "voter {} is alone and listens for no other's calls: give its file \
                 controller.quorum.voters, with itself, and a CONTROLLER listener; start it anew, \
                 then add voter {node}",
                self.voter.node
            )));
        }
        if !votes && standing.voter_ids().count() >= MAX_VOTERS {
            return Err(invalid(format!("{MAX_VOTERS} voters are the most")));
        }
        if moved {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
            self.change_members(gone).await?;
        }
        let elsewhere = old.is_some_and(|old| old.address != voter.address);
        if votes && elsewhere {
            self.find_voter(voter.target(node)).await?;
        }
        if old != Some(&voter) {
            // First as a learner, until it has caught up; only then does it count.
            let nodes = ChangeMembers::SetNodes(BTreeMap::from([(node, voter)]));
            self.change_members(nodes).await?;
        }
        if votes {
            return Ok(());
        }
        self.await_learner(node).await?;
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
        self.change_members(voters).await
    }

    /// Returns when the voter answers where it is said to be: a wrong word must not cost one that
    /// works.
    async fn find_voter(&self, at: Target) -> Result<(), NotDone> {
        let question = wire::Nothing {};
        let asked = self
            .channels
            .ask(&at, method::IDENTIFY, question, REACH_TIMEOUT);
        let (node, address) = (at.node, &at.address);
        let found: wire::Identity = asked.await.map_err(|status| {
            let why = status.message();
            unavailable(&format!("voter {node} is not reached at {address}: {why}"))
        })?;
        match at.is(&found) {
            true => Ok(()),
            false => Err(invalid(format!(
                "voter {node} is not who answers at {address}"
            ))),
        }
    }

    /// Returns once the learner holds the entry that names it. One that cannot be reached, and
    /// counted, could leave the others without a quorum.
    async fn await_learner(&self, node: u64) -> Result<(), NotDone> {
        let mut metrics = self.raft.metrics();
        let named = *metrics.borrow_watched().membership_config.log_id();
        let caught_up = async {
            loop {
                {
                    let now = metrics.borrow_watched();
                    let Some(replication) = &now.replication else {
                        return Err(unavailable("no controller leads now"));
                    };
                    let holds = replication.get(&node).cloned().flatten();
                    if holds.is_some() && holds >= named {
                        return Ok(());
                    }
                }
                metrics
                    .changed()
                    .await
                    .map_err(|e| unavailable(&e.to_string()))?;
            }
        };
        match timeout(LEARNER_PATIENCE, caught_up).await {
            Ok(caught_up) => Ok(caught_up?),
            Err(_) => Err(unavailable(&format!("voter {node} has not caught up yet")).into()),
        }
    }

    /// In a task of its own: a caller that gives up must not leave a change half done.
    async fn change_members(&self, change: ChangeMembers<u64, Voter>) -> Result<(), NotDone> {
        let raft = self.raft.clone();
        let changed = tokio::spawn(async move { raft.change_membership(change, false).await });
        match changed.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.write_failed(error)),
            Err(error) => Err(unavailable(&error.to_string()).into()),
        }
    }
}
