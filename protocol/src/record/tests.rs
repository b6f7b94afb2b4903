use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::synth::Numbers;
use crate::{BatchBuilder, Compression, EndTransactionMarker, TransactionResult};

type OwnedHeader = (String, Option<Vec<u8>>);
type Owned = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<OwnedHeader>);

fn build(builder: BatchBuilder, records: &[Owned]) -> Bytes {
    let mut builder = builder;
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    builder.build().unwrap()
}

fn owned(record: &Record<'_>) -> Owned {
    let header = |header: Header<'_>| {
        let key = String::from_utf8(header.key.to_vec()).unwrap();
        (key, header.value.map(<[u8]>::to_vec))
    };
    let (key, value) = (
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
    );
    (
        record.timestamp,
        key,
        value,
        record.headers.iter().map(header).collect(),
    )
}

fn bytes_or_null() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = proptest::collection::vec(("[a-c]{0,2}", bytes_or_null()), 0..4);
    let record = (any::<i64>(), bytes_or_null(), bytes_or_null(), headers);
    proptest::collection::vec(record, 1..30)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn what_is_built_is_read_back(records in records(), codec in 0u8..5, base in 0i64..1 << 50) {
        let codec = Compression::from_id(codec).unwrap();
        let batch = build(BatchBuilder::new().compression(codec).base_offset(base), &records);
        let batch = BatchView::new(&batch).unwrap();
        batch.validate_produced().unwrap();
        let payload = batch.decompress(1 << 20).unwrap();
        let read: Vec<_> = batch.records(&payload).map(Result::unwrap).collect();
        let offsets: Vec<_> = read.iter().map(|record| record.offset).collect();
        let expected: Vec<_> = (base..base + records.len() as i64).collect();
        prop_assert_eq!(offsets, expected);
        prop_assert_eq!(read.iter().map(owned).collect::<Vec<_>>(), records);
    }
}

fn sample() -> Bytes {
    let header = |key: &str, value: &[u8]| (key.to_owned(), Some(value.to_vec()));
    let records: Vec<Owned> = vec![
        (
            5,
            None,
            Some(b"value".to_vec()),
            vec![header("a", b"1"), header("a", b"2")],
        ),
        (
            3,
            Some(b"key".to_vec()),
            None,
            vec![("null".to_owned(), None)],
        ),
        (-1, Some(vec![]), Some(vec![1; 200]), vec![]),
    ];
    build(BatchBuilder::new(), &records)
}

#[test]
fn a_payload_cut_or_grown_anywhere_is_an_error() {
    let batch = sample();
    let batch = BatchView::new(&batch).unwrap();
    let payload = batch.payload();
    for end in 0..payload.len() {
        assert!(
            batch.records(&payload[..end]).any(|record| record.is_err()),
            "cut at {end}"
        );
    }
    let longer = [payload, &[0]].concat();
    let results: Vec<_> = batch
        .records(&longer)
        .map(|record| record.is_ok())
        .collect();
    assert_eq!(results, [true, true, true, false]);
}

#[test]
fn damaged_payloads_never_panic_and_end() {
    let batch = sample();
    let batch = BatchView::new(&batch).unwrap();
    let mut numbers = Numbers::new(11);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut payload = batch.payload().to_vec();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(payload.len());
            payload[at] = [numbers.draw() as u8, 0xff, 0x80, 0x01][numbers.below(4)];
        }
        let results: Vec<_> = batch.records(&payload).collect();
        assert!(results.len() <= 4);
        for record in results.iter().flatten() {
            assert_eq!(record.headers.iter().count(), record.headers.len());
        }
        refused += usize::from(results.iter().any(Result::is_err));
    }
    assert!(refused > 1000, "only {refused} refused");
}

#[test]
fn a_count_of_headers_is_not_believed() {
    // length 11: attributes, timestamp, offset, null key, null value, then 2³¹-1 headers.
    let mut payload = vec![];
    varint::write(&mut payload, 10);
    payload.extend_from_slice(&[0, 0, 0, 1, 1]);
    varint::write(&mut payload, i64::from(i32::MAX));
    let batch = sample();
    let error = BatchView::new(&batch)
        .unwrap()
        .records(&payload)
        .next()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("more headers"), "{error}");
}

#[test]
fn offsets_must_ascend() {
    let mut payload = vec![];
    for delta in [1i64, 1] {
        let mut record = vec![0, 0];
        varint::write(&mut record, delta);
        record.extend_from_slice(&[1, 1, 0]);
        varint::write(&mut payload, record.len() as i64);
        payload.extend_from_slice(&record);
    }
    let batch = sample();
    let batch = BatchView::new(&batch).unwrap();
    let results: Vec<_> = batch
        .records(&payload)
        .map(|record| record.is_ok())
        .collect();
    assert_eq!(results, [true, false]);
}

#[test]
fn compaction_keeps_offsets_and_emptied_ends() {
    let batch = sample();
    let batch = BatchView::new(&batch).unwrap();
    let payload = batch.decompress(1000).unwrap();
    let kept = batch.records(&payload).nth(1).unwrap().unwrap();
    let mut builder = BatchBuilder::new();
    builder.append_record(&kept).unwrap();
    assert!(builder.append_record(&kept).is_err(), "an offset twice");
    let compacted = builder.last_offset(batch.last_offset()).build().unwrap();
    let compacted = BatchView::new(&compacted).unwrap();
    compacted.validate().unwrap();
    assert!(
        compacted.validate_produced().is_err(),
        "offsets without records"
    );
    assert_eq!((compacted.record_count(), compacted.next_offset()), (1, 3));
    let again = compacted
        .records(compacted.payload())
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        (again.offset, again.key, again.timestamp),
        (1, kept.key, kept.timestamp)
    );

    let emptied = BatchBuilder::new()
        .base_offset(7)
        .last_offset(9)
        .build()
        .unwrap();
    let emptied = BatchView::new(&emptied).unwrap();
    emptied.validate().unwrap();
    assert_eq!((emptied.record_count(), emptied.next_offset()), (0, 10));
    assert_eq!(emptied.records(emptied.payload()).count(), 0);
    assert!(BatchBuilder::new().build().is_err());
}

#[test]
fn markers_come_back() {
    for result in [TransactionResult::Abort, TransactionResult::Commit] {
        let marker = EndTransactionMarker {
            result,
            coordinator_epoch: 12,
        };
        let batch = marker.batch(7, 3, 1000).unwrap();
        let batch = BatchView::new(&batch).unwrap();
        batch.validate().unwrap();
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!((batch.producer_id(), batch.producer_epoch()), (7, 3));
        let record = batch.records(batch.payload()).next().unwrap().unwrap();
        assert_eq!(EndTransactionMarker::read(&record).unwrap(), Some(marker));
    }
}
