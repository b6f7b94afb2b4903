//! What the tests and benchmarks share: a broker as a process, load, servers that misbehave.

pub mod bench;
pub mod chaos;
pub mod faults;
pub mod history;
pub mod process;
pub mod s3;
pub mod shim;
pub mod simstore;
