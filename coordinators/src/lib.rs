//! What coordinators decide: pure state machines, without a runtime and without I/O.
//!
//! ```text
//! request, time, outcome of an effect ─▶ state machine ─▶ effects: append, send, answer
//!                                            ▲
//!                    records of the log ─▶ fold, on opening
//! ```
//!
//! - [`consumer`] is the consumer group of KIP-848, on `__consumer_offsets`.
//! - [`transactions`] is the coordinator of transactions, on `__transaction_state`.
//! - [`wire`] are Kafka's primitive types, of which its records in internal topics are made.
//!
//! **Not served yet:** nothing of the broker calls this crate. `broker/src/groups` coordinates
//! groups until the machines here have been wired to logs, timers and connections.
//!
//! **Invariants:** nothing here reads a clock, draws a random number or waits: whatever is needed
//! of the world comes in as an argument, and whatever is wanted of it goes out as an effect. The
//! same inputs give the same effects. Nothing panics on bytes of a log.

pub mod consumer;
mod error;
pub mod transactions;
pub mod wire;

pub use error::{Error, ErrorKind, Result};
