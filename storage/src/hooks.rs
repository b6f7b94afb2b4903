//! Two seams for what is to come (tables, Merkle trees): validate at append, observe what lasts.

use bytes::Bytes;
use protocol::{LeaderEpoch, TopicPartition};

use crate::{RecordError, SliceRef};

/// A batch as a hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct HookBatch<'a> {
    /// Whose.
    pub topic_partition: TopicPartition,
    /// Epoch of its leader.
    pub leader_epoch: LeaderEpoch,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// The whole v2 batch with its header.
    pub bytes: &'a Bytes,
}

/// Called on the write path. All calls are synchronous and must be short: [`Hooks::validate`]
/// and [`Hooks::finished`] under the partition's lock, [`Hooks::durable`] on the log's own task.
pub trait Hooks: Send + Sync + 'static {
    /// Judges a batch before it gets its place; calls for one partition come in order of offsets.
    /// Base offset and leader epoch are set in the bytes as they will be served.
    ///
    /// # Errors
    /// The records that are refused; the batch is then not appended.
    fn validate(&self, batch: HookBatch<'_>) -> Result<(), Vec<RecordError>> {
        let _ = batch;
        Ok(())
    }

    /// A batch is durable and readable; in order of offsets, once each.
    fn durable(&self, batch: HookBatch<'_>) {
        let _ = batch;
    }

    /// A slice is committed; in order of offsets, once each, also when the owner learns of it only
    /// later.
    fn finished(&self, slice: &SliceRef) {
        let _ = slice;
    }
}
