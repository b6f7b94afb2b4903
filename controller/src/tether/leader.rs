//! Asks for the votes of a leader whose process is gone, without waiting for a time-out.
//!
//! ```text
//!   evidence ─▶ this voter's promise to the leader ends ─▶ (its turn) pre-vote ─▶ a majority whose
//!                                                          promise has ended, too ─▶ election
//! ```
//!
//! **Invariants:** it takes a majority to end a leader's time: a voter that has no evidence of its
//! own keeps its promise and refuses, and nothing has changed. Nothing that raft or leases rely on
//! is shortened: reads are confirmed by a quorum, not by the leader's lease. Refusals that go on while
//! the leader is heard (a packet filter that refuses new connections and lets old ones live) are no
//! reason to ask anybody, however long they last.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::{Judge, Tether};
use crate::limits::{ELECTION_FIRST, ELECTION_TRIES, ELECTION_TURN, MAX_VOTERS};
use crate::raft::Local;
use crate::rpc::Target;

/// The leader that a tether tells of.
struct Leader {
    local: Arc<Local>,
    leader: u64,
    tried: Mutex<Tried>,
}

/// How often this voter asked in a term.
#[derive(Default)]
struct Tried {
    term: u64,
    times: u32,
}

/// Keeps a tether to whoever leads the controllers, until aborted. While nobody does, the one to
/// the last leader stays: an election may come to nothing.
pub(crate) async fn keep(local: Arc<Local>) {
    // Of members, too: a fresh voter learns who leads before it learns where that one is.
    let mut reigns = local.reigns();
    let mut tasks = JoinSet::new();
    let mut kept: Option<(Target, AbortHandle)> = None;
    loop {
        let leader = reigns.leader();
        if let Some(leader) = leader {
            let wanted = wanted(&local, leader);
            let stands = |(target, task): &(Target, AbortHandle)| {
                wanted.as_ref() == Some(target) && !task.is_finished()
            };
            if !kept.as_ref().is_some_and(stands) {
                if let Some((_, task)) = kept.take() {
                    task.abort();
                }
                kept = wanted.and_then(|target| {
                    let tether = tether(&local, &target)?;
                    Some((target, tasks.spawn(tether.hold())))
                });
            }
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "the tether of the controllers' leader has failed");
            }
        }
        if !reigns.changed().await {
            return;
        }
    }
}

/// The leader as a member, unless that is this voter.
fn wanted(local: &Local, leader: u64) -> Option<Target> {
    let members = local.members();
    let voter = members.get_node(&leader)?;
    (leader != local.voter.node).then(|| voter.target(leader))
}

fn tether(local: &Arc<Local>, target: &Target) -> Option<Tether<Leader>> {
    let (host, port) = target.address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Tether {
        net: local.env.net.clone(),
        host: host.to_owned(),
        port: port.parse().ok()?,
        tls: local.channels.tls().cloned(),
        judge: Leader {
            local: local.clone(),
            leader: target.node,
            tried: Mutex::default(),
        },
    })
}

// === impl Leader ===

impl Leader {
    /// The term, while it is still the dead one's or nobody's.
    fn term(&self) -> Option<u64> {
        let (now, term) = self.local.leader();
        let over = now.is_some_and(|now| now.node != self.leader);
        (!over).then_some(term)
    }

    /// How many others go first: they are asked one after the other, lest votes be split.
    fn turn(&self) -> u32 {
        let members = self.local.members();
        let before = members
            .voter_ids()
            .filter(|id| *id != self.leader && *id < self.local.voter.node);
        u32::try_from(before.take(MAX_VOTERS).count()).unwrap_or(u32::MAX)
    }

    /// How often it was asked in this term before.
    fn count(&self, term: u64) -> u32 {
        let mut tried = self.tried.lock();
        if tried.term != term {
            *tried = Tried { term, times: 0 };
        }
        let before = tried.times;
        tried.times = before.saturating_add(1);
        before
    }
}

impl Judge for Leader {
    async fn refused(&self, anew: bool) {
        let Some(term) = self.term() else { return };
        self.local.release_vote(self.leader, anew).await;
        sleep(ELECTION_FIRST + ELECTION_TURN * self.turn()).await;
        if self.term() != Some(term) || self.local.is_disproved().await {
            return;
        }
        match self.count(term) {
            0 => tracing::warn!(
                leader = self.leader,
                "the host of the controllers' leader answers and its process is gone: asking for \
                 votes"
            ),
            // Without a majority there is nothing to win: raft's own time-outs are soon enough.
            ELECTION_TRIES.. => return,
            _ => {}
        }
        self.local.ask_for_votes().await;
    }

    async fn wait(&self, pause: Duration) {
        sleep(pause).await;
    }
}
