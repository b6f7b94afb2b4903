//! Elections that do not wait for a time-out.

use openraft::raft::TransferLeaderRequest;

use super::Local;

// === impl Local ===

impl Local {
    /// Ends this voter's promise not to vote while `leader` is there. (Raft's safety does not rest
    /// on it, and no read does: a quorum confirms them.)
    pub(crate) async fn release_vote(&self, leader: u64) {
        let vote = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let Ok(vote) = vote else { return };
        if vote.leader_id.node_id != leader {
            return;
        }
        // As if the leader itself wished for another one, and this voter were not that one.
        let request = TransferLeaderRequest::new(vote, leader, None);
        if let Err(error) = self.raft.handle_transfer_leader(request).await {
            tracing::debug!(%error, "the voter stops");
        }
    }

    /// Asks the other voters whether they would vote for this one, and if a majority would, for
    /// their votes.
    pub(crate) async fn ask_for_votes(&self) {
        if let Err(error) = self.raft.trigger().elect(true).await {
            tracing::debug!(%error, "the voter stops");
        }
    }
}
