//! A group as it lies in a segment: padded with zeros, a trailer in its last 32 bytes.
//!
//! ```text
//!    0  8  magic "HWWALEND"     16  8  bytes of the frame
//!    8  8  sequence             24  4  CRC-32 of bytes 0..24
//!                               28  4  zero
//! ```
//!
//! The trailer is what tells a damaged group from bytes of an earlier use of the file, when it is
//! the group's header that is damaged.

use bytes::Bytes;

use crate::checksum::Seed;
use crate::limits::{BLOCK_BYTES, MAX_BODY_BYTES};
use crate::record::{DecodeError, DecodedGroup, GroupHeader, HEADER_BYTES, decode};
use crate::{Sequence, WalId};

pub(super) const TRAILER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"HWWALEND";

/// Bytes that a group of `group_bytes` takes in a segment.
pub(crate) fn padded_bytes(group_bytes: u64) -> u64 {
    (group_bytes + TRAILER_BYTES as u64).next_multiple_of(BLOCK_BYTES as u64)
}

/// What follows a group of `group_bytes` in its frame: padding and trailer.
pub(super) fn tail(
    group_bytes: usize,
    sequence: Sequence,
    wal_id: WalId,
    generation: u64,
) -> Vec<u8> {
    let frame_bytes = padded_bytes(group_bytes as u64);
    let rest = frame_bytes as usize - group_bytes;
    let mut out = Vec::with_capacity(rest);
    out.resize(rest - TRAILER_BYTES, 0);
    let trailer = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&frame_bytes.to_be_bytes());
    let crc = Seed::new(wal_id, generation).checksum(&[&out[trailer..]]);
    out.extend_from_slice(&crc.0.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    assert_eq!(out.len(), rest, "the frame fills its blocks");
    out
}

/// Sequence and frame length, when `block` ends with a trailer of this log and generation.
pub(super) fn trailer(block: &[u8], wal_id: WalId, generation: u64) -> Option<(Sequence, u64)> {
    let bytes = block.get(block.len().checked_sub(TRAILER_BYTES)?..)?;
    let crc = Seed::new(wal_id, generation).checksum(&[&bytes[..24]]);
    if &bytes[..8] != MAGIC || bytes[24..28] != crc.0.to_be_bytes() || bytes[28..] != [0; 4] {
        return None;
    }
    let sequence = u64::from_be_bytes(bytes[8..16].try_into().expect("8 bytes"));
    let frame_bytes = u64::from_be_bytes(bytes[16..24].try_into().expect("8 bytes"));
    let sane = frame_bytes.is_multiple_of(BLOCK_BYTES as u64)
        && frame_bytes >= BLOCK_BYTES as u64
        && frame_bytes <= padded_bytes(HEADER_BYTES as u64 + MAX_BODY_BYTES);
    sane.then_some((sequence, frame_bytes))
}

/// Reads the group out of the exact bytes of a frame whose header is `header`.
pub(super) fn decode_frame(
    header: &GroupHeader,
    frame: &Bytes,
) -> Result<DecodedGroup, DecodeError> {
    let meta = &header.meta;
    let group_end = header.group_bytes() as usize;
    let group = decode(&frame.slice(..group_end), meta.wal_id, meta.generation)?;
    let padding = &frame[group_end..frame.len() - TRAILER_BYTES];
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Impossible { what: "padding" });
    }
    let expected = Some((meta.sequence, frame.len() as u64));
    if trailer(frame, meta.wal_id, meta.generation) != expected {
        return Err(DecodeError::Checksum {
            what: "the trailer",
        });
    }
    Ok(group)
}
