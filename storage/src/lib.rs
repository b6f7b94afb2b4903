//! Partitions over a write-ahead log and an object store.

mod catalog;

pub use catalog::{
    Catalog, CatalogError, CommitUpload, Condemned, Digest, ObjectRef, PartitionView, ReplaceRun,
    ReplaceSlices, SliceOutcome, SliceRef,
};
