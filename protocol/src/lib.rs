//! Words and bytes of Kafka: no runtime, no I/O.

mod ids;

pub use ids::*;
