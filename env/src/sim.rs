//! The simulated side: the same seams, in one process, on paused time, from a seed.
//!
//! ```text
//!   seed ─▶ SimEntropy ─▶ SimDisk (what a crash loses), SimNetwork (latency)
//!   tokio's paused clock ─▶ SimClock, SimThreads (jobs run as tasks, after a latency)
//! ```
//!
//! **Invariant:** with a single-threaded runtime on paused time, the same seed and the same calls
//! give the same results, whatever the machine.

mod clock;
mod disk;
mod entropy;
mod network;
mod threads;
mod world;

pub use clock::SimClock;
pub use disk::{DiskFaults, SimDisk};
pub use entropy::SimEntropy;
pub use network::{HostNetwork, NetworkFaults, SimNetwork};
pub use threads::{DiskSpeed, SimThreads};
pub use world::SimHost;
