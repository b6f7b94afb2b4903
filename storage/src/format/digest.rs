//! Digests: (algorithm, bytes), so that another algorithm can come later.

use super::{Damage, Place};
use crate::Error;
use crate::catalog::Digest;

/// CRC-32 (IEEE), four bytes big-endian.
pub(crate) const CRC32: u32 = 1;

impl Digest {
    /// CRC-32 (IEEE) of `bytes`.
    pub fn crc32(bytes: &[u8]) -> Self {
        Self::from_crc32(crc32fast::hash(bytes))
    }

    pub(crate) fn from_crc32(crc: u32) -> Self {
        Self {
            algorithm: CRC32,
            bytes: crc.to_be_bytes().to_vec(),
        }
    }

    /// Checks that `bytes` have this digest.
    pub(crate) fn check(&self, bytes: &[u8], place: Place<'_>) -> Result<(), Error> {
        match self.algorithm {
            CRC32 if self.bytes == crc32fast::hash(bytes).to_be_bytes() => Ok(()),
            CRC32 => Err(place.damaged(Damage::Checksum)),
            other => Err(place.unsupported(format!("digest algorithm {other}"))),
        }
    }
}
