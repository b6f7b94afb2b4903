//! Values: an int16 version, which is 0, and a flexible structure.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::{TopicId, TopicPartition};

use super::{GroupMetadata, ResolvedRegex, TopicMetadata};
use crate::consumer::{
    Assignment, ClassicMember, CurrentAssignment, MemberMetadata, MemberState, Name,
};
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

const VERSION: i16 = 0;

fn open<'a>(record: &'static str, bytes: &'a [u8]) -> Result<Reader<'a>> {
    let mut reader = Reader::new(record, bytes);
    match reader.i16("version")? {
        VERSION => Ok(reader),
        version => Err(Error::Version { record, version }),
    }
}

/// Skips what is tagged, and ends.
fn close(mut reader: Reader<'_>) -> Result<()> {
    reader.skip_tags()?;
    reader.end()
}

/// The length of an array that may not be null.
fn length(reader: &mut Reader<'_>, record: &'static str, field: &'static str) -> Result<usize> {
    reader.compact_array_length(field)?.ok_or(Error::Length {
        record,
        field,
        length: -1,
    })
}

/// A number that may not be negative.
fn natural(reader: &mut Reader<'_>, record: &'static str, field: &'static str) -> Result<i32> {
    match reader.i32(field)? {
        value @ 0.. => Ok(value),
        value => Err(Error::Value {
            record,
            field,
            value: value.into(),
        }),
    }
}

fn names(
    reader: &mut Reader<'_>,
    record: &'static str,
    field: &'static str,
) -> Result<BTreeSet<Name>> {
    (0..length(reader, record, field)?)
        .map(|_| reader.compact_string(field).map(Name::from))
        .collect()
}

fn put_names<'a>(writer: &mut Writer, names: impl ExactSizeIterator<Item = &'a Name>) {
    writer.compact_array_length(Some(names.len()));
    for name in names {
        writer.compact_string(name);
    }
}

fn nullable(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<Name>> {
    Ok(reader.compact_nullable_string(field)?.map(Name::from))
}

fn partitions(
    reader: &mut Reader<'_>,
    record: &'static str,
    field: &'static str,
) -> Result<Assignment> {
    let mut assignment = Assignment::new();
    for _ in 0..length(reader, record, field)? {
        let topic = TopicId(reader.uuid("topic id")?);
        for _ in 0..length(reader, record, "partitions")? {
            let partition = natural(reader, record, "partition")?;
            assignment.insert(TopicPartition::new(topic, partition));
        }
        reader.skip_tags()?;
    }
    Ok(assignment)
}

fn put_partitions(writer: &mut Writer, assignment: &Assignment) {
    writer.compact_array_length(Some(assignment.topics().len()));
    for (topic, partitions) in assignment.topics() {
        writer.uuid(topic.0);
        writer.compact_array_length(Some(partitions.len()));
        for partition in partitions {
            writer.i32(*partition);
        }
        writer.tags(Vec::new());
    }
}

pub(super) fn encode_group(group: &GroupMetadata) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    writer.i32(group.epoch);
    let mut tags = Vec::new();
    if group.metadata_hash != 0 {
        let mut hash = Writer::new();
        hash.i64(group.metadata_hash);
        tags.push((0, hash));
    }
    writer.tags(tags);
    writer.finish()
}

pub(super) fn decode_group(bytes: &[u8]) -> Result<GroupMetadata> {
    let record = "ConsumerGroupMetadata";
    let mut reader = open(record, bytes)?;
    let epoch = natural(&mut reader, record, "epoch")?;
    let mut metadata_hash = 0;
    reader.tags(|tag, field| {
        if tag == 0 {
            metadata_hash = field.i64("metadata hash")?;
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(GroupMetadata {
        epoch,
        metadata_hash,
    })
}

pub(super) fn encode_topics(topics: &[TopicMetadata]) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    writer.compact_array_length(Some(topics.len()));
    for topic in topics {
        writer.uuid(topic.id.0);
        writer.compact_string(&topic.name);
        writer.i32(topic.partitions);
        writer.compact_array_length(Some(topic.racks.len()));
        for (partition, racks) in &topic.racks {
            writer.i32(*partition);
            put_names(&mut writer, racks.iter());
            writer.tags(Vec::new());
        }
        writer.tags(Vec::new());
    }
    writer.tags(Vec::new());
    writer.finish()
}

pub(super) fn decode_topics(bytes: &[u8]) -> Result<Vec<TopicMetadata>> {
    let record = "ConsumerGroupPartitionMetadata";
    let mut reader = open(record, bytes)?;
    let mut topics = Vec::new();
    for _ in 0..length(&mut reader, record, "topics")? {
        let id = TopicId(reader.uuid("topic id")?);
        let name = reader.compact_string("topic name")?.into();
        let partitions = natural(&mut reader, record, "number of partitions")?;
        let mut racks = Vec::new();
        for _ in 0..length(&mut reader, record, "partition metadata")? {
            let partition = natural(&mut reader, record, "partition")?;
            let names = (0..length(&mut reader, record, "racks")?)
                .map(|_| reader.compact_string("rack").map(Name::from))
                .collect::<Result<_>>()?;
            reader.skip_tags()?;
            racks.push((partition, names));
        }
        reader.skip_tags()?;
        topics.push(TopicMetadata {
            id,
            name,
            partitions,
            racks,
        });
    }
    close(reader)?;
    Ok(topics)
}

pub(super) fn encode_member(member: &MemberMetadata) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    writer.compact_nullable_string(member.instance_id.as_deref());
    writer.compact_nullable_string(member.rack_id.as_deref());
    writer.compact_string(&member.client_id);
    writer.compact_string(&member.client_host);
    put_names(&mut writer, member.topics.iter());
    writer.compact_nullable_string(member.regex.as_deref());
    writer.i32(member.rebalance_timeout_ms);
    writer.compact_nullable_string(member.assignor.as_deref());
    let tags = member
        .classic
        .iter()
        .map(|classic| (0, classic_tag(classic)));
    writer.tags(tags.collect());
    writer.finish()
}

/// A nullable structure: a byte that says whether it is there, then its fields.
fn classic_tag(classic: &ClassicMember) -> Writer {
    let mut writer = Writer::new();
    writer.i8(1);
    writer.i32(classic.session_timeout_ms);
    writer.compact_array_length(Some(classic.protocols.len()));
    for (name, metadata) in &classic.protocols {
        writer.compact_string(name);
        writer.compact_bytes(metadata);
        writer.tags(Vec::new());
    }
    writer.tags(Vec::new());
    writer
}

fn decode_classic(reader: &mut Reader<'_>, record: &'static str) -> Result<Option<ClassicMember>> {
    if reader.i8("classic member")? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = reader.i32("session timeout")?;
    let mut protocols = Vec::new();
    for _ in 0..length(reader, record, "supported protocols")? {
        let name = reader.compact_string("protocol name")?.into();
        let metadata = Bytes::copy_from_slice(reader.compact_bytes("protocol metadata")?);
        reader.skip_tags()?;
        protocols.push((name, metadata));
    }
    reader.skip_tags()?;
    Ok(Some(ClassicMember {
        session_timeout_ms,
        protocols,
    }))
}

pub(super) fn decode_member(bytes: &[u8]) -> Result<MemberMetadata> {
    let record = "ConsumerGroupMemberMetadata";
    let mut reader = open(record, bytes)?;
    let mut member = MemberMetadata {
        instance_id: nullable(&mut reader, "instance id")?,
        rack_id: nullable(&mut reader, "rack id")?,
        client_id: reader.compact_string("client id")?.into(),
        client_host: reader.compact_string("client host")?.into(),
        topics: names(&mut reader, record, "subscribed topics")?,
        regex: nullable(&mut reader, "subscribed regular expression")?,
        rebalance_timeout_ms: reader.i32("rebalance timeout")?,
        assignor: nullable(&mut reader, "assignor")?,
        classic: None,
    };
    reader.tags(|tag, field| {
        if tag == 0 {
            member.classic = decode_classic(field, record)?;
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(member)
}

pub(super) fn encode_target_epoch(epoch: i32) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    writer.i32(epoch);
    writer.tags(Vec::new());
    writer.finish()
}

pub(super) fn decode_target_epoch(bytes: &[u8]) -> Result<i32> {
    let record = "ConsumerGroupTargetAssignmentMetadata";
    let mut reader = open(record, bytes)?;
    let epoch = natural(&mut reader, record, "assignment epoch")?;
    close(reader)?;
    Ok(epoch)
}

pub(super) fn encode_target(target: &Assignment) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    put_partitions(&mut writer, target);
    writer.tags(Vec::new());
    writer.finish()
}

pub(super) fn decode_target(bytes: &[u8]) -> Result<Assignment> {
    let record = "ConsumerGroupTargetAssignmentMember";
    let mut reader = open(record, bytes)?;
    let target = partitions(&mut reader, record, "topic partitions")?;
    close(reader)?;
    Ok(target)
}

pub(super) fn encode_current(current: &CurrentAssignment) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    writer.i32(current.epoch);
    writer.i32(current.previous_epoch);
    writer.i8(match current.state {
        MemberState::Stable => 1,
        MemberState::UnrevokedPartitions => 2,
        MemberState::UnreleasedPartitions => 3,
        MemberState::Unknown => 127,
    });
    put_partitions(&mut writer, &current.assigned);
    put_partitions(&mut writer, &current.revoking);
    writer.tags(Vec::new());
    writer.finish()
}

pub(super) fn decode_current(bytes: &[u8]) -> Result<CurrentAssignment> {
    let record = "ConsumerGroupCurrentMemberAssignment";
    let mut reader = open(record, bytes)?;
    let current = CurrentAssignment {
        epoch: reader.i32("member epoch")?,
        previous_epoch: reader.i32("previous member epoch")?,
        state: match reader.i8("state")? {
            1 => MemberState::Stable,
            2 => MemberState::UnrevokedPartitions,
            3 => MemberState::UnreleasedPartitions,
            // A state of a later version: the member is made to begin again.
            _ => MemberState::Unknown,
        },
        assigned: partitions(&mut reader, record, "assigned partitions")?,
        revoking: partitions(&mut reader, record, "partitions pending revocation")?,
    };
    close(reader)?;
    Ok(current)
}

pub(super) fn encode_regex(regex: &ResolvedRegex) -> Bytes {
    let mut writer = Writer::versioned(VERSION);
    put_names(&mut writer, regex.topics.iter());
    writer.i64(regex.version);
    writer.i64(regex.timestamp_ms);
    writer.tags(Vec::new());
    writer.finish()
}

pub(super) fn decode_regex(bytes: &[u8]) -> Result<ResolvedRegex> {
    let record = "ConsumerGroupRegularExpression";
    let mut reader = open(record, bytes)?;
    let regex = ResolvedRegex {
        topics: names(&mut reader, record, "topics")?,
        version: reader.i64("version")?,
        timestamp_ms: reader.i64("timestamp")?,
    };
    close(reader)?;
    Ok(regex)
}
