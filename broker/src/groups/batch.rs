//! Records of groups in batches, and out of them again.

use bytes::Bytes;
use protocol::{BatchBuilder, BatchView};

use super::api::GroupRecord;
use super::limits::{MAX_BATCH_BYTES, MAX_LOADED_BATCH_BYTES};
use super::load::Loader;

/// One batch of as many records from the front as fit, and how many they are: at least one, which
/// may be larger than a batch should be.
///
/// # Panics
/// When `records` is empty.
pub(super) fn build<'a>(
    records: impl Iterator<Item = &'a GroupRecord>,
    wall_ms: i64,
) -> (Bytes, usize) {
    let mut builder = BatchBuilder::new();
    for record in records {
        let size = record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
        if !builder.is_empty() && builder.size() + size > MAX_BATCH_BYTES {
            break;
        }
        builder.append(wall_ms, Some(&record.key), record.value.as_deref(), &[]);
    }
    let batch = builder
        .build()
        .expect("a record is far below 2 GiB, and there is one");
    (batch, builder.record_count())
}

/// Folds one batch of the log, and gives the offset after it.
///
/// # Errors
/// When the batch is not one; single records that are damaged are told to `damaged`.
pub(super) fn fold(
    batch: &[u8],
    loader: &mut Loader,
    mut damaged: impl FnMut(i64, &dyn std::fmt::Display),
) -> protocol::Result<i64> {
    let view = BatchView::new(batch)?;
    if !view.is_control() {
        let payload = view.decompress(MAX_LOADED_BATCH_BYTES)?;
        for record in view.records(&payload) {
            let record = record?;
            if let Err(error) = loader.record(record.key, record.value) {
                damaged(record.offset, &error);
            }
        }
    }
    Ok(view.next_offset())
}
