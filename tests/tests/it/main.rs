//! Integration tests: one target, a module per subject.

mod s3;
mod store;
