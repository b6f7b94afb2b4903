//! Moves log starts: by time and size, and at a client's word. Deletion follows by the collector.
//!
//! **Invariant:** a topic whose cleanup policy lacks `delete` is never touched.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use crate::partition::{Inner, Partition, State, Status};
use crate::storage::Shared;
use crate::{Error, TopicConfig};

/// Applies retention now and then, and forgets idle producers.
pub(crate) async fn run(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let interval = strong.settings.retention_interval;
        drop(strong);
        tokio::time::sleep(interval).await;
        let Some(strong) = shared.upgrade() else {
            return;
        };
        pass(&strong).await;
    }
}

/// One pass over all partitions led here.
pub(crate) async fn pass(shared: &Arc<Shared>) {
    for inner in shared.led() {
        let now_ms = shared.env.clock.wall_ms();
        let target = {
            let mut state = inner.state.lock();
            let expiration_ms = shared.settings.producer_expiration_ms;
            state.producers.expire(now_ms, expiration_ms);
            retained_from(&state, now_ms)
        };
        let Some(target) = target else { continue };
        match move_log_start(shared, &inner, target).await {
            Ok(log_start) => {
                shared.metrics.retention_moves.inc();
                tracing::info!(partition = %inner.topic_partition, log_start, "retention applied");
            }
            Err(error) => {
                shared.metrics.background_failures.inc();
                tracing::warn!(%error, partition = %inner.topic_partition, "retention not applied");
            }
        }
    }
}

/// Where the log should start by its topic's retention; `None` when nothing is to go. Only whole
/// committed slices go.
fn retained_from(state: &State, now_ms: i64) -> Option<i64> {
    let TopicConfig {
        delete,
        retention_ms,
        retention_bytes,
        ..
    } = state.config;
    if !delete || state.status == Status::Closed {
        return None;
    }
    let mut total: u64 = state
        .slices
        .iter()
        .map(|slice| slice.reference.bytes)
        .sum::<u64>()
        + state.unuploaded_bytes;
    let mut target = None;
    for slice in &state.slices {
        let slice = &slice.reference;
        let old = retention_ms >= 0
            && slice.max_timestamp_ms >= 0
            && now_ms.saturating_sub(slice.max_timestamp_ms) > retention_ms;
        // As in Kafka: what goes is what leaves at least the limit behind.
        let large = u64::try_from(retention_bytes)
            .is_ok_and(|limit| total.saturating_sub(slice.bytes) >= limit);
        if !old && !large {
            break;
        }
        total = total.saturating_sub(slice.bytes);
        target = Some(slice.end_offset);
    }
    target.filter(|target| *target > state.log_start)
}

/// First in the catalog, then here.
async fn move_log_start(shared: &Shared, inner: &Arc<Inner>, target: i64) -> Result<i64, Error> {
    let (tp, epoch) = (inner.topic_partition, inner.leader_epoch);
    shared
        .catalog
        .set_log_start(shared.broker_epoch, tp, epoch, target)
        .await?;
    let mut state = inner.state.lock();
    state.raise_log_start(target);
    let (log_start, wakers) = (state.log_start, state.wakers.take());
    drop(state);
    crate::partition::wake(wakers);
    Ok(log_start)
}

impl Partition {
    /// Deletes records below `offset` (-1: all that are readable), as DeleteRecords asks. May pass
    /// the committed end: the slice is committed all the same. Gives the new log start.
    ///
    /// # Errors
    /// `Policy` for a topic without `delete`; `OutOfRange` beyond the high watermark; `NotLeader`;
    /// `Catalog`.
    pub async fn delete_records(&self, offset: i64) -> Result<i64, Error> {
        let target = {
            let state = self.inner.state.lock();
            if state.status == Status::Closed {
                return Err(self.inner.not_leader());
            }
            if !state.config.delete {
                let topic_partition = self.inner.topic_partition;
                return Err(Error::Policy { topic_partition });
            }
            let position = state.position();
            let target = if offset == -1 {
                position.high_watermark
            } else {
                offset
            };
            if target < 0 || target > position.high_watermark {
                let (log_start, log_end) = (position.log_start, position.log_end);
                return Err(Error::OutOfRange {
                    offset,
                    log_start,
                    log_end,
                });
            }
            if target <= position.log_start {
                return Ok(position.log_start);
            }
            target
        };
        // A task of its own: a caller that gives up must not leave the catalog's log start ahead
        // of the one here.
        let (shared, inner) = (Arc::clone(&self.shared), Arc::clone(&self.inner));
        let moving = tokio::spawn(async move { move_log_start(&shared, &inner, target).await });
        moving.await.unwrap_or(Err(Error::Internal {
            what: "moving log start did not come to an end",
        }))
    }
}
