//! Integration tests: one target, a module per subject.

mod groups;
mod records;
mod requests;
mod s3;
mod store;
mod troubles;
