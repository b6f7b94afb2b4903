//! Reading Kafka's primitive types: for headers, and for the messages of ours.

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::messages::StrBytes;

/// Reads a frame front to back, slicing strings and byte fields out of it without a copy.
///
/// **Invariant:** no length is used before it was compared with the bytes that remain.
#[derive(Debug)]
pub(crate) struct Reader {
    frame: Bytes,
    at: usize,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&mut self) -> Result<$type> {
            let bytes = self.frame[self.at..].first_chunk().ok_or_else(|| self.end())?;
            let value = <$type>::from_be_bytes(*bytes);
            self.at += size_of::<$type>();
            Ok(value)
        }
    )*};
}

impl Reader {
    /// A reader of `frame` from byte `at` on.
    pub(crate) fn new(frame: Bytes, at: usize) -> Self {
        let at = at.min(frame.len());
        Self { frame, at }
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// The frame, and the position in it.
    pub(crate) fn into_parts(self) -> (Bytes, usize) {
        (self.frame, self.at)
    }

    fn end(&self) -> Error {
        Error::Malformed {
            what: "the message ends inside a field",
            at: self.at,
        }
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { what, at: self.at }
    }

    fixed! {
        /// `int8`.
        i8 -> i8;
        /// `int16`.
        i16 -> i16;
        /// `int32`.
        i32 -> i32;
        /// `int64`.
        i64 -> i64;
    }

    /// `bool`: any byte but 0 is true.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// `uuid`.
    pub(crate) fn uuid(&mut self) -> Result<Uuid> {
        let bytes = *self.frame[self.at..]
            .first_chunk()
            .ok_or_else(|| self.end())?;
        self.at += 16;
        Ok(Uuid::from_bytes(bytes))
    }

    /// Unsigned varint of at most five bytes.
    pub(crate) fn varint(&mut self) -> Result<u32> {
        let (value, len) = read_varint(&self.frame[self.at..])
            .ok_or_else(|| self.malformed("a varint that does not end"))?;
        self.at += len;
        Ok(value)
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len > self.remaining() {
            return Err(self.malformed("a length beyond the end of the message"));
        }
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    /// A length that may be null, of 16 or 32 bits or, if `flexible`, a varint plus one.
    fn len(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>> {
        let declared = match (flexible, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match usize::try_from(declared) {
            Ok(len) => Ok(Some(len)),
            Err(_) if declared == -1 => Ok(None),
            Err(_) => Err(self.malformed("a negative length")),
        }
    }

    /// A string that may be null.
    pub(crate) fn nullable_string(&mut self, flexible: bool) -> Result<Option<StrBytes>> {
        let Some(len) = self.len(flexible, false)? else {
            return Ok(None);
        };
        let bytes = self.take(len)?;
        let string =
            StrBytes::from_utf8(bytes).map_err(|_| self.malformed("a string that is not UTF-8"))?;
        Ok(Some(string))
    }

    /// A string.
    pub(crate) fn string(&mut self, flexible: bool) -> Result<StrBytes> {
        self.nullable_string(flexible)?
            .ok_or_else(|| self.malformed("null for a string"))
    }

    /// Bytes that may be null; records are such.
    pub(crate) fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        match self.len(flexible, true)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// The number of elements of an array that may be null: never more than bytes remain, since
    /// every element takes at least one.
    pub(crate) fn nullable_array_len(&mut self, flexible: bool) -> Result<Option<usize>> {
        let len = self.len(flexible, true)?;
        if len.is_some_and(|len| len > self.remaining()) {
            return Err(self.malformed("an array longer than the message"));
        }
        Ok(len)
    }

    /// The number of elements of an array.
    pub(crate) fn array_len(&mut self, flexible: bool) -> Result<usize> {
        self.nullable_array_len(flexible)?
            .ok_or_else(|| self.malformed("null for an array"))
    }

    /// An array of what `element` reads.
    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let len = self.array_len(flexible)?;
        self.elements(len, element)
    }

    /// An array, which may be null, of what `element` reads.
    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        match self.nullable_array_len(flexible)? {
            Some(len) => self.elements(len, element).map(Some),
            None => Ok(None),
        }
    }

    fn elements<T>(
        &mut self,
        len: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        // The declared length is not trusted with more than a little memory.
        let mut elements = Vec::with_capacity(len.min(1024));
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Reads the tagged fields of a struct. `known` is asked for each: it reads the field and
    /// says so, or leaves it to be skipped.
    pub(crate) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool>,
    ) -> Result<()> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.malformed("a tagged field longer than the message"));
            }
            let end = self.at + size;
            if !known(tag, self)? {
                self.at = end;
            } else if self.at != end {
                return Err(self.malformed("a tagged field that does not fill its size"));
            }
        }
        Ok(())
    }

    /// Refuses bytes left after a message.
    pub(crate) fn end_of_message(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            extra => Err(Error::TrailingBytes { at: self.at, extra }),
        }
    }

    /// Skips the tagged fields of a struct that knows none.
    pub(crate) fn skip_tagged(&mut self) -> Result<()> {
        self.tagged(|_, _| Ok(false))
    }
}

/// An unsigned varint at the front of `bytes`, and the bytes it takes; `None` if it does not end
/// within five bytes or does not fit 32 bits.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        if index == 4 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (index * 7);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end_within_five_bytes_and_32_bits() {
        for value in [0, 1, 127, 128, 16383, 16384, u32::MAX] {
            let mut writer = crate::codec::segments::Writer::default();
            writer.varint(value);
            let bytes = writer.buffer().clone();
            assert_eq!(read_varint(&bytes), Some((value, bytes.len())));
            assert_eq!(read_varint(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read_varint(&[0x80; 6]), None);
    }

    #[test]
    fn lengths_beyond_the_message_are_errors() {
        for bytes in [&[0x7f, 0xff][..], &[0x80, 0x00], &[0xff, 0xfe], &[0]] {
            let mut reader = Reader::new(Bytes::copy_from_slice(bytes), 0);
            assert!(reader.nullable_string(false).is_err(), "{bytes:?}");
        }
        let mut reader = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), 0);
        assert!(reader.array(false, |r| r.i8()).is_err());
        let mut reader = Reader::new(Bytes::from_static(&[1, 0, 9]), 0);
        assert!(reader.skip_tagged().is_err());
        let mut reader = Reader::new(Bytes::from_static(&[1, 5, 1, 0]), 0);
        assert!(reader.tagged(|_, _| Ok(true)).is_err());
    }

    #[test]
    fn strings_that_are_not_utf8_are_errors() {
        let mut reader = Reader::new(Bytes::from_static(&[0, 1, 0xff]), 0);
        assert!(reader.string(false).is_err());
    }
}
