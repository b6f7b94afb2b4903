//! The records of a consumer group in `__consumer_offsets`, in Kafka's formats (KIP-848).
//!
//! A key is an int16 that tells the kind, then int16-length strings; a value is an int16 version,
//! always 0, and a flexible structure:
//!
//! ```text
//!  3 group                    epoch int32; tag 0: metadata hash int64 (KIP-1101)
//!  4 group                    topics [id, name, partitions int32, [partition int32, racks [string]]]
//!  5 group, member            instance?, rack?, client, host, topics [string], regex?,
//!                             rebalance time-out int32, assignor?; tag 0: a classic member's
//!                             session time-out int32 and protocols [name, bytes]
//!  6 group                    target's epoch int32
//!  7 group, member            target [topic id, [int32]]
//!  8 group, member            epoch int32, previous int32, state int8, assigned, revoking
//! 16 group, regular expression  topics [string], version int64, timestamp int64
//! ```
//!
//! No value is a tombstone. Tags that are not known are skipped: later versions add some.

mod key;
mod value;

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::TopicId;

use super::{Assignment, CurrentAssignment, MemberMetadata, Name};
use crate::Result;
use key::Kind;

/// What a group is at; version 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Raised with everything that asks for a new target.
    pub epoch: i32,
    /// Hash over the topics that the epoch was raised for; 0 if there are none, or if it was not
    /// kept.
    pub metadata_hash: i64,
}

/// A topic as groups kept it before Kafka 4.1; version 4. Read, and never written any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic.
    pub id: TopicId,
    /// Its name.
    pub name: Name,
    /// How many partitions it has.
    pub partitions: i32,
    /// The racks of partitions, where they were kept.
    pub racks: Vec<(i32, Vec<Name>)>,
}

/// What a pattern stood for; version 16.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// Names of the topics that match it.
    pub topics: BTreeSet<Name>,
    /// Version of the cluster's metadata it was resolved with.
    pub version: i64,
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// One record of one group. No value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Version 3: a tombstone ends the group.
    Group(Option<GroupMetadata>),
    /// Version 4.
    PartitionMetadata(Option<Vec<TopicMetadata>>),
    /// Version 5: a tombstone ends the member.
    Member(Name, Option<MemberMetadata>),
    /// Version 6: the group epoch that the targets are for.
    TargetEpoch(Option<i32>),
    /// Version 7.
    Target(Name, Option<Assignment>),
    /// Version 8.
    Current(Name, Option<CurrentAssignment>),
    /// Version 16: by pattern.
    Regex(Name, Option<ResolvedRegex>),
}

impl Record {
    /// The key, for a record of this group.
    ///
    /// # Panics
    /// If a name is longer than 32,767 bytes: such a heartbeat is refused.
    pub fn encode_key(&self, group: &str) -> Bytes {
        let (kind, name) = match self {
            Self::Group(_) => (Kind::Group, None),
            Self::PartitionMetadata(_) => (Kind::PartitionMetadata, None),
            Self::Member(member, _) => (Kind::Member, Some(member)),
            Self::TargetEpoch(_) => (Kind::TargetEpoch, None),
            Self::Target(member, _) => (Kind::Target, Some(member)),
            Self::Current(member, _) => (Kind::Current, Some(member)),
            Self::Regex(pattern, _) => (Kind::Regex, Some(pattern)),
        };
        key::encode(kind, group, name.map(|name| &**name))
    }

    /// The value, `None` for a tombstone.
    pub fn encode_value(&self) -> Option<Bytes> {
        match self {
            Self::Group(value) => value.as_ref().map(value::encode_group),
            Self::PartitionMetadata(value) => value.as_deref().map(value::encode_topics),
            Self::Member(_, value) => value.as_ref().map(value::encode_member),
            Self::TargetEpoch(value) => value.map(value::encode_target_epoch),
            Self::Target(_, value) => value.as_ref().map(value::encode_target),
            Self::Current(_, value) => value.as_ref().map(value::encode_current),
            Self::Regex(_, value) => value.as_ref().map(value::encode_regex),
        }
    }

    /// Reads a record and its group; `None` if the key is of another kind: an offset, a classic
    /// group, or a later protocol's.
    ///
    /// # Errors
    /// If the bytes are damaged, or of a version that is not known.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<(Name, Self)>> {
        let Some(key) = key::decode(key)? else {
            return Ok(None);
        };
        let name = key.name;
        let record = match key.kind {
            Kind::Group => Self::Group(value.map(value::decode_group).transpose()?),
            Kind::PartitionMetadata => {
                Self::PartitionMetadata(value.map(value::decode_topics).transpose()?)
            }
            Kind::Member => Self::Member(name, value.map(value::decode_member).transpose()?),
            Kind::TargetEpoch => {
                Self::TargetEpoch(value.map(value::decode_target_epoch).transpose()?)
            }
            Kind::Target => Self::Target(name, value.map(value::decode_target).transpose()?),
            Kind::Current => Self::Current(name, value.map(value::decode_current).transpose()?),
            Kind::Regex => Self::Regex(name, value.map(value::decode_regex).transpose()?),
        };
        Ok(Some((key.group, record)))
    }
}

#[cfg(test)]
mod tests;
