//! ProduceRequest, versions 3-13. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{TopicName, TransactionalId};

/// Versions 3-13.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ProduceRequest {
    /// From version 3 to 13.
    pub transactional_id: Option<TransactionalId>,
    /// From version 3 to 13.
    pub acks: i16,
    /// From version 3 to 13.
    pub timeout_ms: i32,
    /// From version 3 to 13.
    pub topic_data: Vec<TopicProduceData>,
}

impl ProduceRequest {
    setters! {
        with_transactional_id transactional_id: Option<TransactionalId>;
        with_acks acks: i16;
        with_timeout_ms timeout_ms: i32;
        with_topic_data topic_data: Vec<TopicProduceData>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 9;
        this.transactional_id = reader.nullable_string(flexible)?.map(TransactionalId);
        this.acks = reader.i16()?;
        this.timeout_ms = reader.i32()?;
        this.topic_data = reader.array(flexible, |reader| {
            TopicProduceData::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 9;
        writer.nullable_string(
            self.transactional_id.as_deref().map(|value| &**value),
            flexible,
        )?;
        writer.i16(self.acks);
        writer.i32(self.timeout_ms);
        writer.array_len(Some(self.topic_data.len()), flexible)?;
        for item in &self.topic_data {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for ProduceRequest {
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

/// Versions 3-13.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TopicProduceData {
    /// From version 3 to 12.
    pub name: TopicName,
    /// From version 13 to 13.
    pub topic_id: Uuid,
    /// From version 3 to 13.
    pub partition_data: Vec<PartitionProduceData>,
}

impl TopicProduceData {
    setters! {
        with_name name: TopicName;
        with_topic_id topic_id: Uuid;
        with_partition_data partition_data: Vec<PartitionProduceData>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 9;
        if version <= 12 {
            this.name = TopicName(reader.string(flexible)?);
        }
        if version >= 13 {
            this.topic_id = reader.uuid()?;
        }
        this.partition_data = reader.array(flexible, |reader| {
            PartitionProduceData::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 9;
        if version <= 12 {
            writer.nullable_string(Some(&self.name), flexible)?;
        }
        if version >= 13 {
            writer.uuid(self.topic_id);
        }
        writer.array_len(Some(self.partition_data.len()), flexible)?;
        for item in &self.partition_data {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 3-13.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartitionProduceData {
    /// From version 3 to 13.
    pub index: i32,
    /// From version 3 to 13.
    pub records: Option<Bytes>,
}

impl Default for PartitionProduceData {
    fn default() -> Self {
        Self {
            index: Default::default(),
            records: Some(Default::default()),
        }
    }
}

impl PartitionProduceData {
    setters! {
        with_index index: i32;
        with_records records: Option<Bytes>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 9;
        this.index = reader.i32()?;
        this.records = reader.nullable_bytes(flexible)?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 9;
        writer.i32(self.index);
        writer.nullable_bytes(self.records.as_ref().map(std::slice::from_ref), flexible)?;
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
