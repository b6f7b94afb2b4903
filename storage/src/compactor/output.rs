//! Stores what was rewritten and puts it in the place of what was there.

use std::sync::Arc;

use crate::format::FinishedObject;
use crate::objects::{Backoff, Patience};
use crate::partition::Inner;
use crate::storage::Shared;
use crate::{CatalogError, Error, ReplaceRun, ReplaceSlices, SliceRef};

/// Objects of ours that nothing names yet.
pub(super) struct Output<'a> {
    shared: &'a Shared,
    stored: Vec<String>,
    /// Slices written so far, in order of writing.
    pub(super) slices: Vec<SliceRef>,
}

impl<'a> Output<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            stored: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// Stores an object, create-only.
    pub(super) async fn store(&mut self, object: FinishedObject) -> Result<(), Error> {
        let shared = self.shared;
        // Named before it is put: a put whose answer is lost is deleted too.
        self.stored.push(object.object.key.clone());
        let (retries, patience) = (&shared.metrics.background_failures, Patience::endless());
        let stored = shared.objects.create_patiently(&object, retries, &patience);
        stored.await?;
        shared
            .metrics
            .compaction_written_bytes
            .inc_by(object.object.length);
        self.slices.extend(object.slices);
        Ok(())
    }

    /// Deletes what was stored: nothing names it, or ever will.
    pub(super) async fn discard(&self) {
        for key in &self.stored {
            self.shared.objects.delete_own(key).await;
        }
    }

    /// Discards, but not after an unknown outcome: the objects may be named then.
    async fn give_up(&self, unknown: bool) {
        if !unknown {
            self.discard().await;
        }
    }

    /// Replaces each partition's `old` run by what was written for it; false on a conflict.
    ///
    /// # Errors
    /// `Catalog`: fenced, or worse.
    pub(super) async fn replace(
        self,
        shared: &Arc<Shared>,
        runs: Vec<(Arc<Inner>, Vec<SliceRef>)>,
    ) -> Result<bool, Error> {
        let of = |inner: &Inner| {
            let tp = inner.topic_partition;
            self.slices
                .iter()
                .filter(move |s| s.topic_partition == tp)
                .cloned()
                .collect()
        };
        let runs: Vec<(Arc<Inner>, ReplaceRun)> = runs
            .into_iter()
            .map(|(inner, old)| {
                let run = ReplaceRun {
                    topic_partition: inner.topic_partition,
                    leader_epoch: inner.leader_epoch,
                    new: of(&inner),
                    old,
                };
                (inner, run)
            })
            .collect();
        let replace = ReplaceSlices {
            command_id: shared.env.entropy.uuid(),
            broker_epoch: shared.broker_epoch,
            runs: runs.iter().map(|(_, run)| run.clone()).collect(),
        };
        let mut backoff = Backoff::new(&shared.env);
        let mut unknown = false;
        loop {
            match shared.catalog.replace(replace.clone()).await {
                Ok(()) => break,
                Err(CatalogError::Unavailable(reason)) => {
                    unknown = true;
                    tracing::warn!(%reason, "compaction not recorded yet, trying again");
                    backoff.wait().await;
                }
                Err(CatalogError::Conflict(reason)) => {
                    tracing::info!(%reason, "compaction overtaken");
                    self.give_up(unknown).await;
                    // A list of slices that has become stale would conflict for ever.
                    for (inner, _) in &runs {
                        shared.refresh(inner.topic_partition).await?;
                    }
                    return Ok(false);
                }
                Err(error) => {
                    self.give_up(unknown).await;
                    return Err(error.into());
                }
            }
        }
        for (inner, run) in &runs {
            shared
                .metrics
                .compaction_slices
                .inc_by(run.old.len() as u64);
            if !inner.apply_replace(&run.old, &run.new) {
                shared.refresh(inner.topic_partition).await?;
            }
        }
        Ok(true)
    }
}
