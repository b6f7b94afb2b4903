//! One round: condemned objects, objects given up, orphans.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::metrics::Reason;
use super::{Collected, CollectorParts};
use crate::Error;

/// Objects asked for, deleted and forgotten together.
const BATCH: usize = 256;
/// Batches of condemned objects in one round; the rest waits for the next.
const BATCHES_PER_ROUND: usize = 64;
/// Deletions in flight.
const DELETES_IN_FLIGHT: usize = 8;
/// Most condemned objects that the catalog tells at once.
const MAX_ASKED: usize = 10_000;
/// Given-up objects remembered; beyond it they are left to be found as orphans.
const MAX_DISCARDED: usize = 10_000;

pub(super) struct Worker {
    parts: CollectorParts,
    stop: Arc<AtomicBool>,
    discarded: VecDeque<String>,
    next_part: u8,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(parts: CollectorParts, stop: Arc<AtomicBool>) -> Self {
        Self {
            parts,
            stop,
            discarded: VecDeque::new(),
            next_part: 0,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.parts.settings.interval
    }

    /// Takes keys of our own failed uploads.
    pub(super) fn discard(&mut self, keys: Vec<String>) {
        for key in keys {
            let ours = self
                .parts
                .keys
                .parse_data(&key)
                .is_some_and(|parsed| (parsed.node, parsed.broker_epoch) == self.parts.writer);
            if !ours {
                self.refuse(&key);
            } else if self.discarded.len() < MAX_DISCARDED {
                self.discarded.push_back(key);
            }
        }
    }

    /// A round of its own accord.
    pub(super) async fn tick(&mut self) {
        match self.round().await {
            Ok(collected) if collected == Collected::default() => {}
            Ok(collected) => tracing::debug!(?collected, "collected objects"),
            Err(error) => {
                tracing::warn!(%error, "collecting objects failed; the next round goes on")
            }
        }
    }

    pub(super) async fn round(&mut self) -> Result<Collected, Error> {
        let mut collected = Collected::default();
        let result = self.collect(&mut collected).await;
        if result.is_err() {
            self.parts.metrics.failed();
        }
        result.map(|()| collected)
    }

    async fn collect(&mut self, collected: &mut Collected) -> Result<(), Error> {
        self.delete_discarded(collected).await?;
        if !(self.parts.duty)() {
            return Ok(());
        }
        self.delete_condemned(collected).await?;
        for _ in 0..self.parts.settings.listed_parts {
            if self.stopping() {
                break;
            }
            self.delete_orphans(self.next_part, collected).await?;
            // Only now: a part that failed is listed again.
            self.next_part = self.next_part.wrapping_add(1);
        }
        let now_ms = self.parts.env.clock.wall_ms();
        self.parts.metrics.succeeded(now_ms);
        Ok(())
    }

    async fn delete_discarded(&mut self, collected: &mut Collected) -> Result<(), Error> {
        while !self.discarded.is_empty() && !self.stopping() {
            let batch: Vec<String> = self.discarded.iter().take(BATCH).cloned().collect();
            self.delete(Reason::Discarded, &batch).await?;
            self.discarded.drain(..batch.len());
            collected.discarded += batch.len() as u64;
        }
        Ok(())
    }

    async fn delete_condemned(&mut self, collected: &mut Collected) -> Result<(), Error> {
        let grace = i64::try_from(self.parts.settings.grace.as_millis()).unwrap_or(i64::MAX);
        let grace = if env::planted!("grace-not-waited") {
            -1
        } else {
            grace
        };
        let before = self.parts.env.clock.wall_ms().saturating_sub(grace);
        // These stay first in the catalog's order: each page begins beyond them.
        let mut refused = BTreeSet::new();
        for _ in 0..BATCHES_PER_ROUND {
            if self.stopping() {
                break;
            }
            let limit = (BATCH + refused.len()).min(MAX_ASKED);
            let condemned = self.parts.catalog.condemned(before, limit).await?;
            let last = condemned.len() < limit;
            let known = refused.len();
            let mut keys = Vec::with_capacity(condemned.len());
            for object in condemned {
                // The catalog's own filter, checked once more where it cannot be undone.
                let (spaces, key) = (&self.parts.keys, object.key);
                let young = object.condemned_at_ms >= before && !env::planted!("grace-not-waited");
                if young || refused.contains(&key) {
                    continue;
                }
                if spaces.is_data(&key) || spaces.is_checkpoint(&key) {
                    keys.push(key);
                } else {
                    self.refuse(&key);
                    refused.insert(key);
                }
            }
            // A page that is full of what was refused before shows nothing beyond it.
            let stuck = keys.is_empty() && refused.len() == known;
            if !keys.is_empty() {
                self.delete(Reason::Condemned, &keys).await?;
                collected.condemned += keys.len() as u64;
                // Forgotten only when all are gone: cut off before, they are deleted once more.
                self.parts.catalog.forget_condemned(keys).await?;
            }
            if last || stuck {
                break;
            }
        }
        Ok(())
    }

    /// Objects of one part of the key space that nothing names and nothing ever will.
    async fn delete_orphans(&mut self, part: u8, collected: &mut Collected) -> Result<(), Error> {
        let prefix = Path::from(self.parts.keys.data_part(part));
        let mut listing = self.parts.store.list(Some(&prefix));
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let next = listing.try_next().await;
            let next = next.map_err(|error| Error::store("list", prefix.as_ref(), error))?;
            let done = next.is_none();
            if let Some(meta) = next {
                let key = meta.location.to_string();
                let parsed = self.parts.keys.parse_data(&key);
                // Ours may yet commit; what is no data key is none of ours.
                if parsed.is_some_and(|key| {
                    (key.node, key.broker_epoch) != self.parts.writer
                        || env::planted!("own-uploads-collected")
                }) {
                    batch.push(key);
                }
            }
            if batch.len() == BATCH || (done && !batch.is_empty()) {
                if self.stopping() {
                    return Ok(());
                }
                collected.orphans += self.delete_unnamed(std::mem::take(&mut batch)).await?;
            }
            if done {
                return Ok(());
            }
        }
    }

    async fn delete_unnamed(&self, mut listed: Vec<String>) -> Result<u64, Error> {
        listed.sort();
        let orphans = self.parts.catalog.orphans(listed.clone()).await?;
        for key in &orphans {
            // An answer about keys that were not asked for must never delete them.
            if listed.binary_search(key).is_err() {
                self.refuse(key);
                return Err(Error::Internal {
                    what: "the catalog named an orphan not asked for",
                });
            }
        }
        self.delete(Reason::Orphan, &orphans).await?;
        Ok(orphans.len() as u64)
    }

    /// Deletes `keys`; one that is gone already is a success.
    async fn delete(&self, reason: Reason, keys: &[String]) -> Result<(), Error> {
        let deletions = futures::stream::iter(keys.iter().cloned().map(|key| {
            let store = Arc::clone(&self.parts.store);
            async move {
                match store.delete(&Path::from(key.as_str())).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(Error::store("delete", key, error)),
                }
            }
        }));
        let mut deletions = deletions.buffer_unordered(DELETES_IN_FLIGHT);
        let mut deleted = 0;
        let mut failed = None;
        while let Some(result) = deletions.next().await {
            match result {
                Ok(()) => deleted += 1,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        self.parts.metrics.deleted(reason, deleted);
        failed.map_or(Ok(()), Err)
    }

    fn refuse(&self, key: &str) {
        self.parts.metrics.refused();
        tracing::error!(key, "not deleted: this is no object of ours that may go");
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
