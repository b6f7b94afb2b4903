//! The one object format of bundles and segments: blocks, then an index, then a footer.
//!
//! ```text
//!   ObjectWriter ─▶ [block]* [slice index]* [directory] [footer] ─▶ store
//!   SliceRef ─▶ ObjectReader ─▶ slice index ─▶ block ─▶ batches, verbatim
//! ```
//!
//! **Invariant:** the digests form a chain that covers every byte: an `ObjectRef` holds that of
//! the footer, the footer that of the index, the index those of the blocks, and the blocks tile
//! the rest. Nothing is given out before its digest was checked. The layout is written down in
//! `storage/docs/object-format.md`.

mod block;
mod digest;
mod footer;
mod index;
pub mod limits;
mod reader;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use block::verify_block;
pub use footer::{FOOTER_LENGTH, Footer};
pub use index::{
    BatchEntry, BlockEntry, Directory, DirectoryEntry, EndedTransaction, Extension, SliceIndex,
};
pub(crate) use reader::unpinned;
pub use reader::{ObjectReader, decode_slice_index};
pub use verify::{Report, SliceReport, verify_object};
pub use writer::{FinishedObject, ObjectWriter, SliceEnd, SliceStart};

use crate::Error;

/// A part of an object, in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The fixed end.
    Footer,
    /// All slice indexes and the directory.
    Index,
    /// The list of slices.
    Directory,
    /// One slice's part of the index.
    SliceIndex,
    /// Record batches.
    Block,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Footer => "footer",
            Self::Index => "index",
            Self::Directory => "directory",
            Self::SliceIndex => "slice index",
            Self::Block => "block",
        })
    }
}

/// How a part is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The bytes do not have the digest on record.
    Checksum,
    /// The bytes end early, or go on.
    Length {
        /// Bytes on record.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The digest matches but the content breaks a rule of the layout.
    Malformed(&'static str),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checksum => f.write_str("checksum mismatch"),
            Self::Length { expected, found } => {
                write!(f, "{found} bytes where {expected} are on record")
            }
            Self::Malformed(rule) => write!(f, "malformed: {rule}"),
        }
    }
}

/// Where a part stands, to name it in errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) key: &'a str,
    pub(crate) part: Part,
    pub(crate) position: u64,
}

impl Place<'_> {
    pub(crate) fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged {
            key: self.key.to_owned(),
            part: self.part,
            position: self.position,
            damage,
        }
    }

    pub(crate) fn malformed(&self, rule: &'static str) -> Error {
        self.damaged(Damage::Malformed(rule))
    }

    pub(crate) fn unsupported(&self, feature: impl Into<String>) -> Error {
        Error::Unsupported {
            key: self.key.to_owned(),
            feature: feature.into(),
        }
    }
}
