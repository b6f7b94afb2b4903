//! Keys: an int16 that tells the kind, the group, and for some a second name.

use bytes::Bytes;

use crate::Result;
use crate::consumer::Name;
use crate::wire::{Reader, Writer};

/// The kinds that belong to this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Group = 3,
    PartitionMetadata = 4,
    Member = 5,
    TargetEpoch = 6,
    Target = 7,
    Current = 8,
    Regex = 16,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Group,
        Self::PartitionMetadata,
        Self::Member,
        Self::TargetEpoch,
        Self::Target,
        Self::Current,
        Self::Regex,
    ];

    const fn is_named(self) -> bool {
        matches!(
            self,
            Self::Member | Self::Target | Self::Current | Self::Regex
        )
    }
}

/// A key; the name is empty where the kind has none.
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) group: Name,
    pub(super) name: Name,
}

pub(super) fn encode(kind: Kind, group: &str, name: Option<&str>) -> Bytes {
    let mut writer = Writer::versioned(kind as i16);
    writer.string(group);
    if let Some(name) = name {
        writer.string(name);
    }
    writer.finish()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Key>> {
    let mut reader = Reader::new("a key of __consumer_offsets", bytes);
    let version = reader.i16("version")?;
    let Some(kind) = Kind::ALL.into_iter().find(|kind| *kind as i16 == version) else {
        return Ok(None);
    };
    let group = reader.string("group")?.into();
    let name = if kind.is_named() {
        reader.string("member or regular expression")?.into()
    } else {
        Name::from("")
    };
    reader.end()?;
    Ok(Some(Key { kind, group, name }))
}
