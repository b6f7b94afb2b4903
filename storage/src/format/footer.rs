//! The footer: the last 128 bytes of an object, fixed so that it is found from the end.
//!
//! ```text
//!    0  8  magic "HWOBJECT"          40  8  directory position
//!    8  2  version, 1                48  8  directory length
//!   10  2  footer length, 128        56 36  digest of the index
//!   12  4  critical flags, 0         92 36  digest of bytes 0..92 of the footer
//!   16  4  flags, 0
//!   20  4  reserved, 0             a digest: 2 algorithm, 2 length, 32 bytes, padded with 0
//!   24  8  index position
//!   32  8  index length              all numbers big-endian
//! ```

use super::{Damage, Part, Place};
use crate::Error;
use crate::catalog::Digest;

/// Bytes of the footer.
pub const FOOTER_LENGTH: u64 = 128;
const LENGTH: usize = FOOTER_LENGTH as usize;
const MAGIC: &[u8; 8] = b"HWOBJECT";
const VERSION: u16 = 1;
const DIGEST_FIELD: usize = 36;
const DIGEST_BYTES: usize = 32;
const INDEX_DIGEST_AT: usize = 56;
const OWN_DIGEST_AT: usize = 92;
/// Critical flags that this version knows.
const KNOWN_CRITICAL: u32 = 0;

/// Where an object's index stands, and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Flags that a reader may ignore.
    pub flags: u32,
    /// Where the index starts and the blocks end.
    pub index_position: u64,
    /// Bytes of the index: slice indexes and directory.
    pub index_length: u64,
    /// Where the directory starts; it ends where the index ends.
    pub directory_position: u64,
    /// Bytes of the directory.
    pub directory_length: u64,
    /// Digest of the whole index.
    pub index_digest: Digest,
}

impl Footer {
    /// The footer's bytes, and the digest that an `ObjectRef` keeps of it.
    pub(crate) fn encode(&self) -> ([u8; LENGTH], Digest) {
        let mut out = [0; LENGTH];
        out[0..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_be_bytes());
        out[10..12].copy_from_slice(&(LENGTH as u16).to_be_bytes());
        out[16..20].copy_from_slice(&self.flags.to_be_bytes());
        out[24..32].copy_from_slice(&self.index_position.to_be_bytes());
        out[32..40].copy_from_slice(&self.index_length.to_be_bytes());
        out[40..48].copy_from_slice(&self.directory_position.to_be_bytes());
        out[48..56].copy_from_slice(&self.directory_length.to_be_bytes());
        put_digest(&mut out[INDEX_DIGEST_AT..OWN_DIGEST_AT], &self.index_digest);
        let own = Digest::crc32(&out[..OWN_DIGEST_AT]);
        put_digest(&mut out[OWN_DIGEST_AT..], &own);
        (out, own)
    }

    /// Reads the last 128 bytes of an object of `object_length` bytes. With `expected`, the digest
    /// that a reference keeps, it must be that very footer.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Unsupported`] for a later version or critical flags.
    pub fn decode(
        key: &str,
        object_length: u64,
        bytes: &[u8],
        expected: Option<&Digest>,
    ) -> Result<Self, Error> {
        let position = object_length.saturating_sub(FOOTER_LENGTH);
        let place = Place {
            key,
            part: Part::Footer,
            position,
        };
        if bytes.len() != LENGTH {
            let found = bytes.len() as u64;
            return Err(place.damaged(Damage::Length {
                expected: FOOTER_LENGTH,
                found,
            }));
        }
        if &bytes[0..8] != MAGIC {
            return Err(place.malformed("the magic is not that of an object"));
        }
        let own = get_digest(&bytes[OWN_DIGEST_AT..], place)?;
        own.check(&bytes[..OWN_DIGEST_AT], place)?;
        if expected.is_some_and(|expected| *expected != own) {
            return Err(place.damaged(Damage::Checksum));
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(place.unsupported(format!("object format version {version}")));
        }
        if usize::from(u16::from_be_bytes([bytes[10], bytes[11]])) != LENGTH {
            return Err(place.malformed("footer length"));
        }
        let unknown = u32_at(bytes, 12) & !KNOWN_CRITICAL;
        if unknown != 0 {
            let bit = unknown.trailing_zeros();
            return Err(place.unsupported(format!("critical footer flag {bit}")));
        }
        if bytes[20..24] != [0; 4] {
            return Err(place.malformed("reserved bytes of the footer are not 0"));
        }
        let footer = Self {
            flags: u32_at(bytes, 16),
            index_position: u64_at(bytes, 24),
            index_length: u64_at(bytes, 32),
            directory_position: u64_at(bytes, 40),
            directory_length: u64_at(bytes, 48),
            index_digest: get_digest(&bytes[INDEX_DIGEST_AT..OWN_DIGEST_AT], place)?,
        };
        footer.validate(position, place)?;
        Ok(footer)
    }

    /// The index ends where the footer starts, and the directory where the index ends.
    fn validate(&self, footer_position: u64, place: Place<'_>) -> Result<(), Error> {
        let index_end = self.index_position.checked_add(self.index_length);
        let directory_end = self.directory_position.checked_add(self.directory_length);
        if index_end != Some(footer_position) {
            return Err(place.malformed("the index does not end at the footer"));
        }
        if directory_end != index_end || self.directory_position < self.index_position {
            return Err(place.malformed("the directory is not the end of the index"));
        }
        Ok(())
    }
}

fn put_digest(out: &mut [u8], digest: &Digest) {
    assert!(out.len() == DIGEST_FIELD && digest.bytes.len() <= DIGEST_BYTES);
    let algorithm = u16::try_from(digest.algorithm).expect("our algorithms have small numbers");
    out[0..2].copy_from_slice(&algorithm.to_be_bytes());
    out[2..4].copy_from_slice(&(digest.bytes.len() as u16).to_be_bytes());
    out[4..4 + digest.bytes.len()].copy_from_slice(&digest.bytes);
}

fn get_digest(field: &[u8], place: Place<'_>) -> Result<Digest, Error> {
    let algorithm = u32::from(u16::from_be_bytes([field[0], field[1]]));
    let length = usize::from(u16::from_be_bytes([field[2], field[3]]));
    if length > DIGEST_BYTES || field[4 + length..].iter().any(|byte| *byte != 0) {
        return Err(place.malformed("digest length or padding"));
    }
    Ok(Digest {
        algorithm,
        bytes: field[4..4 + length].to_vec(),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
