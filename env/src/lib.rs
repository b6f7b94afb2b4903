//! The only doors to the outside world: clock, entropy, disk, network and threads.
//!
//! ```text
//!   product code ──▶ Env { clock, entropy, disk, net, threads } ──▶ real (this crate)
//!                                                              └──▶ sim (feature `sim`)
//! ```
//!
//! **Invariant:** nothing but [`real`] calls the standard clock, sockets, files, threads and random
//! numbers; `cargo xtask tidy` keeps it so. Timers are tokio's, which a simulation pauses. Object
//! stores have a seam of their own, the `object_store::ObjectStore` trait.

mod clock;
mod disk;
mod entropy;
mod hash;
mod net;
mod planted;
pub mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod split_mix;
mod threads;

use std::sync::Arc;

pub use clock::Clock;
pub use disk::{DirLock, Disk, File, OpenMode};
pub use entropy::Entropy;
pub use hash::{HashMap, HashSet};
pub use net::{BoxStream, Listener, Network, Stream};
pub use planted::is_planted;
pub use split_mix::SplitMix;
pub use threads::{Executor, IoThread, Job, Threads};

/// One process's view of the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// TCP.
    pub net: Arc<dyn Network>,
    /// OS threads.
    pub threads: Arc<dyn Threads>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}
