//! The records of a batch, read where they lie.
//!
//! ```text
//! length varint · attributes i8 · timestamp delta varlong · offset delta varint
//! · key length varint (-1 null) · key · value length varint (-1 null) · value
//! · header count varint · per header: key length, key, value length (-1 null), value
//! ```

use std::borrow::Cow;
use std::iter::FusedIterator;

use crate::batch::{BatchView, TimestampType};
use crate::error::{Error, Result};
use crate::limits::MAX_RECORD_HEADERS;
use crate::varint;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or the broker's for log append time; -1 for none.
    pub timestamp: i64,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null, a tombstone where topics are compacted.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key: UTF-8 by the protocol, which nobody checks.
    pub key: &'a [u8],
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record in their order, duplicates included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Checked when the record was read.
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter {
            cursor: Cursor {
                bytes: self.bytes,
                at: 0,
                origin: 0,
            },
            left: self.count,
        }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterates over the headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(
            self.cursor
                .header()
                .expect("headers were checked with their record"),
        )
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begin in the payload; for errors.
    origin: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, what: &'static str) -> Error {
        Error::Record {
            what,
            at: self.origin + self.at,
        }
    }

    fn i32(&mut self) -> Result<i32> {
        let (value, len) = varint::read_i32(&self.bytes[self.at..])
            .ok_or_else(|| self.error("a varint that does not end"))?;
        self.at += len;
        Ok(value)
    }

    fn i64(&mut self) -> Result<i64> {
        let (value, len) = varint::read_i64(&self.bytes[self.at..])
            .ok_or_else(|| self.error("a varint that does not end"))?;
        self.at += len;
        Ok(value)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes[self.at..]
            .get(..len)
            .ok_or_else(|| self.error("a length beyond the end"))?;
        self.at += len;
        Ok(bytes)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => self.take(len).map(Some),
                Err(_) => Err(self.error("a negative length")),
            },
        }
    }

    fn header(&mut self) -> Result<Header<'a>> {
        let key = self
            .nullable()?
            .ok_or_else(|| self.error("a header without key"))?;
        let value = self.nullable()?;
        Ok(Header { key, value })
    }

    fn headers(&mut self) -> Result<Headers<'a>> {
        let count = self.i32()?;
        let count = usize::try_from(count).map_err(|_| self.error("a negative header count"))?;
        if count > MAX_RECORD_HEADERS || count > self.bytes.len() - self.at {
            return Err(self.error("more headers than there can be"));
        }
        let start = self.at;
        for _ in 0..count {
            self.header()?;
        }
        Ok(Headers {
            bytes: &self.bytes[start..self.at],
            count,
        })
    }
}

/// Iterates over the records of one batch. Allocates nothing. Ends after the first error; that
/// there are fewer or more records than the header says is one.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    left: i32,
    base_offset: i64,
    /// Of the record before; offsets ascend.
    previous_delta: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> RecordIter<'a> {
    /// The records of `batch`, whose payload, decompressed, is `payload`.
    pub fn new(batch: &BatchView<'_>, payload: &'a [u8]) -> Self {
        let append_time = match batch.timestamp_type() {
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
            TimestampType::CreateTime => None,
        };
        Self {
            cursor: Cursor {
                bytes: payload,
                at: 0,
                origin: 0,
            },
            left: batch.record_count(),
            base_offset: batch.base_offset(),
            previous_delta: -1,
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            append_time,
        }
    }

    fn read(&mut self) -> Result<Record<'a>> {
        let len = self.cursor.i32()?;
        let len = usize::try_from(len).map_err(|_| self.cursor.error("a negative length"))?;
        let origin = self.cursor.at;
        let bytes = self.cursor.take(len)?;
        let mut cursor = Cursor {
            bytes,
            at: 0,
            origin,
        };
        cursor.take(1)?; // Attributes: none are defined.
        let timestamp_delta = cursor.i64()?;
        let offset_delta = cursor.i32()?;
        if offset_delta <= self.previous_delta || offset_delta > self.last_offset_delta {
            return Err(cursor.error("an offset out of order or outside its batch"));
        }
        self.previous_delta = offset_delta;
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let headers = cursor.headers()?;
        if cursor.at != len {
            return Err(cursor.error("a record that does not fill its length"));
        }
        let timestamp = self
            .append_time
            .unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta));
        let offset = self.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            if self.cursor.at < self.cursor.bytes.len() {
                let error = self.cursor.error("bytes left after the last record");
                self.cursor.at = self.cursor.bytes.len();
                return Some(Err(error));
            }
            return None;
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
            self.cursor.at = self.cursor.bytes.len();
        }
        Some(record)
    }
}

impl FusedIterator for RecordIter<'_> {}

impl<'a> BatchView<'a> {
    /// The records, decompressed to at most `max_bytes`; without compression no copy is made.
    /// Give it to [`records`](Self::records).
    ///
    /// # Errors
    /// If the payload is damaged or larger.
    pub fn decompress(&self, max_bytes: usize) -> Result<Cow<'a, [u8]>> {
        self.compression()?.decompress(self.payload(), max_bytes)
    }

    /// The records in `payload`, which [`decompress`](Self::decompress) gave.
    pub fn records<'p>(&self, payload: &'p [u8]) -> RecordIter<'p> {
        RecordIter::new(self, payload)
    }
}

#[cfg(test)]
mod tests;
