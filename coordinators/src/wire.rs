//! Kafka's primitive types as its records in internal topics have them: read with every length
//! checked, written into one buffer.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Error, Result};

/// Reads the fields of one record from its front.
pub struct Reader<'a> {
    record: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, and calls them `record` in errors.
    pub fn new(record: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            record,
            rest: bytes,
        }
    }

    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let record = self.record;
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Error::Truncated { record, field })?;
        self.rest = rest;
        Ok(*head)
    }

    /// An int8.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i8(&mut self, field: &'static str) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array(field)?))
    }

    /// An int16.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i16(&mut self, field: &'static str) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    /// An int32.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i32(&mut self, field: &'static str) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// An int64.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// A uuid.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn uuid(&mut self, field: &'static str) -> Result<uuid::Uuid> {
        Ok(uuid::Uuid::from_bytes(self.array(field)?))
    }

    /// As many bytes as a length says, which may be of any encoding.
    ///
    /// # Errors
    /// If it is negative, or larger than what is left.
    pub fn sized(&mut self, field: &'static str, length: i64) -> Result<&'a [u8]> {
        let record = self.record;
        usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .map(|(head, rest)| {
                self.rest = rest;
                head
            })
            .ok_or(Error::Length {
                record,
                field,
                length,
            })
    }

    fn utf8(&self, field: &'static str, bytes: &'a [u8]) -> Result<&'a str> {
        let record = self.record;
        std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 { record, field })
    }

    /// A string with an int16 length.
    ///
    /// # Errors
    /// If the length cannot be, or the bytes are not UTF-8.
    pub fn string(&mut self, field: &'static str) -> Result<&'a str> {
        let length = self.i16(field)?;
        let bytes = self.sized(field, length.into())?;
        self.utf8(field, bytes)
    }

    /// The length of an array: an int32, -1 for null. Each element has at least one byte.
    ///
    /// # Errors
    /// If the length cannot be.
    pub fn array_length(&mut self, field: &'static str) -> Result<Option<usize>> {
        let length = self.i32(field)?;
        self.elements(field, length.into())
    }

    /// The length of an array in a flexible version: an unsigned varint, one more than there are
    /// elements, 0 for null.
    ///
    /// # Errors
    /// If the length cannot be.
    pub fn compact_array_length(&mut self, field: &'static str) -> Result<Option<usize>> {
        let length = self.unsigned_varint(field)?;
        self.elements(field, i64::from(length) - 1)
    }

    fn elements(&self, field: &'static str, length: i64) -> Result<Option<usize>> {
        let record = self.record;
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(Error::Length {
                record,
                field,
                length,
            }),
        }
    }

    /// An unsigned varint of at most five bytes.
    ///
    /// # Errors
    /// If it is longer or larger, or the bytes end.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32> {
        let record = self.record;
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0
                && let Ok(value) = u32::try_from(value)
            {
                return Ok(value);
            }
        }
        Err(Error::Length {
            record,
            field,
            length: i64::try_from(value).expect("35 bits"),
        })
    }

    /// A string of a flexible version.
    ///
    /// # Errors
    /// If it is null, its length cannot be, or the bytes are not UTF-8.
    pub fn compact_string(&mut self, field: &'static str) -> Result<&'a str> {
        let record = self.record;
        self.compact_nullable_string(field)?.ok_or(Error::Length {
            record,
            field,
            length: -1,
        })
    }

    /// A string of a flexible version, or null.
    ///
    /// # Errors
    /// If its length cannot be, or the bytes are not UTF-8.
    pub fn compact_nullable_string(&mut self, field: &'static str) -> Result<Option<&'a str>> {
        match self.unsigned_varint(field)? {
            0 => Ok(None),
            length => {
                let bytes = self.sized(field, i64::from(length) - 1)?;
                self.utf8(field, bytes).map(Some)
            }
        }
    }

    /// Bytes of a flexible version.
    ///
    /// # Errors
    /// If they are null, or their length cannot be.
    pub fn compact_bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let length = i64::from(self.unsigned_varint(field)?) - 1;
        self.sized(field, length)
    }

    /// The tagged fields at the end of a flexible structure, each given to `field` with its tag
    /// and a reader of its own; what that leaves unread is skipped.
    ///
    /// # Errors
    /// If a length cannot be, if tags do not ascend, or if `field` fails.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<()>,
    ) -> Result<()> {
        let record = self.record;
        let mut last = None;
        for _ in 0..self.unsigned_varint("tagged fields")? {
            let tag = self.unsigned_varint("tag")?;
            if last.replace(tag).is_some_and(|last| last >= tag) {
                return Err(Error::Value {
                    record,
                    field: "tag",
                    value: tag.into(),
                });
            }
            let length = self.unsigned_varint("tag length")?;
            let bytes = self.sized("tag value", length.into())?;
            field(tag, &mut Reader::new(record, bytes))?;
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a flexible structure.
    ///
    /// # Errors
    /// If a length cannot be, or tags do not ascend.
    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(()))
    }

    /// Ends the record.
    ///
    /// # Errors
    /// If bytes are left.
    pub fn end(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Error::Trailing {
                record: self.record,
                bytes,
            }),
        }
    }
}

/// Writes the fields of one record.
#[derive(Default)]
pub struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// An empty one, also for the value of a tagged field.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record, which starts with its int16 version.
    pub fn versioned(version: i16) -> Self {
        let mut writer = Self::new();
        writer.i16(version);
        writer
    }

    /// An int8.
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// An int16.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// An int32.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// An int64.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// A uuid.
    pub fn uuid(&mut self, value: uuid::Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// A string with an int16 length.
    ///
    /// # Panics
    /// If it is longer than 32,767 bytes: whoever takes such strings from clients refuses longer
    /// ones before.
    pub fn string(&mut self, value: &str) {
        self.i16(i16::try_from(value.len()).expect("longer strings are refused before"));
        self.buffer.put_slice(value.as_bytes());
    }

    /// The length of an array, `None` for null.
    ///
    /// # Panics
    /// If it is above `i32::MAX`: a request is at most 100 MiB.
    pub fn array_length(&mut self, length: Option<usize>) {
        self.i32(length.map_or(-1, |length| {
            i32::try_from(length).expect("requests are far below 2 GiB")
        }));
    }

    /// An unsigned varint.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn compact_length(&mut self, length: usize) {
        self.unsigned_varint(u32::try_from(length + 1).expect("requests are far below 2 GiB"));
    }

    /// The length of an array in a flexible version, `None` for null.
    ///
    /// # Panics
    /// If it is above what 32 bits hold: a request is at most 100 MiB.
    pub fn compact_array_length(&mut self, length: Option<usize>) {
        match length {
            Some(length) => self.compact_length(length),
            None => self.unsigned_varint(0),
        }
    }

    /// A string of a flexible version.
    pub fn compact_string(&mut self, value: &str) {
        self.compact_length(value.len());
        self.buffer.put_slice(value.as_bytes());
    }

    /// A string of a flexible version, or null.
    pub fn compact_nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.compact_string(value),
            None => self.unsigned_varint(0),
        }
    }

    /// Bytes of a flexible version.
    pub fn compact_bytes(&mut self, value: &[u8]) {
        self.compact_length(value.len());
        self.buffer.put_slice(value);
    }

    /// The tagged fields at the end of a flexible structure: those that differ from their
    /// defaults, by ascending tag.
    pub fn tags(&mut self, fields: Vec<(u32, Writer)>) {
        assert!(
            fields.is_sorted_by(|a, b| a.0 < b.0),
            "tags ascend and are said once"
        );
        self.unsigned_varint(u32::try_from(fields.len()).expect("a handful"));
        for (tag, value) in fields {
            self.unsigned_varint(tag);
            self.unsigned_varint(u32::try_from(value.buffer.len()).expect("a handful of bytes"));
            self.buffer.put_slice(&value.buffer);
        }
    }

    /// The bytes.
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::versioned(3);
        writer.i8(-7);
        writer.string("grüppe");
        writer.array_length(None);
        writer.compact_array_length(Some(0));
        writer.compact_nullable_string(None);
        writer.compact_string("t");
        writer.compact_bytes(&[1, 2]);
        for value in [0, 127, 128, 16_383, 16_384, u32::MAX] {
            writer.unsigned_varint(value);
        }
        let mut inner = Writer::new();
        inner.i64(5);
        writer.tags(vec![(2, inner)]);
        let bytes = writer.finish();

        let mut reader = Reader::new("test", &bytes);
        assert_eq!(reader.i16("version"), Ok(3));
        assert_eq!(reader.i8("a"), Ok(-7));
        assert_eq!(reader.string("b"), Ok("grüppe"));
        assert_eq!(reader.array_length("c"), Ok(None));
        assert_eq!(reader.compact_array_length("d"), Ok(Some(0)));
        assert_eq!(reader.compact_nullable_string("e"), Ok(None));
        assert_eq!(reader.compact_string("f"), Ok("t"));
        assert_eq!(reader.compact_bytes("g"), Ok(&[1, 2][..]));
        for value in [0, 127, 128, 16_383, 16_384, u32::MAX] {
            assert_eq!(reader.unsigned_varint("h"), Ok(value));
        }
        let mut seen = Vec::new();
        reader
            .tags(|tag, value| {
                seen.push((tag, value.i64("tagged")?));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(2, 5)]);
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let read = |bytes: &'static [u8]| Reader::new("test", bytes);
        let length = |length| Error::Length {
            record: "test",
            field: "x",
            length,
        };
        assert_eq!(read(&[0xff, 0xfe]).string("x"), Err(length(-2)));
        assert_eq!(read(&[0, 2, b'a']).string("x"), Err(length(2)));
        assert_eq!(read(&[0, 0, 0, 2, 1]).array_length("x"), Err(length(2)));
        assert_eq!(read(&[0]).compact_string("x"), Err(length(-1)));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff]).unsigned_varint("x"),
            Err(length(0x7_ffff_ffff))
        );
        assert!(read(&[2, 1, 0, 1, 0]).skip_tags().is_err(), "tags ascend");
        assert_eq!(
            read(&[1, 2]).end(),
            Err(Error::Trailing {
                record: "test",
                bytes: 2
            })
        );
    }
}
