//! Kafka's own records in `__consumer_offsets`: keys, and what is common to their values.
//!
//! A key starts with an int16 version that also tells its kind: 0 and 1 an offset, 2 a group.
//! Higher ones belong to later group protocols and are left alone.

mod group_metadata;
mod offset_commit;
pub(super) mod wire;

use bytes::Bytes;
use thiserror::Error;

pub use group_metadata::{GroupMetadataValue, MemberValue};
pub use offset_commit::OffsetValue;

use super::api::Name;
use wire::{Reader, Writer};

/// Why bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end inside a field.
    #[error("the record ends inside field {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// A length is negative where it may not be, or larger than what is left.
    #[error("field {field} has the impossible length {length}")]
    Length {
        /// Which field.
        field: &'static str,
        /// What was read.
        length: i64,
    },
    /// A string is not UTF-8.
    #[error("field {field} is not UTF-8")]
    NotUtf8 {
        /// Which field.
        field: &'static str,
    },
    /// A version that does not exist.
    #[error("version {version} of {record} is unknown")]
    Version {
        /// Which record.
        record: &'static str,
        /// What was read.
        version: i16,
    },
}

/// Key of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    /// The group.
    pub group: Name,
    /// The topic.
    pub topic: Name,
    /// The partition.
    pub partition: i32,
}

/// Key of a group's metadata.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The group.
    pub group: Name,
}

/// A key of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// Versions 0 and 1.
    Offset(OffsetKey),
    /// Version 2.
    Group(GroupKey),
    /// A kind that this coordinator does not keep.
    Other {
        /// Its version.
        version: i16,
    },
}

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;

impl RecordKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        match reader.i16("key version")? {
            0 | OFFSET_KEY_VERSION => Ok(Self::Offset(OffsetKey {
                group: reader.string("group")?.into(),
                topic: reader.string("topic")?.into(),
                partition: reader.i32("partition")?,
            })),
            GROUP_KEY_VERSION => Ok(Self::Group(GroupKey {
                group: reader.string("group")?.into(),
            })),
            version if version > GROUP_KEY_VERSION => Ok(Self::Other { version }),
            version => Err(RecordError::Version {
                record: "key",
                version,
            }),
        }
    }
}

impl OffsetKey {
    /// Version 1: what Kafka writes.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(OFFSET_KEY_VERSION);
        writer.string(&self.group);
        writer.string(&self.topic);
        writer.i32(self.partition);
        writer.finish()
    }
}

impl GroupKey {
    /// Version 2: what Kafka writes.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(GROUP_KEY_VERSION);
        writer.string(&self.group);
        writer.finish()
    }
}

#[cfg(test)]
mod tests;
