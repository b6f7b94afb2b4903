//! Voters in and out, and how they stand.

use protocol::NodeId;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Client, unavailable};
use crate::error::Error;
use crate::limits::{RPC_TIMEOUT, SUBMIT_RETRY, SUBMIT_TIMEOUT};
use crate::quorum::Quorum;
use crate::rpc::{Target, method, wire};

impl Client {
    /// Adds the voter that answers at `address`, or tells the others where it is now. Returns when
    /// it has caught up and counts.
    ///
    /// # Errors
    /// `Settings` when it stands with another directory (remove it first), or when nine stand;
    /// `Unavailable`, `Stopped`.
    pub async fn add_voter(&self, address: &str) -> Result<NodeId, Error> {
        let found = self.identify(address).await?;
        let node = get_node(&found)?;
        self.add_found(found, address).await?;
        Ok(node)
    }

    /// As [`add_voter`](Self::add_voter), when the voter at `address` is the one meant: by node and by
    /// the id of its directory.
    ///
    /// # Errors
    /// As [`add_voter`](Self::add_voter); `Settings` when somebody else answers there.
    pub async fn add_known_voter(
        &self,
        (node, directory): (NodeId, Uuid),
        address: &str,
    ) -> Result<(), Error> {
        let found = self.identify(address).await?;
        if get_node(&found)? != node || found.directory != directory.as_bytes() {
            let there = Uuid::from_slice(&found.directory).unwrap_or_default();
            return Err(Error::Settings {
                reason: format!(
                    "voter {} with directory {there} answers at {address}, not voter {node} with \
                     {directory}",
                    found.node
                ),
            });
        }
        self.add_found(found, address).await
    }

    /// Who answers at `address`.
    async fn identify(&self, address: &str) -> Result<wire::Identity, Error> {
        let at = Target {
            node: 0,
            address: address.to_owned(),
            directory: Uuid::nil(),
        };
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        loop {
            let (channels, question) = (self.channels(), wire::Nothing {});
            let asked = channels.ask(&at, method::IDENTIFY, question, RPC_TIMEOUT);
            match asked.await {
                Ok(found) => return Ok(found),
                Err(_) if Instant::now() + SUBMIT_RETRY < deadline => sleep(SUBMIT_RETRY).await,
                Err(e) => return Err(unavailable(&format!("{address}: {}", e.message()))),
            }
        }
    }

    async fn add_found(&self, found: wire::Identity, address: &str) -> Result<(), Error> {
        let change = wire::ChangeVoter {
            node: found.node,
            address: Some(address.to_owned()),
            directory: found.directory,
        };
        self.change_voter(change).await
    }

    /// Takes a voter out.
    ///
    /// # Errors
    /// `Settings` when it is the only one; `Unavailable`, `Stopped`.
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), Error> {
        let node = u64::try_from(node.0).map_err(|_| Error::Settings {
            reason: format!("no voter has the id {node}"),
        })?;
        let change = wire::ChangeVoter {
            node,
            address: None,
            directory: Vec::new(),
        };
        self.change_voter(change).await
    }

    async fn change_voter(&self, change: wire::ChangeVoter) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let asked = self.ask(deadline, true, || {
            Ok(wire::Ask {
                change_voter: Some(change.clone()),
                ..Default::default()
            })
        });
        asked.await.map(drop)
    }

    /// How the voters stand, as the leader sees them.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn quorum(&self) -> Result<Quorum, Error> {
        let asked = self.ask(Instant::now() + SUBMIT_TIMEOUT, false, || {
            Ok(wire::Ask {
                quorum: Some(wire::Nothing {}),
                ..Default::default()
            })
        });
        let told = asked.await?.quorum;
        let told = told.ok_or_else(|| Error::corrupt("answer", "nothing of the quorum"))?;
        Quorum::get(told).map_err(|e| Error::corrupt("answer", e.0))
    }
}

fn get_node(found: &wire::Identity) -> Result<NodeId, Error> {
    i32::try_from(found.node)
        .map(NodeId)
        .map_err(|e| Error::corrupt("identity", format!("node {}: {e}", found.node)))
}
