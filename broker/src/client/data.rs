//! Records to and from a partition's leader.

use bytes::Bytes;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{FetchRequest, ProduceRequest, StrBytes};
use protocol::{ApiKey, Batches, Record, Response};

use super::cluster::{Cluster, PartitionInfo, wrong};
use super::error::Error;

/// Highest version of Produce and Fetch that names topics rather than their ids.
const BY_NAME: i16 = 12;
/// Most bytes that one batch may decompress to.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// What a fetch brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches, back to back; the first may begin before what was asked.
    pub records: Bytes,
    /// Up to here consumers may read.
    pub high_watermark: i64,
    /// First readable offset.
    pub log_start: i64,
}

/// Bounds of one fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Longest wait for the first byte, milliseconds.
    pub max_wait_ms: i32,
    /// Most bytes, but for a first batch that is larger.
    pub max_bytes: i32,
}

impl Cluster {
    /// Sends one batch to its leader with acks=all and gives the offset of its first record.
    ///
    /// # Errors
    /// The leader's refusal, or those of a call: after these the outcome is unknown.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: PartitionInfo,
        batch: Bytes,
        timeout_ms: i32,
    ) -> Result<i64, Error> {
        let data = PartitionProduceData::default()
            .with_index(partition.partition)
            .with_records(Some(batch));
        let name = StrBytes::from_string(topic.to_owned());
        let topics = TopicProduceData::default()
            .with_name(name.into())
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(vec![topics]);
        let answer = self.call_node(partition.leader, request, BY_NAME).await?;
        let Response::Produce(answer) = answer else {
            return Err(wrong(ApiKey::Produce));
        };
        let result = answer
            .responses
            .first()
            .and_then(|t| t.partition_responses.first());
        let result = result.ok_or_else(|| wrong(ApiKey::Produce))?;
        let what = format!("produce to {topic}-{}", partition.partition);
        Error::check(&what, result.error_code, result.error_message.as_deref())?;
        Ok(result.base_offset)
    }

    /// Reads from `offset` on, at the partition's leader epoch; -1 there means any.
    ///
    /// # Errors
    /// The leader's refusal (`OFFSET_OUT_OF_RANGE`, …), or those of a call.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: PartitionInfo,
        offset: i64,
        limits: FetchLimits,
    ) -> Result<Fetched, Error> {
        let asked = FetchPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(partition.leader_epoch)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(limits.max_bytes);
        let name = StrBytes::from_string(topic.to_owned());
        let topics = FetchTopic::default()
            .with_topic(name.into())
            .with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(limits.max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(limits.max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![topics]);
        let answer = self.call_node(partition.leader, request, BY_NAME).await?;
        let Response::Fetch(answer) = answer else {
            return Err(wrong(ApiKey::Fetch));
        };
        Error::check("fetch", answer.error_code, None)?;
        let found = answer.responses.into_iter().next();
        let found = found.and_then(|t| t.partitions.into_iter().next());
        let found = found.ok_or_else(|| wrong(ApiKey::Fetch))?;
        let what = format!("fetch from {topic}-{} at {offset}", partition.partition);
        Error::check(&what, found.error_code, None)?;
        Ok(Fetched {
            records: found.records.unwrap_or_default().to_bytes(),
            high_watermark: found.high_watermark,
            log_start: found.log_start_offset,
        })
    }
}

impl Fetched {
    /// Calls `each` with every record from `offset` on, control records left out, and gives the
    /// offset to fetch next.
    ///
    /// # Errors
    /// When a batch does not keep its own promises (checksum, lengths).
    pub fn for_each(
        &self,
        offset: i64,
        mut each: impl FnMut(&Record<'_>),
    ) -> Result<i64, protocol::Error> {
        let mut next = offset;
        for batch in Batches::new(&self.records) {
            let batch = batch?;
            batch.validate()?;
            next = next.max(batch.next_offset());
            if batch.is_control() {
                continue;
            }
            let payload = batch.decompress(MAX_BATCH_BYTES)?;
            for record in batch.records(&payload) {
                let record = record?;
                if record.offset >= offset {
                    each(&record);
                }
            }
        }
        Ok(next)
    }
}
