//! Bytes that every later build must read, and that this one writes.

use super::*;
use crate::catalog::Digest;

/// An object with every field in use.
fn golden_object() -> FinishedObject {
    let mut writer = ObjectWriter::new();
    writer
        .start_slice(SliceStart {
            topic_partition: tp(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, 7),
            leader_epoch: LeaderEpoch(5),
            first_offset: 100,
        })
        .unwrap();
    for (base, records) in [(100, 2), (102, 1)] {
        let bytes = batch(base, records, 70);
        let entry = BatchEntry::of(&BatchView::new(&bytes).unwrap(), 1_700_000_000_000 + base);
        writer
            .push(
                bytes,
                BatchEntry {
                    transactional: true,
                    ..entry
                },
            )
            .unwrap();
    }
    writer.finish_slice(SliceEnd {
        end_offset: 104,
        ended_transactions: vec![EndedTransaction {
            producer_id: protocol::ProducerId(7),
            producer_epoch: protocol::ProducerEpoch(1),
            first_offset: 100,
            last_offset: 103,
            last_stable_offset: 104,
            committed: false,
            coordinator_epoch: 9,
        }],
        producer_checkpoint: Some(Bytes::from_static(b"checkpoint")),
        extensions: vec![Extension {
            kind: 1,
            version: 2,
            bytes: Bytes::from_static(b"ext"),
        }],
    });
    writer.extend(Extension {
        kind: 3,
        version: 4,
        bytes: Bytes::from_static(b"object"),
    });
    writer.finish(KEY.to_owned()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            + "\n"
    });
    lines.collect()
}

#[test]
fn format_1_is_written_and_read_as_it_always_was() {
    let object = golden_object();
    let golden = include_str!("golden-v1.hex");
    assert_eq!(hex(&bytes_of(&object)), golden, "format 1 never changes");
    let bytes = bytes_of(&object);
    let footer = &bytes[bytes.len() - 128..];
    assert_eq!(object.object.digest, Digest::crc32(&footer[..92]));
}
