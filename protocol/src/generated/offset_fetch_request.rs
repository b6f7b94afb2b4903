//! OffsetFetchRequest, versions 1-10. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{GroupId, StrBytes, TopicName};

/// Versions 1-10.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OffsetFetchRequest {
    /// From version 1 to 7.
    pub group_id: GroupId,
    /// From version 1 to 7.
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// From version 8 to 10.
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// From version 7 to 10.
    pub require_stable: bool,
}

impl Default for OffsetFetchRequest {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            topics: Some(Default::default()),
            groups: Default::default(),
            require_stable: false,
        }
    }
}

impl OffsetFetchRequest {
    setters! {
        with_group_id group_id: GroupId;
        with_topics topics: Option<Vec<OffsetFetchRequestTopic>>;
        with_groups groups: Vec<OffsetFetchRequestGroup>;
        with_require_stable require_stable: bool;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 6;
        if version <= 7 {
            this.group_id = GroupId(reader.string(flexible)?);
        }
        if version <= 7 {
            this.topics = reader.nullable_array(flexible, |reader| {
                OffsetFetchRequestTopic::read_from(reader, version)
            })?;
        }
        if version >= 8 {
            this.groups = reader.array(flexible, |reader| {
                OffsetFetchRequestGroup::read_from(reader, version)
            })?;
        }
        if version >= 7 {
            this.require_stable = reader.bool()?;
        }
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 6;
        if version <= 7 {
            writer.nullable_string(Some(&self.group_id), flexible)?;
        } else if self.group_id != <GroupId>::default() {
            return Err("group_id is set where the version has no such field".into());
        }
        if version <= 7 {
            if self.topics.is_none() && version < 2 {
                return Err("topics may not be null in this version".into());
            }
            writer.array_len(self.topics.as_ref().map(Vec::len), flexible)?;
            for item in self.topics.iter().flatten() {
                item.write_to(writer, version)?;
            }
        } else if self.topics != Some(Default::default()) {
            return Err("topics is set where the version has no such field".into());
        }
        if version >= 8 {
            writer.array_len(Some(self.groups.len()), flexible)?;
            for item in &self.groups {
                item.write_to(writer, version)?;
            }
        } else if self.groups != <Vec<OffsetFetchRequestGroup>>::default() {
            return Err("groups is set where the version has no such field".into());
        }
        if version >= 7 {
            writer.bool(self.require_stable);
        } else if self.require_stable {
            return Err("require_stable is set where the version has no such field".into());
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for OffsetFetchRequest {
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

/// Versions 1-7.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OffsetFetchRequestTopic {
    /// From version 1 to 7.
    pub name: TopicName,
    /// From version 1 to 7.
    pub partition_indexes: Vec<i32>,
}

impl OffsetFetchRequestTopic {
    setters! {
        with_name name: TopicName;
        with_partition_indexes partition_indexes: Vec<i32>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 6;
        this.name = TopicName(reader.string(flexible)?);
        this.partition_indexes = reader.array(flexible, |reader| reader.i32())?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 6;
        writer.nullable_string(Some(&self.name), flexible)?;
        writer.array_len(Some(self.partition_indexes.len()), flexible)?;
        for item in &self.partition_indexes {
            writer.i32(*item);
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 8-10.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OffsetFetchRequestGroup {
    /// From version 8 to 10.
    pub group_id: GroupId,
    /// From version 9 to 10.
    pub member_id: Option<StrBytes>,
    /// From version 9 to 10.
    pub member_epoch: i32,
    /// From version 8 to 10.
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> Self {
        Self {
            group_id: Default::default(),
            member_id: None,
            member_epoch: -1,
            topics: Some(Default::default()),
        }
    }
}

impl OffsetFetchRequestGroup {
    setters! {
        with_group_id group_id: GroupId;
        with_member_id member_id: Option<StrBytes>;
        with_member_epoch member_epoch: i32;
        with_topics topics: Option<Vec<OffsetFetchRequestTopics>>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        this.group_id = GroupId(reader.string(flexible)?);
        if version >= 9 {
            this.member_id = reader.nullable_string(flexible)?;
        }
        if version >= 9 {
            this.member_epoch = reader.i32()?;
        }
        this.topics = reader.nullable_array(flexible, |reader| {
            OffsetFetchRequestTopics::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = true;
        writer.nullable_string(Some(&self.group_id), flexible)?;
        if version >= 9 {
            writer.nullable_string(self.member_id.as_deref(), flexible)?;
        }
        if version >= 9 {
            writer.i32(self.member_epoch);
        }
        writer.array_len(self.topics.as_ref().map(Vec::len), flexible)?;
        for item in self.topics.iter().flatten() {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 8-10.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OffsetFetchRequestTopics {
    /// From version 8 to 9.
    pub name: TopicName,
    /// From version 10 to 10.
    pub topic_id: Uuid,
    /// From version 8 to 10.
    pub partition_indexes: Vec<i32>,
}

impl OffsetFetchRequestTopics {
    setters! {
        with_name name: TopicName;
        with_topic_id topic_id: Uuid;
        with_partition_indexes partition_indexes: Vec<i32>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        if version <= 9 {
            this.name = TopicName(reader.string(flexible)?);
        }
        if version >= 10 {
            this.topic_id = reader.uuid()?;
        }
        this.partition_indexes = reader.array(flexible, |reader| reader.i32())?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = true;
        if version <= 9 {
            writer.nullable_string(Some(&self.name), flexible)?;
        }
        if version >= 10 {
            writer.uuid(self.topic_id);
        }
        writer.array_len(Some(self.partition_indexes.len()), flexible)?;
        for item in &self.partition_indexes {
            writer.i32(*item);
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
