//! One simulated machine's worth of seams, put together.

use std::net::IpAddr;
use std::sync::Arc;

use super::{DiskSpeed, NetworkFaults, SimClock, SimDisk, SimEntropy, SimNetwork, SimThreads};
use crate::Env;

/// A simulated machine. Make it inside a single-threaded runtime on paused time.
pub struct SimHost {
    /// Its disk.
    pub disk: SimDisk,
    /// Its clock.
    pub clock: Arc<SimClock>,
    /// Its threads.
    pub threads: Arc<SimThreads>,
    entropy: Arc<SimEntropy>,
    network: SimNetwork,
    name: String,
    address: IpAddr,
}

impl SimHost {
    /// A machine of `network`, with disk and entropy from `seed`.
    pub fn new(seed: u64, network: &SimNetwork, name: &str, address: IpAddr) -> Self {
        Self::drifting(seed, network, name, address, 0)
    }

    /// One whose clock is fast by so many millionths, or slow.
    pub fn drifting(
        seed: u64,
        network: &SimNetwork,
        name: &str,
        address: IpAddr,
        millionths: i32,
    ) -> Self {
        let entropy = SimEntropy::new(seed);
        Self {
            disk: SimDisk::new(entropy.below(u64::MAX)),
            clock: Arc::new(SimClock::drifting(millionths)),
            threads: Arc::new(SimThreads::new(entropy.below(u64::MAX), DiskSpeed::INSTANT)),
            entropy: Arc::new(entropy),
            network: network.clone(),
            name: name.to_owned(),
            address,
        }
    }

    /// A machine on a network of its own.
    pub fn alone(seed: u64) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        Self::new(seed, &network, "alone", IpAddr::from([10, 0, 0, 1]))
    }

    /// The machine stands still: nothing comes or goes, no job runs, its clock shows the same time.
    /// Timers of what runs on it go on, but whatever they start does not get anywhere.
    pub fn hold(&self) {
        self.clock.hold();
        self.threads.hold();
        self.network.hold_host(self.address);
    }

    /// The machine goes on: its clock shows what went by, and all that waited comes at once.
    pub fn release(&self) {
        self.clock.release();
        self.threads.release();
        self.network.release_host(self.address);
    }

    /// The world as the next process on this machine sees it.
    pub fn env(&self) -> Env {
        Env {
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            disk: self.disk.mount(),
            net: self.network.host(&self.name, self.address),
            threads: self.threads.clone(),
        }
    }
}
