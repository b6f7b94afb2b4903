//! A small asynchronous Kafka client, for the operator's commands, the simulation and the load
//! generator: `Cluster ──▶ Connection ──▶ env's network`.
//!
//! One request at a time and connection, in order, in the highest version that both sides know.
//! It retries nothing: whoever calls knows what a failure means.

mod cluster;
mod connection;
mod data;
mod error;

pub use cluster::{Cluster, PartitionInfo, TopicInfo};
pub use connection::{Connection, Settings};
pub use data::{FetchLimits, Fetched};
pub use error::Error;
