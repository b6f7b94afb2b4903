//! Crate broker.

pub mod client;
