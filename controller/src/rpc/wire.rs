//! What is sent. Field numbers are for ever.

use crate::command::wire::{Object, Slice};
use crate::raft::wire::{LogId, Vote};

pub(crate) use crate::command::wire::Partition as WirePartition;

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
    /// The leader, as far as it knows.
    #[prost(message, optional, tag = "4")]
    pub(crate) leader: Option<Member>,
    /// The term that it is in.
    #[prost(uint64, tag = "5")]
    pub(crate) term: u64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) members: Vec<Member>,
    /// The newest level that its build knows.
    #[prost(uint32, tag = "7")]
    pub(crate) level: u32,
}

/// A voter, or one that is to be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Member {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) directory: Vec<u8>,
    /// It does not vote. Builds before this one did not say.
    #[prost(bool, tag = "110")]
    pub(crate) learner: bool,
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
    /// Beside one of the others: whoever does not lead may say who does.
    #[prost(bool, tag = "5")]
    pub(crate) redirect: bool,
    #[prost(message, optional, tag = "6")]
    pub(crate) query: Option<Query>,
    #[prost(message, optional, tag = "7")]
    pub(crate) quorum: Option<Nothing>,
    /// Beside `renew`: how far the asker's image is, and the newest level that its build knows.
    #[prost(uint64, tag = "8")]
    pub(crate) applied: u64,
    #[prost(uint32, tag = "9")]
    pub(crate) level: u32,
    /// Beside `renew`: the asker's object store answered it lately.
    #[prost(bool, tag = "10")]
    pub(crate) store_answers: bool,
}

/// A question to the leader's state: exactly one is set.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Query {
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<AskPartition>,
    /// How much this partition holds.
    #[prost(message, optional, tag = "2")]
    pub(crate) bytes: Option<WirePartition>,
    #[prost(message, optional, tag = "3")]
    pub(crate) condemned: Option<AskCondemned>,
    /// Which of these nothing names and nothing can ever name.
    #[prost(message, optional, tag = "4")]
    pub(crate) orphans: Option<Keys>,
    /// Whether this encoded proposal would be done.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) check: Option<Vec<u8>>,
    /// From where on this log is not committed.
    #[prost(bytes = "vec", optional, tag = "120")]
    pub(crate) trim: Option<Vec<u8>>,
}

/// A partition with its slices from this number on.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AskPartition {
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<WirePartition>,
    #[prost(uint64, tag = "2")]
    pub(crate) from: u64,
}

/// Objects condemned before a time.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AskCondemned {
    #[prost(int64, tag = "1")]
    pub(crate) before_ms: i64,
    #[prost(uint64, tag = "2")]
    pub(crate) limit: u64,
    /// Behind this one.
    #[prost(message, optional, tag = "3")]
    pub(crate) after: Option<CondemnedObject>,
}

/// Keys of objects.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Keys {
    #[prost(string, repeated, tag = "1")]
    pub(crate) keys: Vec<String>,
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
    /// Nothing was done: this one leads.
    #[prost(message, optional, tag = "4")]
    pub(crate) elsewhere: Option<Member>,
    #[prost(message, optional, tag = "5")]
    pub(crate) reply: Option<Reply>,
    #[prost(message, optional, tag = "6")]
    pub(crate) quorum: Option<Quorum>,
    /// To a renewal: the object store answers another broker.
    #[prost(bool, tag = "7")]
    pub(crate) others_reach_store: bool,
    /// How long a lease is to the one that leads, milliseconds; 0 from a build that does not say.
    #[prost(uint64, tag = "90")]
    pub(crate) lease_ms: u64,
}

/// To a `Query`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Reply {
    /// None when there is no such partition.
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<PartitionPage>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) bytes: Option<u64>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) condemned: Vec<CondemnedObject>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) keys: Vec<String>,
    /// To a check, encoded.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) answer: Vec<u8>,
    #[prost(uint64, optional, tag = "120")]
    pub(crate) trim: Option<u64>,
}

/// A partition, and some of its slices.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartitionPage {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) leader: Option<u64>,
    #[prost(int32, tag = "2")]
    pub(crate) leader_epoch: i32,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) awaits: Option<Vec<u8>>,
    #[prost(int64, tag = "4")]
    pub(crate) log_start: i64,
    #[prost(int64, tag = "5")]
    pub(crate) committed_end: i64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) epochs: Vec<Range>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) gaps: Vec<Range>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) objects: Vec<Object>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) slices: Vec<Slice>,
    /// The same in all pages of one state.
    #[prost(fixed32, tag = "10")]
    pub(crate) mark: u32,
    #[prost(bool, tag = "11")]
    pub(crate) more: bool,
}

/// An epoch's offsets, or a gap's.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Range {
    #[prost(int32, tag = "1")]
    pub(crate) epoch: i32,
    #[prost(int64, tag = "2")]
    pub(crate) from: i64,
    #[prost(int64, tag = "3")]
    pub(crate) to: i64,
}

/// An object that no slice names any more.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CondemnedObject {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(int64, tag = "2")]
    pub(crate) at_ms: i64,
}

/// How the voters stand.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Quorum {
    #[prost(uint64, tag = "1")]
    pub(crate) leader: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) committed: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) voters: Vec<Standing>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) observers: Vec<Standing>,
}

/// How one of them stands.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Standing {
    #[prost(message, optional, tag = "1")]
    pub(crate) member: Option<Member>,
    /// The last log entry that it is known to hold.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) holds: Option<u64>,
    /// When it was heard of last, milliseconds since the Unix epoch.
    #[prost(int64, optional, tag = "3")]
    pub(crate) heard_ms: Option<i64>,
}

/// Asks for a voter's image, whole, and then as it changes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Watch {}

/// A piece of an encoded `image::wire::Delta`; without bytes a sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Piece {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: bytes::Bytes,
    /// The rest of it comes in the next.
    #[prost(bool, tag = "2")]
    pub(crate) more: bool,
}
