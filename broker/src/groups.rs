//! Classic consumer groups and their committed offsets.
//!
//! ```text
//! handlers ──Request──▶ Coordinator::apply(now, input) ──▶ Effects
//!                        (pure: no clock, no I/O, no await)   ├─ records ─▶ __consumer_offsets
//! __consumer_offsets ──▶ load::Loader ──▶ Coordinator         └─ answers ─▶ waiters, once the
//!                                                                records before them are durable
//! ```
//!
//! One [`Coordinator`] holds the groups of one partition of `__consumer_offsets`. Everything that
//! decides is synchronous and takes time as an argument.
//!
//! **Invariant:** every waiter handed in is answered exactly once, also by groups that are deleted,
//! members that are fenced, and requests that are overtaken by their own retry.
//!
//! **Invariant:** the durable part of a coordinator is the fold of its records: loading what was
//! written yields every committed offset and every stable generation again.

mod api;
mod config;
mod coordinator;
mod describe;
mod error;
mod group;
mod join;
mod limits;
mod load;
mod member;
mod offsets;
mod rebalance;
mod record;
mod session;
mod subscription;
mod timers;

pub use api::*;
pub use config::GroupConfig;
pub use coordinator::{Coordinator, partition_for};
pub use error::GroupError;
pub use limits::*;
pub use load::{LoadCounts, Loader};
pub use record::{
    GroupKey, GroupMetadataValue, MemberValue, OffsetKey, OffsetValue, RecordError, RecordKey,
};

#[cfg(test)]
mod tests;
