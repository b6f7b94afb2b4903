//! The followers that are kept, within a number of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::TopicPartition;

use super::Follower;

/// Every partition led elsewhere that was read lately.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Held>);

#[derive(Default)]
struct Held {
    by_partition: BTreeMap<TopicPartition, Entry>,
    /// Who was used when, by the number of the use: the first makes room.
    by_use: BTreeMap<u64, TopicPartition>,
    uses: u64,
    /// Of all, as they were when each was used last.
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

    /// The follower of `tp`, when there is one.
    pub(super) fn known(&self, tp: TopicPartition) -> Option<Arc<Follower>> {
        let held = self.0.lock();
        let entry = held.by_partition.get(&tp)?;
        Some(Arc::clone(&entry.follower))
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

    fn make_room(&mut self, most: usize) {
        while self.bytes > most && self.by_use.len() > 1 {
            let (_, oldest) = self.by_use.pop_first().expect("there is more than one");
            self.remove(oldest);
        }
    }
}
