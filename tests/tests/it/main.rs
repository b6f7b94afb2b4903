//! Integration tests: one target, a module per subject.

// Helpers of tests may give up as tests do.
#![allow(clippy::unwrap_used)]

mod cluster;
mod damage;
mod disk;
mod golden;
mod golden_cluster;
mod groups;
mod hostile;
mod load;
mod pipe;
mod records;
mod requests;
mod runbooks;
mod s3;
mod stalled;
mod store;
mod troubles;
mod zones;
