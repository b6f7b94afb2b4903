//! Consensus: openraft over our own log, snapshots and messages.
//!
//! ```text
//!   client ──▶ Raft ──append, vote──▶ LogStore ──one thread, one sync per batch──▶ segment files
//!                ├──append, vote, snapshot──▶ Peer ──▶ other voters (serve)
//!                └──committed──▶ Machine ──▶ State ──▶ Image (swapped whole)
//!                                   └──now and then──▶ Snapshots (two files)
//! ```
//!
//! **Invariants:** votes and entries become durable in the order of issue; nothing of openraft's is
//! stored or sent (`types` converts); the log reaches back to the older of the two snapshots.

mod convert;
mod errors;
mod leader;
mod log;
mod machine;
mod network;
pub(crate) mod node;
pub(crate) mod serve;
pub(crate) mod snapshots;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use leader::{Local, NotDone};
pub(crate) use log::{LogKeeper, LogStore};
pub(crate) use machine::{Machine, Shared};
pub(crate) use network::Peers;
pub(crate) use snapshots::Snapshots;
pub(crate) use types::{ProposalBytes, TypeConfig, Voter, wire};

/// The raft node.
pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
