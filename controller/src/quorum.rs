//! How the voters stand: what Kafka's DescribeQuorum tells (KIP-595, KIP-853).

use protocol::NodeId;
use uuid::Uuid;

use crate::command::{Decoded, get_id, get_int};
use crate::rpc::wire;

/// The voters and those who follow them, as the leader sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The leader.
    pub leader: NodeId,
    /// Its term: Kafka's leader epoch.
    pub term: u64,
    /// The last log entry that a quorum holds.
    pub committed: u64,
    /// The voters.
    pub voters: Vec<QuorumMember>,
    /// Voters to be, and live brokers without a voter.
    pub observers: Vec<QuorumMember>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMember {
    /// The node.
    pub node: NodeId,
    /// Id of the directory that holds its log; nil for who has none.
    pub directory: Uuid,
    /// Where other nodes reach it, `host:port`; empty for who is not reached.
    pub address: String,
    /// The last log entry that it is known to hold.
    pub holds: Option<u64>,
    /// When the leader heard of it last, milliseconds since the Unix epoch.
    pub heard_ms: Option<i64>,
}

// === impl Quorum ===

impl Quorum {
    pub(crate) fn get(wire: wire::Quorum) -> Decoded<Self> {
        let members = |standings: Vec<wire::Standing>| {
            let members = standings.into_iter().map(QuorumMember::get);
            members.collect::<Decoded<Vec<_>>>()
        };
        Ok(Self {
            leader: NodeId(get_int(wire.leader, "leader")?),
            term: wire.term,
            committed: wire.committed,
            voters: members(wire.voters)?,
            observers: members(wire.observers)?,
        })
    }
}

// === impl QuorumMember ===

impl QuorumMember {
    fn get(wire: wire::Standing) -> Decoded<Self> {
        let member = wire.member.unwrap_or_default();
        Ok(Self {
            node: NodeId(get_int(member.node, "node")?),
            directory: match &*member.directory {
                [] => Uuid::nil(),
                directory => get_id(directory)?,
            },
            address: member.address,
            holds: wire.holds,
            heard_ms: wire.heard_ms,
        })
    }
}
