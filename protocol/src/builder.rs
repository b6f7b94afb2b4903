//! Builds batches: for our own clients and tests, the internal topics, and compaction.

use bytes::Bytes;

use crate::batch::{
    ATTRIBUTES, BASE_OFFSET, BASE_SEQUENCE, BASE_TIMESTAMP, BATCH_HEADER_BYTES,
    BATCH_LENGTH_OVERHEAD, CONTROL, LAST_OFFSET_DELTA, LEADER_EPOCH, LENGTH, LOG_APPEND_TIME,
    MAGIC, MAX_TIMESTAMP, PRODUCER_EPOCH, PRODUCER_ID, RECORD_COUNT, TRANSACTIONAL, TimestampType,
    update_crc,
};
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::varint;

/// Builds one batch. Records are encoded as they are added.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
    flags: i16,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i64,
    count: i32,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch at offset 0, as a producer without idempotence sends it.
    pub fn new() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            flags: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            last_offset_delta: -1,
            count: 0,
            payload: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Sets the base offset.
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Sets the leader epoch; -1 until the broker sets it.
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Sets how the records are compressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Makes it a batch of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes it a part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.flags |= TRANSACTIONAL;
        self
    }

    /// Makes it a control batch, which holds a marker.
    pub fn control(mut self) -> Self {
        self.flags |= CONTROL;
        self
    }

    /// Says what the timestamps mean. For log append time the batch's maximum is everyone's.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => self.flags &= !LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.flags |= LOG_APPEND_TIME,
        }
        self
    }

    /// Makes `offset` the batch's last, though no record may stand there any more: emptied runs
    /// keep their offsets.
    pub fn last_offset(mut self, offset: i64) -> Self {
        self.last_offset_delta = self.last_offset_delta.max(offset - self.base_offset);
        self
    }

    /// Records added so far.
    pub fn record_count(&self) -> usize {
        self.count as usize
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch as it stands, before compression.
    pub fn size(&self) -> usize {
        BATCH_HEADER_BYTES + self.payload.len()
    }

    /// Adds a record at the next offset. `timestamp` is in milliseconds since 1970, or -1.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let headers = headers.iter().map(|(key, value)| (key.as_bytes(), *value));
        self.append_at(self.last_offset_delta + 1, timestamp, key, value, headers);
    }

    /// Adds a record as it is, at its own offset: what compaction keeps.
    ///
    /// # Errors
    /// If its offset is not above all before it, or not within 2³¹ of the base offset.
    pub fn append_record(&mut self, record: &Record<'_>) -> Result<()> {
        let delta = record.offset.saturating_sub(self.base_offset);
        if delta <= self.last_offset_delta || delta > i64::from(i32::MAX) {
            return Err(Error::Build {
                what: "a record's offset is out of order",
            });
        }
        let headers = record
            .headers
            .iter()
            .map(|header| (header.key, header.value));
        self.append_at(delta, record.timestamp, record.key, record.value, headers);
        Ok(())
    }

    fn append_at<'a>(
        &mut self,
        offset_delta: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        assert!(
            offset_delta <= i64::from(i32::MAX),
            "a batch spans less than 2³¹ offsets"
        );
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;

        let record = &mut self.scratch;
        record.clear();
        record.push(0);
        varint::write(record, timestamp.wrapping_sub(self.base_timestamp));
        varint::write(record, offset_delta);
        put_nullable(record, key);
        put_nullable(record, value);
        varint::write(record, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(record, Some(key));
            put_nullable(record, value);
        }
        varint::write(&mut self.payload, record.len() as i64);
        self.payload.extend_from_slice(record);
    }

    /// The batch, with its checksum.
    ///
    /// # Errors
    /// If it has neither a record nor a last offset, or does not fit 31 bits.
    pub fn build(&self) -> Result<Bytes> {
        let last_offset_delta = i32::try_from(self.last_offset_delta)
            .ok()
            .filter(|delta| *delta >= 0)
            .ok_or(Error::Build {
                what: "its offsets are none or span 2³¹",
            })?;
        let payload = self.compression.compress(&self.payload)?;
        let length = BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD + payload.len();
        let length = i32::try_from(length).map_err(|_| Error::Build {
            what: "more than 2 GiB",
        })?;

        let mut batch = Vec::with_capacity(BATCH_HEADER_BYTES + payload.len());
        batch.resize(BATCH_HEADER_BYTES, 0);
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        let attributes = self.flags | i16::from(self.compression.id());
        put(BASE_OFFSET, &self.base_offset.to_be_bytes());
        put(LENGTH, &length.to_be_bytes());
        put(LEADER_EPOCH, &self.leader_epoch.to_be_bytes());
        put(MAGIC, &[2]);
        put(ATTRIBUTES, &attributes.to_be_bytes());
        put(LAST_OFFSET_DELTA, &last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(PRODUCER_EPOCH, &self.producer_epoch.to_be_bytes());
        put(BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(RECORD_COUNT, &self.count.to_be_bytes());
        batch.extend_from_slice(&payload);
        update_crc(&mut batch);
        Ok(Bytes::from(batch))
    }
}

fn put_nullable(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write(into, -1),
        Some(bytes) => {
            varint::write(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
    }
}
