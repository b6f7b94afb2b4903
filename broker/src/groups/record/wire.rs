//! Kafka's primitive types, read with every length checked and written into one buffer.

use bytes::{BufMut, Bytes, BytesMut};

use super::RecordError;

/// Reads fields from the front of a slice.
pub(in crate::groups) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::groups) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::groups) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RecordError::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(RecordError::Truncated { field })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(in crate::groups) fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    pub(in crate::groups) fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// A length of any encoding against what is left.
    fn sized(&mut self, field: &'static str, length: i64) -> Result<&'a [u8], RecordError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => self.take(field, length),
            _ => Err(RecordError::Length { field, length }),
        }
    }

    fn utf8(field: &'static str, bytes: &'a [u8]) -> Result<&'a str, RecordError> {
        std::str::from_utf8(bytes).map_err(|_| RecordError::NotUtf8 { field })
    }

    pub(in crate::groups) fn string(
        &mut self,
        field: &'static str,
    ) -> Result<&'a str, RecordError> {
        let length = self.i16(field)?;
        Self::utf8(field, self.sized(field, length.into())?)
    }

    pub(super) fn nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a str>, RecordError> {
        match self.i16(field)? {
            -1 => Ok(None),
            length => Self::utf8(field, self.sized(field, length.into())?).map(Some),
        }
    }

    pub(super) fn bytes(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.i32(field)?;
        Ok(Bytes::copy_from_slice(self.sized(field, length.into())?))
    }

    pub(super) fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, RecordError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Length {
                    field,
                    length: value as i64,
                });
            }
        }
        Err(RecordError::Length {
            field,
            length: value as i64,
        })
    }

    pub(super) fn compact_string(&mut self, field: &'static str) -> Result<&'a str, RecordError> {
        self.compact_nullable_string(field)?
            .ok_or(RecordError::Length { field, length: -1 })
    }

    pub(super) fn compact_nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a str>, RecordError> {
        match self.unsigned_varint(field)? {
            0 => Ok(None),
            length => Self::utf8(field, self.sized(field, i64::from(length) - 1)?).map(Some),
        }
    }

    pub(super) fn compact_bytes(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = i64::from(self.unsigned_varint(field)?) - 1;
        Ok(Bytes::copy_from_slice(self.sized(field, length)?))
    }

    /// Skips the tagged fields at the end of a flexible structure.
    pub(super) fn skip_tags(&mut self) -> Result<(), RecordError> {
        for _ in 0..self.unsigned_varint("tagged fields")? {
            self.unsigned_varint("tag")?;
            let length = self.unsigned_varint("tag length")?;
            self.sized("tag value", length.into())?;
        }
        Ok(())
    }
}

/// Writes the non-flexible versions, which is all that Kafka writes.
pub(super) struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// Starts with the int16 version.
    pub(super) fn new(version: i16) -> Self {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.put_i16(version);
        Self { buffer }
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Strings came over the wire with an int16 length or shorter than that were made here; a
    /// longer one from a flexible request is cut at a character boundary rather than corrupted.
    pub(super) fn string(&mut self, value: &str) {
        let mut end = value.len().min(i16::MAX as usize);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.buffer.put_i16(end as i16);
        self.buffer.put_slice(&value.as_bytes()[..end]);
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.buffer.put_i16(-1),
        }
    }

    /// Lengths above `i32::MAX` cannot come: a request is at most 100 MiB.
    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.buffer.put_slice(value);
    }

    pub(super) fn length(&mut self, length: usize) {
        self.i32(i32::try_from(length).expect("requests are far below 2 GiB"));
    }

    pub(super) fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}
