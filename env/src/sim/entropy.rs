//! A seeded generator.

use std::sync::Mutex;

use crate::Entropy;

/// Random bytes from a seed (SplitMix64): good enough to choose faults and make ids unique.
pub struct SimEntropy(Mutex<u64>);

impl SimEntropy {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
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
        let mut state = self.0.lock().expect("no panic under this lock");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
