//! DescribeLogDirsResponse, versions 1-5. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{StrBytes, TopicName};

/// Versions 1-5.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DescribeLogDirsResponse {
    /// From version 1 to 5.
    pub throttle_time_ms: i32,
    /// From version 3 to 5.
    pub error_code: i16,
    /// From version 1 to 5.
    pub results: Vec<DescribeLogDirsResult>,
}

impl DescribeLogDirsResponse {
    setters! {
        with_throttle_time_ms throttle_time_ms: i32;
        with_error_code error_code: i16;
        with_results results: Vec<DescribeLogDirsResult>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.throttle_time_ms = reader.i32()?;
        if version >= 3 {
            this.error_code = reader.i16()?;
        }
        this.results = reader.array(flexible, |reader| {
            DescribeLogDirsResult::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.i32(self.throttle_time_ms);
        if version >= 3 {
            writer.i16(self.error_code);
        }
        writer.array_len(Some(self.results.len()), flexible)?;
        for item in &self.results {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for DescribeLogDirsResponse {
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

/// Versions 1-5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DescribeLogDirsResult {
    /// From version 1 to 5.
    pub error_code: i16,
    /// From version 1 to 5.
    pub log_dir: StrBytes,
    /// From version 1 to 5.
    pub topics: Vec<DescribeLogDirsTopic>,
    /// From version 4 to 5.
    pub total_bytes: i64,
    /// From version 4 to 5.
    pub usable_bytes: i64,
    /// From version 5 to 5.
    pub is_cordoned: bool,
}

impl Default for DescribeLogDirsResult {
    fn default() -> Self {
        Self {
            error_code: Default::default(),
            log_dir: Default::default(),
            topics: Default::default(),
            total_bytes: -1,
            usable_bytes: -1,
            is_cordoned: false,
        }
    }
}

impl DescribeLogDirsResult {
    setters! {
        with_error_code error_code: i16;
        with_log_dir log_dir: StrBytes;
        with_topics topics: Vec<DescribeLogDirsTopic>;
        with_total_bytes total_bytes: i64;
        with_usable_bytes usable_bytes: i64;
        with_is_cordoned is_cordoned: bool;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.error_code = reader.i16()?;
        this.log_dir = reader.string(flexible)?;
        this.topics = reader.array(flexible, |reader| {
            DescribeLogDirsTopic::read_from(reader, version)
        })?;
        if version >= 4 {
            this.total_bytes = reader.i64()?;
        }
        if version >= 4 {
            this.usable_bytes = reader.i64()?;
        }
        if version >= 5 {
            this.is_cordoned = reader.bool()?;
        }
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.i16(self.error_code);
        writer.nullable_string(Some(&self.log_dir), flexible)?;
        writer.array_len(Some(self.topics.len()), flexible)?;
        for item in &self.topics {
            item.write_to(writer, version)?;
        }
        if version >= 4 {
            writer.i64(self.total_bytes);
        }
        if version >= 4 {
            writer.i64(self.usable_bytes);
        }
        if version >= 5 {
            writer.bool(self.is_cordoned);
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 1-5.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DescribeLogDirsTopic {
    /// From version 1 to 5.
    pub name: TopicName,
    /// From version 1 to 5.
    pub partitions: Vec<DescribeLogDirsPartition>,
}

impl DescribeLogDirsTopic {
    setters! {
        with_name name: TopicName;
        with_partitions partitions: Vec<DescribeLogDirsPartition>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.name = TopicName(reader.string(flexible)?);
        this.partitions = reader.array(flexible, |reader| {
            DescribeLogDirsPartition::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.nullable_string(Some(&self.name), flexible)?;
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

/// Versions 1-5.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DescribeLogDirsPartition {
    /// From version 1 to 5.
    pub partition_index: i32,
    /// From version 1 to 5.
    pub partition_size: i64,
    /// From version 1 to 5.
    pub offset_lag: i64,
    /// From version 1 to 5.
    pub is_future_key: bool,
}

impl DescribeLogDirsPartition {
    setters! {
        with_partition_index partition_index: i32;
        with_partition_size partition_size: i64;
        with_offset_lag offset_lag: i64;
        with_is_future_key is_future_key: bool;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.partition_index = reader.i32()?;
        this.partition_size = reader.i64()?;
        this.offset_lag = reader.i64()?;
        this.is_future_key = reader.bool()?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.i32(self.partition_index);
        writer.i64(self.partition_size);
        writer.i64(self.offset_lag);
        writer.bool(self.is_future_key);
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
