//! One round: condemned objects, objects given up, orphans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::metrics::Reason;
use super::{Collected, CollectorParts};
use crate::{Condemned, Error};

/// Objects asked for, deleted and forgotten together.
const BATCH: usize = 256;
/// Batches of condemned objects in one round; the rest waits for the next.
const BATCHES_PER_ROUND: usize = 64;
/// Deletions in flight.
const DELETES_IN_FLIGHT: usize = 8;
/// Condemned objects that the store refuses to delete, after which a round looks no further.
const REFUSED_PER_ROUND: usize = 256;

pub(super) struct Worker {
    parts: CollectorParts,
    stop: Arc<AtomicBool>,
    next_part: u8,
    /// Behind which condemned objects are looked for next: those before it stay for now.
    passed: Option<Condemned>,
    /// What the store said first, in this round, of an object that it would not delete.
    refusal: Option<Error>,
}

/// What came of deleting some objects.
struct Deleted {
    /// Gone now.
    gone: Vec<String>,
    /// The store answered, and would not.
    refused: usize,
    /// Of others nothing is known.
    error: Option<Error>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(parts: CollectorParts, stop: Arc<AtomicBool>) -> Self {
        Self {
            parts,
            stop,
            next_part: 0,
            passed: None,
            refusal: None,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.parts.settings.interval
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
        self.refusal = None;
        self.delete_given_up(collected).await?;
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
        // What the store would not delete keeps nothing else waiting, and shows all the same.
        if let Some(error) = self.refusal.take() {
            return Err(error);
        }
        let now_ms = self.parts.env.clock.wall_ms();
        self.parts.metrics.succeeded(now_ms);
        Ok(())
    }

    /// What this broker epoch put and never named.
    async fn delete_given_up(&mut self, collected: &mut Collected) -> Result<(), Error> {
        while !self.stopping() {
            let batch = self.parts.given_up.first(BATCH);
            if batch.is_empty() {
                break;
            }
            let ours = |key: &String| {
                let parsed = self.parts.keys.parse_data(key);
                let ours =
                    parsed.is_some_and(|key| (key.node, key.broker_epoch) == self.parts.writer);
                if !ours {
                    self.refuse(key);
                }
                ours
            };
            let keys: Vec<String> = batch.iter().filter(|key| ours(key)).cloned().collect();
            let deleted = self.delete(Reason::Discarded, &keys).await;
            if let Some(error) = deleted.error {
                return Err(error);
            }
            // One that the store would not delete becomes an orphan.
            self.parts.given_up.done(batch.len());
            collected.discarded += deleted.gone.len() as u64;
        }
        Ok(())
    }

    /// What cannot be deleted is passed over, in this round and the next ones until all are seen.
    async fn delete_condemned(&mut self, collected: &mut Collected) -> Result<(), Error> {
        let grace = i64::try_from(self.parts.settings.grace.as_millis()).unwrap_or(i64::MAX);
        let grace = if env::planted!("grace-not-waited") {
            -1
        } else {
            grace
        };
        let before = self.parts.env.clock.wall_ms().saturating_sub(grace);
        let mut refused = 0;
        for _ in 0..BATCHES_PER_ROUND {
            if self.stopping() || refused >= REFUSED_PER_ROUND {
                break;
            }
            let passed = self.passed.as_ref();
            let page = self.parts.catalog.condemned(before, passed, BATCH);
            let page = page.await?;
            // One that does not know how to go on begins anew.
            let new =
                |object: &Condemned| passed.is_none_or(|passed| object.place() > passed.place());
            let page: Vec<Condemned> = page.into_iter().filter(new).collect();
            let Some(last) = page.last().cloned() else {
                // The next round begins with the oldest.
                self.passed = None;
                break;
            };
            let keys: Vec<String> = page
                .into_iter()
                .filter(|object| self.may_go(object, before))
                .map(|object| object.key)
                .collect();
            let deleted = self.delete(Reason::Condemned, &keys).await;
            collected.condemned += deleted.gone.len() as u64;
            if !deleted.gone.is_empty() {
                // Only what is gone: cut off before, it is deleted once more.
                self.parts.catalog.forget_condemned(deleted.gone).await?;
            }
            if let Some(error) = deleted.error {
                return Err(error);
            }
            refused += deleted.refused;
            self.passed = Some(last);
        }
        Ok(())
    }

    /// The catalog's own filter, checked once more where it cannot be undone.
    fn may_go(&self, object: &Condemned, before: i64) -> bool {
        let (spaces, key) = (&self.parts.keys, object.key.as_str());
        let young = object.condemned_at_ms >= before && !env::planted!("grace-not-waited");
        let known = spaces.is_data(key) || spaces.is_checkpoint(key);
        if !young && !known {
            self.refuse(key);
        }
        !young && known
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

    async fn delete_unnamed(&mut self, mut listed: Vec<String>) -> Result<u64, Error> {
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
        let deleted = self.delete(Reason::Orphan, &orphans).await;
        match deleted.error {
            Some(error) => Err(error),
            None => Ok(deleted.gone.len() as u64),
        }
    }

    /// Deletes `keys`; one that is gone already is a success.
    async fn delete(&mut self, reason: Reason, keys: &[String]) -> Deleted {
        let deletions = futures::stream::iter(keys.iter().cloned().map(|key| {
            let store = Arc::clone(&self.parts.store);
            async move {
                match store.delete(&Path::from(key.as_str())).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(key),
                    Err(error) => Err((is_refusal(&error), Error::store("delete", key, error))),
                }
            }
        }));
        let mut deletions = deletions.buffer_unordered(DELETES_IN_FLIGHT);
        let mut deleted = Deleted {
            gone: Vec::with_capacity(keys.len()),
            refused: 0,
            error: None,
        };
        while let Some(result) = deletions.next().await {
            match result {
                Ok(key) => deleted.gone.push(key),
                Err((true, error)) => {
                    deleted.refused += 1;
                    self.refusal.get_or_insert(error);
                }
                Err((false, error)) => {
                    deleted.error.get_or_insert(error);
                }
            }
        }
        let count = deleted.gone.len() as u64;
        self.parts.metrics.deleted(reason, count);
        deleted
    }

    fn refuse(&self, key: &str) {
        self.parts.metrics.refused();
        tracing::error!(key, "not deleted: this is no object of ours that may go");
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The store answers, and will not delete this one: it is kept by a rule of the bucket, most likely.
fn is_refusal(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::PermissionDenied { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::AlreadyExists { .. }
    )
}
