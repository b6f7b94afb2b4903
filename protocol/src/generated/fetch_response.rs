//! FetchResponse, versions 4-18. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;
use uuid::Uuid;

use crate::codec::segments::{Tagged, Writer};
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{BrokerId, ProducerId, StrBytes, TopicName};
use crate::records::Records;

/// Versions 4-18.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FetchResponse {
    /// From version 4 to 18.
    pub throttle_time_ms: i32,
    /// From version 7 to 18.
    pub error_code: i16,
    /// From version 7 to 18.
    pub session_id: i32,
    /// From version 4 to 18.
    pub responses: Vec<FetchableTopicResponse>,
    /// From version 16 to 18; tag 0.
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl FetchResponse {
    setters! {
        with_throttle_time_ms throttle_time_ms: i32;
        with_error_code error_code: i16;
        with_session_id session_id: i32;
        with_responses responses: Vec<FetchableTopicResponse>;
        with_node_endpoints node_endpoints: Vec<NodeEndpoint>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 12;
        this.throttle_time_ms = reader.i32()?;
        if version >= 7 {
            this.error_code = reader.i16()?;
        }
        if version >= 7 {
            this.session_id = reader.i32()?;
        }
        this.responses = reader.array(flexible, |reader| {
            FetchableTopicResponse::read_from(reader, version)
        })?;
        if flexible {
            reader.tagged(|tag, reader| {
                match tag {
                    0 if version >= 16 => {
                        this.node_endpoints = reader
                            .array(flexible, |reader| NodeEndpoint::read_from(reader, version))?
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 12;
        let mut tagged = Tagged::default();
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error_code);
        }
        if version >= 7 {
            writer.i32(self.session_id);
        } else if self.session_id != 0 {
            return Err("session_id is set where the version has no such field".into());
        }
        writer.array_len(Some(self.responses.len()), flexible)?;
        for item in &self.responses {
            item.write_to(writer, version)?;
        }
        if version >= 16 {
            if self.node_endpoints != <Vec<NodeEndpoint>>::default() {
                let writer = tagged.field(0);
                writer.array_len(Some(self.node_endpoints.len()), flexible)?;
                for item in &self.node_endpoints {
                    item.write_to(writer, version)?;
                }
            }
        } else if self.node_endpoints != <Vec<NodeEndpoint>>::default() {
            return Err("node_endpoints is set where the version has no such field".into());
        }
        if flexible {
            writer.tagged(tagged)?;
        }
        Ok(())
    }
}

impl Wire for FetchResponse {
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

/// Versions 4-18.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FetchableTopicResponse {
    /// From version 4 to 12.
    pub topic: TopicName,
    /// From version 13 to 18.
    pub topic_id: Uuid,
    /// From version 4 to 18.
    pub partitions: Vec<PartitionData>,
}

impl FetchableTopicResponse {
    setters! {
        with_topic topic: TopicName;
        with_topic_id topic_id: Uuid;
        with_partitions partitions: Vec<PartitionData>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 12;
        if version <= 12 {
            this.topic = TopicName(reader.string(flexible)?);
        }
        if version >= 13 {
            this.topic_id = reader.uuid()?;
        }
        this.partitions =
            reader.array(flexible, |reader| PartitionData::read_from(reader, version))?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 12;
        if version <= 12 {
            writer.nullable_string(Some(&self.topic), flexible)?;
        }
        if version >= 13 {
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

/// Versions 4-18.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartitionData {
    /// From version 4 to 18.
    pub partition_index: i32,
    /// From version 4 to 18.
    pub error_code: i16,
    /// From version 4 to 18.
    pub high_watermark: i64,
    /// From version 4 to 18.
    pub last_stable_offset: i64,
    /// From version 5 to 18.
    pub log_start_offset: i64,
    /// From version 12 to 18; tag 0.
    pub diverging_epoch: EpochEndOffset,
    /// From version 12 to 18; tag 1.
    pub current_leader: LeaderIdAndEpoch,
    /// From version 12 to 18; tag 2.
    pub snapshot_id: SnapshotId,
    /// From version 4 to 18.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// From version 11 to 18.
    pub preferred_read_replica: BrokerId,
    /// From version 4 to 18.
    pub records: Option<Records>,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: Default::default(),
            error_code: Default::default(),
            high_watermark: Default::default(),
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: Default::default(),
            current_leader: Default::default(),
            snapshot_id: Default::default(),
            aborted_transactions: Some(Default::default()),
            preferred_read_replica: BrokerId(-1),
            records: Some(Default::default()),
        }
    }
}

impl PartitionData {
    setters! {
        with_partition_index partition_index: i32;
        with_error_code error_code: i16;
        with_high_watermark high_watermark: i64;
        with_last_stable_offset last_stable_offset: i64;
        with_log_start_offset log_start_offset: i64;
        with_diverging_epoch diverging_epoch: EpochEndOffset;
        with_current_leader current_leader: LeaderIdAndEpoch;
        with_snapshot_id snapshot_id: SnapshotId;
        with_aborted_transactions aborted_transactions: Option<Vec<AbortedTransaction>>;
        with_preferred_read_replica preferred_read_replica: BrokerId;
        with_records records: Option<Records>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 12;
        this.partition_index = reader.i32()?;
        this.error_code = reader.i16()?;
        this.high_watermark = reader.i64()?;
        this.last_stable_offset = reader.i64()?;
        if version >= 5 {
            this.log_start_offset = reader.i64()?;
        }
        this.aborted_transactions = reader.nullable_array(flexible, |reader| {
            AbortedTransaction::read_from(reader, version)
        })?;
        if version >= 11 {
            this.preferred_read_replica = BrokerId(reader.i32()?);
        }
        this.records = reader.nullable_bytes(flexible)?.map(Records::from);
        if flexible {
            reader.tagged(|tag, reader| {
                match tag {
                    0 if version >= 12 => {
                        this.diverging_epoch = EpochEndOffset::read_from(reader, version)?
                    }
                    1 if version >= 12 => {
                        this.current_leader = LeaderIdAndEpoch::read_from(reader, version)?
                    }
                    2 if version >= 12 => {
                        this.snapshot_id = SnapshotId::read_from(reader, version)?
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 12;
        let mut tagged = Tagged::default();
        writer.i32(self.partition_index);
        writer.i16(self.error_code);
        writer.i64(self.high_watermark);
        writer.i64(self.last_stable_offset);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        writer.array_len(self.aborted_transactions.as_ref().map(Vec::len), flexible)?;
        for item in self.aborted_transactions.iter().flatten() {
            item.write_to(writer, version)?;
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica.0);
        } else if self.preferred_read_replica != BrokerId(-1) {
            return Err("preferred_read_replica is set where the version has no such field".into());
        }
        writer.nullable_bytes(self.records.as_ref().map(Records::parts), flexible)?;
        if version >= 12 {
            if self.diverging_epoch != <EpochEndOffset>::default() {
                let writer = tagged.field(0);
                self.diverging_epoch.write_to(writer, version)?;
            }
        } else if self.diverging_epoch != <EpochEndOffset>::default() {
            return Err("diverging_epoch is set where the version has no such field".into());
        }
        if version >= 12 {
            if self.current_leader != <LeaderIdAndEpoch>::default() {
                let writer = tagged.field(1);
                self.current_leader.write_to(writer, version)?;
            }
        } else if self.current_leader != <LeaderIdAndEpoch>::default() {
            return Err("current_leader is set where the version has no such field".into());
        }
        if version >= 12 {
            if self.snapshot_id != <SnapshotId>::default() {
                let writer = tagged.field(2);
                self.snapshot_id.write_to(writer, version)?;
            }
        } else if self.snapshot_id != <SnapshotId>::default() {
            return Err("snapshot_id is set where the version has no such field".into());
        }
        if flexible {
            writer.tagged(tagged)?;
        }
        Ok(())
    }
}

/// Versions 12-18.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EpochEndOffset {
    /// From version 12 to 18.
    pub epoch: i32,
    /// From version 12 to 18.
    pub end_offset: i64,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self {
            epoch: -1,
            end_offset: -1,
        }
    }
}

impl EpochEndOffset {
    setters! {
        with_epoch epoch: i32;
        with_end_offset end_offset: i64;
    }

    fn read_from(reader: &mut Reader, _version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        this.epoch = reader.i32()?;
        this.end_offset = reader.i64()?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, _version: i16) -> Result<(), Source> {
        let flexible = true;
        writer.i32(self.epoch);
        writer.i64(self.end_offset);
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 12-18.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LeaderIdAndEpoch {
    /// From version 12 to 18.
    pub leader_id: BrokerId,
    /// From version 12 to 18.
    pub leader_epoch: i32,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        Self {
            leader_id: BrokerId(-1),
            leader_epoch: -1,
        }
    }
}

impl LeaderIdAndEpoch {
    setters! {
        with_leader_id leader_id: BrokerId;
        with_leader_epoch leader_epoch: i32;
    }

    fn read_from(reader: &mut Reader, _version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        this.leader_id = BrokerId(reader.i32()?);
        this.leader_epoch = reader.i32()?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, _version: i16) -> Result<(), Source> {
        let flexible = true;
        writer.i32(self.leader_id.0);
        writer.i32(self.leader_epoch);
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 12-18.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SnapshotId {
    /// From version 12 to 18.
    pub end_offset: i64,
    /// From version 12 to 18.
    pub epoch: i32,
}

impl Default for SnapshotId {
    fn default() -> Self {
        Self {
            end_offset: -1,
            epoch: -1,
        }
    }
}

impl SnapshotId {
    setters! {
        with_end_offset end_offset: i64;
        with_epoch epoch: i32;
    }

    fn read_from(reader: &mut Reader, _version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        this.end_offset = reader.i64()?;
        this.epoch = reader.i32()?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, _version: i16) -> Result<(), Source> {
        let flexible = true;
        writer.i64(self.end_offset);
        writer.i32(self.epoch);
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 4-18.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AbortedTransaction {
    /// From version 4 to 18.
    pub producer_id: ProducerId,
    /// From version 4 to 18.
    pub first_offset: i64,
}

impl AbortedTransaction {
    setters! {
        with_producer_id producer_id: ProducerId;
        with_first_offset first_offset: i64;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 12;
        this.producer_id = ProducerId(reader.i64()?);
        this.first_offset = reader.i64()?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 12;
        writer.i64(self.producer_id.0);
        writer.i64(self.first_offset);
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

/// Versions 16-18.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NodeEndpoint {
    /// From version 16 to 18.
    pub node_id: BrokerId,
    /// From version 16 to 18.
    pub host: StrBytes,
    /// From version 16 to 18.
    pub port: i32,
    /// From version 16 to 18.
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    setters! {
        with_node_id node_id: BrokerId;
        with_host host: StrBytes;
        with_port port: i32;
        with_rack rack: Option<StrBytes>;
    }

    fn read_from(reader: &mut Reader, _version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = true;
        this.node_id = BrokerId(reader.i32()?);
        this.host = reader.string(flexible)?;
        this.port = reader.i32()?;
        this.rack = reader.nullable_string(flexible)?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, _version: i16) -> Result<(), Source> {
        let flexible = true;
        writer.i32(self.node_id.0);
        writer.nullable_string(Some(&self.host), flexible)?;
        writer.i32(self.port);
        writer.nullable_string(self.rack.as_deref(), flexible)?;
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
