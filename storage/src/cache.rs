//! Memory between the log and the object store.

mod block;
mod hot;

pub(crate) use block::{BlockCache, BlockKey, Claim, Weigh};
pub(crate) use hot::{HotBatch, HotLog, Retained};
