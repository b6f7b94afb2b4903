//! A cluster of real processes over our S3 server, under load by librdkafka, on bad days.
//!
//! ```text
//!   Fleet (headwater processes) ◀─ troubles: kill -9, SIGSTOP, SIGTERM, store away or flaky
//!      ▲                                  │
//!   Load (producers, a tail reader) ──▶ History ──▶ anomalies
//!                                  └──▶ acknowledgement times ──▶ write gaps ──▶ Report
//! ```
//!
//! **Invariants:** everything listens on and connects to 127.0.0.1 only; a process is stopped by its
//! pid; a run ends, whatever happens: each wait has a bound, and passing it is reported as a problem.

mod fleet;
mod load;
mod report;
mod run;
mod trouble;

pub use run::{Settings, run};
pub use trouble::Trouble;
