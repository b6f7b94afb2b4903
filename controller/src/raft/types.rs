//! openraft's types to and from messages of ours: what is stored, and later sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::impls::{BoxedErrorSource, leader_id_adv::LeaderId as OpenLeaderId};
use openraft::impls::{InlineBatch, OneshotResponder};
use openraft::{EntryPayload, Membership, OptionalSend, RaftTypeConfig, StoredMembership};
use prost::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::{Decoded, Malformed, malformed};

/// A log entry's bytes: an encoded `Proposal`. openraft wants serde's traits of it and never
/// calls them here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProposalBytes(pub(crate) Arc<[u8]>);

/// An encoded answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerBytes(pub(crate) Vec<u8>);

impl std::fmt::Display for ProposalBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a command of {} bytes", self.0.len())
    }
}

/// A member: where it is reached, and the directory that holds its log. A node that comes back with
/// another directory is another voter (KIP-853): its promises were in the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voter {
    /// `host:port`.
    pub(crate) address: String,
    /// Nil for a member written before directories were told apart: any will do.
    pub(crate) directory: u128,
}

/// How this crate uses openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = ProposalBytes;
    type R = AnswerBytes;
    type NodeId = u64;
    type Node = Voter;
    type Term = u64;
    type LeaderId = OpenLeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<ProposalBytes, u64, Voter>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Members = Membership<u64, Voter>;
pub(crate) type StoredMembers = StoredMembership<OpenLeaderId<u64, u64>, u64, Voter>;

/// The stored forms. Field numbers are for ever.
pub(crate) mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct LogId {
        #[prost(uint64, tag = "1")]
        pub(crate) term: u64,
        #[prost(uint64, tag = "2")]
        pub(crate) node: u64,
        #[prost(uint64, tag = "3")]
        pub(crate) index: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Vote {
        #[prost(uint64, tag = "1")]
        pub(crate) term: u64,
        #[prost(uint64, tag = "2")]
        pub(crate) node: u64,
        #[prost(bool, tag = "3")]
        pub(crate) committed: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Node {
        #[prost(uint64, tag = "1")]
        pub(crate) id: u64,
        #[prost(string, tag = "2")]
        pub(crate) address: String,
        /// 16 bytes, or none for any.
        #[prost(bytes = "vec", tag = "3")]
        pub(crate) directory: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Voters {
        #[prost(uint64, repeated, tag = "1")]
        pub(crate) ids: Vec<u64>,
    }

    /// One set of voters, or two while a change is under way.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Membership {
        #[prost(message, repeated, tag = "1")]
        pub(crate) voters: Vec<Voters>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) nodes: Vec<Node>,
    }

    /// Neither command nor membership: a new leader's first entry.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Entry {
        #[prost(message, optional, tag = "1")]
        pub(crate) id: Option<LogId>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(crate) command: Option<Vec<u8>>,
        #[prost(message, optional, tag = "3")]
        pub(crate) membership: Option<Membership>,
    }

    /// Entries from `index` on are gone.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TruncateFrom {
        #[prost(uint64, tag = "1")]
        pub(crate) index: u64,
    }

    /// What a snapshot says of itself.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SnapshotMeta {
        #[prost(message, optional, tag = "1")]
        pub(crate) last: Option<LogId>,
        #[prost(message, optional, tag = "2")]
        pub(crate) membership_id: Option<LogId>,
        #[prost(message, optional, tag = "3")]
        pub(crate) membership: Option<Membership>,
        /// Level of the state machine that wrote it.
        #[prost(uint32, tag = "4")]
        pub(crate) feature_level: u32,
    }
}

pub(crate) fn put_log_id(id: &LogId) -> wire::LogId {
    let leader = id.committed_leader_id();
    wire::LogId {
        term: leader.term,
        node: leader.node_id,
        index: id.index(),
    }
}

pub(crate) fn get_log_id(wire: &wire::LogId) -> LogId {
    LogId::new(
        OpenLeaderId {
            term: wire.term,
            node_id: wire.node,
        },
        wire.index,
    )
}

pub(crate) fn put_vote(vote: &Vote) -> wire::Vote {
    let leader = vote.leader_id();
    wire::Vote {
        term: leader.term,
        node: leader.node_id,
        committed: vote.is_committed(),
    }
}

pub(crate) fn get_vote(wire: &wire::Vote) -> Vote {
    match wire.committed {
        true => Vote::new_committed(wire.term, wire.node),
        false => Vote::new(wire.term, wire.node),
    }
}

fn put_directory(directory: u128) -> Vec<u8> {
    match directory {
        0 => Vec::new(),
        directory => Uuid::from_u128(directory).as_bytes().to_vec(),
    }
}

fn get_directory(bytes: &[u8]) -> Decoded<u128> {
    match bytes.len() {
        0 => Ok(0),
        _ => Uuid::from_slice(bytes)
            .map(|id| id.as_u128())
            .map_err(|e| Malformed(format!("directory: {e}"))),
    }
}

pub(crate) fn put_membership(members: &Members) -> wire::Membership {
    let voters = members.get_joint_config().iter();
    let nodes = members.nodes();
    wire::Membership {
        voters: voters
            .map(|ids| wire::Voters {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        nodes: nodes
            .map(|(id, node)| wire::Node {
                id: *id,
                address: node.address.clone(),
                directory: put_directory(node.directory),
            })
            .collect(),
    }
}

pub(crate) fn get_membership(wire: wire::Membership) -> Decoded<Members> {
    if wire.voters.is_empty() && wire.nodes.is_empty() {
        return Ok(Members::default());
    }
    let voters = wire
        .voters
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<_, _> = wire
        .nodes
        .into_iter()
        .map(|node| {
            let (id, address) = (node.id, node.address);
            get_directory(&node.directory).map(|directory| (id, Voter { address, directory }))
        })
        .collect::<Decoded<_>>()?;
    Members::new(voters, nodes).map_err(|e| Malformed(format!("membership: {e}")))
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut wire = wire::Entry {
        id: Some(put_log_id(&entry.log_id)),
        ..Default::default()
    };
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(command) => wire.command = Some(command.0.to_vec()),
        EntryPayload::Membership(members) => wire.membership = Some(put_membership(members)),
    }
    wire.encode_to_vec()
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Decoded<Entry> {
    let wire = wire::Entry::decode(bytes).map_err(|e| Malformed(format!("entry: {e}")))?;
    let Some(id) = wire.id else {
        return malformed("entry: no id");
    };
    let payload = match (wire.command, wire.membership) {
        (None, None) => EntryPayload::Blank,
        (Some(command), None) => EntryPayload::Normal(ProposalBytes(command.into())),
        (None, Some(members)) => EntryPayload::Membership(get_membership(members)?),
        (Some(_), Some(_)) => return malformed("entry: both command and membership"),
    };
    Ok(Entry {
        log_id: get_log_id(&id),
        payload,
    })
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Decoded<LogId> {
    let wire = wire::LogId::decode(bytes).map_err(|e| Malformed(format!("log id: {e}")))?;
    Ok(get_log_id(&wire))
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Decoded<Vote> {
    let wire = wire::Vote::decode(bytes).map_err(|e| Malformed(format!("vote: {e}")))?;
    Ok(get_vote(&wire))
}
