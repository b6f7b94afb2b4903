//! Blocks and indexes read from objects, verified, each fetched once however many want it.

use std::sync::Arc;

use env::HashMap;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use tokio::sync::Notify;

/// A piece of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    /// Key of the object.
    pub(crate) object: Arc<str>,
    /// Where in it.
    pub(crate) position: u64,
}

/// Weighs what a cache holds.
pub(crate) trait Weigh: Clone + Send + Sync + 'static {
    /// Bytes pinned.
    fn weight(&self) -> u64;
}

#[derive(Clone)]
struct ByWeight;

impl<V: Weigh> Weighter<BlockKey, V> for ByWeight {
    fn weight(&self, key: &BlockKey, value: &V) -> u64 {
        // The key's text is shared; the entry itself takes about this much.
        value.weight() + key.object.len() as u64 / 4 + 64
    }
}

/// A cache by bytes with single flight.
pub(crate) struct BlockCache<V: Weigh> {
    cache: Cache<BlockKey, V, ByWeight, FixedState>,
    flights: Mutex<HashMap<BlockKey, Arc<Notify>>>,
}

/// What to do about a piece that is not cached.
pub(crate) enum Claim<'a, V: Weigh> {
    /// It is here.
    Cached(V),
    /// The caller fetches these pieces: the first wanted one and those of its followers that
    /// nobody else fetches.
    Fetch(Flight<'a, V>),
    /// Somebody else fetches it: ask again after this.
    Wait(Arc<Notify>),
}

/// The pieces that one caller fetches; dropped, whoever waits for them asks again.
pub(crate) struct Flight<'a, V: Weigh> {
    owner: &'a BlockCache<V>,
    keys: Vec<BlockKey>,
}

impl<V: Weigh> BlockCache<V> {
    /// A cache of `bytes`, for pieces of about `typical` bytes.
    pub(crate) fn new(bytes: u64, typical: u64) -> Self {
        let items = usize::try_from(bytes / typical.max(1))
            .unwrap_or(usize::MAX)
            .clamp(16, 1 << 20);
        // A number of shards of its own choosing would depend on the machine, and each shard must
        // hold the largest piece.
        let options = OptionsBuilder::new()
            .shards(2)
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            // What is read ahead is new here and must stay until its reader comes: half is kept
            // for it, where the library's own choice is a thirtieth.
            .hot_allocation(0.5)
            .build()
            .expect("all options are set");
        let lifecycle = DefaultLifecycle::default();
        let cache = Cache::with_options(options, ByWeight, FixedState::default(), lifecycle);
        Self {
            cache,
            flights: Mutex::default(),
        }
    }

    /// Looks for `wanted`; when it must be fetched, as many of `followers` come along as lie
    /// before the first that is cached or in flight.
    pub(crate) fn claim(
        &self,
        wanted: &BlockKey,
        followers: impl Iterator<Item = BlockKey>,
    ) -> Claim<'_, V> {
        let mut flights = self.flights.lock();
        if let Some(value) = self.cache.get(wanted) {
            return Claim::Cached(value);
        }
        if let Some(flight) = flights.get(wanted) {
            return Claim::Wait(Arc::clone(flight));
        }
        let mut keys = vec![wanted.clone()];
        keys.extend(
            followers
                .take_while(|key| !flights.contains_key(key) && self.cache.peek(key).is_none()),
        );
        let notify = Arc::new(Notify::new());
        for key in &keys {
            flights.insert(key.clone(), Arc::clone(&notify));
        }
        Claim::Fetch(Flight { owner: self, keys })
    }

    #[cfg(test)]
    fn insert(&self, key: BlockKey, value: V) {
        self.cache.insert(key, value);
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Waits until the flight of `key` is over.
    pub(crate) async fn landed(&self, key: &BlockKey, flight: &Arc<Notify>) {
        let notified = flight.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        // It may have landed between the claim and here, and another may have started since.
        let still = self
            .flights
            .lock()
            .get(key)
            .is_some_and(|now| Arc::ptr_eq(now, flight));
        if still {
            notified.await;
        }
    }
}

impl<V: Weigh> Flight<'_, V> {
    /// How many pieces are to be fetched.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keeps a fetched piece, before the flight ends.
    pub(crate) fn keep(&self, index: usize, value: V) {
        self.owner.cache.insert(self.keys[index].clone(), value);
    }
}

impl<V: Weigh> Drop for Flight<'_, V> {
    fn drop(&mut self) {
        let mut flights = self.owner.flights.lock();
        for key in &self.keys {
            if let Some(flight) = flights.remove(key) {
                flight.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u64 {
        fn weight(&self) -> u64 {
            *self
        }
    }

    fn key(position: u64) -> BlockKey {
        BlockKey {
            object: Arc::from("o"),
            position,
        }
    }

    #[tokio::test]
    async fn one_fetches_and_the_others_wait() {
        let cache: BlockCache<u64> = BlockCache::new(10_000, 100);
        let Claim::Fetch(flight) = cache.claim(&key(0), [key(1), key(2)].into_iter()) else {
            panic!("nothing is cached yet")
        };
        assert_eq!(flight.len(), 3);
        let Claim::Wait(wait) = cache.claim(&key(1), std::iter::empty()) else {
            panic!("the first flight brings it")
        };
        flight.keep(1, 7);
        drop(flight);
        cache.landed(&key(1), &wait).await;
        assert!(matches!(
            cache.claim(&key(1), std::iter::empty()),
            Claim::Cached(7)
        ));
        // What failed is up for the next.
        assert!(
            matches!(cache.claim(&key(0), [key(1)].into_iter()), Claim::Fetch(f) if f.len() == 1)
        );
    }

    #[tokio::test]
    async fn a_waiter_of_a_flight_that_has_landed_does_not_wait_for_the_next() {
        let cache: BlockCache<u64> = BlockCache::new(10_000, 100);
        let Claim::Fetch(first) = cache.claim(&key(0), std::iter::empty()) else {
            panic!()
        };
        let Claim::Wait(wait) = cache.claim(&key(0), std::iter::empty()) else {
            panic!()
        };
        drop(first);
        let Claim::Fetch(_second) = cache.claim(&key(0), std::iter::empty()) else {
            panic!()
        };
        let soon = std::time::Duration::from_secs(5);
        tokio::time::timeout(soon, cache.landed(&key(0), &wait))
            .await
            .expect("landed");
    }

    #[test]
    fn what_is_read_ahead_stays_until_its_reader_comes() {
        let cache: BlockCache<u64> = BlockCache::new(10_000, 100);
        for n in 0..1_000 {
            cache.insert(key(n), 100);
        }
        let ahead = 2_000..2_020;
        for n in ahead.clone() {
            cache.insert(key(n), 100);
        }
        for n in ahead {
            let claim = cache.claim(&key(n), std::iter::empty());
            assert!(matches!(claim, Claim::Cached(_)), "{n} is gone");
        }
    }

    #[test]
    fn holds_its_budget() {
        let cache: BlockCache<u64> = BlockCache::new(10_000, 100);
        for n in 0..1_000 {
            cache.insert(key(n), 500);
            assert!(cache.bytes() <= 10_000);
        }
        assert!(cache.bytes() > 5_000);
    }
}
