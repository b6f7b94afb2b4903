//! Golden bytes, put together by hand from Kafka's schema, field by field.

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn hex(parts: &[&str]) -> Vec<u8> {
    let text: String = parts.concat().split_whitespace().collect();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn ongoing() -> Metadata {
    Metadata {
        producer: Producer::new(0x0102_0304_0506, 7),
        previous_id: None,
        next_id: None,
        last_epoch: None,
        timeout_ms: 60_000,
        state: TransactionState::Ongoing,
        partitions: [
            Partition::new("a", 0),
            Partition::new("a", 258),
            Partition::new("béta", 3),
        ]
        .into(),
        start_ms: 1_700_000_000_000,
        updated_ms: 1_700_000_000_001,
        client: TransactionVersion::Tv0,
    }
}

/// A transaction that uses up its producer id: every tagged field is there.
fn last_of_its_id() -> Metadata {
    Metadata {
        producer: Producer::new(5, i16::MAX),
        previous_id: Some(ProducerId(5)),
        next_id: Some(ProducerId(9)),
        last_epoch: Some(ProducerEpoch(i16::MAX - 1)),
        state: TransactionState::PrepareCommit,
        partitions: [Partition::new("a", 1)].into(),
        client: TransactionVersion::Tv2,
        ..ongoing()
    }
}

#[test]
fn the_key_is_kafkas() {
    let golden = hex(&["0000", "0006", "74782d c3bc 31"]);
    assert_eq!(RecordKey::encode("tx-ü1"), golden);
    assert_eq!(
        RecordKey::decode(&golden),
        Ok(RecordKey::TransactionalId("tx-ü1".into()))
    );
    assert_eq!(
        RecordKey::decode(&hex(&["0001", "ff"])),
        Ok(RecordKey::Other { version: 1 })
    );
    assert!(RecordKey::decode(&hex(&["ffff"])).is_err());
    assert!(RecordKey::decode(&hex(&["0000", "0002", "61"])).is_err());
    assert!(RecordKey::decode(&hex(&["0000", "0001", "61", "00"])).is_err());
    assert!(RecordKey::decode(&[]).is_err());
}

#[test]
fn version_0_is_kafkas() {
    let golden = hex(&[
        "0000",
        "0000010203040506", // producer id
        "0007",             // epoch
        "0000ea60",         // timeout
        "01",               // Ongoing
        "00000002",         // two topics
        "0001 61 00000002 00000000 00000102",
        "0005 62c3a97461 00000001 00000003",
        "0000018bcfe56801", // updated
        "0000018bcfe56800", // started
    ]);
    assert_eq!(ongoing().encode(TransactionVersion::Tv0), golden);
    assert_eq!(Metadata::decode(&golden), Ok(ongoing()));
}

#[test]
fn version_1_is_kafkas() {
    let golden = hex(&[
        "0001",
        "0000010203040506",
        "0007",
        "0000ea60",
        "01",
        "03", // two topics
        "02 61 03 00000000 00000102 00",
        "06 62c3a97461 02 00000003 00",
        "0000018bcfe56801",
        "0000018bcfe56800",
        "00", // no tagged field differs from its default
    ]);
    assert_eq!(ongoing().encode(TransactionVersion::Tv1), golden);
    assert_eq!(ongoing().encode(TransactionVersion::Tv2), golden);
    assert_eq!(Metadata::decode(&golden), Ok(ongoing()));

    let golden = hex(&[
        "0001",
        "0000000000000005",
        "7fff",
        "0000ea60",
        "02",
        "02",
        "02 61 02 00000001 00",
        "0000018bcfe56801",
        "0000018bcfe56800",
        "03",
        "00 08 0000000000000005",
        "01 08 0000000000000009",
        "02 02 0002",
    ]);
    assert_eq!(last_of_its_id().encode(TransactionVersion::Tv2), golden);
    assert_eq!(Metadata::decode(&golden), Ok(last_of_its_id()));
}

#[test]
fn an_empty_id_has_null_partitions() {
    let empty = Metadata {
        partitions: BTreeSet::new(),
        state: TransactionState::Empty,
        start_ms: -1,
        ..ongoing()
    };
    let head = ["0000010203040506", "0007", "0000ea60", "00"].concat();
    let tail = "0000018bcfe56801 ffffffffffffffff";
    let v0 = hex(&["0000", &head, "ffffffff", tail]);
    let v1 = hex(&["0001", &head, "00", tail, "00"]);
    assert_eq!(empty.encode(TransactionVersion::Tv0), v0);
    assert_eq!(empty.encode(TransactionVersion::Tv2), v1);
    assert_eq!(Metadata::decode(&v0).as_ref(), Ok(&empty));
    assert_eq!(Metadata::decode(&v1).as_ref(), Ok(&empty));
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let golden = hex(&[
        "0001 0000000000000005 0003 0000ea60 04 01",
        "0000018bcfe56801 0000018bcfe56800",
        "03",
        "02 02 0002",
        "03 02 0007", // next producer epoch (KIP-939)
        "2a 03 abcdef",
    ]);
    let read = Metadata::decode(&golden).unwrap();
    assert_eq!(read.state, TransactionState::CompleteCommit);
    assert_eq!(read.client, TransactionVersion::Tv2);
    assert_eq!(read.last_epoch, Some(ProducerEpoch(2)), "told by the state");
}

#[test]
fn the_last_epoch_is_known_again_where_the_state_tells_it() {
    let last = |state, epoch, client| {
        let partitions = BTreeSet::new();
        let metadata = Metadata {
            producer: Producer::new(1, epoch),
            state,
            client,
            partitions,
            ..ongoing()
        };
        let bytes = metadata.encode(TransactionVersion::Tv2);
        Metadata::decode(&bytes).unwrap().last_epoch.map(|it| it.0)
    };
    use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort};
    use TransactionVersion::{Tv0, Tv2};
    assert_eq!(last(PrepareAbort, 4, Tv2), Some(3));
    assert_eq!(last(CompleteCommit, 1, Tv2), Some(0));
    assert_eq!(last(CompleteAbort, 0, Tv2), Some(i16::MAX - 1));
    assert_eq!(last(CompleteAbort, 4, Tv0), None);
    assert_eq!(last(Empty, 4, Tv2), None);
    assert_eq!(last(Ongoing, 4, Tv2), None);
}

#[test]
fn damage_is_refused_with_the_field_it_is_in() {
    let golden = last_of_its_id().encode(TransactionVersion::Tv2);
    for end in 0..golden.len() {
        let error = Metadata::decode(&golden[..end]).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{end}: {error}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = golden.to_vec();
        bytes[at] = byte;
        Metadata::decode(&bytes).unwrap_err().to_string()
    };
    assert_eq!(with(1, 2), "version 2 of TransactionLogValue is unknown");
    assert_eq!(
        with(16, 6),
        "field transactionStatus of TransactionLogValue may not be 6"
    );
    assert_eq!(
        with(2, 0x80),
        "field producerId of TransactionLogValue may not be -9223372036854775803"
    );
    assert_eq!(
        with(17, 0xff),
        "field transactionPartitions of TransactionLogValue has the impossible length 382"
    );
    let mut longer = golden.to_vec();
    longer.push(0);
    assert_eq!(
        Metadata::decode(&longer).unwrap_err().to_string(),
        "1 bytes follow the last field of TransactionLogValue"
    );
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop::option::of((0..i64::MAX).prop_map(ProducerId));
    let partitions = prop::collection::btree_set(
        ("[a-zé]{1,5}", 0..4_i32).prop_map(|(topic, index)| Partition::new(topic, index)),
        0..6,
    );
    (
        (0..i64::MAX, 0..=i16::MAX),
        (id(), id()),
        any::<i32>(),
        0..6_i8,
        partitions,
        any::<(i64, i64)>(),
        0..3_i16,
    )
        .prop_map(
            |(producer, ids, timeout_ms, state, partitions, times, level)| {
                let state = TransactionState::from_id(state).unwrap();
                let empty = state == TransactionState::Empty;
                Metadata {
                    producer: Producer::new(producer.0, producer.1),
                    previous_id: ids.0,
                    next_id: ids.1,
                    last_epoch: None,
                    timeout_ms,
                    state,
                    partitions: if empty { BTreeSet::new() } else { partitions },
                    start_ms: times.0,
                    updated_ms: times.1,
                    client: TransactionVersion::from_level(level).unwrap(),
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read(metadata in any_metadata()) {
        let bytes = metadata.encode(TransactionVersion::Tv2);
        let read = Metadata { last_epoch: None, ..Metadata::decode(&bytes).unwrap() };
        prop_assert_eq!(&read, &metadata);

        // Version 0 has no tagged fields.
        let bytes = metadata.encode(TransactionVersion::Tv0);
        let untagged = Metadata {
            previous_id: None,
            next_id: None,
            client: TransactionVersion::Tv0,
            ..metadata
        };
        prop_assert_eq!(Metadata::decode(&bytes), Ok(untagged));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = RecordKey::decode(&bytes);
        if let Ok(metadata) = Metadata::decode(&bytes) {
            prop_assert!(metadata.producer.epoch.0 >= 0);
        }
    }
}
