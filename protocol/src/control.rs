//! Transaction markers: the one record of a control batch.
//!
//! ```text
//! key    version i16 = 0 · type i16: 0 abort, 1 commit
//! value  version i16 = 0 · coordinator epoch i32
//! ```

use bytes::Bytes;

use crate::builder::BatchBuilder;
use crate::error::{Error, Result};
use crate::record::Record;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionResult {
    /// Its records are to be skipped by readers of committed data.
    Abort,
    /// Its records are valid.
    Commit,
}

/// The marker that ends a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// How it ended.
    pub result: TransactionResult,
    /// Epoch of the coordinator that wrote it; an older one is refused.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The marker in the record of a control batch; `None` if the control record is of another
    /// type.
    ///
    /// # Errors
    /// If the record is too short to be a control record.
    pub fn read(record: &Record<'_>) -> Result<Option<Self>> {
        let short = || Error::Record {
            what: "a control record that is too short",
            at: 0,
        };
        let key = record
            .key
            .and_then(|key| key.first_chunk::<4>())
            .ok_or_else(short)?;
        let result = match i16::from_be_bytes([key[2], key[3]]) {
            0 => TransactionResult::Abort,
            1 => TransactionResult::Commit,
            _ => return Ok(None),
        };
        let value = record
            .value
            .and_then(|value| value.first_chunk::<6>())
            .ok_or_else(short)?;
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Ok(Some(Self {
            result,
            coordinator_epoch,
        }))
    }

    /// The control batch of this marker, at offset 0, for producer `id` and `epoch`.
    /// `timestamp` is in milliseconds since 1970.
    ///
    /// # Errors
    /// None in practice; building is fallible by type.
    pub fn batch(&self, id: i64, epoch: i16, timestamp: i64) -> Result<Bytes> {
        let kind: i16 = match self.result {
            TransactionResult::Abort => 0,
            TransactionResult::Commit => 1,
        };
        let [k0, k1] = kind.to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        let mut builder = BatchBuilder::new()
            .producer(id, epoch, -1)
            .transactional()
            .control();
        builder.append(
            timestamp,
            Some(&[0, 0, k0, k1]),
            Some(&[0, 0, e0, e1, e2, e3]),
            &[],
        );
        builder.build()
    }
}
