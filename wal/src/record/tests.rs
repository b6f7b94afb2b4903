use bytes::Bytes;
use proptest::prelude::*;
use protocol::{LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;

use super::*;
use crate::testing::{entry, wal_id};

fn meta(kind: GroupKind) -> GroupMeta {
    GroupMeta {
        kind,
        wal_id: wal_id(1),
        sequence: 7,
        nonce: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        acked_to: 5,
        window: 8,
        generation: 3,
    }
}

fn bytes_of(encoded: &Encoded) -> Bytes {
    let mut out = Vec::new();
    encoded.write_to(&mut out);
    let parts: Vec<u8> = encoded
        .parts()
        .iter()
        .flat_map(|part| part.to_vec())
        .collect();
    assert_eq!(out, parts, "pieces and copy are the same bytes");
    assert_eq!(out.len(), encoded.len());
    out.into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that every later version must read. Never to be changed.
#[test]
fn golden_group() {
    let mut small = entry(2, 0);
    small.batches = Bytes::from_static(b"batch");
    let tie = Extension::previous_end(2, 8192);
    let bytes = bytes_of(&Encoded::new(&meta(GroupKind::Entries), &[tie], &[small]));
    assert_eq!(hex(&bytes), include_str!("golden_group.hex").trim());
}

#[test]
fn a_flip_of_any_bit_is_detected() {
    let entries = [entry(0, 40), entry(1, 0), entry(2, 3)];
    let tie = Extension::previous_end(1, 4096);
    let good = bytes_of(&Encoded::new(&meta(GroupKind::Entries), &[tie], &entries));
    assert!(decode(&good, wal_id(1), 3).is_ok());
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let decoded = decode(&bad.into(), wal_id(1), 3);
        let damaged = decoded.expect_err("a flip passes");
        assert!(
            !matches!(damaged, DecodeError::Unsupported { .. }),
            "bit {bit}: {damaged}"
        );
    }
}

#[test]
fn another_log_and_another_generation_are_no_groups() {
    let good = bytes_of(&Encoded::mark(&meta(GroupKind::Idle)));
    assert!(decode(&good, wal_id(1), 3).is_ok());
    assert_eq!(decode(&good, wal_id(2), 3), Err(DecodeError::NotAGroup));
    assert_eq!(decode(&good, wal_id(1), 4), Err(DecodeError::NotAGroup));
}

/// Rewrites a byte and makes the header's checksum right again, as a later version would.
fn patched(mut bytes: Vec<u8>, at: usize, value: u8) -> Bytes {
    bytes[at] = value;
    let crc = Seed::new(wal_id(1), 3).checksum(&[&bytes[..96]]);
    bytes[96..100].copy_from_slice(&crc.0.to_be_bytes());
    bytes.into()
}

#[test]
fn what_a_later_version_wrote_is_refused_by_name() {
    let good = bytes_of(&Encoded::mark(&meta(GroupKind::Idle))).to_vec();
    for (at, value, name) in [
        (9, 2, "group version 2"),
        (10, 9, "group kind 9"),
        (12, 0x40, "critical group flag bit 30"),
    ] {
        let error = decode(&patched(good.clone(), at, value), wal_id(1), 3).unwrap_err();
        assert_eq!(error, DecodeError::Unsupported { what: name.into() });
    }
    // A flag that is not critical is passed over.
    assert!(decode(&patched(good, 15, 1), wal_id(1), 3).is_ok());

    let mut section = Extension::previous_end(1, 2);
    section.kind = 77;
    let group = |section: &Extension| {
        bytes_of(&Encoded::new::<Entry>(
            &meta(GroupKind::Idle),
            std::slice::from_ref(section),
            &[],
        ))
    };
    assert_eq!(
        decode(&group(&section), wal_id(1), 3).unwrap().extensions,
        [section.clone()]
    );
    section.critical = true;
    let error = decode(&group(&section), wal_id(1), 3).unwrap_err();
    assert!(error.to_string().contains("kind 77"), "{error}");
}

#[test]
fn an_entry_of_a_later_version_is_refused_by_name() {
    for (at, value, name) in [
        (0, 2, "link"),
        (0, 9, "entry kind 9"),
        (2, 0x02, "flag bit 9"),
    ] {
        let seed = Seed::new(wal_id(1), 3);
        let mut bytes = bytes_of(&Encoded::new(
            &meta(GroupKind::Entries),
            &[],
            &[entry(0, 8)],
        ))
        .to_vec();
        let head = HEADER_BYTES;
        bytes[head + at] = value;
        let crc = seed.checksum(&[&bytes[head..head + 4], &bytes[head + 8..]]);
        bytes[head + 4..head + 8].copy_from_slice(&crc.0.to_be_bytes());
        let check = seed.checksum(&[&bytes[head..head + 64]]);
        bytes[84..88].copy_from_slice(&check.0.to_be_bytes());
        let error = decode(&patched(bytes, 10, 1), wal_id(1), 3).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    (
        any::<u128>(),
        any::<i32>(),
        any::<i32>(),
        0..i64::MAX / 2,
        0..1000_i64,
        any::<i64>(),
        bytes,
    )
        .prop_map(|(topic, partition, epoch, base, count, at, bytes)| Entry {
            topic_partition: TopicPartition::new(TopicId(Uuid::from_u128(topic)), partition),
            leader_epoch: LeaderEpoch(epoch),
            base_offset: base,
            last_offset: base + count,
            appended_at_ms: at,
            batches: bytes.into(),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        entries in proptest::collection::vec(any_entry(), 0..20),
        sequence: u64, behind in 0..100_u64, window in 1..=64_u32, nonce: u128,
    ) {
        let acked_to = sequence.saturating_sub(behind);
        let meta = GroupMeta { sequence, acked_to, window, nonce, ..meta(GroupKind::Entries) };
        let group = decode(&bytes_of(&Encoded::new(&meta, &[], &entries)), wal_id(1), 3).unwrap();
        prop_assert_eq!(group.header.meta, meta);
        prop_assert_eq!(group.body, Body::Entries(entries));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        cut in 0..400_usize, at in 0..400_usize, value: u8,
    ) {
        let _ = decode(&Bytes::from(noise), wal_id(1), 3);
        let good = bytes_of(&Encoded::new(&meta(GroupKind::Entries), &[], &[entry(1, 99)]));
        let at = at % good.len();
        let _ = decode(&patched(good.to_vec(), at, value), wal_id(1), 3);
        let _ = decode(&good.slice(..cut.min(good.len())), wal_id(1), 3);
    }
}
