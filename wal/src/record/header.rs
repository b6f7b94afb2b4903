//! The fixed part in front of every group.
//!
//! ```text
//!    0  8  magic "HWWALGRP"          56  8  acked_to
//!    8  2  version (1)               64  4  window
//!   10  1  kind                      68  4  number of entries
//!   11  1  zero                      72  8  segment generation
//!   12  4  flags (high half critical)80  4  bytes of extension sections
//!   16 16  log id                    84  4  CRC-32 of sections and entry heads
//!   32  8  sequence                  88  8  bytes of the body (all after this header)
//!   40 16  nonce                     96  4  CRC-32 of bytes 0..96
//!                                   100  4  zero
//! ```

use uuid::Uuid;

use super::{DecodeError, GroupMeta};
use crate::checksum::{Crc32, Seed};
use crate::limits::{MAX_BODY_BYTES, MAX_EXTENSION_BYTES, MAX_GROUP_ENTRIES, MAX_WINDOW};
use crate::{Sequence, WalId};

/// Bytes of a group header.
pub const HEADER_BYTES: usize = 104;
const CHECKED_BYTES: usize = 96;
pub(crate) const MAGIC: &[u8; 8] = b"HWWALGRP";
const VERSION: u16 = 1;
/// Flags in the high half must be understood by the reader; version 1 knows none at all.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupKind {
    /// Entries of partitions.
    Entries = 1,
    /// Empty: everything before it is acknowledged, and the log was idle.
    Idle = 2,
    /// Empty: everything before it is acknowledged, and nothing follows.
    Closed = 3,
    /// Empty: put by an heir where the log ends.
    Seal = 4,
    /// Records of another log in the same framing (the Raft log).
    Records = 5,
}

impl GroupKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entries,
            2 => Self::Idle,
            3 => Self::Closed,
            4 => Self::Seal,
            5 => Self::Records,
            _ => return None,
        })
    }

    /// True for a group that takes a sequence number; marks and seals take none.
    pub fn is_numbered(self) -> bool {
        matches!(self, Self::Entries | Self::Records)
    }
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// What its writer said of it.
    pub meta: GroupMeta,
    /// Number of entries.
    pub entries: u32,
    /// Bytes of the extension sections.
    pub extension_bytes: u32,
    /// Checksum of extension sections and entry heads.
    pub body_check: Crc32,
    /// Bytes after the header.
    pub body_bytes: u64,
}

impl GroupHeader {
    pub(super) fn encode(&self, out: &mut [u8]) {
        let meta = &self.meta;
        out[0..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[10] = meta.kind as u8;
        out[11..16].fill(0);
        out[16..32].copy_from_slice(meta.wal_id.0.as_bytes());
        out[32..40].copy_from_slice(&meta.sequence.to_be_bytes());
        out[40..56].copy_from_slice(&meta.nonce.to_be_bytes());
        out[56..64].copy_from_slice(&meta.acked_to.to_be_bytes());
        out[64..68].copy_from_slice(&meta.window.to_be_bytes());
        out[68..72].copy_from_slice(&self.entries.to_be_bytes());
        out[72..80].copy_from_slice(&meta.generation.to_be_bytes());
        out[80..84].copy_from_slice(&self.extension_bytes.to_be_bytes());
        out[84..88].copy_from_slice(&self.body_check.0.to_be_bytes());
        out[88..96].copy_from_slice(&self.body_bytes.to_be_bytes());
        let crc = Seed::new(meta.wal_id, meta.generation).checksum(&[&out[..CHECKED_BYTES]]);
        out[96..100].copy_from_slice(&crc.0.to_be_bytes());
        out[100..104].fill(0);
    }

    /// Its bytes.
    pub(crate) fn encoded(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        self.encode(&mut out);
        out
    }

    /// Reads a header from the start of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// [`DecodeError`]: the bytes are no sound header of this log and generation.
    pub fn decode(bytes: &[u8], wal_id: WalId, generation: u64) -> Result<Self, DecodeError> {
        if bytes.len() < HEADER_BYTES {
            return Err(DecodeError::Short {
                missing: (HEADER_BYTES - bytes.len()) as u64,
            });
        }
        if &bytes[..8] != MAGIC {
            return Err(DecodeError::NotAGroup);
        }
        let crc = Seed::new(wal_id, generation).checksum(&[&bytes[..CHECKED_BYTES]]);
        if crc.0 != u32_at(bytes, 96) || bytes[100..104] != [0; 4] {
            return Err(DecodeError::NotAGroup);
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(DecodeError::Unsupported {
                what: format!("group version {version}"),
            });
        }
        let kind = GroupKind::from_byte(bytes[10]).ok_or_else(|| DecodeError::Unsupported {
            what: format!("group kind {}", bytes[10]),
        })?;
        let critical = u32_at(bytes, 12) & CRITICAL_FLAGS;
        if critical != 0 {
            let what = format!("critical group flag bit {}", critical.trailing_zeros());
            return Err(DecodeError::Unsupported { what });
        }
        let header = Self::fields(bytes, kind);
        header.validate(wal_id, generation)?;
        Ok(header)
    }

    fn fields(bytes: &[u8], kind: GroupKind) -> Self {
        Self {
            meta: GroupMeta {
                kind,
                wal_id: WalId(Uuid::from_u128(u128_at(bytes, 16))),
                sequence: u64_at(bytes, 32),
                nonce: u128_at(bytes, 40),
                acked_to: u64_at(bytes, 56),
                window: u32_at(bytes, 64),
                generation: u64_at(bytes, 72),
            },
            entries: u32_at(bytes, 68),
            extension_bytes: u32_at(bytes, 80),
            body_check: Crc32(u32_at(bytes, 84)),
            body_bytes: u64_at(bytes, 88),
        }
    }

    fn validate(&self, wal_id: WalId, generation: u64) -> Result<(), DecodeError> {
        let meta = &self.meta;
        let what = if meta.wal_id != wal_id || meta.generation != generation {
            "log id or generation"
        } else if self.body_bytes > MAX_BODY_BYTES {
            "body length"
        } else if self.extension_bytes as usize > MAX_EXTENSION_BYTES
            || u64::from(self.extension_bytes) > self.body_bytes
        {
            "extension length"
        } else if self.entries as usize > MAX_GROUP_ENTRIES
            || (self.entries != 0 && !meta.kind.is_numbered())
        {
            "number of entries"
        } else if meta.window == 0 || meta.window > MAX_WINDOW {
            "window"
        } else if meta.acked_to > meta.sequence {
            "acknowledged sequence"
        } else {
            return Ok(());
        };
        Err(DecodeError::Impossible { what })
    }

    /// Bytes of the whole group.
    pub fn group_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.body_bytes
    }

    /// True when a group of this header beyond a hole at `hole` proves that the hole held
    /// acknowledged data (R10).
    pub fn proves_acknowledged(&self, hole: Sequence) -> bool {
        let meta = &self.meta;
        meta.acked_to > hole
            || (meta.kind.is_numbered()
                && meta.sequence.saturating_sub(hole) >= u64::from(meta.window))
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(array_at(bytes, at))
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice is N long")
}
