//! A durable, ordered, fenceable log.

mod entry;

pub use entry::{Entry, Group, Sequence, WalId};
