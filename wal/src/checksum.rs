//! CRC-32 (IEEE), in a type of its own: never to be mixed up with the CRC-32C of record batches.

use crate::WalId;

/// A CRC-32 (IEEE 802.3) value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32(pub u32);

/// What a log's checksums start from, so that bytes of another log, or of an earlier use of the
/// same file, never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed of `generation` (0 for objects) of the log `wal_id`.
    pub(crate) fn new(wal_id: WalId, generation: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(wal_id.0.as_bytes());
        hasher.update(&generation.to_be_bytes());
        Self(hasher.finalize())
    }

    /// Checksum of `parts`, back to back.
    pub(crate) fn checksum(self, parts: &[&[u8]]) -> Crc32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        for part in parts {
            hasher.update(part);
        }
        Crc32(hasher.finalize())
    }
}
