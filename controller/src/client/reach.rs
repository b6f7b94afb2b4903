//! Whether anything can be decided at all: asked by who stops, and would wait for it.

use futures::future::join_all;
use tokio::time::sleep;

use super::{Client, Way};
use crate::limits::{REACH_LOOKS, REACH_PAUSE, REACH_TIMEOUT};
use crate::rpc::{Channels, Target, method, wire};

// === impl Client ===

impl Client {
    /// Returns once the voters that answer have been no majority for several looks: what is asked
    /// of the controllers now comes to nothing. Returns never where a voter is alone.
    pub async fn out_of_reach(&self) {
        let mut missed = 0;
        loop {
            missed = if self.majority_answers().await {
                0
            } else {
                missed + 1
            };
            if missed >= REACH_LOOKS {
                return;
            }
            sleep(REACH_PAUSE).await;
        }
    }

    async fn majority_answers(&self) -> bool {
        let (own, others, voters) = match &self.inner.way {
            Way::Local(local) => {
                let members = local.members();
                let voters: Vec<u64> = members.voter_ids().collect();
                let own = local.voter.node;
                let others = members
                    .nodes()
                    .filter(|(id, _)| **id != own && voters.contains(id))
                    .map(|(id, voter)| voter.target(*id));
                let counts = usize::from(voters.contains(&own));
                (counts, others.collect::<Vec<_>>(), voters.len())
            }
            Way::Remote(remote) => {
                let voters = remote.voters();
                let count = voters.len();
                (0, voters, count)
            }
        };
        let channels = self.channels();
        let asked = others.iter().map(|target| answers(channels, target));
        let answering = join_all(asked).await;
        let answering = own + answering.into_iter().filter(|answers| *answers).count();
        2 * answering > voters
    }
}

/// Whether it is there with the log that it is a member with.
async fn answers(channels: &Channels, target: &Target) -> bool {
    let asked = channels.ask(target, method::IDENTIFY, wire::Nothing {}, REACH_TIMEOUT);
    let asked: Result<wire::Identity, _> = asked.await;
    asked.is_ok_and(|identity| target.is(&identity))
}
