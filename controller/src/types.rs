//! Ids, digests and references that commands, state and image share.

use std::fmt;
use std::sync::Arc;

use protocol::{LeaderEpoch, TopicPartition};
use uuid::Uuid;

/// Names a command: a repetition carries the same one and is answered as the first was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub Uuid);

/// Identity of a cluster. Its text is Kafka's: 22 characters of URL-safe base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub Uuid);

/// Number of a claim on a dead broker's log; claim n supersedes n−1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim(pub u32);

/// A digest with its algorithm, so that another can come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Algorithm 1: CRC-32 (IEEE), big-endian.
    Crc32([u8; 4]),
    /// One that this build does not know, kept as it came.
    Other {
        /// Its number.
        algorithm: u32,
        /// The digest.
        bytes: Box<[u8]>,
    },
}

/// A stored object, as slices name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Key in the store, complete.
    pub key: String,
    /// Length in bytes.
    pub length: u64,
    /// Digest of its footer.
    pub digest: Digest,
}

/// One partition's contiguous run of blocks inside an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRef {
    /// Whose records.
    pub topic_partition: TopicPartition,
    /// Epoch under which they were written; a slice has one.
    pub leader_epoch: LeaderEpoch,
    /// First offset that it covers.
    pub first_offset: i64,
    /// One past the last offset that it covers.
    pub end_offset: i64,
    /// Largest timestamp of its records, milliseconds.
    pub max_timestamp_ms: i64,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// The object that holds it.
    pub object: Arc<ObjectRef>,
    /// Where in the object its part of the index starts.
    pub index_position: u64,
    /// Length of that part.
    pub index_length: u64,
    /// Digest of that part.
    pub index_digest: Digest,
    /// True when that part carries the whole producer state at `end_offset`.
    pub checkpoint: bool,
}

/// What became of a slice of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceOutcome {
    /// Recorded: its end is the partition's committed end.
    Committed,
    /// Rightly dropped (R6): topic deleted, released at that epoch, or already committed.
    Dropped,
}

// === impl ClusterId ===

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_bytes().chunks(3) {
            let mut bits = 0u32;
            for at in 0..3 {
                bits = bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
            }
            for at in 0..=chunk.len() {
                let index = bits >> (18 - 6 * at) & 63;
                write!(f, "{}", char::from(BASE64[index as usize]))?;
            }
        }
        Ok(())
    }
}

// === impl Digest ===

/// CRC-32 (IEEE).
const CRC32: u32 = 1;

impl Digest {
    /// The digest `bytes` of `algorithm`.
    pub fn new(algorithm: u32, bytes: &[u8]) -> Self {
        match (algorithm, <[u8; 4]>::try_from(bytes)) {
            (CRC32, Ok(crc)) => Self::Crc32(crc),
            _ => Self::Other {
                algorithm,
                bytes: bytes.into(),
            },
        }
    }

    /// Number of its algorithm.
    pub fn algorithm(&self) -> u32 {
        match self {
            Self::Crc32(_) => CRC32,
            Self::Other { algorithm, .. } => *algorithm,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Crc32(crc) => crc,
            Self::Other { bytes, .. } => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_reads_as_kafkas() {
        let id = ClusterId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
        assert_eq!(id.to_string(), "ABEiM0RVZneImaq7zN3u_w");
        assert_eq!(
            ClusterId(Uuid::from_u128(u128::MAX)).to_string(),
            "_____________________w"
        );
    }

    #[test]
    fn a_digest_keeps_what_it_does_not_know() {
        assert_eq!(Digest::new(1, &[1, 2, 3, 4]), Digest::Crc32([1, 2, 3, 4]));
        for (algorithm, bytes) in [(1, &[1u8, 2][..]), (7, &[9, 9, 9, 9])] {
            let digest = Digest::new(algorithm, bytes);
            assert_eq!((digest.algorithm(), digest.bytes()), (algorithm, bytes));
        }
    }
}
