//! OffsetCommitRequest, versions 2-10. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{GroupId, StrBytes, TopicName};

/// Versions 2-10.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OffsetCommitRequest {
    /// From version 2 to 10.
    pub group_id: GroupId,
    /// From version 2 to 10.
    pub generation_id_or_member_epoch: i32,
    /// From version 2 to 10.
    pub member_id: StrBytes,
    /// From version 7 to 10.
    pub group_instance_id: Option<StrBytes>,
    /// From version 2 to 4.
    pub retention_time_ms: i64,
    /// From version 2 to 10.
    pub topics: Vec<OffsetCommitRequestTopic>,
}

impl Default for OffsetCommitRequest {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            generation_id_or_member_epoch: -1,
            member_id: Default::default(),
            group_instance_id: None,
            retention_time_ms: -1,
            topics: Default::default(),
        }
    }
}

impl OffsetCommitRequest {
    setters! {
        with_group_id group_id: GroupId;
        with_generation_id_or_member_epoch generation_id_or_member_epoch: i32;
        with_member_id member_id: StrBytes;
        with_group_instance_id group_instance_id: Option<StrBytes>;
        with_retention_time_ms retention_time_ms: i64;
        with_topics topics: Vec<OffsetCommitRequestTopic>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 8;
        this.group_id = GroupId(reader.string(flexible)?);
        this.generation_id_or_member_epoch = reader.i32()?;
        this.member_id = reader.string(flexible)?;
        if version >= 7 {
            this.group_instance_id = reader.nullable_string(flexible)?;
        }
        if version <= 4 {
            this.retention_time_ms = reader.i64()?;
        }
        this.topics = reader.array(flexible, |reader| {
            OffsetCommitRequestTopic::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 8;
        writer.nullable_string(Some(&self.group_id), flexible)?;
        writer.i32(self.generation_id_or_member_epoch);
        writer.nullable_string(Some(&self.member_id), flexible)?;
        if version >= 7 {
            writer.nullable_string(self.group_instance_id.as_deref(), flexible)?;
        } else if self.group_instance_id.is_some() {
            return Err("group_instance_id is set where the version has no such field".into());
        }
        if version <= 4 {
            writer.i64(self.retention_time_ms);
        }
        writer.array_len(Some(self.topics.len()), flexible)?;
        for item in &self.topics {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for OffsetCommitRequest {
    fn read(body: Bytes, version: i16) -> Result<Self, Source> {
        let mut reader = Reader::new(body, 0);
        let message = Self::read_from(&mut reader, version)?;
        reader.end_of_message()?;
        Ok(message)
    }

    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        self.write_to(writer, version)
    }
}

/// Versions 2-10.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OffsetCommitRequestTopic {
    /// From version 2 to 9.
    pub name: TopicName,
    /// From version 10 to 10.
    pub topic_id: Uuid,
    /// From version 2 to 10.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

impl OffsetCommitRequestTopic {
    setters! {
        with_name name: TopicName;
        with_topic_id topic_id: Uuid;
        with_partitions partitions: Vec<OffsetCommitRequestPartition>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 8;
        if version <= 9 {
            this.name = TopicName(reader.string(flexible)?);
        }
        if version >= 10 {
            this.topic_id = reader.uuid()?;
        }
        this.partitions = reader.array(flexible, |reader| {
            OffsetCommitRequestPartition::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 8;
        if version <= 9 {
            writer.nullable_string(Some(&self.name), flexible)?;
        }
        if version >= 10 {
            writer.uuid(self.topic_id);
        }
        writer.array_len(Some(self.partitions.len()), flexible)?;
        for item in &self.partitions {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 2-10.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OffsetCommitRequestPartition {
    /// From version 2 to 10.
    pub partition_index: i32,
    /// From version 2 to 10.
    pub committed_offset: i64,
    /// From version 6 to 10.
    pub committed_leader_epoch: i32,
    /// From version 2 to 10.
    pub committed_metadata: Option<StrBytes>,
}

impl Default for OffsetCommitRequestPartition {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            committed_offset: Default::default(),
            committed_leader_epoch: -1,
            committed_metadata: Some(Default::default()),
        }
    }
}

impl OffsetCommitRequestPartition {
    setters! {
        with_partition_index partition_index: i32;
        with_committed_offset committed_offset: i64;
        with_committed_leader_epoch committed_leader_epoch: i32;
        with_committed_metadata committed_metadata: Option<StrBytes>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 8;
        this.partition_index = reader.i32()?;
        this.committed_offset = reader.i64()?;
        if version >= 6 {
            this.committed_leader_epoch = reader.i32()?;
        }
        this.committed_metadata = reader.nullable_string(flexible)?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 8;
        writer.i32(self.partition_index);
        writer.i64(self.committed_offset);
        if version >= 6 {
            writer.i32(self.committed_leader_epoch);
        }
        writer.nullable_string(self.committed_metadata.as_deref(), flexible)?;
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
