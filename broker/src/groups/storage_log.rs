//! A coordinator's log is a partition of storage.

use async_trait::async_trait;
use bytes::Bytes;
use storage::{AppendContext, Error, ErrorKind, Isolation, Partition, PartitionStatus};
use tokio::time::{Duration, Instant};

use super::log::{GroupLog, LogBounds, LogError, Standing};

/// How long one try waits for memory and a queue slot.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);

/// A partition of `__consumer_offsets` led here.
#[derive(Clone, Debug)]
pub struct StorageLog {
    partition: Partition,
}

impl StorageLog {
    /// The log over `partition`.
    pub fn new(partition: Partition) -> Self {
        Self { partition }
    }
}

#[async_trait]
impl GroupLog for StorageLog {
    fn bounds(&self) -> LogBounds {
        LogBounds {
            start: self.partition.log_start(),
            // Whoever replays would wait for ever for what a gap at the end never gives.
            end: self.partition.data_end(),
        }
    }

    fn standing(&self) -> Standing {
        match self.partition.status() {
            PartitionStatus::Open => Standing::Led,
            PartitionStatus::Held => Standing::Leaving,
            PartitionStatus::Closed => Standing::Gone,
        }
    }

    async fn read(&self, offset: i64, max_bytes: usize) -> Result<Vec<Bytes>, LogError> {
        let read = self
            .partition
            .read(offset, max_bytes, true, Isolation::ReadUncommitted)
            .await;
        match read {
            Ok(result) => Ok(result.batches),
            // The start moved past it; whoever reads looks where it is now.
            Err(Error::OutOfRange { .. }) => Ok(Vec::new()),
            Err(error) => Err(log_error(&error)),
        }
    }

    async fn append(&self, batch: Bytes) -> Result<(), LogError> {
        let context = AppendContext {
            deadline: Instant::now() + APPEND_PATIENCE,
            internal: true,
        };
        let appended = self.partition.produce(&batch, context).await;
        let durable = appended.map_err(|error| log_error(&error))?.durable().await;
        durable.map_err(|error| log_error(&error))
    }
}

fn log_error(error: &Error) -> LogError {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::Retry => LogError::Retry { reason },
        ErrorKind::Fenced => LogError::Gone { reason },
        ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal => {
            LogError::Failed { reason }
        }
    }
}
