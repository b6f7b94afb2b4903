//! Classic consumer groups and their committed offsets.
//!
//! ```text
//! handlers ──Request──▶ Shard::apply(now, input) ──▶ Effects
//!                        (pure: no clock, no I/O, no await)   ├─ records ─▶ __consumer_offsets
//! __consumer_offsets ──▶ load::Loader ──▶ Shard               └─ answers ─▶ waiters, once the
//!                                                                records before them are durable
//! ```
//!
//! ```text
//! Coordinator ── per partition led here ──▶ actor { Shard, Writer } ──▶ GroupLog
//! ```
//!
//! One [`Shard`] holds the groups of one partition of `__consumer_offsets`. Everything that decides
//! is synchronous and takes time as an argument; the actor around it has the timers and the log.
//!
//! **Invariant:** every waiter handed in is answered exactly once, also by groups that are deleted,
//! members that are fenced, and requests that are overtaken by their own retry.
//!
//! **Invariant:** the durable part of a shard is the fold of its records: loading what was
//! written yields every committed offset and every stable generation again.

mod actor;
mod api;
mod batch;
mod config;
mod coordinator;
mod describe;
mod error;
mod follow;
mod group;
mod join;
mod limits;
mod load;
mod log;
mod member;
mod metrics;
mod offsets;
mod rebalance;
mod record;
mod session;
mod shard;
mod storage_log;
mod subscription;
mod timers;

pub use api::*;
pub use config::GroupConfig;
pub use coordinator::Coordinator;
pub use error::GroupError;
pub(crate) use follow::{follow, sync};
pub use limits::*;
pub use load::{LoadCounts, Loader};
pub use log::{GroupLog, LogBounds, LogError, Standing};
pub use metrics::GroupMetrics;
pub use record::{
    GroupKey, GroupMetadataValue, MemberValue, OffsetKey, OffsetValue, RecordError, RecordKey,
};
pub use shard::{Shard, partition_for};
pub use storage_log::StorageLog;

#[cfg(test)]
mod tests;
