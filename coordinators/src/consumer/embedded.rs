//! What clients of the classic protocol put into its opaque bytes: subscriptions and assignments.
//!
//! ```text
//! subscription  version int16, topics [string], user data bytes?,
//!               1+: owned [topic string, partitions [int32]], 2+: generation int32, 3+: rack string?
//! assignment    version int16, assigned [topic string, partitions [int32]], user data bytes?
//! ```
//!
//! Versions only add fields at the end: a later one is read as the latest that is known.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::TopicPartition;

use super::{Assignment, Name, Topics};
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

const VERSION_MAX: i16 = 3;

/// What a member says it wants and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: BTreeSet<Name>,
    pub(super) owned: Vec<(Name, i32)>,
    pub(super) rack_id: Option<Name>,
}

fn version(reader: &mut Reader<'_>, record: &'static str) -> Result<i16> {
    match reader.i16("version")? {
        version @ 0.. => Ok(version.min(VERSION_MAX)),
        version => Err(Error::Version { record, version }),
    }
}

fn length(reader: &mut Reader<'_>, record: &'static str, field: &'static str) -> Result<usize> {
    reader.array_length(field)?.ok_or(Error::Length {
        record,
        field,
        length: -1,
    })
}

fn skip_bytes(reader: &mut Reader<'_>) -> Result<()> {
    match reader.i32("user data")? {
        -1 => Ok(()),
        length => reader.sized("user data", length.into()).map(|_| ()),
    }
}

fn partitions(
    reader: &mut Reader<'_>,
    record: &'static str,
    field: &'static str,
) -> Result<Vec<(Name, i32)>> {
    let mut partitions = Vec::new();
    for _ in 0..length(reader, record, field)? {
        let topic = Name::from(reader.string("topic")?);
        for _ in 0..length(reader, record, "partitions")? {
            partitions.push((topic.clone(), reader.i32("partition")?));
        }
    }
    Ok(partitions)
}

pub(super) fn decode_subscription(bytes: &[u8]) -> Result<Subscription> {
    let record = "a consumer's subscription";
    let mut reader = Reader::new(record, bytes);
    let mut subscription = Subscription {
        version: version(&mut reader, record)?,
        ..Subscription::default()
    };
    for _ in 0..length(&mut reader, record, "topics")? {
        subscription.topics.insert(reader.string("topic")?.into());
    }
    skip_bytes(&mut reader)?;
    if subscription.version >= 1 {
        subscription.owned = partitions(&mut reader, record, "owned partitions")?;
    }
    if subscription.version >= 2 {
        reader.i32("generation")?;
    }
    if subscription.version >= 3 {
        subscription.rack_id = match reader.i16("rack")? {
            -1 => None,
            length => {
                let bytes = reader.sized("rack", length.into())?;
                let rack = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 {
                    record,
                    field: "rack",
                })?;
                Some(rack.into())
            }
        };
    }
    Ok(subscription)
}

/// An assignment as bytes; topics that are gone are left out.
pub(super) fn encode_assignment(
    version: i16,
    assignment: &Assignment,
    topics: &dyn Topics,
) -> Bytes {
    let named: Vec<_> = assignment
        .topics()
        .filter_map(|(topic, partitions)| Some((topics.name(topic)?, partitions)))
        .collect();
    let mut writer = Writer::versioned(version);
    writer.array_length(Some(named.len()));
    for (topic, partitions) in named {
        writer.string(&topic);
        writer.array_length(Some(partitions.len()));
        for partition in partitions {
            writer.i32(*partition);
        }
    }
    writer.array_length(None);
    writer.finish()
}

/// An assignment that a leader made; no bytes are none.
pub(super) fn decode_assignment(bytes: &[u8]) -> Result<Vec<(Name, i32)>> {
    let record = "a consumer's assignment";
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(record, bytes);
    version(&mut reader, record)?;
    let assigned = partitions(&mut reader, record, "assigned partitions")?;
    skip_bytes(&mut reader)?;
    Ok(assigned)
}

/// Partitions by name as partitions by id; what does not exist is left out.
pub(super) fn by_id(named: &[(Name, i32)], topics: &dyn Topics) -> Assignment {
    named
        .iter()
        .filter_map(|(name, partition)| {
            let topic = topics.topic(name)?;
            (0..topic.partitions)
                .contains(partition)
                .then(|| TopicPartition::new(topic.id, *partition))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::tests::{Cluster, partitions};

    /// Version 3: topic `t`, no user data, owns t-2, generation 7, rack `z`.
    const SUBSCRIPTION: &[u8] = b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\
        \0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02\0\0\0\x07\0\x01z";

    #[test]
    fn subscriptions_are_read_in_every_version() {
        let whole = decode_subscription(SUBSCRIPTION).unwrap();
        assert_eq!(whole.topics, ["t".into()].into());
        assert_eq!(whole.owned, [("t".into(), 2)]);
        assert_eq!(whole.rack_id.as_deref(), Some("z"));
        for (version, end) in [(0, 13), (1, 28), (2, 32), (3, 35)] {
            let mut bytes = SUBSCRIPTION[..end].to_vec();
            bytes[1] = version;
            let read = decode_subscription(&bytes).unwrap();
            assert_eq!(read.owned.len(), usize::from(version > 0));
            for cut in 0..end {
                assert!(
                    decode_subscription(&bytes[..cut]).is_err(),
                    "{version} {cut}"
                );
            }
        }
        let mut later = SUBSCRIPTION.to_vec();
        later[1] = 9;
        later.extend_from_slice(b"more");
        assert_eq!(decode_subscription(&later).unwrap(), whole);
        assert!(decode_subscription(b"\xff\xff").is_err());
    }

    #[test]
    fn assignments_go_both_ways() {
        let cluster = Cluster::of(&[("t", 1, 3)]);
        let mut assignment = partitions(1, &[0, 2]);
        assignment.extend(partitions(9, &[0]).iter());
        let bytes = encode_assignment(1, &assignment, &cluster);
        let golden = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff";
        assert_eq!(bytes, golden[..]);
        let read = decode_assignment(&bytes).unwrap();
        assert_eq!(by_id(&read, &cluster), partitions(1, &[0, 2]));
        assert_eq!(
            by_id(&[("t".into(), 3), ("x".into(), 0)], &cluster),
            Assignment::new()
        );
        for cut in 1..bytes.len() {
            assert!(decode_assignment(&bytes[..cut]).is_err());
        }
    }
}
