//! Partitions over a write-ahead log and an object store.

mod budget;
mod catalog;
mod error;
pub mod format;
mod hooks;
mod keys;
mod limits;
mod producers;
pub mod store;

pub use catalog::{
    Catalog, CatalogError, CommitUpload, Condemned, Digest, ObjectRef, PartitionView, ReplaceRun,
    ReplaceSlices, SliceOutcome, SliceRef,
};
pub use error::{Error, ErrorKind, RecordError};
pub use keys::{DataKey, KeySpace};
pub use hooks::{HookBatch, Hooks};
