//! Sections of a group that a reader may skip.
//!
//! ```text
//!    0  4  kind        8  4  length
//!    4  2  version    12  …  bytes
//!    6  2  flags (bit 15: critical)
//! ```

use bytes::Bytes;

use super::DecodeError;
use super::header::{array_at, u32_at, u64_at};

const HEAD_BYTES: usize = 12;
const CRITICAL: u16 = 0x8000;
/// Kind 1: where the segment before this one ended.
const PREVIOUS_END: u32 = 1;

/// A section: kind, version, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it is. 1: generation and end position of the segment before, in the first group of a
    /// segment.
    pub kind: u32,
    /// Version of the kind.
    pub version: u16,
    /// True when a reader that does not know the kind must refuse the group.
    pub critical: bool,
    /// Its contents.
    pub bytes: Bytes,
}

impl Extension {
    /// The section that ties a segment to the end of the one before.
    pub(crate) fn previous_end(generation: u64, position: u64) -> Self {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.extend_from_slice(&position.to_be_bytes());
        Self {
            kind: PREVIOUS_END,
            version: 1,
            critical: false,
            bytes: bytes.into(),
        }
    }

    /// Generation and position, when this is such a section.
    pub(crate) fn as_previous_end(&self) -> Option<(u64, u64)> {
        (self.kind == PREVIOUS_END && self.version == 1 && self.bytes.len() == 16)
            .then(|| (u64_at(&self.bytes, 0), u64_at(&self.bytes, 8)))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.critical { CRITICAL } else { 0 };
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&(self.bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.bytes);
    }

    pub(super) fn decode_all(mut rest: Bytes) -> Result<Vec<Self>, DecodeError> {
        let mut sections = Vec::new();
        while !rest.is_empty() {
            if rest.len() < HEAD_BYTES {
                return Err(DecodeError::Impossible {
                    what: "extension section",
                });
            }
            let kind = u32_at(&rest, 0);
            let version = u16::from_be_bytes(array_at(&rest, 4));
            let flags = u16::from_be_bytes(array_at(&rest, 6));
            let length = u32_at(&rest, 8) as usize;
            let critical = flags & CRITICAL != 0;
            if critical && kind != PREVIOUS_END {
                let what = format!("critical extension section of kind {kind}, version {version}");
                return Err(DecodeError::Unsupported { what });
            }
            if length > rest.len() - HEAD_BYTES {
                return Err(DecodeError::Impossible {
                    what: "extension section length",
                });
            }
            let bytes = rest.slice(HEAD_BYTES..HEAD_BYTES + length);
            sections.push(Self {
                kind,
                version,
                critical,
                bytes,
            });
            rest = rest.slice(HEAD_BYTES + length..);
        }
        Ok(sections)
    }
}
