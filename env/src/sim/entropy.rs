//! A seeded generator.

use std::sync::Mutex;

use crate::{Entropy, SplitMix};

/// Random bytes and choices from a seed.
pub struct SimEntropy(Mutex<SplitMix>);

impl SimEntropy {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SplitMix::new(seed)))
    }

    /// A stream of its own, from this one.
    pub fn fork(&self) -> Self {
        Self::new(self.next())
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.next() % bound
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    fn next(&self) -> u64 {
        self.0.lock().expect("no panic under this lock").draw()
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().expect("no panic under this lock").fill(out);
    }
}
