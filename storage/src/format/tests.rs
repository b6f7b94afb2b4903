//! Round trips, golden bytes, and every kind of damage.

mod damage;
mod golden;
mod round_trip;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use protocol::{BatchView, LeaderEpoch, TopicId, TopicPartition, crc32c};

use super::*;

pub(super) const KEY: &str = "c/00000001/data/aa/1-1-x";

/// A v2 batch of `records` records and `size` bytes in all, valid by its checksum.
pub(super) fn batch(base_offset: i64, records: i32, size: usize) -> Bytes {
    assert!(size >= 61 && records > 0);
    let mut out = BytesMut::new();
    out.put_i64(base_offset);
    out.put_i32(size as i32 - 12);
    out.put_i32(5);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(records - 1);
    out.put_i64(1_000);
    out.put_i64(1_000 + base_offset);
    out.put_i64(7);
    out.put_i16(1);
    out.put_i32(base_offset as i32);
    out.put_i32(records);
    out.extend((out.len()..size).map(|n| (n * 31 + base_offset as usize) as u8));
    let crc = crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

pub(super) fn tp(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(uuid::Uuid::from_u128(topic)), partition)
}

/// One slice of `batches`, with a checkpoint when asked.
pub(super) fn add_slice(
    writer: &mut ObjectWriter,
    topic_partition: TopicPartition,
    batches: &[Bytes],
    checkpoint: Option<Bytes>,
) {
    let first = BatchView::new(&batches[0]).unwrap();
    let start = SliceStart {
        topic_partition,
        leader_epoch: LeaderEpoch(5),
        first_offset: first.base_offset(),
    };
    writer.start_slice(start).unwrap();
    let mut end_offset = 0;
    for (n, bytes) in batches.iter().enumerate() {
        let view = BatchView::new(bytes).unwrap();
        writer
            .push(bytes.clone(), BatchEntry::of(&view, 2_000 + n as i64))
            .unwrap();
        end_offset = view.next_offset();
    }
    let end = SliceEnd {
        end_offset,
        producer_checkpoint: checkpoint,
        ..SliceEnd::default()
    };
    writer.finish_slice(end);
}

/// Two slices: small batches that share a block, and large ones in blocks of their own.
pub(super) fn sample() -> FinishedObject {
    let mut writer = ObjectWriter::new();
    let small: Vec<_> = (0..5).map(|n| batch(10 + n * 3, 3, 100)).collect();
    add_slice(&mut writer, tp(1, 0), &small, None);
    let large: Vec<_> = (0..3).map(|n| batch(n, 1, 600 * 1024)).collect();
    add_slice(
        &mut writer,
        tp(2, 4),
        &large,
        Some(Bytes::from_static(b"producers")),
    );
    writer.finish(KEY.to_owned()).unwrap()
}

pub(super) fn bytes_of(object: &FinishedObject) -> Vec<u8> {
    object.payload.iter().flatten().copied().collect()
}

pub(super) async fn store_with(bytes: Vec<u8>) -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store
        .put(&Path::from(KEY), PutPayload::from(bytes))
        .await
        .unwrap();
    store
}
