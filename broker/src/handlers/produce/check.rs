//! What of a produced batch is judged before it gets offsets (PROTOCOL rules 16 to 19).

use protocol::messages::StrBytes;
use protocol::messages::produce_response::BatchIndexAndErrorMessage;
use protocol::{BatchView, Compression, ErrorCode};

use crate::handlers::text;
use crate::topics::TopicSettings;

/// Most bytes that the records of a compacted topic's batch may decompress to.
const MAX_DECOMPRESSED_BYTES: usize = 128 * 1024 * 1024;
/// Most records that are refused by name.
const MAX_RECORD_ERRORS: usize = 1000;

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) message: StrBytes,
    /// Which records, where it is about some of them (KIP-467).
    pub(super) records: Vec<BatchIndexAndErrorMessage>,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: text(message),
            records: Vec::new(),
        }
    }
}

/// Judges what a client sent for one partition: exactly one whole batch, valid for the topic.
pub(super) fn check<'a>(
    records: &'a [u8],
    topic: &TopicSettings,
    version: i16,
    now_ms: i64,
) -> Result<BatchView<'a>, Refused> {
    if records.is_empty() {
        return Err(Refused::new(ErrorCode::InvalidRecord, "no record batch"));
    }
    let invalid = |error: protocol::Error| Refused::new(error.code(), error.to_string());
    let (view, rest) = BatchView::split_first(records).map_err(invalid)?;
    if !rest.is_empty() {
        let message = "more than one record batch for a partition";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if view.len() > topic.max_message_bytes {
        let message = format!(
            "the record batch has {} bytes, max.message.bytes is {}",
            view.len(),
            topic.max_message_bytes
        );
        return Err(Refused::new(ErrorCode::MessageTooLarge, message));
    }
    view.validate_produced().map_err(invalid)?;
    let compression = view.compression().map_err(invalid)?;
    if compression == Compression::Zstd && version < 7 {
        let message = "zstd needs produce version 7";
        return Err(Refused::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if view.is_transactional() {
        let message = "transactions are not served yet";
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    check_timestamps(&view, topic, now_ms)?;
    if topic.compact {
        check_keys(&view)?;
    }
    Ok(view)
}

/// The header tells the first timestamp and the largest: enough, without decoding.
fn check_timestamps(
    view: &BatchView<'_>,
    topic: &TopicSettings,
    now_ms: i64,
) -> Result<(), Refused> {
    if topic.log_append_time {
        return Ok(());
    }
    let (first, largest) = (view.base_timestamp(), view.max_timestamp());
    let refuse = |timestamp: i64, key: &str, limit: i64| {
        let message =
            format!("timestamp {timestamp} is out of range: now is {now_ms}, {key} is {limit}");
        Err(Refused::new(ErrorCode::InvalidTimestamp, message))
    };
    if largest >= 0 && largest.saturating_sub(now_ms) > topic.after_max_ms {
        return refuse(
            largest,
            "message.timestamp.after.max.ms",
            topic.after_max_ms,
        );
    }
    if first >= 0 && now_ms.saturating_sub(first) > topic.before_max_ms {
        return refuse(
            first,
            "message.timestamp.before.max.ms",
            topic.before_max_ms,
        );
    }
    Ok(())
}

/// Compaction keeps the newest record per key: a record without one has no place in it.
fn check_keys(view: &BatchView<'_>) -> Result<(), Refused> {
    let invalid = |error: protocol::Error| Refused::new(error.code(), error.to_string());
    let payload = view.decompress(MAX_DECOMPRESSED_BYTES).map_err(invalid)?;
    let mut without = Vec::new();
    for (record, index) in view.records(&payload).zip(0i32..) {
        if record.map_err(invalid)?.key.is_none() && without.len() < MAX_RECORD_ERRORS {
            without.push(
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(Some(StrBytes::from_static_str(
                        "a compacted topic needs a key",
                    ))),
            );
        }
    }
    if without.is_empty() {
        return Ok(());
    }
    let message = "one or more records have been rejected: a compacted topic needs keys";
    Err(Refused {
        records: without,
        ..Refused::new(ErrorCode::InvalidRecord, message)
    })
}

#[cfg(test)]
mod tests {
    use protocol::BatchBuilder;
    use storage::TopicConfig;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn topic() -> TopicSettings {
        TopicSettings {
            max_message_bytes: 10_000,
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

    fn code(records: &[u8], topic: &TopicSettings, version: i16) -> ErrorCode {
        match check(records, topic, version, NOW) {
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
            let refused = check(&mixed, &compacted, 9, NOW).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidRecord);
            let indexes: Vec<i32> = refused.records.iter().map(|one| one.batch_index).collect();
            assert_eq!(indexes, [1, 3]);
            let keyed = batch(compression, &[Some("a")], NOW);
            assert_eq!(code(&keyed, &compacted, 9), ErrorCode::None);
        }
    }
}
