//! Integration tests: one target, a module per subject.

// Helpers of tests may give up as tests do.
#![allow(clippy::unwrap_used)]

mod golden;
mod groups;
mod hostile;
mod records;
mod requests;
mod s3;
mod store;
mod troubles;
