//! Elections that do not wait for a time-out.
//!
//! **Invariant:** a promise that was ended for evidence stands again as soon as the leader gives a
//! sign of life: one wrong piece of evidence must not let anybody unseat a leader for the rest of
//! its term, and one that lasts not either. Repeated, what was disproved counts only when the leader
//! is silent, too. (To openraft a promise that was ended stays so until the vote changes.)

use std::time::Duration;

use openraft::Instant as _;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use tokio::time::Instant;

use super::Local;
use crate::limits::{ELECTION_MAX_MS, LEADER_SILENCE, PROOF_OF_LIFE};
use crate::raft::types::{TypeConfig, Vote};

/// A promise not to vote that was ended.
#[derive(Clone, Copy)]
pub(super) struct Released {
    vote: Vote,
    at: Instant,
}

/// Who leads, among which members; told of each change of either.
pub(crate) struct Reigns(WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>);

// === impl Reigns ===

impl Reigns {
    /// Who leads now.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.0.borrow_watched().current_leader
    }

    /// Returns at a change; false when the voter has stopped.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

// === impl Local ===

impl Local {
    /// Follows who leads.
    pub(crate) fn reigns(&self) -> Reigns {
        Reigns(self.raft.server_metrics())
    }

    /// Ends this voter's promise not to vote while `leader` is there, until that one gives a sign of
    /// life. (Raft's safety does not rest on it, and no read does: a quorum confirms them.)
    /// Evidence that is not `anew` says what the one before said: it ends nothing when that was
    /// disproved.
    pub(crate) async fn release_vote(&self, leader: u64, anew: bool) {
        if !anew && self.is_disproved().await {
            return;
        }
        let vote = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let Ok(vote) = vote else { return };
        if vote.leader_id.node_id != leader {
            return;
        }
        let at = Instant::now();
        *self.released.lock() = Some(Released { vote, at });
        // As if the leader itself wished for another one, and this voter were not that one.
        let request = TransferLeaderRequest::new(vote, leader, None);
        if let Err(error) = self.raft.handle_transfer_leader(request).await {
            tracing::debug!(%error, "the voter stops");
        }
    }

    /// Whether the leader that was taken for dead has given signs of life since, and is not silent.
    pub(crate) async fn is_disproved(&self) -> bool {
        self.lives(LEADER_SILENCE).await.is_some()
    }

    /// The refusal of a vote, or of a promise of one, by the promise to a leader that has given signs
    /// of life since this voter took it for dead. `None`: raft is to judge.
    pub(crate) async fn refusal(
        &self,
        request: &VoteRequest<TypeConfig>,
    ) -> Option<VoteResponse<TypeConfig>> {
        if request.leadership_transfer {
            return None;
        }
        let vote = self.lives(Duration::from_millis(ELECTION_MAX_MS)).await?;
        Some(VoteResponse::new(vote, None, false))
    }

    /// The vote for a leader that was taken for dead, and has been heard since, less than `silence`
    /// ago.
    async fn lives(&self, silence: Duration) -> Option<Vote> {
        let released = (*self.released.lock())?;
        let state = self
            .raft
            .with_raft_state(|state| (*state.vote_ref(), state.vote_last_modified()));
        let (vote, heard) = state.await.ok()?;
        // A later vote brings a promise of its own.
        let heard = heard.filter(|_| vote == released.vote)?;
        // What was on the way when the process died is none.
        let ago = heard.elapsed();
        let lives = ago + PROOF_OF_LIFE < released.at.elapsed() && ago < silence;
        lives.then_some(vote)
    }

    /// Asks the other voters whether they would vote for this one, and if a majority would, for
    /// their votes.
    pub(crate) async fn ask_for_votes(&self) {
        if let Err(error) = self.raft.trigger().elect(true).await {
            tracing::debug!(%error, "the voter stops");
        }
    }
}
