//! What a coordinator needs of its partition of `__consumer_offsets`.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

/// Positions of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// First offset that can be read.
    pub start: i64,
    /// One past the last offset given out, durable or not.
    pub end: i64,
}

/// Whether what memory holds of a log is all that anybody may have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is led here.
    Led,
    /// It is being given away: the next owner may serve before this one hears of it.
    Leaving,
    /// It is no longer led here.
    Gone,
}

/// Why the log did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// Try again: nothing was done, or doing it again is harmless.
    #[error("not now: {reason}")]
    Retry {
        /// The log's own word.
        reason: String,
    },
    /// The partition is no longer led here.
    #[error("no longer led here: {reason}")]
    Gone {
        /// The log's own word.
        reason: String,
    },
    /// Damage, or a refusal that trying again does not change.
    #[error("failed: {reason}")]
    Failed {
        /// The log's own word.
        reason: String,
    },
}

/// One coordinator partition's log, at one leader epoch.
#[async_trait]
pub trait GroupLog: Send + Sync + 'static {
    /// Where it starts and ends now.
    fn bounds(&self) -> LogBounds;

    /// Whether it is led here at this moment.
    fn standing(&self) -> Standing;

    /// Whole batches from the one that holds `offset` on, durable ones only, about `max_bytes` of
    /// them but at least one if there is any. None are left out in between.
    ///
    /// # Errors
    /// [`LogError`].
    async fn read(&self, offset: i64, max_bytes: usize) -> Result<Vec<Bytes>, LogError>;

    /// Appends one batch; resolves when it is durable.
    ///
    /// # Errors
    /// [`LogError`]. After `Retry` the batch may stand there all the same, now or later; records
    /// of groups bear that, for the last of a key counts.
    async fn append(&self, batch: Bytes) -> Result<(), LogError>;
}
