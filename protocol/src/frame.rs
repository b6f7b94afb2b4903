//! Length-prefixed frames, and the part of a request's header that every version shares.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::{self, ApiEntry, ApiKey};
use crate::error::{Error, Result};
use crate::limits::{MAX_REQUEST_FRAME_BYTES, MIN_REQUEST_FRAME_BYTES, MIN_RESPONSE_FRAME_BYTES};
use crate::messages::StrBytes;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// The length of a request frame, without its prefix, from the prefix.
///
/// # Errors
/// If it is negative, shorter than any header, or above `limit` (which is itself capped at
/// [`MAX_REQUEST_FRAME_BYTES`]): the connection is closed.
pub fn request_frame_len(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize> {
    frame_len(
        prefix,
        MIN_REQUEST_FRAME_BYTES,
        limit.min(MAX_REQUEST_FRAME_BYTES),
    )
}

/// The length of a response frame, without its prefix, from the prefix.
///
/// # Errors
/// As [`request_frame_len`].
pub fn response_frame_len(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize> {
    frame_len(prefix, MIN_RESPONSE_FRAME_BYTES, limit)
}

fn frame_len(prefix: [u8; PREFIX_BYTES], min: usize, limit: usize) -> Result<usize> {
    let declared = i64::from(i32::from_be_bytes(prefix));
    match usize::try_from(declared) {
        Ok(len) if len > limit => Err(Error::FrameTooLarge { declared, limit }),
        Ok(len) if len >= min => Ok(len),
        _ => Err(Error::FrameTooShort { declared, min }),
    }
}

/// Takes one whole request frame, without its prefix, off the front of `buffer`; `None` if its
/// bytes have not all arrived.
///
/// # Errors
/// As [`request_frame_len`].
pub fn split_request(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>> {
    split(buffer, |prefix| request_frame_len(prefix, limit))
}

/// Takes one whole response frame, without its prefix, off the front of `buffer`; `None` if its
/// bytes have not all arrived.
///
/// # Errors
/// As [`response_frame_len`].
pub fn split_response(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>> {
    split(buffer, |prefix| response_frame_len(prefix, limit))
}

fn split(
    buffer: &mut BytesMut,
    len: impl FnOnce([u8; PREFIX_BYTES]) -> Result<usize>,
) -> Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let len = len(*prefix)?;
    if buffer.len() - PREFIX_BYTES < len {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(len).freeze()))
}

/// What stands at the front of every request, whatever its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPeek {
    /// API key as sent: it may be one that is not served.
    pub key: i16,
    /// Version as sent.
    pub version: i16,
    /// What the answer must carry.
    pub correlation_id: i32,
}

impl RequestPeek {
    /// Reads the first eight bytes of a frame.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn read(frame: &[u8]) -> Result<Self> {
        let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else {
            return Err(too_short(frame));
        };
        Ok(Self {
            key: i16::from_be_bytes([k0, k1]),
            version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// The row of the table that serves this request.
    ///
    /// # Errors
    /// If the API is not served, or not in this version.
    pub fn entry(&self) -> Result<&'static ApiEntry> {
        let entry = api::find(self.key).ok_or(Error::UnknownApi { key: self.key })?;
        if !entry.serves(self.version) {
            return Err(Error::UnsupportedVersion {
                key: entry.key,
                version: self.version,
                correlation_id: self.correlation_id,
            });
        }
        Ok(entry)
    }
}

fn too_short(frame: &[u8]) -> Error {
    Error::FrameTooShort {
        declared: frame.len() as i64,
        min: MIN_REQUEST_FRAME_BYTES,
    }
}

/// The header of a request of an API and version that are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// Version of the API.
    pub version: i16,
    /// What the answer must carry.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

/// The correlation id at the front of a response frame.
///
/// # Errors
/// If the frame has fewer than four bytes.
pub fn response_correlation_id(frame: &[u8]) -> Result<i32> {
    frame
        .first_chunk()
        .map(|bytes| i32::from_be_bytes(*bytes))
        .ok_or(Error::FrameTooShort {
            declared: frame.len() as i64,
            min: MIN_RESPONSE_FRAME_BYTES,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        for bad in [-1, i32::MIN, 0, 7] {
            let error = request_frame_len(i32::to_be_bytes(bad), 1000).unwrap_err();
            assert!(matches!(error, Error::FrameTooShort { .. }), "{bad}");
        }
        for bad in [1001, i32::MAX] {
            let error = request_frame_len(i32::to_be_bytes(bad), 1000).unwrap_err();
            assert!(matches!(error, Error::FrameTooLarge { .. }), "{bad}");
        }
        let over = MAX_REQUEST_FRAME_BYTES as i32 + 1;
        assert!(request_frame_len(over.to_be_bytes(), usize::MAX).is_err());
        assert_eq!(
            request_frame_len(i32::to_be_bytes(1000), 1000).unwrap(),
            1000
        );
        assert_eq!(response_frame_len(i32::to_be_bytes(4), 1000).unwrap(), 4);
    }

    #[test]
    fn a_frame_is_split_off_once_it_is_whole() {
        let mut buffer = BytesMut::new();
        for &byte in &[0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8] {
            buffer.extend_from_slice(&[byte]);
            assert_eq!(split_request(&mut buffer, 100).unwrap(), None);
        }
        buffer.extend_from_slice(&[9, 0]);
        let frame = split_request(&mut buffer, 100).unwrap().unwrap();
        assert_eq!(&frame[..], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(&buffer[..], [0]);
    }

    #[test]
    fn a_short_header_is_an_error_not_a_panic() {
        for len in 0..MIN_REQUEST_FRAME_BYTES {
            assert!(RequestPeek::read(&vec![0; len]).is_err());
        }
        for len in 0..MIN_RESPONSE_FRAME_BYTES {
            assert!(response_correlation_id(&vec![0; len]).is_err());
        }
    }

    #[test]
    fn unknown_keys_and_versions_are_told_apart() {
        let peek = RequestPeek {
            key: 4,
            version: 0,
            correlation_id: 1,
        };
        assert!(matches!(peek.entry(), Err(Error::UnknownApi { key: 4 })));
        let peek = RequestPeek {
            key: 18,
            version: 99,
            correlation_id: 7,
        };
        assert!(matches!(
            peek.entry(),
            Err(Error::UnsupportedVersion {
                version: 99,
                correlation_id: 7,
                ..
            })
        ));
        let peek = RequestPeek {
            key: 0,
            version: 2,
            correlation_id: 7,
        };
        assert!(peek.entry().is_err());
    }
}
