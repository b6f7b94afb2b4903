//! A cluster of real processes over our S3 server, under load by librdkafka, on bad days.
//!
//! ```text
//!   Fleet (headwater processes) ◀─ troubles: kill -9, SIGSTOP, SIGTERM, drains, moves, cuts of the
//!      ▲                                  │     network (Net), store away or flaky
//!   Load (librdkafka, Java) ──▶ History ──▶ anomalies
//!                          └──▶ acknowledgement times ──▶ write gaps ──▶ Report
//! ```
//!
//! **Invariants:** everything listens on and connects to 127.0.0.1 only, or to a network of our own
//! that nothing else reaches; a process is stopped by its pid; a run ends, whatever happens: each wait has a bound, and passing it is reported as a problem.

mod bench;
mod cases;
mod fleet;
mod java;
mod load;
pub mod moves;
mod net;
pub mod recovery;
mod report;
mod run;
mod trouble;
mod upgrade;

mod zombie;

pub use java::install as install_java;
pub use net::enter as enter_network;
pub use run::{Settings, run};
pub use trouble::Trouble;
