//! The index on the wire: prost messages, so that they may grow.
//!
//! Batches are columns of differences, about twelve bytes a batch: a bundle of small batches must
//! not be mostly index.

use bytes::Bytes;
use prost::Message;
use protocol::{LeaderEpoch, ProducerEpoch, ProducerId, TopicId, TopicPartition};

use super::super::Place;
use super::super::limits::SLICE_MAX_BATCHES;
use super::{
    BatchEntry, BlockEntry, Directory, DirectoryEntry, EndedTransaction, Extension, SliceIndex,
};
use crate::Error;
use crate::catalog::Digest;

const TRANSACTIONAL: u32 = 1;
const CONTROL: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct DigestMessage {
    #[prost(uint32, tag = "1")]
    algorithm: u32,
    #[prost(bytes = "vec", tag = "2")]
    bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ExtensionMessage {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "bytes", tag = "3")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct BlockMessage {
    #[prost(uint64, tag = "1")]
    position: u64,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(message, optional, tag = "3")]
    digest: Option<DigestMessage>,
    #[prost(sint64, tag = "4")]
    first_offset: i64,
    #[prost(sint64, tag = "5")]
    max_timestamp_ms: i64,
    #[prost(uint32, tag = "6")]
    batches: u32,
}

/// One value per batch in each column. `gap` is the distance of the base offset from the end of
/// the batch before (from the slice's first offset for the first); `span` that of last from base
/// offset; `sequence_span` that of last from base sequence, wrapping; the others are differences
/// from the batch before, the first from 0.
#[derive(Clone, PartialEq, Message)]
struct BatchColumns {
    #[prost(uint64, repeated, tag = "1")]
    gap: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    span: Vec<u64>,
    #[prost(sint64, repeated, tag = "3")]
    max_timestamp: Vec<i64>,
    #[prost(sint64, repeated, tag = "4")]
    appended_at: Vec<i64>,
    #[prost(sint64, repeated, tag = "5")]
    producer_id: Vec<i64>,
    #[prost(sint32, repeated, tag = "6")]
    producer_epoch: Vec<i32>,
    #[prost(sint32, repeated, tag = "7")]
    base_sequence: Vec<i32>,
    #[prost(sint32, repeated, tag = "8")]
    sequence_span: Vec<i32>,
    #[prost(uint32, repeated, tag = "9")]
    flags: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct EndedMessage {
    #[prost(sint64, tag = "1")]
    producer_id: i64,
    #[prost(sint32, tag = "2")]
    producer_epoch: i32,
    #[prost(sint64, tag = "3")]
    first_offset: i64,
    #[prost(sint64, tag = "4")]
    last_offset: i64,
    #[prost(sint64, tag = "5")]
    last_stable_offset: i64,
    #[prost(bool, tag = "6")]
    committed: bool,
    #[prost(sint32, tag = "7")]
    coordinator_epoch: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SliceMessage {
    #[prost(bytes = "vec", tag = "1")]
    topic_id: Vec<u8>,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(int32, tag = "3")]
    leader_epoch: i32,
    #[prost(sint64, tag = "4")]
    first_offset: i64,
    #[prost(sint64, tag = "5")]
    end_offset: i64,
    #[prost(sint64, tag = "6")]
    max_timestamp_ms: i64,
    #[prost(sint64, tag = "7")]
    first_appended_at_ms: i64,
    #[prost(sint64, tag = "8")]
    last_appended_at_ms: i64,
    #[prost(uint32, tag = "9")]
    block_encoding: u32,
    #[prost(uint64, tag = "10")]
    key_id: u64,
    #[prost(message, repeated, tag = "11")]
    blocks: Vec<BlockMessage>,
    #[prost(message, optional, tag = "12")]
    batches: Option<BatchColumns>,
    #[prost(message, repeated, tag = "13")]
    ended_transactions: Vec<EndedMessage>,
    #[prost(bytes = "bytes", optional, tag = "14")]
    producer_checkpoint: Option<Bytes>,
    #[prost(message, repeated, tag = "15")]
    extensions: Vec<ExtensionMessage>,
    /// Names of features without which the slice must not be read.
    #[prost(string, repeated, tag = "16")]
    critical: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct DirectoryEntryMessage {
    #[prost(bytes = "vec", tag = "1")]
    topic_id: Vec<u8>,
    #[prost(int32, tag = "2")]
    partition: i32,
    #[prost(int32, tag = "3")]
    leader_epoch: i32,
    #[prost(sint64, tag = "4")]
    first_offset: i64,
    #[prost(sint64, tag = "5")]
    end_offset: i64,
    #[prost(uint64, tag = "6")]
    index_position: u64,
    #[prost(uint64, tag = "7")]
    index_length: u64,
    #[prost(message, optional, tag = "8")]
    index_digest: Option<DigestMessage>,
    #[prost(bool, tag = "9")]
    checkpoint: bool,
}

#[derive(Clone, PartialEq, Message)]
struct DirectoryMessage {
    #[prost(message, repeated, tag = "1")]
    slices: Vec<DirectoryEntryMessage>,
    #[prost(message, repeated, tag = "2")]
    extensions: Vec<ExtensionMessage>,
    #[prost(string, repeated, tag = "3")]
    critical: Vec<String>,
}

// === to the wire ===

pub(super) fn encode_slice(slice: &SliceIndex) -> Vec<u8> {
    let (topic_id, partition) = to_ids(slice.topic_partition);
    SliceMessage {
        topic_id,
        partition,
        leader_epoch: slice.leader_epoch.0,
        first_offset: slice.first_offset,
        end_offset: slice.end_offset,
        max_timestamp_ms: slice.max_timestamp_ms,
        first_appended_at_ms: slice.appended_at_ms.0,
        last_appended_at_ms: slice.appended_at_ms.1,
        block_encoding: slice.block_encoding,
        key_id: slice.key_id,
        blocks: slice.blocks.iter().map(to_block).collect(),
        batches: Some(to_columns(slice)),
        ended_transactions: slice.ended_transactions.iter().map(to_ended).collect(),
        producer_checkpoint: slice.producer_checkpoint.clone(),
        extensions: slice.extensions.iter().map(to_extension).collect(),
        critical: Vec::new(),
    }
    .encode_to_vec()
}

pub(super) fn encode_directory(directory: &Directory) -> Vec<u8> {
    let slices = directory.slices.iter().map(|slice| {
        let (topic_id, partition) = to_ids(slice.topic_partition);
        DirectoryEntryMessage {
            topic_id,
            partition,
            leader_epoch: slice.leader_epoch.0,
            first_offset: slice.first_offset,
            end_offset: slice.end_offset,
            index_position: slice.index_position,
            index_length: slice.index_length,
            index_digest: Some(to_digest(&slice.index_digest)),
            checkpoint: slice.checkpoint,
        }
    });
    DirectoryMessage {
        slices: slices.collect(),
        extensions: directory.extensions.iter().map(to_extension).collect(),
        critical: Vec::new(),
    }
    .encode_to_vec()
}

fn to_ids(tp: TopicPartition) -> (Vec<u8>, i32) {
    (tp.topic.0.as_bytes().to_vec(), tp.partition)
}

fn to_digest(digest: &Digest) -> DigestMessage {
    DigestMessage {
        algorithm: digest.algorithm,
        bytes: digest.bytes.clone(),
    }
}

fn to_extension(extension: &Extension) -> ExtensionMessage {
    ExtensionMessage {
        kind: extension.kind,
        version: extension.version,
        bytes: extension.bytes.clone(),
    }
}

fn to_block(block: &BlockEntry) -> BlockMessage {
    BlockMessage {
        position: block.position,
        length: block.length,
        digest: Some(to_digest(&block.digest)),
        first_offset: block.first_offset,
        max_timestamp_ms: block.max_timestamp_ms,
        batches: block.batches,
    }
}

fn to_ended(ended: &EndedTransaction) -> EndedMessage {
    EndedMessage {
        producer_id: ended.producer_id.0,
        producer_epoch: i32::from(ended.producer_epoch.0),
        first_offset: ended.first_offset,
        last_offset: ended.last_offset,
        last_stable_offset: ended.last_stable_offset,
        committed: ended.committed,
        coordinator_epoch: ended.coordinator_epoch,
    }
}

/// What the columns' differences are taken from.
struct Previous {
    next_offset: i64,
    max_timestamp: i64,
    appended_at: i64,
    producer_id: i64,
    producer_epoch: i32,
    base_sequence: i32,
}

impl Previous {
    fn start(first_offset: i64) -> Self {
        Self {
            next_offset: first_offset,
            max_timestamp: 0,
            appended_at: 0,
            producer_id: 0,
            producer_epoch: 0,
            base_sequence: 0,
        }
    }

    fn step(&mut self, batch: &BatchEntry) {
        *self = Self {
            next_offset: batch.last_offset.wrapping_add(1),
            max_timestamp: batch.max_timestamp_ms,
            appended_at: batch.appended_at_ms,
            producer_id: batch.producer_id.0,
            producer_epoch: i32::from(batch.producer_epoch.0),
            base_sequence: batch.base_sequence,
        };
    }
}

fn to_columns(slice: &SliceIndex) -> BatchColumns {
    let mut columns = BatchColumns::default();
    let mut before = Previous::start(slice.first_offset);
    for batch in &slice.batches {
        columns
            .gap
            .push(batch.base_offset.wrapping_sub(before.next_offset) as u64);
        columns
            .span
            .push(batch.last_offset.wrapping_sub(batch.base_offset) as u64);
        columns
            .max_timestamp
            .push(batch.max_timestamp_ms.wrapping_sub(before.max_timestamp));
        columns
            .appended_at
            .push(batch.appended_at_ms.wrapping_sub(before.appended_at));
        columns
            .producer_id
            .push(batch.producer_id.0.wrapping_sub(before.producer_id));
        columns
            .producer_epoch
            .push(i32::from(batch.producer_epoch.0) - before.producer_epoch);
        columns
            .base_sequence
            .push(batch.base_sequence.wrapping_sub(before.base_sequence));
        columns
            .sequence_span
            .push(batch.last_sequence.wrapping_sub(batch.base_sequence));
        let transactional = if batch.transactional {
            TRANSACTIONAL
        } else {
            0
        };
        let control = if batch.control { CONTROL } else { 0 };
        columns.flags.push(transactional | control);
        before.step(batch);
    }
    columns
}

// === from the wire ===

pub(super) fn decode_slice(bytes: &[u8], place: Place<'_>) -> Result<SliceIndex, Error> {
    let message =
        SliceMessage::decode(bytes).map_err(|_| place.malformed("not a slice index message"))?;
    refuse_critical(&message.critical, place)?;
    // Refused here and not where blocks are read: nobody may take such bytes for batches.
    if message.block_encoding != 0 {
        return Err(place.unsupported(format!("block encoding {}", message.block_encoding)));
    }
    if message.key_id != 0 {
        return Err(place.unsupported(format!("encryption key {}", message.key_id)));
    }
    let mut blocks = Vec::with_capacity(message.blocks.len());
    for block in message.blocks {
        blocks.push(BlockEntry {
            position: block.position,
            length: block.length,
            digest: from_digest(block.digest, place)?,
            first_offset: block.first_offset,
            max_timestamp_ms: block.max_timestamp_ms,
            batches: block.batches,
        });
    }
    let mut ended_transactions = Vec::with_capacity(message.ended_transactions.len());
    for ended in message.ended_transactions {
        ended_transactions.push(from_ended(&ended, place)?);
    }
    Ok(SliceIndex {
        topic_partition: from_ids(&message.topic_id, message.partition, place)?,
        leader_epoch: LeaderEpoch(message.leader_epoch),
        first_offset: message.first_offset,
        end_offset: message.end_offset,
        max_timestamp_ms: message.max_timestamp_ms,
        appended_at_ms: (message.first_appended_at_ms, message.last_appended_at_ms),
        block_encoding: message.block_encoding,
        key_id: message.key_id,
        blocks,
        batches: from_columns(
            &message.batches.unwrap_or_default(),
            message.first_offset,
            place,
        )?,
        ended_transactions,
        producer_checkpoint: message.producer_checkpoint,
        extensions: message.extensions.into_iter().map(from_extension).collect(),
    })
}

pub(super) fn decode_directory(bytes: &[u8], place: Place<'_>) -> Result<Directory, Error> {
    let message =
        DirectoryMessage::decode(bytes).map_err(|_| place.malformed("not a directory message"))?;
    refuse_critical(&message.critical, place)?;
    let mut slices = Vec::with_capacity(message.slices.len());
    for slice in message.slices {
        slices.push(DirectoryEntry {
            topic_partition: from_ids(&slice.topic_id, slice.partition, place)?,
            leader_epoch: LeaderEpoch(slice.leader_epoch),
            first_offset: slice.first_offset,
            end_offset: slice.end_offset,
            index_position: slice.index_position,
            index_length: slice.index_length,
            index_digest: from_digest(slice.index_digest, place)?,
            checkpoint: slice.checkpoint,
        });
    }
    let extensions = message.extensions.into_iter().map(from_extension).collect();
    Ok(Directory { slices, extensions })
}

/// This version knows no critical feature yet, so whatever is named is refused.
fn refuse_critical(names: &[String], place: Place<'_>) -> Result<(), Error> {
    match names.first() {
        Some(name) => Err(place.unsupported(format!("feature \"{}\"", name.escape_debug()))),
        None => Ok(()),
    }
}

fn from_ids(topic_id: &[u8], partition: i32, place: Place<'_>) -> Result<TopicPartition, Error> {
    let id = uuid::Uuid::from_slice(topic_id).map_err(|_| place.malformed("topic id"))?;
    if partition < 0 {
        return Err(place.malformed("partition"));
    }
    Ok(TopicPartition::new(TopicId(id), partition))
}

fn from_digest(digest: Option<DigestMessage>, place: Place<'_>) -> Result<Digest, Error> {
    let digest = digest.ok_or_else(|| place.malformed("digest missing"))?;
    Ok(Digest {
        algorithm: digest.algorithm,
        bytes: digest.bytes,
    })
}

fn from_extension(extension: ExtensionMessage) -> Extension {
    Extension {
        kind: extension.kind,
        version: extension.version,
        bytes: extension.bytes,
    }
}

fn from_epoch(epoch: i32, place: Place<'_>) -> Result<ProducerEpoch, Error> {
    i16::try_from(epoch)
        .map(ProducerEpoch)
        .map_err(|_| place.malformed("producer epoch"))
}

fn from_ended(ended: &EndedMessage, place: Place<'_>) -> Result<EndedTransaction, Error> {
    Ok(EndedTransaction {
        producer_id: ProducerId(ended.producer_id),
        producer_epoch: from_epoch(ended.producer_epoch, place)?,
        first_offset: ended.first_offset,
        last_offset: ended.last_offset,
        last_stable_offset: ended.last_stable_offset,
        committed: ended.committed,
        coordinator_epoch: ended.coordinator_epoch,
    })
}

fn from_columns(
    columns: &BatchColumns,
    first_offset: i64,
    place: Place<'_>,
) -> Result<Vec<BatchEntry>, Error> {
    let count = columns.gap.len();
    let lengths = [
        columns.span.len(),
        columns.max_timestamp.len(),
        columns.appended_at.len(),
        columns.producer_id.len(),
        columns.producer_epoch.len(),
        columns.base_sequence.len(),
        columns.sequence_span.len(),
        columns.flags.len(),
    ];
    if count > SLICE_MAX_BATCHES || lengths.iter().any(|length| *length != count) {
        return Err(place.malformed("batch columns of different lengths"));
    }
    let mut before = Previous::start(first_offset);
    let mut batches = Vec::with_capacity(count);
    for i in 0..count {
        // Wrapping mirrors the writer; `SliceIndex::validate` refuses what makes no sense.
        let base_offset = before.next_offset.wrapping_add(columns.gap[i] as i64);
        let base_sequence = before.base_sequence.wrapping_add(columns.base_sequence[i]);
        let epoch = before
            .producer_epoch
            .wrapping_add(columns.producer_epoch[i]);
        let flags = columns.flags[i];
        if flags & !(TRANSACTIONAL | CONTROL) != 0 {
            return Err(place.unsupported(format!("batch flags {flags:#x}")));
        }
        let batch = BatchEntry {
            base_offset,
            last_offset: base_offset.wrapping_add(columns.span[i] as i64),
            max_timestamp_ms: before.max_timestamp.wrapping_add(columns.max_timestamp[i]),
            appended_at_ms: before.appended_at.wrapping_add(columns.appended_at[i]),
            producer_id: ProducerId(before.producer_id.wrapping_add(columns.producer_id[i])),
            producer_epoch: from_epoch(epoch, place)?,
            base_sequence,
            last_sequence: base_sequence.wrapping_add(columns.sequence_span[i]),
            transactional: flags & TRANSACTIONAL != 0,
            control: flags & CONTROL != 0,
        };
        before.step(&batch);
        batches.push(batch);
    }
    Ok(batches)
}
