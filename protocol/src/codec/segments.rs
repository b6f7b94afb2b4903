//! Writing frames whose large byte fields stay where they are.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::limits::MIN_REFERENCED_BYTES;

/// One piece of a frame being written.
#[derive(Debug)]
enum Piece {
    Owned(BytesMut),
    Referenced(Bytes),
}

/// Writes a frame. Large byte fields are kept by reference, so that a fetch copies no records.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    done: Vec<Piece>,
    done_len: usize,
    current: BytesMut,
}

macro_rules! writers {
    ($($(#[$doc:meta])* $name:ident($type:ty) $put:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&mut self, value: $type) {
            self.current.$put(value);
        }
    )*};
}

impl Writer {
    /// A writer whose first bytes are room for the length prefix.
    pub(crate) fn framed() -> Self {
        let mut current = BytesMut::with_capacity(256);
        current.put_i32(0);
        Self {
            done: Vec::new(),
            done_len: 0,
            current,
        }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.done_len + self.current.len()
    }

    /// The buffer for whatever is copied.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.current
    }

    writers! {
        /// `int16`.
        i16(i16) put_i16;
        /// `int32`.
        i32(i32) put_i32;
        /// `int64`.
        i64(i64) put_i64;
    }

    /// `bool`.
    pub(crate) fn bool(&mut self, value: bool) {
        self.current.put_i8(value.into());
    }

    /// `uuid`.
    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.current.put_slice(value.as_bytes());
    }

    /// Unsigned varint.
    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.current.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.current.put_u8(value as u8);
    }

    fn len_field(&mut self, len: Option<usize>, flexible: bool, wide: bool) -> Result<(), TooLong> {
        let max = if wide {
            i32::MAX as usize
        } else {
            i16::MAX as usize
        };
        let len = match len {
            Some(len) if len > max => return Err(TooLong { len, max }),
            Some(len) => len as i32,
            None => -1,
        };
        match (flexible, wide) {
            (true, _) => self.varint((len + 1) as u32),
            (false, true) => self.current.put_i32(len),
            (false, false) => self.current.put_i16(len as i16),
        }
        Ok(())
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// If it is longer than 32,767 bytes.
    pub(crate) fn nullable_string(
        &mut self,
        value: Option<&str>,
        flexible: bool,
    ) -> Result<(), TooLong> {
        self.len_field(value.map(str::len), flexible, false)?;
        self.current.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// The length of an array that may be null.
    ///
    /// # Errors
    /// If it does not fit 31 bits.
    pub(crate) fn array_len(&mut self, len: Option<usize>, flexible: bool) -> Result<(), TooLong> {
        self.len_field(len, flexible, true)
    }

    /// Byte strings, one after the other, as one field that may be null. Nothing of
    /// [`MIN_REFERENCED_BYTES`] or more is copied.
    ///
    /// # Errors
    /// If the field does not fit 31 bits.
    pub(crate) fn nullable_bytes(
        &mut self,
        value: Option<&[Bytes]>,
        flexible: bool,
    ) -> Result<(), TooLong> {
        let len = value.map(|parts| parts.iter().map(Bytes::len).sum());
        self.len_field(len, flexible, true)?;
        for part in value.unwrap_or_default() {
            self.put(part);
        }
        Ok(())
    }

    /// Whether a struct that may be null is there.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn present(&mut self, present: bool) {
        self.current.put_i8(if present { 1 } else { -1 });
    }

    /// The tagged fields of a struct.
    ///
    /// # Errors
    /// If one does not fit 31 bits.
    pub(crate) fn tagged(&mut self, tagged: Tagged) -> Result<(), TooLong> {
        self.varint(tagged.fields.len() as u32);
        for (tag, field) in tagged.fields {
            let (len, max) = (field.len(), i32::MAX as usize);
            if len > max {
                return Err(TooLong { len, max });
            }
            self.varint(tag);
            self.varint(len as u32);
            for piece in field.done {
                match piece {
                    Piece::Owned(bytes) => self.current.put_slice(&bytes),
                    Piece::Referenced(bytes) => self.put(&bytes),
                }
            }
            self.current.put_slice(&field.current);
        }
        Ok(())
    }

    /// The tagged fields of a struct that has none.
    pub(crate) fn no_tagged(&mut self) {
        self.current.put_u8(0);
    }

    fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < MIN_REFERENCED_BYTES {
            self.current.put_slice(bytes);
            return;
        }
        if !self.current.is_empty() {
            self.done_len += self.current.len();
            let owned = self.current.split();
            self.done.push(Piece::Owned(owned));
        }
        self.done_len += bytes.len();
        self.done.push(Piece::Referenced(bytes.clone()));
    }

    /// Fills in the length prefix, the first four bytes.
    ///
    /// # Errors
    /// If the frame does not fit 31 bits.
    pub(crate) fn finish(mut self) -> Result<EncodedFrame, TooLong> {
        let len = self.len();
        let body = len - size_of::<i32>();
        let prefix = i32::try_from(body).map_err(|_| TooLong {
            len,
            max: i32::MAX as usize,
        })?;
        if !self.current.is_empty() {
            self.done.push(Piece::Owned(self.current));
        }
        let Some(Piece::Owned(first)) = self.done.first_mut() else {
            unreachable!("a framed writer starts with its length prefix");
        };
        first[..4].copy_from_slice(&prefix.to_be_bytes());
        let segments = self
            .done
            .into_iter()
            .map(|piece| match piece {
                Piece::Owned(bytes) => bytes.freeze(),
                Piece::Referenced(bytes) => bytes,
            })
            .collect();
        Ok(EncodedFrame { segments, len })
    }
}

/// Tagged fields of one struct, which come after its other fields, each behind its size.
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    fields: Vec<(u32, Writer)>,
}

impl Tagged {
    /// The writer of the field `tag`. Tags are given in ascending order.
    pub(crate) fn field(&mut self, tag: u32) -> &mut Writer {
        assert!(
            self.fields.last().is_none_or(|(last, _)| *last < tag),
            "tags ascend"
        );
        self.fields.push((tag, Writer::default()));
        &mut self.fields.last_mut().expect("one was just pushed").1
    }
}

/// A field or frame too long for its length.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{len} bytes or elements where at most {max} fit")]
pub(crate) struct TooLong {
    len: usize,
    max: usize,
}

/// A frame ready for the socket, its length prefix included, as one or more segments for a
/// vectored write. Records stand in it by reference.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    segments: Vec<Bytes>,
    len: usize,
}

impl EncodedFrame {
    /// The segments, in order. None is empty.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// The segments, in order. None is empty.
    pub fn into_segments(self) -> Vec<Bytes> {
        self.segments
    }

    /// Bytes in all, the length prefix included; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of it in one piece; copies unless it is one already.
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = &self.segments[..] {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for segment in &self.segments {
            whole.extend_from_slice(segment);
        }
        whole.freeze()
    }

    /// What follows the length prefix, in one piece: what a reader takes for a frame.
    pub fn to_frame(&self) -> Bytes {
        self.to_bytes().slice(size_of::<i32>()..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_byte_fields_are_kept_by_reference() {
        let large = Bytes::from(vec![7; MIN_REFERENCED_BYTES]);
        let small = Bytes::from_static(b"small");
        let mut writer = Writer::framed();
        writer
            .nullable_bytes(Some(&[large.clone(), small, large.clone()]), false)
            .unwrap();
        writer.varint(300);
        let frame = writer.finish().unwrap();

        let referenced: Vec<_> = frame
            .segments()
            .iter()
            .filter(|s| s.as_ptr() == large.as_ptr())
            .collect();
        assert_eq!(referenced.len(), 2);
        assert_eq!(
            frame.len(),
            frame.segments().iter().map(Bytes::len).sum::<usize>()
        );
        let whole = frame.to_bytes();
        assert_eq!(whole[..4], (whole.len() as i32 - 4).to_be_bytes());
        assert_eq!(whole[4..8], (2 * large.len() as i32 + 5).to_be_bytes());
        assert_eq!(whole[whole.len() - 2..], [0xac, 2]);
    }
}
