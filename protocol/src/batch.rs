//! A record batch of format v2, looked at where it lies.
//!
//! ```text
//!  0 base offset      i64 ┐ outside the checksum:
//!  8 batch length     i32 │ what follows byte 12
//! 12 leader epoch     i32 │
//! 16 magic = 2        i8  ┘
//! 17 CRC-32C          u32   of everything from byte 21 to the end
//! 21 attributes       i16   0-2 compression · 3 log append time · 4 transactional · 5 control
//! 23 last offset delta i32                  · 6 delete horizon in the base timestamp
//! 27 base timestamp   i64 · 35 maximum timestamp i64
//! 43 producer id      i64 · 51 producer epoch    i16 · 53 base sequence i32
//! 57 record count     i32
//! 61 records, compressed as one
//! ```

use crate::compression::Compression;
use crate::error::{Error, Result};

/// Bytes of the header, before the records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before those that the batch length counts.
pub const BATCH_LENGTH_OVERHEAD: usize = 12;
/// Shortest encoding of one record, its length included.
pub const MIN_RECORD_BYTES: usize = 7;

pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const LENGTH: usize = 8;
pub(crate) const LEADER_EPOCH: usize = 12;
pub(crate) const MAGIC: usize = 16;
pub(crate) const CRC: usize = 17;
pub(crate) const ATTRIBUTES: usize = 21;
pub(crate) const LAST_OFFSET_DELTA: usize = 23;
pub(crate) const BASE_TIMESTAMP: usize = 27;
pub(crate) const MAX_TIMESTAMP: usize = 35;
pub(crate) const PRODUCER_ID: usize = 43;
pub(crate) const PRODUCER_EPOCH: usize = 51;
pub(crate) const BASE_SEQUENCE: usize = 53;
pub(crate) const RECORD_COUNT: usize = 57;

pub(crate) const COMPRESSION_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
pub(crate) const CONTROL: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON: i16 = 1 << 6;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// Set by the producer, per record.
    #[default]
    CreateTime,
    /// Set by the broker, for the whole batch: its maximum timestamp.
    LogAppendTime,
}

/// CRC-32C, the checksum of batches.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Exactly one batch of format v2.
///
/// **Invariant:** the bytes hold a whole header, the magic is 2, and the length they declare is
/// the length they have. Everything else is checked by [`validate`](Self::validate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $at:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $type {
            <$type>::from_be_bytes(self.field($at))
        }
    )*};
}

impl<'a> BatchView<'a> {
    /// The batch that `bytes` are.
    ///
    /// # Errors
    /// If they are more or less than one batch, or of another magic.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::BatchHeader { what: "no batch" });
        }
        let (batch, rest) = Self::split_first(bytes)?;
        if !rest.is_empty() {
            return Err(Error::BatchHeader {
                what: "more than one batch",
            });
        }
        Ok(batch)
    }

    /// The batch at the front of `bytes`, and what follows it.
    ///
    /// # Errors
    /// If they do not hold one whole batch of magic 2.
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8])> {
        let available = bytes.len();
        if let Some(&magic) = bytes.get(MAGIC).filter(|&&magic| magic != 2) {
            return Err(Error::BatchMagic { magic: magic as i8 });
        }
        let declared = declared_len(bytes).unwrap_or(BATCH_HEADER_BYTES as i64);
        match usize::try_from(declared) {
            Ok(len) if (BATCH_HEADER_BYTES..=available).contains(&len) => {
                let (batch, rest) = bytes.split_at(len);
                Ok((Self { bytes: batch }, rest))
            }
            _ => Err(Error::BatchLength {
                declared,
                available,
            }),
        }
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.bytes[at..]
            .first_chunk()
            .expect("a view holds a whole header")
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Bytes of the whole batch, header included; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fields! {
        /// Offset of the first record, or of the first there was before compaction.
        base_offset: i64 = BASE_OFFSET;
        /// Leader epoch at which the batch was appended; -1 as sent by producers.
        leader_epoch: i32 = LEADER_EPOCH;
        /// The checksum in the header.
        crc: u32 = CRC;
        /// All flags.
        attributes: i16 = ATTRIBUTES;
        /// Distance of the last offset from the base offset.
        last_offset_delta: i32 = LAST_OFFSET_DELTA;
        /// Milliseconds since 1970 that the records' timestamps are relative to; -1 for none. The
        /// delete horizon, if [`has_delete_horizon`](Self::has_delete_horizon).
        base_timestamp: i64 = BASE_TIMESTAMP;
        /// Highest timestamp of the batch, in milliseconds since 1970; -1 for none.
        max_timestamp: i64 = MAX_TIMESTAMP;
        /// The idempotent producer; -1 for none.
        producer_id: i64 = PRODUCER_ID;
        /// Epoch of the producer; -1 for none.
        producer_epoch: i16 = PRODUCER_EPOCH;
        /// Sequence number of the first record; -1 for none.
        base_sequence: i32 = BASE_SEQUENCE;
        /// Number of records.
        record_count: i32 = RECORD_COUNT;
    }

    /// Offset of the last record, or of the last there was before compaction.
    pub fn last_offset(&self) -> i64 {
        self.base_offset()
            .wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// Offset after the last one.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Sequence number of the last record, wrapped after 2³¹-1 to 0; -1 for none.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            -1 => -1,
            base => increment_sequence(base, self.last_offset_delta()),
        }
    }

    /// Whether an idempotent producer sent it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() >= 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether it holds a marker of the broker's and no records of users.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// Whether the base timestamp holds the time after which tombstones may go (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON != 0
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// If the format does not know the compression type.
    pub fn compression(&self) -> Result<Compression> {
        Compression::from_id((self.attributes() & COMPRESSION_MASK) as u8)
    }

    /// Checks everything about a stored batch that its header can tell: checksum, compression
    /// type, and counts that agree. Records are not decoded.
    ///
    /// # Errors
    /// On the first that is wrong; the checksum comes first.
    pub fn validate(&self) -> Result<()> {
        self.validate_crc()?;
        let compression = self.compression()?;
        let (count, delta) = (self.record_count(), self.last_offset_delta());
        if count < 0 || delta < 0 {
            return Err(Error::BatchHeader {
                what: "a negative count or offset delta",
            });
        }
        if i64::from(count) > i64::from(delta) + 1 {
            return Err(Error::BatchHeader {
                what: "more records than offsets",
            });
        }
        if self
            .base_offset()
            .checked_add(i64::from(delta) + 1)
            .is_none()
        {
            return Err(Error::BatchHeader {
                what: "offsets beyond 63 bits",
            });
        }
        let room = self.payload().len() / MIN_RECORD_BYTES;
        if compression == Compression::None && count as usize > room {
            return Err(Error::BatchHeader {
                what: "more records than its bytes can hold",
            });
        }
        Ok(())
    }

    /// Checks a batch as a client may produce it: as [`validate`](Self::validate), and also one
    /// offset per record, at least one record, no control batch, timestamps of its own, and a
    /// producer that is either whole or absent.
    ///
    /// # Errors
    /// On the first that is wrong.
    pub fn validate_produced(&self) -> Result<()> {
        self.validate()?;
        let header = |what| Err(Error::BatchHeader { what });
        if self.record_count() == 0 {
            return header("no records");
        }
        if self.record_count() - 1 != self.last_offset_delta() {
            return header("a record count that is not the number of offsets");
        }
        if self.is_control() {
            return header("a control batch from a client");
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Err(Error::BatchTimestampType);
        }
        if self.has_producer_id() && (self.base_sequence() < 0 || self.producer_epoch() < 0) {
            return header("a producer id without epoch or sequence");
        }
        if !self.has_producer_id() && self.is_transactional() {
            return header("a transactional batch without producer id");
        }
        Ok(())
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    /// If they differ.
    pub fn validate_crc(&self) -> Result<()> {
        let (stored, computed) = (self.crc(), crc32c(&self.bytes[ATTRIBUTES..]));
        if stored != computed {
            return Err(Error::BatchChecksum { stored, computed });
        }
        Ok(())
    }

    /// The header with another base offset and leader epoch, for writing it in front of the
    /// payload as it is. The checksum stays right: it covers neither.
    pub fn header_at(&self, base_offset: i64, leader_epoch: i32) -> [u8; BATCH_HEADER_BYTES] {
        let mut header: [u8; BATCH_HEADER_BYTES] = self.field(0);
        set_base_offset(&mut header, base_offset);
        set_leader_epoch(&mut header, leader_epoch);
        header
    }

    /// As [`header_at`](Self::header_at), with log append time `append_time_ms` (milliseconds since
    /// 1970) as the timestamp of the whole batch; the checksum is computed anew.
    pub fn header_at_append_time(
        &self,
        base_offset: i64,
        leader_epoch: i32,
        append_time_ms: i64,
    ) -> [u8; BATCH_HEADER_BYTES] {
        let mut header = self.header_at(base_offset, leader_epoch);
        mark_append_time(&mut header, append_time_ms);
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&header[ATTRIBUTES..]);
        digest.update(self.payload());
        header[CRC..ATTRIBUTES].copy_from_slice(&(digest.finalize() as u32).to_be_bytes());
        header
    }
}

/// Length of the batch at the front of `bytes` by its own header, in bytes, header included;
/// `None` if fewer than 12 bytes are there. Nothing is checked: it may be negative.
pub fn declared_len(bytes: &[u8]) -> Option<i64> {
    let length = bytes.get(LENGTH..)?.first_chunk()?;
    Some(i64::from(i32::from_be_bytes(*length)) + BATCH_LENGTH_OVERHEAD as i64)
}

/// The sequence number `by` after `sequence`, wrapped after 2³¹-1 to 0. Neither is negative.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// Writes the base offset into a batch (at least its header); the checksum stays right.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[BASE_OFFSET..LENGTH].copy_from_slice(&base_offset.to_be_bytes());
}

/// Writes the leader epoch into a batch (at least its header); the checksum stays right.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[LEADER_EPOCH..MAGIC].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes `append_time_ms` (milliseconds since 1970) the timestamp of a whole batch, as topics of
/// log append time want it, and computes its checksum anew. The records stay as they are.
///
/// # Panics
/// If `batch` is not a whole batch.
pub fn set_log_append_time(batch: &mut [u8], append_time_ms: i64) {
    mark_append_time(batch, append_time_ms);
    update_crc(batch);
}

/// Makes `max_timestamp` (milliseconds since 1970, or -1) the highest timestamp of a whole batch,
/// and computes its checksum anew: for a header that says another one than its records.
///
/// # Panics
/// If `batch` is not a whole batch.
pub fn set_max_timestamp(batch: &mut [u8], max_timestamp: i64) {
    batch[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&max_timestamp.to_be_bytes());
    update_crc(batch);
}

fn mark_append_time(batch: &mut [u8], append_time_ms: i64) {
    // The flag lies in the lower of the two attribute bytes.
    batch[ATTRIBUTES + 1] |= LOG_APPEND_TIME as u8;
    batch[MAX_TIMESTAMP..PRODUCER_ID].copy_from_slice(&append_time_ms.to_be_bytes());
}

/// Computes the checksum of a whole batch anew.
pub(crate) fn update_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES..]);
    batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

/// The batches that lie one after the other in a buffer.
///
/// Ends after the first error. A batch cut off at the end is an error, but see
/// [`whole`](Self::whole).
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    cut_is_end: bool,
}

impl<'a> Batches<'a> {
    /// Every batch in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            cut_is_end: false,
        }
    }

    /// Every whole batch in `bytes`: one that is cut off at the end is left out, as in the answer
    /// to a fetch.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            cut_is_end: true,
        }
    }

    /// What has not been visited.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn is_cut(&self) -> bool {
        let declared = declared_len(self.rest).unwrap_or(i64::MAX);
        declared > self.rest.len() as i64
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || (self.cut_is_end && self.is_cut()) {
            return None;
        }
        match BatchView::split_first(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
