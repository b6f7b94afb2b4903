//! Producer ids in hand: blocks come from the controllers, one id goes to each new producer.

use std::collections::VecDeque;
use std::ops::Range;

use protocol::ProducerId;

/// Producer ids that nobody has yet. Whoever carries out effects keeps it filled; one is enough
/// for all machines of a broker.
#[derive(Debug, Default)]
pub struct ProducerIds {
    blocks: VecDeque<Range<i64>>,
}

impl ProducerIds {
    /// None at hand.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a block that the controllers gave to this broker alone.
    ///
    /// # Panics
    /// If it begins below 0.
    pub fn add(&mut self, block: Range<i64>) {
        assert!(block.start >= 0, "producer ids are not negative");
        if !block.is_empty() {
            self.blocks.push_back(block);
        }
    }

    /// How many are at hand.
    pub fn remaining(&self) -> u64 {
        let len = |block: &Range<i64>| block.end.abs_diff(block.start);
        self.blocks.iter().map(len).sum()
    }

    /// The next one, never given out before.
    pub fn take(&mut self) -> Option<ProducerId> {
        let block = self.blocks.front_mut()?;
        let id = block.start;
        block.start += 1;
        if block.is_empty() {
            self.blocks.pop_front();
        }
        Some(ProducerId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_up_in_turn() {
        let mut ids = ProducerIds::new();
        assert_eq!(ids.take(), None);
        ids.add(10..12);
        ids.add(5..5);
        ids.add(100..101);
        assert_eq!(ids.remaining(), 3);
        let taken: Vec<_> = std::iter::from_fn(|| ids.take()).map(|id| id.0).collect();
        assert_eq!(taken, [10, 11, 100]);
        assert_eq!(ids.remaining(), 0);
    }
}
