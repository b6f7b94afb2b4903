//! Replays a coordinator partition.

use tokio::time::{Duration, Instant, sleep};
use tracing::{info, warn};

use super::{Parts, millis_since};
use crate::groups::batch;
use crate::groups::limits::{LOAD_READ_BYTES, RETRY_MS};
use crate::groups::load::Loader;
use crate::groups::log::LogError;
use crate::groups::shard::Shard;

/// Reads everything up to what was the end when it began, also what is queued but not durable yet:
/// an earlier life of this coordinator may have left it there.
///
/// # Errors
/// When the partition is lost, or damaged. Anything else is tried for ever.
pub(super) async fn load(parts: &Parts, started: Instant) -> Result<Shard, LogError> {
    let began = millis_since(started);
    let mut loader = Loader::default();
    let bounds = parts.log.bounds();
    let mut next = bounds.start;
    let mut wait_ms = RETRY_MS.0;
    while next < bounds.end {
        match parts.log.read(next, LOAD_READ_BYTES).await {
            Ok(batches) if batches.is_empty() => {
                // Queued, not yet durable; or retention moved the start past us.
                next = next.max(parts.log.bounds().start);
                sleep(Duration::from_millis(RETRY_MS.0)).await;
            }
            Ok(batches) => {
                wait_ms = RETRY_MS.0;
                for bytes in batches {
                    parts.metrics.loaded_bytes.inc_by(bytes.len() as u64);
                    next = fold(parts, &bytes, &mut loader)?;
                    // A reload of many megabytes must not hold up everybody else here.
                    tokio::task::yield_now().await;
                }
            }
            Err(LogError::Retry { reason }) => {
                parts.metrics.log_failures.inc();
                if wait_ms == RETRY_MS.0 {
                    warn!(partition = parts.partition, %reason, "group log cannot be read yet");
                }
                sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(RETRY_MS.1);
            }
            Err(error) => return Err(error),
        }
    }
    let counts = loader.counts();
    parts.metrics.loaded_records.inc_by(counts.records);
    parts.metrics.damaged_records.inc_by(counts.damaged);
    let shard = loader.finish(parts.config.clone(), parts.now(started));
    if counts.records > 0 {
        info!(
            partition = parts.partition,
            records = counts.records,
            groups = shard.group_count(),
            took_ms = millis_since(started).saturating_sub(began),
            "group coordinator loaded"
        );
    }
    Ok(shard)
}

fn fold(parts: &Parts, bytes: &[u8], loader: &mut Loader) -> Result<i64, LogError> {
    batch::fold(bytes, loader, |offset, error| {
        warn!(partition = parts.partition, offset, %error, "a group record cannot be read");
    })
    .map_err(|error| LogError::Failed {
        reason: error.to_string(),
    })
}
