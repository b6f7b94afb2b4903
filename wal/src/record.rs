//! The one record format of every backend: a group header, extension sections, entries.
//!
//! All numbers are big-endian. The layout is written down in `wal/docs/format.md`.
//!
//! ```text
//!   GroupHeader (104) │ extension sections │ entry head │ bytes │ entry head │ bytes │ …
//! ```
//!
//! **Invariant:** every byte of a group is under a checksum seeded with log id and segment
//! generation: the header under its own, each entry under the one in its head, sections and entry
//! heads under the header's `body_check`.

mod entry;
mod extension;
mod header;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use entry::Record;
pub use extension::Extension;
pub use header::{GroupHeader, GroupKind, HEADER_BYTES};

use crate::checksum::Seed;
use crate::{Entry, Sequence, WalId};
pub(crate) use entry::Item;

/// Why bytes are not a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not start as one, or not as one of this log and generation.
    #[error("no group starts here")]
    NotAGroup,
    /// They start as one and end too early.
    #[error("cut short: {missing} bytes are missing")]
    Short {
        /// How many.
        missing: u64,
    },
    /// A checksum does not match.
    #[error("checksum of {what} does not match")]
    Checksum {
        /// Of what part.
        what: &'static str,
    },
    /// The checksums match and the contents make no sense.
    #[error("impossible {what}")]
    Impossible {
        /// What part.
        what: &'static str,
    },
    /// Sound, but of a later version.
    #[error("{what}")]
    Unsupported {
        /// The version, kind or flag that is not known here, by name.
        what: String,
    },
}

/// What the writer knows of a group besides its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMeta {
    /// What it is.
    pub kind: GroupKind,
    /// Whose it is.
    pub wal_id: WalId,
    /// Its number; of a mark, the number that the next group of entries will have.
    pub sequence: Sequence,
    /// Who wrote it: one random number per writer.
    pub nonce: u128,
    /// Every group below this was acknowledged when it was written.
    pub acked_to: Sequence,
    /// Most groups that its writer has in flight.
    pub window: u32,
    /// Use of the segment file that holds it; 0 in objects.
    pub generation: u64,
}

/// A group as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedGroup {
    /// Its header.
    pub header: GroupHeader,
    /// Its extension sections, the unknown ones too.
    pub extensions: Vec<Extension>,
    /// What it holds.
    pub body: Body,
}

/// What a group holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Entries of partitions.
    Entries(Vec<Entry>),
    /// Records of somebody else's log (the Raft log).
    Records(Vec<Record>),
    /// Nothing: an idle mark, a closed mark or a seal.
    Mark,
}

/// A group ready to be stored: small heads, and the callers' bytes by reference.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Header and extension sections, then all entry heads.
    heads: Bytes,
    front: usize,
    head_bytes: usize,
    payloads: Vec<Bytes>,
}

impl Encoded {
    pub(crate) fn new<I: Item>(meta: &GroupMeta, extensions: &[Extension], items: &[I]) -> Self {
        assert!(
            items.len() <= crate::limits::MAX_GROUP_ENTRIES,
            "the writer bounds a group"
        );
        let seed = Seed::new(meta.wal_id, meta.generation);
        let mut heads = vec![0; HEADER_BYTES];
        for extension in extensions {
            extension.encode(&mut heads);
        }
        let front = heads.len();
        assert!(front - HEADER_BYTES <= crate::limits::MAX_EXTENSION_BYTES);
        heads.reserve(items.len() * I::HEAD_BYTES);
        let mut payload_bytes = 0;
        for item in items {
            item.encode_head(seed, &mut heads);
            payload_bytes += item.payload().len() as u64;
        }
        let header = GroupHeader {
            meta: *meta,
            entries: items.len() as u32,
            extension_bytes: (front - HEADER_BYTES) as u32,
            body_check: seed.checksum(&[&heads[HEADER_BYTES..]]),
            body_bytes: (heads.len() - HEADER_BYTES) as u64 + payload_bytes,
        };
        header.encode(&mut heads[..HEADER_BYTES]);
        Self {
            heads: heads.into(),
            front,
            head_bytes: I::HEAD_BYTES,
            payloads: items.iter().map(|item| item.payload().clone()).collect(),
        }
    }

    /// A group without entries.
    pub(crate) fn mark(meta: &GroupMeta) -> Self {
        Self::new::<Entry>(meta, &[], &[])
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len() + self.payloads.iter().map(Bytes::len).sum::<usize>()
    }

    /// Bytes of a group of `items` without extension sections.
    pub(crate) fn bytes_of<I: Item>(items: &[I]) -> u64 {
        let payloads: usize = items.iter().map(|item| item.payload().len()).sum();
        (HEADER_BYTES + items.len() * I::HEAD_BYTES + payloads) as u64
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.heads[..HEADER_BYTES]
    }

    /// The group in pieces, without a copy.
    pub(crate) fn parts(&self) -> Vec<Bytes> {
        let mut parts = Vec::with_capacity(1 + 2 * self.payloads.len());
        parts.push(self.heads.slice(..self.front));
        let mut at = self.front;
        for payload in &self.payloads {
            parts.push(self.heads.slice(at..at + self.head_bytes));
            parts.push(payload.clone());
            at += self.head_bytes;
        }
        parts
    }

    /// Appends the group to `out`: how a small one is gathered on its way to a file.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        out.extend_from_slice(&self.heads[..self.front]);
        let mut at = self.front;
        for payload in &self.payloads {
            out.extend_from_slice(&self.heads[at..at + self.head_bytes]);
            out.extend_from_slice(payload);
            at += self.head_bytes;
        }
    }
}

/// Reads a group from its exact bytes. Entries share `bytes`.
///
/// # Errors
/// [`DecodeError`]; never panics, whatever the bytes.
pub fn decode(bytes: &Bytes, wal_id: WalId, generation: u64) -> Result<DecodedGroup, DecodeError> {
    let header = GroupHeader::decode(bytes, wal_id, generation)?;
    let total = HEADER_BYTES as u64 + header.body_bytes;
    if (bytes.len() as u64) < total {
        return Err(DecodeError::Short {
            missing: total - bytes.len() as u64,
        });
    }
    if bytes.len() as u64 > total {
        return Err(DecodeError::Impossible {
            what: "bytes after the group",
        });
    }
    let seed = Seed::new(wal_id, generation);
    let extensions_end = HEADER_BYTES + header.extension_bytes as usize;
    let mut check = vec![&bytes[HEADER_BYTES..extensions_end]];
    let mut rest = bytes.slice(extensions_end..);
    let body = match header.meta.kind {
        GroupKind::Entries => Body::Entries(entry::decode_all(
            &header, seed, &mut rest, bytes, &mut check,
        )?),
        GroupKind::Records => Body::Records(entry::decode_all(
            &header, seed, &mut rest, bytes, &mut check,
        )?),
        GroupKind::Idle | GroupKind::Closed | GroupKind::Seal => Body::Mark,
    };
    if !rest.is_empty() {
        return Err(DecodeError::Impossible {
            what: "bytes after the last entry",
        });
    }
    if seed.checksum(&check) != header.body_check && !env::planted!("heads-not-checked") {
        return Err(DecodeError::Checksum {
            what: "sections and entry heads",
        });
    }
    let extensions = Extension::decode_all(bytes.slice(HEADER_BYTES..extensions_end))?;
    Ok(DecodedGroup {
        header,
        extensions,
        body,
    })
}
