//! The load generator: librdkafka against a broker in a process of its own.
//!
//! ```text
//!   bin/bench ──▶ core (what is measured) ──▶ load (closed and open loops) ──▶ BrokerProcess
//!                                        └──▶ report (one JSON line a figure)
//! ```
//!
//! Figures count with their conditions: each line holds the host, the build, the WAL backend and
//! what the disk's write-back was doing.

mod controller;
pub mod core;
mod load;
mod offsets;
mod report;

pub use controller::{ControllerBench, run as controllers};
pub use load::{Consumed, Latency, Produced, consume_all, open_loop, produce};
pub use report::Report;
