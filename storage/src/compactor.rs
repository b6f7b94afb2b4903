//! Rewrites what is stored: many small slices into few large ones, and internal compacted topics
//! down to the newest record per key.
//!
//! ```text
//!   slices of partitions led here ─▶ plan ─▶ read ─▶ write ─▶ Catalog::replace ─▶ own slice lists
//! ```
//!
//! **Invariants:** a replacement covers exactly the offsets of the run that it replaces; it names
//! that run, and is refused when the run changed; memory is bounded by
//! `compaction_memory_bytes`, about.

mod input;
mod keys;
mod merge;
mod output;
mod put_off;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::put_off::PutOff;
use crate::limits::{COMPACTIONS_PER_PASS, DIRTY_BYTES, MERGE_AGE, MERGE_AGED_SLICES};
use crate::partition::{Inner, Partition, Status};
use crate::storage::Shared;
use crate::{Error, ErrorKind};

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct Compactor {
    wanted: Arc<Notify>,
    slices: usize,
}

/// The actor.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    wanted: Arc<Notify>,
    /// When short runs were last merged too.
    aged: Instant,
    put_off: PutOff,
}

// === impl Compactor ===

impl Compactor {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            wanted: Arc::new(Notify::new()),
            slices: shared.settings.compaction_slices,
        }
    }

    /// Its worker; another one when that has panicked.
    pub(crate) fn worker(&self, shared: &Arc<Shared>) -> Worker {
        Worker {
            shared: Arc::clone(shared),
            wanted: Arc::clone(&self.wanted),
            aged: Instant::now(),
            put_off: PutOff::default(),
        }
    }

    /// Wakes the worker when one of `partitions` may have work for it.
    pub(crate) fn look_at<'a>(&self, mut partitions: impl Iterator<Item = &'a Arc<Inner>>) {
        let due = |inner: &Arc<Inner>| {
            inner.wants_rewrite() || inner.state.lock().slices.len() >= self.slices
        };
        if partitions.any(due) {
            self.wanted.notify_one();
        }
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) async fn run(mut self) {
        let interval = self.shared.settings.compaction_interval;
        loop {
            // Either way it is time to look.
            let _ = timeout(interval, self.wanted.notified()).await;
            if self.shared.has_failed() {
                return;
            }
            self.pass().await;
        }
    }

    async fn pass(&mut self) {
        for inner in self.shared.led() {
            if inner.wants_rewrite()
                && let Err(error) = keys::compact(&self.shared, &inner).await
            {
                self.failed(&error);
            }
        }
        let aged = self.aged.elapsed() >= MERGE_AGE;
        let slices = self.shared.settings.compaction_slices;
        let slices = if aged {
            slices.min(MERGE_AGED_SLICES)
        } else {
            slices
        };
        self.put_off.next_pass();
        for _ in 0..COMPACTIONS_PER_PASS {
            let before = self.put_off.len();
            match merge::merge_once(&self.shared, slices, &mut self.put_off).await {
                Ok(true) => {}
                // One was overtaken: the others are looked at all the same.
                Ok(false) if self.put_off.len() > before => {}
                Ok(false) => break,
                Err(error) => {
                    self.failed(&error);
                    // What is damaged fails alone; other trouble is likely to be everybody's.
                    if error.kind() != ErrorKind::Corrupt {
                        return;
                    }
                }
            }
        }
        if aged {
            self.aged = Instant::now();
        }
    }

    fn failed(&self, error: &Error) {
        self.shared.metrics.background_failures.inc();
        tracing::warn!(%error, "compaction put off");
    }
}

impl Inner {
    /// True for an internal compacted partition with much that may be superseded.
    fn wants_rewrite(&self) -> bool {
        let state = self.state.lock();
        state.status == Status::Open
            && !self.is_leaving()
            && state.config.internal
            && state.config.compact
            && state.dirty_bytes >= DIRTY_BYTES
    }
}

impl Partition {
    /// Rewrites what is committed to the newest record per key. Offsets stay; emptied runs keep
    /// theirs. True when something was rewritten.
    ///
    /// # Errors
    /// `Store`, `Catalog`: nothing changed, try again later. `Damaged`.
    pub async fn compact(&self) -> Result<bool, Error> {
        keys::compact(&self.shared, &self.inner).await
    }
}
