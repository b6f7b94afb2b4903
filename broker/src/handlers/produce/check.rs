//! What of a produced batch is judged before it gets offsets (PROTOCOL rules 16 to 19): its header,
//! and each of its records, so that nothing is kept that no consumer could read.

use bytes::Bytes;
use protocol::messages::StrBytes;
use protocol::messages::produce_response::BatchIndexAndErrorMessage;
use protocol::{BatchView, Compression, Error, ErrorCode, Visited, WalkLimits, set_max_timestamp};

use crate::handlers::text;
use crate::limits::INLINE_CHECK_BYTES;
use crate::topics::TopicSettings;

/// Most bytes that a batch may decompress to: as much as lookups by time and compaction take.
const MAX_DECOMPRESSED_BYTES: usize = 128 * 1024 * 1024;

/// What a batch is judged by, beside its topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Version of the request.
    pub(super) version: i16,
    /// The time, milliseconds since 1970.
    pub(super) now_ms: i64,
    /// Most records that are refused by name; all are counted.
    pub(super) named: usize,
}

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

/// A batch that may be appended.
#[derive(Debug)]
pub(super) struct Checked {
    /// How many records it holds.
    pub(super) records: u64,
    /// The highest timestamp of its records, where the producer's header said another one:
    /// lookups by time go by it.
    pub(super) max_timestamp: Option<i64>,
}

impl Checked {
    /// The batch as it is to be kept: a copy only where its header was wrong.
    pub(super) fn keep(&self, batch: Bytes) -> Bytes {
        let Some(max_timestamp) = self.max_timestamp else {
            return batch;
        };
        let mut batch = batch.to_vec();
        set_max_timestamp(&mut batch, max_timestamp);
        Bytes::from(batch)
    }
}

/// Judges what a client sent for one partition: exactly one whole batch, valid for the topic.
pub(super) fn check(
    records: &[u8],
    topic: &TopicSettings,
    terms: Terms,
) -> Result<Checked, Refused> {
    let view = check_header(records, topic, terms.version)?;
    judge(&view, topic, terms, MAX_DECOMPRESSED_BYTES)
        .unwrap_or_else(|error| Err(unreadable(error)))
}

/// As [`check`], as long as it is little work; `None` where it turns out to be more.
pub(super) fn check_small(
    records: &[u8],
    topic: &TopicSettings,
    terms: Terms,
) -> Option<Result<Checked, Refused>> {
    let view = match check_header(records, topic, terms.version) {
        Ok(view) => view,
        Err(refused) => return Some(Err(refused)),
    };
    match judge(&view, topic, terms, INLINE_CHECK_BYTES) {
        Ok(judged) => Some(judged),
        // Much comes out, or a decoder wants a large window for it.
        Err(Error::DecompressedTooLarge { .. } | Error::Decompress { .. }) => None,
        Err(error) => Some(Err(unreadable(error))),
    }
}

/// Judges record after record.
///
/// # Errors
/// When they cannot all be read.
fn judge(
    view: &BatchView<'_>,
    topic: &TopicSettings,
    terms: Terms,
    max_bytes: usize,
) -> Result<Result<Checked, Refused>, Error> {
    let mut judge = Judge::new(topic, terms);
    let limits = WalkLimits {
        max_bytes,
        max_record_bytes: topic.max_decompressed_bytes,
    };
    view.walk(limits, |record| judge.record(record))?;
    if let Err(refused) = judge.verdict() {
        return Ok(Err(refused));
    }
    let wrong = !topic.log_append_time && judge.max_timestamp != view.max_timestamp();
    Ok(Ok(Checked {
        records: u64::try_from(view.record_count()).unwrap_or(0),
        max_timestamp: wrong.then_some(judge.max_timestamp),
    }))
}

fn invalid(error: Error) -> Refused {
    Refused::new(error.code(), error.to_string())
}

/// The checksum held, so that sending it again would not help: CORRUPT_MESSAGE would have clients
/// try for minutes.
fn unreadable(error: Error) -> Refused {
    match error {
        Error::Record { .. } | Error::Decompress { .. } => {
            Refused::new(ErrorCode::InvalidRecord, error.to_string())
        }
        error => invalid(error),
    }
}

fn check_header<'a>(
    records: &'a [u8],
    topic: &TopicSettings,
    version: i16,
) -> Result<BatchView<'a>, Refused> {
    if records.is_empty() {
        return Err(Refused::new(ErrorCode::InvalidRecord, "no record batch"));
    }
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
    if view.base_offset() != 0 {
        let message = format!("a base offset of {}, not 0", view.base_offset());
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if view.has_delete_horizon() {
        let message = "a delete horizon, which only compaction sets";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if view.is_transactional() {
        let message = "transactions are not served yet";
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    Ok(view)
}

/// Judges record after record (KIP-467).
struct Judge {
    /// Compaction keeps the newest record per key: a record without one has no place in it.
    needs_key: bool,
    /// Milliseconds since 1970, both included; everything where the broker sets the time.
    earliest: i64,
    latest: i64,
    max_timestamp: i64,
    named: usize,
    errors: Vec<BatchIndexAndErrorMessage>,
    keyless: u64,
    untimely: u64,
}

/// A record without timestamp; it is of no concern to the bounds.
const NO_TIMESTAMP: i64 = -1;

impl Judge {
    fn new(topic: &TopicSettings, terms: Terms) -> Self {
        let now_ms = terms.now_ms;
        let (earliest, latest) = if topic.log_append_time {
            (i64::MIN, i64::MAX)
        } else {
            (
                now_ms.saturating_sub(topic.before_max_ms),
                now_ms.saturating_add(topic.after_max_ms),
            )
        };
        Self {
            needs_key: topic.compact,
            earliest,
            latest,
            max_timestamp: NO_TIMESTAMP,
            named: terms.named,
            errors: Vec::new(),
            keyless: 0,
            untimely: 0,
        }
    }

    fn record(&mut self, record: Visited) {
        let timestamp = record.timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if self.needs_key && !record.has_key {
            self.keyless += 1;
            self.refuse(record.index, || {
                StrBytes::from_static_str("a compacted topic needs a key")
            });
        } else if timestamp != NO_TIMESTAMP && !(self.earliest..=self.latest).contains(&timestamp) {
            self.untimely += 1;
            let (earliest, latest) = (self.earliest, self.latest);
            self.refuse(record.index, || {
                text(format!(
                    "timestamp {timestamp} is out of range: the topic takes {earliest} to {latest}"
                ))
            });
        }
    }

    #[cold]
    fn refuse(&mut self, index: i32, message: impl FnOnce() -> StrBytes) {
        if self.errors.len() < self.named {
            self.errors.push(
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(Some(message())),
            );
        }
    }

    fn verdict(&mut self) -> Result<(), Refused> {
        let (keyless, untimely) = (self.keyless, self.untimely);
        let refused = if untimely > 0 {
            let message = format!("{untimely} records rejected for their timestamps");
            Refused::new(ErrorCode::InvalidTimestamp, message)
        } else if keyless > 0 {
            let message = format!("{keyless} records rejected: a compacted topic needs keys");
            Refused::new(ErrorCode::InvalidRecord, message)
        } else {
            return Ok(());
        };
        Err(Refused {
            records: std::mem::take(&mut self.errors),
            ..refused
        })
    }
}

#[cfg(test)]
mod tests;
