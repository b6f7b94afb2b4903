//! The followers that are kept, within a number of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::TopicPartition;

use super::Follower;
use crate::partition::Position;

/// Every partition led elsewhere that was read lately.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Held>);

#[derive(Default)]
struct Held {
    by_partition: BTreeMap<TopicPartition, Entry>,
    /// Who was used when, by the number of the use: the first makes room.
    by_use: BTreeMap<u64, TopicPartition>,
    uses: u64,
    /// Of all, as they were when each was used or looked at last.
    bytes: usize,
}

struct Entry {
    follower: Arc<Follower>,
    used: u64,
    bytes: usize,
}

// === impl Followers ===

impl Followers {
    /// The follower of `tp`, a new one when there is none. Those that were not read for the longest
    /// time make room until all take at most `most` bytes; one stays, whatever it takes.
    pub(super) fn of(&self, tp: TopicPartition, most: usize) -> Arc<Follower> {
        let mut held = self.0.lock();
        let known = held.remove(tp).filter(|follower| !follower.is_closed());
        let follower = known.unwrap_or_else(|| Arc::new(Follower::new(tp)));
        held.insert(tp, Arc::clone(&follower));
        held.make_room(most);
        follower
    }

    /// Counts the follower of `tp` anew, if it is held, and makes room as [`Self::of`] does.
    pub(super) fn recount(&self, tp: TopicPartition, most: usize) {
        let mut held = self.0.lock();
        held.recount(tp);
        held.make_room(most);
    }

    /// The position of `tp` as last known, if consumers at `offset` have something before them.
    /// Else nothing is known: an end that is theirs would be taken for that of the log.
    pub(super) fn position_before(&self, tp: TopicPartition, offset: i64) -> Position {
        let held = self.0.lock();
        let entry = held.by_partition.get(&tp);
        let inner = entry.and_then(|entry| entry.follower.inner());
        let known = inner.map(|inner| inner.state.lock().position());
        // The smaller end of the two that count, by isolation.
        let ahead = known.filter(|known| offset < known.last_stable_offset);
        ahead.unwrap_or(Position::UNKNOWN)
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Which are held, in order.
    #[cfg(test)]
    pub(super) fn held(&self) -> Vec<TopicPartition> {
        self.0.lock().by_partition.keys().copied().collect()
    }

    /// What those that are held take now, counted anew.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        let held = self.0.lock();
        let entries = held.by_partition.values();
        entries.map(|entry| entry.follower.bytes()).sum()
    }
}

// === impl Held ===

impl Held {
    fn remove(&mut self, tp: TopicPartition) -> Option<Arc<Follower>> {
        let entry = self.by_partition.remove(&tp)?;
        self.by_use.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.follower)
    }

    /// As the one that was used last.
    fn insert(&mut self, tp: TopicPartition, follower: Arc<Follower>) {
        self.uses += 1;
        let (used, bytes) = (self.uses, follower.bytes());
        self.bytes += bytes;
        self.by_use.insert(used, tp);
        let entry = Entry {
            follower,
            used,
            bytes,
        };
        let before = self.by_partition.insert(tp, entry);
        assert!(before.is_none(), "it was removed first");
    }

    fn recount(&mut self, tp: TopicPartition) {
        let Some(entry) = self.by_partition.get_mut(&tp) else {
            return;
        };
        self.bytes -= entry.bytes;
        entry.bytes = entry.follower.bytes();
        self.bytes += entry.bytes;
    }

    fn make_room(&mut self, most: usize) {
        while self.bytes > most && self.by_use.len() > 1 {
            let (_, oldest) = self.by_use.pop_first().expect("there is more than one");
            self.remove(oldest);
        }
    }
}
