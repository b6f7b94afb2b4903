//! What the leader does for whoever asks: a client here, or one at another node.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use protocol::BrokerEpoch;
use uuid::Uuid;

use super::errors::{READ_POLICY, classify_read, classify_write};
use super::{ProposalBytes, TypeConfig, Voter};
use crate::client::Inner;
use crate::command::{Command, Proposal, RegisterBroker, Response, decode_answer, encode_answer};
use crate::error::{Error, Refusal};
use crate::limits::MAX_VOTERS;
use crate::rpc::{Target, wire};

/// Why something was not done here.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// That one leads.
    Elsewhere(Target),
    /// Of kind retry when nobody leads now.
    Failed(Error),
}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

// === impl Inner ===

impl Inner {
    /// Does what is asked, if this voter leads.
    pub(crate) async fn answer(&self, ask: &wire::Ask) -> Result<wire::Outcome, NotDone> {
        if let Some(submit) = &ask.submit {
            return self.write(submit).await;
        }
        if let Some(broker) = ask.renew {
            return self.grant(BrokerEpoch(broker)).await;
        }
        if let Some(change) = &ask.change_voter {
            return self.change_voter(change).await;
        }
        let index = self.confirm().await?;
        Ok(wire::Outcome {
            index,
            ..Default::default()
        })
    }

    async fn write(&self, submit: &wire::Submit) -> Result<wire::Outcome, NotDone> {
        let malformed = |e: crate::command::Malformed| Error::corrupt("proposal", e.0);
        let proposal = Proposal::decode(&submit.proposal).map_err(malformed)?;
        let mut registers = false;
        if let Command::RegisterBroker(register) = &proposal.command {
            registers = true;
            if !submit.death_proven
                && self.raft.is_leader()
                && let Err(refusal) = self.check_node_is_free(register)
            {
                return Ok(wire::Outcome {
                    answer: encode_answer(&Err(refusal)).into(),
                    ..Default::default()
                });
            }
        }
        let bytes = ProposalBytes((&*submit.proposal).into());
        let written = match self.raft.client_write(bytes).await {
            Ok(written) => written,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                return Err(self.elsewhere(to));
            }
            Err(error) => return Err(classify_write(error).into()),
        };
        let answer = written.data.0;
        if registers && let Ok(Ok(Response::Registered { broker })) = decode_answer(&answer) {
            let now = self.env.clock.monotonic();
            self.sessions.lock().renew(broker, now);
        }
        Ok(wire::Outcome {
            index: written.log_id.index(),
            answer: answer.into(),
            granted: false,
        })
    }

    fn check_node_is_free(&self, register: &RegisterBroker) -> Result<(), Refusal> {
        let now = self.env.clock.monotonic();
        let image = self.shared.image().borrow().clone();
        let sessions = self.sessions.lock();
        for (epoch, broker) in image.live_brokers() {
            let other = broker.node == register.node && broker.incarnation != register.incarnation;
            if other && sessions.may_live(epoch, now) {
                let node = register.node;
                return Err(Refusal::NodeInUse { node });
            }
        }
        Ok(())
    }

    /// Returns once a quorum has confirmed this leader after the call, and the state here holds
    /// all that was committed before it: up to the index given.
    async fn confirm(&self) -> Result<u64, NotDone> {
        match self.raft.ensure_linearizable(READ_POLICY).await {
            Ok(_) => Ok(self.shared.image().borrow().applied),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(self.elsewhere(to))
            }
            Err(error) => Err(classify_read(error).into()),
        }
    }

    async fn grant(&self, broker: BrokerEpoch) -> Result<wire::Outcome, NotDone> {
        let index = self.confirm().await?;
        let granted = self.shared.read(|state| state.is_live(broker));
        if granted {
            let now = self.env.clock.monotonic();
            self.sessions.lock().renew(broker, now);
        }
        Ok(wire::Outcome {
            index,
            granted,
            ..Default::default()
        })
    }

    /// One voter in or out; what is already so is success.
    async fn change_voter(&self, change: &wire::ChangeVoter) -> Result<wire::Outcome, NotDone> {
        self.confirm().await?;
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let invalid = |reason: String| NotDone::Failed(Error::Settings { reason });
        let node = change.node;
        match &change.address {
            None if !voters.contains(&node) => {}
            None if voters.len() == 1 => {
                return Err(invalid(format!("voter {node} is the only one")));
            }
            None => {
                let gone = ChangeMembers::RemoveVoters(BTreeSet::from([node]));
                self.change_members(gone).await?;
            }
            Some(address) => {
                let directory = Uuid::from_slice(&change.directory)
                    .map_err(|e| invalid(format!("directory of voter {node}: {e}")))?;
                let voter = Voter {
                    address: address.clone(),
                    directory: directory.as_u128(),
                };
                let standing = membership.get_node(&node);
                let moved = standing.is_some_and(|old| old.directory != voter.directory);
                if moved && voters.contains(&node) {
                    return Err(invalid(format!(
                        "voter {node} stands with another directory: remove it first, then add it"
                    )));
                }
                if !voters.contains(&node) && voters.len() >= MAX_VOTERS {
                    return Err(invalid(format!("{MAX_VOTERS} voters are the most")));
                }
                if moved {
                    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
                    self.change_members(gone).await?;
                }
                self.add_voter(node, voter, voters.contains(&node)).await?;
            }
        }
        let index = self.confirm().await?;
        Ok(wire::Outcome {
            index,
            ..Default::default()
        })
    }

    /// First as a learner, until it has caught up; only then does it count.
    async fn add_voter(&self, node: u64, voter: Voter, votes: bool) -> Result<(), NotDone> {
        if votes {
            let nodes = ChangeMembers::SetNodes(BTreeMap::from([(node, voter)]));
            return self.change_members(nodes).await;
        }
        match self.raft.add_learner(node, voter, true).await {
            Ok(_) => {}
            Err(error) => return Err(self.write_failed(error)),
        }
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
        self.change_members(voters).await
    }

    async fn change_members(&self, change: ChangeMembers<u64, Voter>) -> Result<(), NotDone> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.write_failed(error)),
        }
    }

    fn write_failed(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> NotDone {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => self.elsewhere(to),
            error => classify_write(error).into(),
        }
    }

    fn elsewhere(&self, to: ForwardToLeader<TypeConfig>) -> NotDone {
        let other = to.leader_id.zip(to.leader_node);
        match other {
            Some((node, voter)) if node != self.voter.node => {
                NotDone::Elsewhere(voter.target(node))
            }
            _ => NotDone::Failed(Error::Unavailable {
                reason: "no controller leads now".to_owned(),
            }),
        }
    }
}
