//! What was written is what is read.

use proptest::prelude::*;

use super::*;
use crate::format::limits::{BLOCK_MAX_BYTES, BLOCK_TARGET_BYTES};
use crate::store::StoreMetrics;

#[tokio::test]
async fn an_object_reads_back_by_its_references() {
    let object = sample();
    let store = store_with(bytes_of(&object)).await;
    let reader = ObjectReader::new(Arc::clone(&store), StoreMetrics::default());

    let [small, large] = &object.slices[..] else {
        panic!("two slices")
    };
    assert_eq!((small.first_offset, small.end_offset), (10, 25));
    assert_eq!((small.bytes, small.checkpoint), (500, false));
    assert_eq!(
        (large.first_offset, large.end_offset, large.checkpoint),
        (0, 3, true)
    );

    let index = reader.slice_index(small).await.unwrap();
    assert_eq!(index.blocks.len(), 1);
    assert_eq!(index.batches.len(), 5);
    assert_eq!(index.appended_at_ms, (2_000, 2_004));
    let block = reader.block(KEY, &index.blocks[0]).await.unwrap();
    let expected: Vec<u8> = (0..5).flat_map(|n| batch(10 + n * 3, 3, 100)).collect();
    assert_eq!(block, expected);

    let index = reader.slice_index(large).await.unwrap();
    assert_eq!(
        index.producer_checkpoint.as_deref(),
        Some(&b"producers"[..])
    );
    assert_eq!(index.blocks.len(), 3);
    let blocks = reader.blocks(KEY, &index.blocks[1..]).await.unwrap();
    assert_eq!(
        blocks,
        vec![batch(1, 1, 600 * 1024), batch(2, 1, 600 * 1024)]
    );

    let report = verify_object(&store, KEY, Some(&object.object))
        .await
        .unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.slices.len(), 2);
    assert_eq!(report.length, object.object.length);
}

#[test]
fn blocks_are_cut_between_batches_by_size() {
    let cut = |sizes: &[usize]| {
        let mut writer = ObjectWriter::new();
        let batches: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| batch(n as i64, 1, *size))
            .collect();
        add_slice(&mut writer, tp(1, 0), &batches, None);
        let lengths = writer.slices_for_test()[0]
            .blocks
            .iter()
            .map(|block| block.batches);
        lengths.collect::<Vec<_>>()
    };
    let (target, max) = (BLOCK_TARGET_BYTES, BLOCK_MAX_BYTES);
    // Up to the target a block takes more; from the target on it is closed.
    assert_eq!(cut(&[target - 1, 100, 100]), [2, 1]);
    assert_eq!(cut(&[target, 100]), [1, 1]);
    // It never grows past the maximum, unless by a single batch.
    assert_eq!(cut(&[target - 1, max - target + 1, 100]), [2, 1]);
    assert_eq!(cut(&[target - 1, max - target + 2, 100]), [1, 1, 1]);
    assert_eq!(cut(&[100, max * 3, 100]), [1, 1, 1]);
}

#[test]
fn a_slice_ends_when_it_is_full() {
    let mut writer = ObjectWriter::new();
    let start = SliceStart {
        topic_partition: tp(1, 0),
        leader_epoch: LeaderEpoch(0),
        first_offset: 0,
    };
    writer.start_slice(start).unwrap();
    let bytes = batch(0, 1, 61);
    let mut entry = BatchEntry::of(&BatchView::new(&bytes).unwrap(), 0);
    while !writer.slice_is_full() {
        writer.push(bytes.clone(), entry).unwrap();
        entry.base_offset += 1;
        entry.last_offset += 1;
    }
    let error = writer.push(bytes, entry).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    writer.finish_slice(SliceEnd {
        end_offset: entry.base_offset,
        ..SliceEnd::default()
    });
    let object = writer.finish(KEY.to_owned()).unwrap();
    let per_batch = object.slices[0].index_length / limits::SLICE_MAX_BATCHES as u64;
    assert!(per_batch <= 12, "{per_batch} bytes of index per batch");
}

#[test]
fn offsets_without_batches_are_covered() {
    // Compaction empties runs but keeps their offsets.
    let mut writer = ObjectWriter::new();
    let start = SliceStart {
        topic_partition: tp(1, 0),
        leader_epoch: LeaderEpoch(0),
        first_offset: 7,
    };
    writer.start_slice(start).unwrap();
    writer.finish_slice(SliceEnd {
        end_offset: 90,
        ..SliceEnd::default()
    });
    let object = writer.finish(KEY.to_owned()).unwrap();
    let slice = &object.slices[0];
    let bytes = bytes_of(&object);
    let part = &bytes[slice.index_position as usize..][..slice.index_length as usize];
    let index = decode_slice_index(KEY, slice.index_position, part, &slice.index_digest).unwrap();
    assert_eq!((index.first_offset, index.end_offset), (7, 90));
    assert_eq!(index.block_for(8), None);
}

#[test]
fn the_block_of_an_offset_is_found_across_holes() {
    let mut writer = ObjectWriter::new();
    let start = SliceStart {
        topic_partition: tp(1, 0),
        leader_epoch: LeaderEpoch(0),
        first_offset: 0,
    };
    writer.start_slice(start).unwrap();
    for base in [5, 20, 40] {
        let bytes = batch(base, 10, BLOCK_TARGET_BYTES);
        let entry = BatchEntry::of(&BatchView::new(&bytes).unwrap(), 0);
        writer.push(bytes, entry).unwrap();
    }
    writer.finish_slice(SliceEnd {
        end_offset: 60,
        ..SliceEnd::default()
    });
    let index = &writer.slices_for_test()[0];
    for (offset, block) in [
        (0, Some(0)),
        (5, Some(0)),
        (14, Some(0)),
        (15, Some(1)),
        (20, Some(1)),
        (29, Some(1)),
    ] {
        assert_eq!(index.block_for(offset), block, "offset {offset}");
    }
    for (offset, block) in [
        (30, Some(2)),
        (49, Some(2)),
        (50, None),
        (59, None),
        (60, None),
    ] {
        assert_eq!(index.block_for(offset), block, "offset {offset}");
    }
}

#[derive(Clone, Debug)]
struct Shape {
    gap: i64,
    records: i32,
    timestamp: i64,
    producer: (i64, i16, i32, i32),
    flags: (bool, bool),
}

fn shape() -> impl Strategy<Value = Shape> {
    let producer = (any::<i64>(), any::<i16>(), any::<i32>(), any::<i32>());
    (
        0..1_000_i64,
        1..1_000_i32,
        any::<i64>(),
        producer,
        any::<(bool, bool)>(),
    )
        .prop_map(|(gap, records, timestamp, producer, flags)| Shape {
            gap,
            records,
            timestamp,
            producer,
            flags,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a batch says of itself comes back, extremes included.
    #[test]
    fn indexes_round_trip(
        first_offset in 0..i64::MAX / 2,
        shapes in prop::collection::vec(shape(), 0..40),
        ended in prop::collection::vec(any::<(i64, i16, i32, bool)>(), 0..4),
        checkpoint in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        extension in prop::option::of((any::<u32>(), prop::collection::vec(any::<u8>(), 0..9))),
    ) {
        let mut writer = ObjectWriter::new();
        writer.start_slice(SliceStart {
            topic_partition: tp(9, 3),
            leader_epoch: LeaderEpoch(i32::MAX),
            first_offset,
        }).unwrap();
        let mut next = first_offset;
        let mut entries = Vec::new();
        for shape in &shapes {
            let base_offset = next + shape.gap;
            let entry = BatchEntry {
                base_offset,
                last_offset: base_offset + i64::from(shape.records) - 1,
                max_timestamp_ms: shape.timestamp,
                appended_at_ms: shape.timestamp.wrapping_neg(),
                producer_id: protocol::ProducerId(shape.producer.0),
                producer_epoch: protocol::ProducerEpoch(shape.producer.1),
                base_sequence: shape.producer.2,
                last_sequence: shape.producer.3,
                transactional: shape.flags.0,
                control: shape.flags.1,
            };
            next = entry.last_offset + 1;
            writer.push(batch(0, 1, 61), entry).unwrap();
            entries.push(entry);
        }
        let ended_transactions: Vec<_> = ended.iter().map(|(id, epoch, n, committed)| {
            EndedTransaction {
                producer_id: protocol::ProducerId(*id),
                producer_epoch: protocol::ProducerEpoch(*epoch),
                first_offset: first_offset + i64::from(*n),
                last_offset: i64::MAX,
                last_stable_offset: i64::from(*n),
                committed: *committed,
                coordinator_epoch: *n,
            }
        }).collect();
        let extensions: Vec<_> = extension.iter().map(|(kind, bytes)| {
            Extension { kind: *kind, version: 3, bytes: bytes.clone().into() }
        }).collect();
        let end = SliceEnd {
            end_offset: next + 5,
            ended_transactions: ended_transactions.clone(),
            producer_checkpoint: checkpoint.clone().map(Bytes::from),
            extensions: extensions.clone(),
        };
        writer.finish_slice(end);
        let object = writer.finish(KEY.to_owned()).unwrap();
        let bytes = bytes_of(&object);
        let slice = &object.slices[0];
        let part = &bytes[slice.index_position as usize..][..slice.index_length as usize];
        let index = decode_slice_index(KEY, slice.index_position, part, &slice.index_digest)
            .unwrap();
        prop_assert_eq!(&index.batches, &entries);
        prop_assert_eq!(index.ended_transactions, ended_transactions);
        prop_assert_eq!(index.producer_checkpoint, checkpoint.map(Bytes::from));
        prop_assert_eq!(index.extensions, extensions);
        prop_assert_eq!((index.first_offset, index.end_offset), (first_offset, next + 5));
        prop_assert_eq!(object.object.length, bytes.len() as u64);
    }
}
