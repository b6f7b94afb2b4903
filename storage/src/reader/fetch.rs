//! Fetches verified pieces of objects, within budgets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::cache::{BlockCache, BlockKey, Claim, Weigh};
use crate::format::{SliceIndex, unpinned};
use crate::limits::MAX_READ_AHEAD_BYTES;
use crate::objects::Objects;
use crate::partition::Slice;
use crate::{Error, StorageMetrics, StorageSettings};

/// Whose budget a read uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Near the end of the log.
    Tail,
    /// Everything else: a month-long scan must not slow the tail.
    CatchUp,
}

/// Caches and budgets of all readers.
pub(crate) struct ReadPath {
    objects: Objects,
    metrics: StorageMetrics,
    blocks: BlockCache<Block>,
    indexes: BlockCache<Index>,
    tail: Lane,
    catch_up: Lane,
    pace: Option<Pace>,
    /// Longest read-ahead: what readers have fetched and not used yet must fit the cache, and is
    /// lost when a merge gives their slice another object; it is fetched twice then.
    most_ahead: u64,
}

/// How much one request of a reader fetches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// Read-ahead of a sequential reader, bytes; 0 for one block.
    pub(crate) window: u64,
    /// What the read takes at once, bytes.
    pub(crate) wanted: u64,
}

impl Ahead {
    fn limit(self) -> u64 {
        match self.window {
            0 => 0,
            window => window.max(self.wanted.min(MAX_READ_AHEAD_BYTES)),
        }
    }

    /// Doubles with every request.
    fn grow(&mut self, fetched: u64, most: u64) {
        self.window = (2 * fetched.max(self.window)).min(most);
    }
}

#[derive(Clone)]
struct Block(Bytes);

#[derive(Clone)]
struct Index(Arc<SliceIndex>);

impl Weigh for Block {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Weigh for Index {
    fn weight(&self) -> u64 {
        let checkpoint = self.0.producer_checkpoint.as_ref().map_or(0, Bytes::len);
        let parts = size_of_val(self.0.batches.as_slice())
            + self.0.blocks.len() * 112
            + self.0.ended_transactions.len() * 64;
        (checkpoint + parts + size_of::<SliceIndex>()) as u64
    }
}

/// Requests and bytes in flight.
struct Lane {
    requests: Semaphore,
    bytes: Semaphore,
    total_bytes: usize,
}

impl Lane {
    fn new(requests: usize, bytes: usize) -> Self {
        let total_bytes = bytes.clamp(1, u32::MAX as usize);
        Self {
            requests: Semaphore::new(requests.max(1)),
            bytes: Semaphore::new(total_bytes),
            total_bytes,
        }
    }

    /// A slot; what is larger than the whole budget goes alone.
    async fn enter(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(self.total_bytes);
        let bytes = u32::try_from(bytes).expect("clamped at construction");
        let request = self.requests.acquire().await.expect("never closed");
        (
            request,
            self.bytes.acquire_many(bytes).await.expect("never closed"),
        )
    }
}

/// Bytes a second, as a schedule: each read moves the time of the next.
struct Pace {
    bytes_per_second: u64,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    async fn wait(&self, bytes: u64) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            let at = next.unwrap_or(now).max(now);
            let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
            let takes = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
            *next = Some(at + takes);
            at
        };
        sleep_until(at).await;
    }
}

impl ReadPath {
    pub(crate) fn new(
        objects: Objects,
        settings: &StorageSettings,
        metrics: StorageMetrics,
    ) -> Self {
        let (bytes, requests) = (settings.read_bytes, settings.read_requests);
        let rate = settings.catch_up_bytes_per_second;
        Self {
            objects,
            metrics,
            blocks: BlockCache::new(settings.block_cache_bytes, 512 << 10),
            indexes: BlockCache::new(settings.index_cache_bytes, 4 << 10),
            tail: Lane::new(requests.tail, bytes.tail),
            catch_up: Lane::new(requests.catch_up, bytes.catch_up),
            most_ahead: (settings.block_cache_bytes / 32).clamp(1, MAX_READ_AHEAD_BYTES),
            pace: (rate > 0).then(|| Pace {
                bytes_per_second: rate,
                next: Mutex::new(None),
            }),
        }
    }

    /// Bytes of blocks and indexes kept.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.blocks.bytes() + self.indexes.bytes()
    }

    /// The index of `slice`.
    ///
    /// # Errors
    /// `NotFound` when the object is gone; `Damaged`; `Store`.
    pub(crate) async fn index(&self, slice: &Slice) -> Result<Arc<SliceIndex>, Error> {
        let position = slice.reference.index_position;
        let key = BlockKey {
            object: Arc::clone(&slice.object),
            position,
        };
        loop {
            match self.indexes.claim(&key, std::iter::empty()) {
                Claim::Cached(Index(index)) => return Ok(index),
                Claim::Wait(flight) => self.indexes.landed(&key, &flight).await,
                Claim::Fetch(flight) => {
                    let index = self.objects.reader().slice_index(&slice.reference).await;
                    let index = Arc::new(self.counted(index)?);
                    self.metrics.read_bytes.inc_by(slice.reference.index_length);
                    flight.keep(0, Index(Arc::clone(&index)));
                    return Ok(index);
                }
            }
        }
    }

    /// Blocks of `slice` from `number` on, one at least: what is cached of the first alone, else
    /// all that one request brings, which go into the cache too.
    ///
    /// # Errors
    /// As [`ReadPath::index`].
    pub(crate) async fn blocks(
        &self,
        slice: &Slice,
        index: &SliceIndex,
        number: usize,
        ahead: &mut Ahead,
        class: Class,
    ) -> Result<Vec<Bytes>, Error> {
        let key = |at: usize| BlockKey {
            object: Arc::clone(&slice.object),
            position: index.blocks[at].position,
        };
        let wanted = key(number);
        loop {
            let mut length = index.blocks[number].length;
            let limit = ahead.limit();
            let followers = (number + 1..index.blocks.len())
                .take_while(|at| {
                    length += index.blocks[*at].length;
                    length <= limit
                })
                .map(key);
            match self.blocks.claim(&wanted, followers) {
                Claim::Cached(Block(bytes)) => {
                    self.metrics.block_hits.inc();
                    return Ok(vec![bytes]);
                }
                Claim::Wait(flight) => self.blocks.landed(&wanted, &flight).await,
                Claim::Fetch(flight) => {
                    let run = &index.blocks[number..number + flight.len()];
                    let total: u64 = run.iter().map(|block| block.length).sum();
                    ahead.grow(total, self.most_ahead);
                    let _slot = self.lane(class).enter(total).await;
                    if let (Class::CatchUp, Some(pace)) = (class, &self.pace) {
                        pace.wait(total).await;
                    }
                    let blocks = self.objects.reader().blocks(&slice.object, run).await;
                    let blocks = self.counted(blocks)?;
                    self.metrics.block_misses.inc_by(run.len() as u64);
                    self.metrics.read_bytes.inc_by(total);
                    // One cached block must not pin the whole read.
                    let blocks = unpinned(blocks);
                    for (at, bytes) in blocks.iter().enumerate() {
                        flight.keep(at, Block(bytes.clone()));
                    }
                    return Ok(blocks);
                }
            }
        }
    }

    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Tail => &self.tail,
            Class::CatchUp => &self.catch_up,
        }
    }

    /// Counts damage, which is alarmed.
    fn counted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error @ Error::Damaged { .. }) = &result {
            self.metrics.damaged.inc();
            tracing::error!(%error, "stored bytes are damaged, and are not served");
        }
        result
    }
}
