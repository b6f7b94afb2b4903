//! Tests on the real binary that hold a whole machine for minutes: they run alone, after the others
//! (`cargo build -p broker && cargo test -p tests --test slow`).

// Helpers of tests may give up as tests do.
#![allow(clippy::unwrap_used)]

#[path = "../it/load.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod load;
mod memory;
#[path = "../it/pipe.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod pipe;
