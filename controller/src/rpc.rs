//! Calls between nodes: gRPC (HTTP/2, prost) over `env`'s network.
//!
//! ```text
//!   raft/network, client ──▶ Channels ──one connection per address──▶ serve ──▶ raft/serve, leader
//!                              └──────────── mutual TLS (tls) ────────┘
//! ```
//!
//! **Invariants:** every call has a deadline; a call names the voter and the directory it is meant
//! for, and nobody else answers it; what is decoded is bounded by `limits`.

mod accept;
mod channels;
pub(crate) mod query;
mod server;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod wire;

pub(crate) use channels::{Channels, Target};
pub(crate) use server::{Service, serve};

/// Paths of the methods.
pub(crate) mod method {
    /// Log entries, and heartbeats: a stream of `Append`, answered in order.
    pub(crate) const APPEND: &str = "/headwater.Raft/Append";
    /// A candidate asks for a vote.
    pub(crate) const VOTE: &str = "/headwater.Raft/Vote";
    /// Somebody asks whether it would get one.
    pub(crate) const PRE_VOTE: &str = "/headwater.Raft/PreVote";
    /// A stream of `SnapshotChunk`.
    pub(crate) const SNAPSHOT: &str = "/headwater.Raft/Snapshot";
    /// The leader steps aside for the one called.
    pub(crate) const TRANSFER: &str = "/headwater.Raft/Transfer";
    /// Who are you? The one method that names no target.
    pub(crate) const IDENTIFY: &str = "/headwater.Controller/Identify";
    /// The image of a voter, as it changes: see `wire::Piece`.
    pub(crate) const WATCH: &str = "/headwater.Controller/Watch";
    /// Something for the leader: see `wire::Ask`.
    pub(crate) const ASK: &str = "/headwater.Controller/Ask";
}
