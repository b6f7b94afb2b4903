use protocol::{BATCH_HEADER_BYTES, BatchBuilder, crc32c};
use storage::TopicConfig;

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn topic() -> TopicSettings {
    TopicSettings {
        max_message_bytes: 10_000,
        max_decompressed_bytes: 1_000_000,
        compact: false,
        log_append_time: false,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        storage: TopicConfig::kafka_default(),
    }
}

fn batch(compression: Compression, keys: &[Option<&str>], timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(compression);
    for key in keys {
        builder.append(timestamp, key.map(str::as_bytes), Some(b"value"), &[]);
    }
    builder.build().unwrap().to_vec()
}

fn terms(version: i16) -> Terms {
    Terms {
        version,
        now_ms: NOW,
        named: 1000,
    }
}

fn code(records: &[u8], topic: &TopicSettings, version: i16) -> ErrorCode {
    match check(records, topic, terms(version)) {
        Ok(_) => ErrorCode::None,
        Err(refused) => refused.code,
    }
}

#[test]
fn exactly_one_whole_batch_is_taken() {
    let one = batch(Compression::None, &[None], NOW);
    assert_eq!(code(&one, &topic(), 9), ErrorCode::None);
    let two = [one.clone(), one.clone()].concat();
    assert_eq!(code(&two, &topic(), 9), ErrorCode::InvalidRecord);
    assert_eq!(code(&[], &topic(), 9), ErrorCode::InvalidRecord);
    assert_eq!(
        code(&one[..one.len() - 1], &topic(), 9),
        ErrorCode::CorruptMessage
    );
    let mut old = one.clone();
    old[16] = 1;
    assert_eq!(code(&old, &topic(), 9), ErrorCode::InvalidRecord);
}

#[test]
fn a_flipped_bit_fails_the_checksum() {
    let good = batch(Compression::None, &[Some("k")], NOW);
    for at in [22, 40, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(
            code(&bad, &topic(), 9),
            ErrorCode::CorruptMessage,
            "byte {at}"
        );
    }
}

#[test]
fn size_codec_and_time_are_judged() {
    let small = TopicSettings {
        max_message_bytes: 50,
        ..topic()
    };
    let plain = batch(Compression::None, &[None], NOW);
    assert_eq!(code(&plain, &small, 9), ErrorCode::MessageTooLarge);
    let zstd = batch(Compression::Zstd, &[None], NOW);
    assert_eq!(
        code(&zstd, &topic(), 6),
        ErrorCode::UnsupportedCompressionType
    );
    assert_eq!(code(&zstd, &topic(), 7), ErrorCode::None);
    let late = batch(Compression::None, &[None], NOW + 3_600_001);
    assert_eq!(code(&late, &topic(), 9), ErrorCode::InvalidTimestamp);
    let append = TopicSettings {
        log_append_time: true,
        ..topic()
    };
    assert_eq!(code(&late, &append, 9), ErrorCode::None);
    let strict = TopicSettings {
        before_max_ms: 1000,
        ..topic()
    };
    let old = batch(Compression::None, &[None], NOW - 1001);
    assert_eq!(code(&old, &strict, 9), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_compacted_topic_names_the_records_without_keys() {
    let compacted = TopicSettings {
        compact: true,
        ..topic()
    };
    for compression in [Compression::None, Compression::Lz4] {
        let mixed = batch(compression, &[Some("a"), None, Some("b"), None], NOW);
        let refused = check(&mixed, &compacted, terms(9)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRecord);
        let indexes: Vec<i32> = refused.records.iter().map(|one| one.batch_index).collect();
        assert_eq!(indexes, [1, 3]);
        let keyed = batch(compression, &[Some("a")], NOW);
        assert_eq!(code(&keyed, &compacted, 9), ErrorCode::None);
    }
}

/// `batch` with some bytes of its header set and the checksum made right again.
fn with_header(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// `batch` with another payload.
fn with_payload(batch: &[u8], payload: &[u8]) -> Vec<u8> {
    let batch = [&batch[..BATCH_HEADER_BYTES], payload].concat();
    let length = batch.len() as i32 - 12;
    with_header(batch, 8, &length.to_be_bytes())
}

#[test]
fn records_that_no_consumer_could_read_are_refused_for_good() {
    for compression in Compression::ALL {
        let good = batch(compression, &[Some("a"), None, Some("b")], NOW);
        let payload = &good[BATCH_HEADER_BYTES..];
        assert_eq!(code(&good, &topic(), 9), ErrorCode::None);
        for bad in [
            // Cut off, nothing at all, something after the end, another codec than it says.
            with_payload(&good, &payload[..payload.len() - 3]),
            with_payload(&good, &[]),
            with_payload(&good, &[payload, &[7; 9]].concat()),
            with_header(good.clone(), 22, &[(compression as u8 + 1) % 5]),
            // One record more and one less than there are.
            with_header(
                with_header(good.clone(), 23, &3i32.to_be_bytes()),
                57,
                &4i32.to_be_bytes(),
            ),
            with_header(
                with_header(good.clone(), 23, &1i32.to_be_bytes()),
                57,
                &2i32.to_be_bytes(),
            ),
        ] {
            let got = code(&bad, &topic(), 9);
            assert_eq!(got, ErrorCode::InvalidRecord, "{}", compression.name());
        }
    }
}

#[test]
fn what_only_a_broker_may_set_is_refused() {
    let good = batch(Compression::None, &[Some("a")], NOW);
    for (at, bytes, expected) in [
        (0, &5i64.to_be_bytes()[..], ErrorCode::InvalidRecord),
        (22, &[1 << 5], ErrorCode::InvalidRecord),
        (22, &[1 << 6], ErrorCode::InvalidRecord),
        (22, &[1 << 3], ErrorCode::InvalidTimestamp),
        (22, &[7], ErrorCode::UnsupportedCompressionType),
    ] {
        let bad = with_header(good.clone(), at, bytes);
        assert_eq!(code(&bad, &topic(), 9), expected, "byte {at}");
    }
    let mut transactional = BatchBuilder::new().producer(5, 0, 0).transactional();
    transactional.append(NOW, None, None, &[]);
    let got = code(&transactional.build().unwrap(), &topic(), 9);
    assert_eq!(got, ErrorCode::InvalidTxnState);
}

#[test]
fn each_records_time_is_judged_wherever_it_stands() {
    let strict = TopicSettings {
        before_max_ms: 1000,
        ..topic()
    };
    for compression in [Compression::None, Compression::Zstd] {
        let mut builder = BatchBuilder::new().compression(compression);
        let times = [
            NOW,
            NOW - 1001,
            NOW - 1000,
            -1,
            NOW + 3_600_001,
            NOW + 3_600_000,
        ];
        for time in times {
            builder.append(time, Some(b"k"), None, &[]);
        }
        // The header tells of the first and the largest only, and may lie about that too.
        let bytes = builder.build().unwrap().to_vec();
        for bytes in [bytes.clone(), with_header(bytes, 35, &NOW.to_be_bytes())] {
            let refused = check(&bytes, &strict, terms(9)).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidTimestamp);
            let indexes: Vec<i32> = refused.records.iter().map(|one| one.batch_index).collect();
            assert_eq!(indexes, [1, 4]);
            let said = refused.records[0].batch_index_error_message.as_ref();
            assert!(said.unwrap().contains(&(NOW - 1001).to_string()));
            let append = TopicSettings {
                log_append_time: true,
                ..strict.clone()
            };
            assert_eq!(code(&bytes, &append, 9), ErrorCode::None);
        }
    }
}

#[test]
fn a_wrong_highest_timestamp_is_set_right() {
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(compression);
        for time in [NOW - 5, NOW - 1, NOW - 9] {
            builder.append(time, None, Some(b"value"), &[]);
        }
        let good = builder.build().unwrap().to_vec();
        let right = check(&good, &topic(), terms(9)).unwrap();
        assert_eq!((right.records, right.max_timestamp), (3, None));
        for lie in [NOW + 7, NOW - 5, -1] {
            let wrong = with_header(good.clone(), 35, &lie.to_be_bytes());
            let checked = check(&wrong, &topic(), terms(9)).unwrap();
            assert_eq!(checked.max_timestamp, Some(NOW - 1), "{lie}");
            assert_eq!(checked.keep(wrong.into()), good);
        }
    }
    let none = batch(Compression::None, &[None, None], -1);
    assert_eq!(
        check(&none, &topic(), terms(9)).unwrap().max_timestamp,
        None
    );
}

#[test]
fn a_record_may_be_as_large_as_the_topic_says() {
    let small = TopicSettings {
        max_decompressed_bytes: 5000,
        ..topic()
    };
    for (size, expected) in [(4900, ErrorCode::None), (5001, ErrorCode::InvalidRecord)] {
        let mut builder = BatchBuilder::new().compression(Compression::Gzip);
        builder.append(NOW, None, Some(&vec![7; size]), &[]);
        assert_eq!(code(&builder.build().unwrap(), &small, 9), expected);
    }
    // Without compression max.message.bytes alone bounds it.
    let mut builder = BatchBuilder::new();
    builder.append(NOW, None, Some(&[7; 6000]), &[]);
    assert_eq!(code(&builder.build().unwrap(), &small, 9), ErrorCode::None);
}

#[test]
fn a_batch_that_swells_beyond_all_bounds_is_too_large() {
    let roomy = TopicSettings {
        max_message_bytes: 1 << 20,
        max_decompressed_bytes: usize::MAX,
        ..topic()
    };
    let mut builder = BatchBuilder::new().compression(Compression::Zstd);
    for _ in 0..129 {
        builder.append(NOW, None, Some(&vec![0; 1 << 20]), &[]);
    }
    let bomb = builder.build().unwrap();
    assert!(bomb.len() < 100_000);
    assert_eq!(code(&bomb, &roomy, 9), ErrorCode::MessageTooLarge);
}

#[test]
fn no_more_records_are_named_than_there_is_room_for() {
    let compacted = TopicSettings {
        max_message_bytes: 1 << 20,
        compact: true,
        ..topic()
    };
    let keyless = batch(Compression::Gzip, &[None; 1005], NOW);
    for named in [1000, 3, 0] {
        let terms = Terms { named, ..terms(9) };
        let refused = check(&keyless, &compacted, terms).unwrap_err();
        assert_eq!(refused.records.len(), named);
        assert!(refused.message.contains("1005"));
    }
}

#[test]
fn a_little_that_becomes_much_is_not_judged_at_once() {
    let roomy = TopicSettings {
        max_message_bytes: 1 << 20,
        ..topic()
    };
    let of = |compression, size: usize| {
        let mut builder = BatchBuilder::new().compression(compression);
        for _ in 0..2 {
            builder.append(NOW, None, Some(&vec![0; size / 2]), &[]);
        }
        builder.build().unwrap().to_vec()
    };
    for compression in &Compression::ALL[1..] {
        let small = of(*compression, INLINE_CHECK_BYTES - 100);
        assert_eq!(
            check_small(&small, &roomy, terms(9))
                .unwrap()
                .unwrap()
                .records,
            2
        );
        let large = of(*compression, INLINE_CHECK_BYTES + 1);
        assert!(large.len() < 32 * 1024, "{}", large.len());
        assert!(
            check_small(&large, &roomy, terms(9)).is_none(),
            "{}",
            compression.name()
        );
        assert_eq!(check(&large, &roomy, terms(9)).unwrap().records, 2);
    }
    // What is wrong without decompressing much is refused at once.
    let mut bad = of(Compression::Zstd, INLINE_CHECK_BYTES + 1);
    bad[30] ^= 1;
    assert!(check_small(&bad, &roomy, terms(9)).unwrap().is_err());
}
