//! Opening and closing partitions.

use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use protocol::TopicPartition;
use tokio::sync::watch;

use super::{Shared, Storage};
use crate::format::{Damage, Part};
use crate::limits::{INTERNAL_UPLOAD_BYTES, OPEN_READS};
use crate::partition::{Inner, Partition};
use crate::producers::{ProducerBatch, Producers};
use crate::{CatalogError, Error, PartitionView, SliceRef, TopicConfig};

impl Storage {
    /// Opens a partition at the epoch of `view`: its producer state is read first, from the last
    /// checkpoint slice on. An earlier epoch that is still open here is closed.
    ///
    /// # Errors
    /// `Store`: try again. `Damaged`, `Catalog(Corrupt)`: stored data is not as it should be.
    pub async fn open(&self, view: PartitionView, config: TopicConfig) -> Result<Partition, Error> {
        check_view(&view)?;
        let shared = self.shared();
        let now_ms = shared.env.clock.wall_ms();
        let mut producers = match env::planted!("producers-not-restored") {
            true => Producers::default(),
            false => shared.load_producers(&view.slices).await?,
        };
        producers.expire(now_ms, shared.settings.producer_expiration_ms);
        let tp = view.topic_partition;
        let inner = Inner::new(view, config, producers, now_ms);
        let mut partitions = shared.partitions.write();
        if let Some(older) = partitions.led.get(&tp)
            && older.leader_epoch >= inner.leader_epoch
        {
            return Err(inner.not_leader());
        }
        let older = partitions.led.insert(tp, Arc::clone(&inner));
        if let Some(older) = older {
            shared.close(&mut partitions, older);
        }
        drop(partitions);
        shared.compaction_wanted(std::iter::once(&inner));
        Ok(Partition {
            inner,
            shared: Arc::clone(shared),
        })
    }

    /// Stops serving a partition: deleted, released or fenced. What is queued is uploaded all the
    /// same, and judged by the catalog.
    pub fn close_partition(&self, tp: TopicPartition) {
        let shared = self.shared();
        let mut partitions = shared.partitions.write();
        if let Some(inner) = partitions.led.remove(&tp) {
            shared.close(&mut partitions, inner);
        }
    }
}

impl Shared {
    pub(super) fn close(&self, partitions: &mut super::Partitions, inner: Arc<Inner>) {
        inner.close();
        self.retained.forget(&inner);
        if !inner.is_settled() {
            partitions
                .draining
                .insert((inner.topic_partition, inner.leader_epoch), inner);
        }
    }

    /// Producers at the end of `slices`: the last checkpoint, and what the slices after it changed.
    pub(crate) async fn load_producers(&self, slices: &[SliceRef]) -> Result<Producers, Error> {
        let from = slices
            .iter()
            .rposition(|slice| slice.checkpoint)
            .unwrap_or(0);
        let reader = self.objects.reader();
        let indexes = slices[from..]
            .iter()
            .map(|slice| reader.slice_index(slice).boxed());
        let indexes: Vec<BoxFuture<'_, _>> = indexes.collect();
        let mut indexes = futures::stream::iter(indexes).buffered(OPEN_READS);
        let mut producers = Producers::default();
        for slice in &slices[from..] {
            let Some(index) = indexes.try_next().await? else {
                break;
            };
            if let Some(bytes) = &index.producer_checkpoint {
                producers = Producers::decode(bytes).map_err(|rule| Error::Damaged {
                    key: slice.object.key.clone(),
                    part: Part::SliceIndex,
                    position: slice.index_position,
                    damage: Damage::Malformed(rule),
                })?;
                continue;
            }
            if env::planted!("slices-left-out-of-producers") {
                continue;
            }
            for batch in &index.batches {
                producers.record(&ProducerBatch::from(batch));
            }
        }
        Ok(producers)
    }

    /// Takes the catalog's slices of a partition led here.
    pub(crate) async fn refresh(&self, tp: TopicPartition) -> Result<(), Error> {
        let view = self.catalog.partition(tp).await?;
        let inner = self.partitions.read().led.get(&tp).cloned();
        if let (Some(view), Some(inner)) = (view, inner) {
            inner.refresh(view, self.hooks.as_deref());
        }
        Ok(())
    }
}

impl Partition {
    /// Takes the catalog's slices of this partition, led here or elsewhere.
    pub(crate) async fn look_again(&self) -> Result<(), Error> {
        match self.inner.follows {
            true => self.look_beside().await,
            false => self.shared.refresh(self.inner.topic_partition).await,
        }
    }
}

impl Inner {
    /// True when so much of an internal compacted partition is not uploaded that a restart would
    /// read too much.
    pub(crate) fn wants_upload(&self) -> bool {
        let state = self.state.lock();
        state.config.internal
            && state.config.compact
            && state.unuploaded_bytes >= INTERNAL_UPLOAD_BYTES
    }
}

/// A catalog that shows holes has lost something: never opened.
pub(crate) fn check_view(view: &PartitionView) -> Result<(), Error> {
    let corrupt = |what: &str| {
        let tp = view.topic_partition;
        Err(Error::Catalog(CatalogError::Corrupt(format!(
            "{tp}: {what}"
        ))))
    };
    let mut runs: Vec<(i64, i64)> = Vec::with_capacity(view.slices.len() + view.gaps.len());
    runs.extend(view.slices.iter().map(|s| (s.first_offset, s.end_offset)));
    runs.extend(&view.gaps);
    runs.sort_unstable();
    if runs.iter().any(|(first, end)| end <= first) {
        return corrupt("an empty slice");
    }
    if runs.windows(2).any(|pair| pair[0].1 != pair[1].0) {
        return corrupt("a hole between slices");
    }
    match (runs.first(), runs.last()) {
        (Some((first, _)), _) if *first > view.log_start => corrupt("a hole at log start"),
        (_, Some((_, end))) if *end != view.committed_end => {
            corrupt("slices do not end at the committed end")
        }
        (None, _) if view.log_start < view.committed_end => corrupt("no slices"),
        _ => Ok(()),
    }
}

/// Ends this storage when its log fails for good.
pub(super) async fn watch_log(
    shared: Weak<Shared>,
    mut failure: watch::Receiver<Option<wal::Error>>,
) {
    let failed = match failure.wait_for(Option::is_some).await {
        Ok(failed) => failed.clone(),
        // The log was closed in good order.
        Err(_) => None,
    };
    if let (Some(error), Some(shared)) = (failed, shared.upgrade()) {
        shared.fail(error.into());
    }
}
