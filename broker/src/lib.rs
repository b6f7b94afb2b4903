//! The broker: composition root of Headwater, and the library behind the binary `headwater`.
//!
//! ```text
//!  main ─▶ cli ─▶ config ─▶ Node::start ─▶ store, controller, takeover, WAL, partitions, listeners
//!
//!  server ─▶ connection ─▶ router ─▶ handlers ─┬─▶ storage (records)  ─▶ wal, object store
//!                                              ├─▶ controller (topics, ids, configs)
//!                                              └─▶ groups (consumer groups)
//! ```
//!
//! **Invariants:** nothing is acknowledged without a live lease; nothing is global: a node has
//! its world from [`env::Env`] and owns every task that it starts.

mod admin;
mod assignment;
mod auth;
mod broker;
mod catalog;
pub mod cli;
pub mod client;
pub mod config;
mod connection;
mod context;
mod departed;
mod error;
pub mod groups;
mod handlers;
mod limits;
mod loads;
mod memory;
mod metrics;
mod mover;
mod node;
mod opening;
mod producer_ids;
mod quotas;
mod refused;
mod router;
mod server;
mod surrender;
mod sweeper;
mod takeover;
mod topics;
mod zones;

pub use auth::{AllowAll, Authorizer, Operation, Resource};
pub use context::{Principal, RequestContext, Software};
pub use node::{Node, NodeError, NodeParts, Pace, Status};
pub use quotas::{Quota, Unlimited, Use};
