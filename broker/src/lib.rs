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

mod auth;
pub mod client;
pub mod config;
mod connection;
mod context;
pub mod groups;
mod limits;
mod memory;
mod metrics;
mod quotas;
mod server;
