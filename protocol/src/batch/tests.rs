//! Batches written by Kafka's Java client 4.3.1, and what must come of them.

use super::*;
use crate::{BatchBuilder, Compression, Record};

// Five records at offset 40, leader epoch 9, producer (7, 3, 100); keys, values and headers null
// in turns; the second and fourth with the headers twice=a, null, twice=b.
const GZIP: &str = "\
    0000000000000028000000a50000000902fc7382d70001000000040000018bcfe5620a0000018bcfe56e9b00\
    00000000000007000300000064000000051f8b08000000000000ffdbc1c8c0c0c0979d5aa96b62613e87b12c\
    31a73455815a24c30b268609024c8c6b98a86b2eb54836ae92f2cce454a6448ebcd29c1c46282fe91223c322\
    231670a09819986ea172a0a0045002c32b1536b04de646461244b88d8fe1940c072323030055a421e0b80100\
    00";

const SNAPPY: &str = "\
    0000000000000028000000bf0000000902f419478f0002000000040000018bcfe5620a0000018bcfe56e9b00\
    000000000000070003000000640000000582534e415050590000000001000000010000007ab80350b8010000\
    000e6b65792d3438379c0176616c756520fe060011062400e8020090100201ac02fe52001152fe4800364800\
    38060a74776963650261086e756c6c010d0e1862d20100a2320425150c363035b4fe15013a15012ec3001400\
    6000ea2406056a0c373232182e1b005a9c001c0e00ca1c08010100";

const LZ4: &str = "\
    0000000000000028000000b10000000902bec1d0f70003000000040000018bcfe5620a0000018bcfe56e9b00\
    000000000000070003000000640000000504224d1860408271000000ff06b8010000000e6b65792d3438379c\
    0176616c756520060035af00e8020090100201ac025200350f48003bf300060a74776963650261086e756c6c\
    010e007162d20100a2320415014f363035b415013c08c30061006000ea24066a0048373232181b000f9c0004\
    800e00ca1c0801010000000000";

const ZSTD: &str = "\
    0000000000000028000000a700000009028c7c58760004000000040000018bcfe5620a0000018bcfe56e9b00\
    000000000000070003000000640000000528b52ffd0058540300b404b8010000000e6b65792d3438379c0176\
    616c75652000e8020090100201ac02060a74776963650261086e756c6c0162d20100a23204363035b4006000\
    ea2406373232180e00ca1c080101000a001f53031f262db615610e302082b1841133ab05745515d0be821626\
    010000";

/// Checksum of the same batch uncompressed, by the same client.
const PLAIN_CRC: u32 = 0x641534aa;

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

fn golden() -> [(Compression, Vec<u8>); 4] {
    [
        (Compression::Gzip, unhex(GZIP)),
        (Compression::Snappy, unhex(SNAPPY)),
        (Compression::Lz4, unhex(LZ4)),
        (Compression::Zstd, unhex(ZSTD)),
    ]
}

fn check_golden_records(records: &[Record<'_>]) {
    assert_eq!(records.len(), 5);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.offset, 40 + i as i64);
        assert!((record.timestamp - 1_700_000_000_000).abs() <= 5000);
        assert_eq!(record.key.is_none(), i % 3 == 1);
        assert_eq!(record.value.is_none(), i % 5 == 4);
        let headers: Vec<_> = record.headers.iter().map(|h| (h.key, h.value)).collect();
        let expected: &[(&[u8], Option<&[u8]>)] = &[
            (b"twice", Some(b"a")),
            (b"null", None),
            (b"twice", Some(b"b")),
        ];
        assert_eq!(headers, if i % 2 == 0 { &[] } else { expected });
    }
}

#[test]
fn batches_of_the_java_client_are_read_and_rebuilt() {
    for (codec, bytes) in golden() {
        let batch = BatchView::new(&bytes).unwrap();
        batch.validate_produced().unwrap();
        assert_eq!(batch.compression().unwrap(), codec);
        assert_eq!((batch.base_offset(), batch.next_offset()), (40, 45));
        assert_eq!((batch.leader_epoch(), batch.record_count()), (9, 5));
        let producer = (
            batch.producer_id(),
            batch.producer_epoch(),
            batch.base_sequence(),
        );
        assert_eq!((producer, batch.last_sequence()), ((7, 3, 100), 104));

        let payload = batch.decompress(10_000).unwrap();
        let records: Vec<_> = batch.records(&payload).map(Result::unwrap).collect();
        check_golden_records(&records);
        let mut builder = BatchBuilder::new()
            .base_offset(40)
            .leader_epoch(9)
            .producer(7, 3, 100);
        records
            .iter()
            .for_each(|record| builder.append_record(record).unwrap());
        let plain = builder.build().unwrap();
        assert_eq!(
            BatchView::new(&plain).unwrap().crc(),
            PLAIN_CRC,
            "{}",
            codec.name()
        );
    }
}

fn sample(codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new()
        .compression(codec)
        .producer(5, 1, i32::MAX - 1);
    for i in 0..4i64 {
        builder.append(1000 + i, Some(b"key"), Some(&[7; 50]), &[("h", Some(b"v"))]);
    }
    builder.build().unwrap().to_vec()
}

#[test]
fn offset_and_epoch_lie_outside_the_checksum() {
    let mut bytes = sample(Compression::Zstd);
    let crc = BatchView::new(&bytes).unwrap().crc();
    set_base_offset(&mut bytes, 1 << 40);
    set_leader_epoch(&mut bytes, 17);
    let batch = BatchView::new(&bytes).unwrap();
    batch.validate_produced().unwrap();
    assert_eq!(
        (batch.base_offset(), batch.leader_epoch(), batch.crc()),
        (1 << 40, 17, crc)
    );
    let payload = batch.decompress(10_000).unwrap();
    let offsets: Vec<_> = batch
        .records(&payload)
        .map(|r| r.unwrap().offset - (1 << 40))
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
}

#[test]
fn a_header_of_its_own_does_what_patching_in_place_does() {
    let bytes = sample(Compression::Lz4);
    let batch = BatchView::new(&bytes).unwrap();
    let mut patched = bytes.clone();
    set_base_offset(&mut patched, 99);
    set_leader_epoch(&mut patched, 3);
    assert_eq!(batch.header_at(99, 3), patched[..BATCH_HEADER_BYTES]);
    set_log_append_time(&mut patched, 123_456);
    let header = batch.header_at_append_time(99, 3, 123_456);
    assert_eq!(header, patched[..BATCH_HEADER_BYTES]);
}

#[test]
fn log_append_time_is_everyones_and_leaves_the_records_alone() {
    let mut bytes = sample(Compression::Gzip);
    let payload_before = BatchView::new(&bytes).unwrap().payload().to_vec();
    set_log_append_time(&mut bytes, 777);
    let batch = BatchView::new(&bytes).unwrap();
    batch.validate().unwrap();
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(
        (batch.max_timestamp(), batch.payload()),
        (777, &payload_before[..])
    );
    let payload = batch.decompress(10_000).unwrap();
    assert!(
        batch
            .records(&payload)
            .all(|record| record.unwrap().timestamp == 777)
    );
}

#[test]
fn every_flipped_bit_behind_the_checksum_is_found() {
    let bytes = sample(Compression::None);
    for bit in CRC * 8..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = BatchView::new(&damaged).unwrap().validate().unwrap_err();
        assert!(
            matches!(error, Error::BatchChecksum { .. }),
            "bit {bit}: {error}"
        );
    }
}

#[test]
fn lengths_and_magic_are_checked_before_anything_else() {
    let bytes = sample(Compression::None);
    for len in 0..bytes.len() {
        assert!(BatchView::new(&bytes[..len]).is_err(), "cut to {len}");
    }
    for length in [-1, i32::MIN, 0, 48, i32::MAX] {
        let mut damaged = bytes.clone();
        damaged[LENGTH..LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        let error = BatchView::new(&damaged).unwrap_err();
        assert!(
            matches!(error, Error::BatchLength { .. }),
            "{length}: {error}"
        );
    }
    for magic in [0u8, 1, 3, 0xff] {
        let mut damaged = bytes.clone();
        damaged[MAGIC] = magic;
        let error = BatchView::new(&damaged).unwrap_err();
        assert!(
            matches!(error, Error::BatchMagic { .. }),
            "{magic}: {error}"
        );
    }
    let two = [bytes.clone(), bytes].concat();
    assert!(matches!(
        BatchView::new(&two),
        Err(Error::BatchHeader { .. })
    ));
    assert!(matches!(
        BatchView::new(&[]),
        Err(Error::BatchHeader { .. })
    ));
}

/// Writes `value` at `at`, makes the checksum right, and gives what validation says.
fn with_field(at: usize, value: &[u8]) -> Result<()> {
    let mut bytes = sample(Compression::None);
    bytes[at..at + value.len()].copy_from_slice(value);
    update_crc(&mut bytes);
    BatchView::new(&bytes).unwrap().validate_produced()
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    with_field(LAST_OFFSET_DELTA, &3i32.to_be_bytes()).unwrap();
    for delta in [2, 4, -1, i32::MIN, i32::MAX] {
        assert!(
            with_field(LAST_OFFSET_DELTA, &delta.to_be_bytes()).is_err(),
            "{delta}"
        );
    }
    for count in [0, -1, 3, 5, i32::MAX] {
        assert!(
            with_field(RECORD_COUNT, &count.to_be_bytes()).is_err(),
            "{count}"
        );
    }
    for compression in 5..8i16 {
        let error = with_field(ATTRIBUTES, &compression.to_be_bytes()).unwrap_err();
        assert!(matches!(error, Error::UnknownCompression { .. }), "{error}");
    }
    assert!(with_field(ATTRIBUTES, &CONTROL.to_be_bytes()).is_err());
    let error = with_field(ATTRIBUTES, &LOG_APPEND_TIME.to_be_bytes()).unwrap_err();
    assert_eq!(error.code(), crate::ErrorCode::InvalidTimestamp);
    assert!(with_field(BASE_SEQUENCE, &(-1i32).to_be_bytes()).is_err());
    assert!(with_field(PRODUCER_EPOCH, &(-1i16).to_be_bytes()).is_err());
    assert!(with_field(BASE_OFFSET, &(i64::MAX - 2).to_be_bytes()).is_err());
    with_field(ATTRIBUTES, &TRANSACTIONAL.to_be_bytes()).unwrap();
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(
        BatchView::new(&sample(Compression::None))
            .unwrap()
            .last_sequence(),
        1
    );
}

#[test]
fn batches_are_visited_one_after_the_other() {
    let bytes = [sample(Compression::None), sample(Compression::Snappy)].concat();
    let lens: Vec<_> = Batches::new(&bytes)
        .map(|batch| batch.unwrap().len())
        .collect();
    assert_eq!(lens.iter().sum::<usize>(), bytes.len());
    for cut in 1..lens[1] {
        let cut = &bytes[..bytes.len() - cut];
        assert_eq!(Batches::whole(cut).filter(Result::is_ok).count(), 1);
        let visited: Vec<_> = Batches::new(cut).map(|batch| batch.is_ok()).collect();
        assert_eq!(visited, [true, false]);
    }
}
