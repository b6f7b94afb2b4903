//! Integration tests: one target, a module per subject.

mod groups;
mod records;
mod s3;
mod store;
