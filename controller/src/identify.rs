//! Asks one voter who it is, before there is a cluster to ask.

use std::time::Duration;

use env::Env;
use protocol::NodeId;
use uuid::Uuid;

use crate::error::Error;
use crate::rpc::tls::Tls;
use crate::rpc::{Channels, Target, method, wire};

/// What a voter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterIdentity {
    /// Its node.
    pub node: NodeId,
    /// The directory that holds its log.
    pub directory: Uuid,
    /// Whether that log holds anything: it knows of a cluster.
    pub has_log: bool,
}

/// Asks the voter at `address` (`host:port`) who it is; with `tls`, where the controllers have that.
///
/// # Errors
/// `Unavailable` when it does not answer `within` that time; `Corrupt`.
pub async fn identify(
    env: &Env,
    address: &str,
    tls: Option<&Tls>,
    within: Duration,
) -> Result<VoterIdentity, Error> {
    let target = Target {
        node: 0,
        address: address.to_owned(),
        directory: Uuid::nil(),
    };
    let channels = Channels::new(env.net.clone(), tls.cloned());
    let asked = channels.ask(&target, method::IDENTIFY, wire::Nothing {}, within);
    let found: wire::Identity = asked.await.map_err(|status| Error::Unavailable {
        reason: format!("{address}: {}", status.message()),
    })?;
    let node = i32::try_from(found.node)
        .map_err(|e| Error::corrupt("identity", format!("node {}: {e}", found.node)))?;
    let directory = Uuid::from_slice(&found.directory)
        .map_err(|e| Error::corrupt("identity", format!("directory: {e}")))?;
    Ok(VoterIdentity {
        node: NodeId(node),
        directory,
        has_log: found.initialized,
    })
}
