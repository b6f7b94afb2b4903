//! Partitions over a write-ahead log and an object store.
//!
//! ```text
//!   append ─▶ Partition ─▶ log ─▶ durable ─▶ hot cache ─▶ high watermark ─▶ waiters
//!                                    │
//!                                    ▼
//!                          Uploader ─▶ objects ─▶ Catalog ─▶ trim of the log
//!                                         ▲
//!   read ─▶ hot cache ─▶ block cache ─────┘◀── Compactor, retention, Collector
//! ```
//!
//! **Invariants.** R3: hot cache, high watermark and replies follow durability, in the log's
//! order. R4, R6: the log is trimmed only behind what the catalog recorded or rightly dropped. R5:
//! producer state stored with a slice is that at exactly its end. R7: the cache forgets only what
//! the owner has applied to its own slice list.

mod budget;
mod cache;
mod catalog;
mod collector;
mod compactor;
mod error;
mod follower;
pub mod format;
#[cfg(test)]
mod harness;
mod hooks;
mod keys;
mod limits;
mod metrics;
mod objects;
mod partition;
mod producers;
mod reader;
mod recovery;
mod retention;
mod settings;
mod storage;
pub mod store;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod uploader;

pub use catalog::{
    Catalog, CatalogError, CommitUpload, Condemned, Digest, ObjectRef, PartitionView, ReplaceRun,
    ReplaceSlices, SliceOutcome, SliceRef,
};
pub use collector::{
    Collected, Collector, CollectorMetrics, CollectorParts, CollectorSettings, Duty,
};
pub use error::{Error, ErrorKind, RecordError};
pub use follower::Followed;
pub use hooks::{HookBatch, Hooks};
pub use keys::{DataKey, KeySpace};
pub use metrics::StorageMetrics;
pub use objects::GivenUp;
pub use partition::{
    AppendContext, Appended, Partition, Position, Reservation, Status as PartitionStatus, Traffic,
};
pub use reader::{AbortedTransaction, Isolation, ReadResult, RecordAt};
pub use recovery::{ClaimedPartition, Recovered, RecoveryTurn, TailClaim};
pub use settings::{DiskReserve, ReadBudget, StorageSettings, TopicConfig};
pub use storage::{Storage, StorageParts};
pub use uploader::{HandOverBounds, Held};
