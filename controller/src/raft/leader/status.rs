//! How the voters stand, and what builds they run.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use protocol::BrokerEpoch;

use super::{Local, NotDone, unavailable};
use crate::error::Refusal;
use crate::level::{OLDEST_LEVEL, VERSION_FEATURE};
use crate::limits::LEVEL_TIMEOUT;
use crate::raft::Voter;
use crate::rpc::{Target, method, wire};

// === impl Local ===

impl Local {
    /// As members are told of.
    pub(crate) fn member(target: &Target) -> wire::Member {
        wire::Member {
            node: target.node,
            address: target.address.clone(),
            directory: target.directory.as_bytes().to_vec(),
            learner: false,
        }
    }

    /// The members as they stand here.
    pub(crate) fn member_list(&self) -> Vec<wire::Member> {
        let members = self.members();
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        let nodes = members.nodes();
        nodes
            .map(|(id, voter)| wire::Member {
                learner: !voters.contains(id),
                ..Self::member(&voter.target(*id))
            })
            .collect()
    }

    /// Who leads, as far as is known here, and in which term.
    pub(crate) fn leader(&self) -> (Option<wire::Member>, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let leader = metrics.current_leader.and_then(|id| {
            let voter: &Voter = members.get_node(&id)?;
            Some(Self::member(&voter.target(id)))
        });
        (leader, metrics.current_term)
    }

    /// How far each member is known here to hold the log.
    #[cfg(test)]
    pub(crate) fn replicated(&self) -> std::collections::BTreeMap<u64, Option<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.iter().flatten();
        let index = |held: &Option<super::super::types::LogId>| held.as_ref().map(|id| id.index());
        replication.map(|(id, held)| (*id, index(held))).collect()
    }

    /// How the voters stand, once a quorum has confirmed that this one leads them.
    pub(super) async fn quorum(&self) -> Result<wire::Outcome, NotDone> {
        let term = self.term();
        let index = self.confirm().await?;
        let now_ms = self.env.clock.wall_ms();
        let (mut voters, mut observers) = (Vec::new(), Vec::new());
        {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership().clone();
            let Some(replication) = &metrics.replication else {
                return Err(unavailable("no controller leads now").into());
            };
            let votes: BTreeSet<u64> = members.voter_ids().collect();
            for (id, voter) in members.nodes() {
                let own = *id == self.voter.node;
                let holds = replication
                    .get(id)
                    .cloned()
                    .flatten()
                    .map(|log| log.index());
                let heartbeats = metrics.heartbeat.as_ref();
                let heard = heartbeats.and_then(|heard| heard.get(id).copied().flatten());
                let heard_ms = heard.map(|at| now_ms - millis(at.elapsed()));
                let standing = wire::Standing {
                    member: Some(Self::member(&voter.target(*id))),
                    holds: if own { metrics.last_log_index } else { holds },
                    heard_ms: if own { Some(now_ms) } else { heard_ms },
                };
                match votes.contains(id) {
                    true => voters.push(standing),
                    false => observers.push(standing),
                }
            }
        }
        let known: BTreeSet<u64> = voters
            .iter()
            .chain(&observers)
            .filter_map(|standing| standing.member.as_ref())
            .map(|member| member.node)
            .collect();
        observers.extend(self.followers(term, now_ms, &known));
        Ok(wire::Outcome {
            quorum: Some(wire::Quorum {
                leader: self.voter.node,
                term,
                committed: index,
                voters,
                observers,
            }),
            ..Default::default()
        })
    }

    /// Live brokers of nodes without a voter.
    fn followers(&self, term: u64, now_ms: i64, known: &BTreeSet<u64>) -> Vec<wire::Standing> {
        let image = self.shared.image().borrow().clone();
        let now = self.env.clock.monotonic();
        let mut sessions = self.sessions.lock();
        let current = sessions.in_term(term);
        let brokers = image.live_brokers().filter_map(|(epoch, broker)| {
            let node = u64::try_from(broker.node.0).ok()?;
            let heard = sessions.heard(epoch).filter(|_| current);
            (!known.contains(&node)).then(|| wire::Standing {
                member: Some(wire::Member {
                    node,
                    ..Default::default()
                }),
                holds: heard.map(|heard| heard.applied),
                heard_ms: heard.map(|heard| now_ms - millis(now.saturating_sub(heard.at))),
            })
        });
        brokers.collect()
    }

    /// Whether every voter and every live broker runs a build that knows `level`.
    pub(super) async fn check_builds(&self, level: u16) -> Result<Result<(), Refusal>, NotDone> {
        let term = self.term();
        let others = self.member_list();
        let others = others.iter().filter(|m| m.node != self.voter.node);
        let asked = others.map(|member| async move {
            let target = Target::from_member(member);
            let asked =
                self.channels
                    .ask(&target, method::IDENTIFY, wire::Nothing {}, LEVEL_TIMEOUT);
            let identity: Result<wire::Identity, _> = asked.await;
            (member, identity)
        });
        for (member, identity) in join_all(asked).await {
            let what = format!("voter {} at {}", member.node, member.address);
            match identity {
                Err(status) => return Ok(Err(not_ready(level, &what, status.message()))),
                // One that lost its disk is a new one until it is added again: its build counts.
                Ok(identity)
                    if identity.node != member.node
                        || identity.initialized && !Target::from_member(member).is(&identity) =>
                {
                    let why = "another one answers there";
                    return Ok(Err(not_ready(level, &what, why)));
                }
                Ok(identity) => {
                    if let Err(refusal) = check_build(level, &what, identity.level) {
                        return Ok(Err(refusal));
                    }
                }
            }
        }
        let image = self.shared.image().borrow().clone();
        let mut sessions = self.sessions.lock();
        if !sessions.in_term(term) {
            return Err(unavailable("the controller changes").into());
        }
        let mut brokers = image.live_brokers();
        Ok(brokers.try_for_each(|(epoch, broker): (BrokerEpoch, _)| {
            let what = format!("broker {}", broker.node);
            match sessions.heard(epoch) {
                None => Err(not_ready(level, &what, "it was not heard of yet")),
                Some(heard) => check_build(level, &what, heard.level),
            }
        }))
    }
}

/// A build that says nothing of levels is of the time before them.
fn check_build(level: u16, what: &str, knows: u32) -> Result<(), Refusal> {
    let knows = knows.max(u32::from(OLDEST_LEVEL));
    if knows < u32::from(level) {
        return Err(Refusal::invalid(format!(
            "{what} runs a build that knows {VERSION_FEATURE} up to {knows}, not {level}: bring it \
             to a newer one first"
        )));
    }
    Ok(())
}

fn not_ready(level: u16, what: &str, reason: &str) -> Refusal {
    Refusal::NotReady {
        reason: format!(
            "whether {what} knows level {level} of {VERSION_FEATURE} cannot be told: {reason}"
        ),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
