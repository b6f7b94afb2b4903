//! What is sent. Field numbers are for ever.

use crate::raft::wire::{LogId, Vote};

/// Nothing to say.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

/// Log entries after `previous`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub(crate) previous: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub(crate) committed: Option<LogId>,
    /// As they are stored.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(crate) entries: Vec<bytes::Bytes>,
}

/// To one `Append`: durable up to `durable`, unless one of the others is set.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Appended {
    #[prost(message, optional, tag = "1")]
    pub(crate) durable: Option<LogId>,
    /// The entry before is another one here.
    #[prost(message, optional, tag = "2")]
    pub(crate) conflict: Option<LogId>,
    /// Somebody else leads.
    #[prost(message, optional, tag = "3")]
    pub(crate) higher: Option<Vote>,
}

/// Asks for a vote.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AskVote {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogId>,
    #[prost(bool, tag = "3")]
    pub(crate) transfer: bool,
}

/// A vote, or none.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Voted {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogId>,
    #[prost(bool, tag = "3")]
    pub(crate) granted: bool,
}

/// A piece of a snapshot's file; the first carries the vote and the length of it all.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotChunk {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(uint64, tag = "2")]
    pub(crate) total: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) bytes: bytes::Bytes,
}

/// The vote that stands where a snapshot went.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Installed {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
}

/// The leader steps aside.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Transfer {
    #[prost(message, optional, tag = "1")]
    pub(crate) from: Option<Vote>,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
}

/// A voter says who it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Identity {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) directory: Vec<u8>,
    /// It knows of a cluster: it holds log entries.
    #[prost(bool, tag = "3")]
    pub(crate) initialized: bool,
}

/// Something for the leader: exactly one is set.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(message, optional, tag = "1")]
    pub(crate) submit: Option<Submit>,
    /// How far to have applied for a linearizable read.
    #[prost(message, optional, tag = "2")]
    pub(crate) read_index: Option<Nothing>,
    /// The broker epoch that asks for its lease again.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) renew: Option<u64>,
    #[prost(message, optional, tag = "4")]
    pub(crate) change_voter: Option<ChangeVoter>,
}

/// A command.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Submit {
    /// An encoded proposal.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) proposal: bytes::Bytes,
    /// The caller holds the lock of the node's directory: no earlier process of it lives.
    #[prost(bool, tag = "2")]
    pub(crate) death_proven: bool,
}

/// One voter in or out.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChangeVoter {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    /// Where it is reached; none to take it out.
    #[prost(string, optional, tag = "2")]
    pub(crate) address: Option<String>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) directory: Vec<u8>,
}

/// What the leader says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Outcome {
    /// The log entry that the caller's state must hold.
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    /// To a command, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) answer: bytes::Bytes,
    /// To a renewal: false when the epoch is fenced.
    #[prost(bool, tag = "3")]
    pub(crate) granted: bool,
}
