//! What the tests and benchmarks share: a broker as a process, load, servers that misbehave.

pub mod bench;
pub mod history;
pub mod process;
