//! Kafka's own records in `__transaction_state`.
//!
//! ```text
//! key v0    transactional id string
//! value v0  producer id i64 · producer epoch i16 · timeout ms i32 · state i8 ·
//!           nullable [topic string · [index i32]] · updated ms i64 · started ms i64
//! value v1  v0 with compact strings and arrays; each topic and the whole end in tagged fields:
//!           0 previous producer id i64 = -1 · 1 next producer id i64 = -1 ·
//!           2 client's transaction version i16 = 0                         (others are skipped)
//! no value  the id expired
//! ```
//!
//! Version 1 is written from level 1 of `transaction.version` on. In state Empty the partitions
//! are null, as Kafka writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use protocol::{ProducerEpoch, ProducerId};

use super::TransactionState;
use super::limits::EXHAUSTED_EPOCH;
use super::metadata::Metadata;
use super::types::{Partition, Producer, TransactionVersion};
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

const KEY: &str = "TransactionLogKey";
const VALUE: &str = "TransactionLogValue";
const KEY_VERSION: i16 = 0;
const MAX_VALUE_VERSION: i16 = 1;

const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;

/// A key of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKey {
    /// Version 0: a transactional id.
    TransactionalId(Arc<str>),
    /// A kind that is not known here, as an upgrade that was taken back may leave behind.
    Other {
        /// Its version.
        version: i16,
    },
}

impl RecordKey {
    /// Reads a key.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(KEY, bytes);
        match reader.i16("version")? {
            KEY_VERSION => {
                let id = reader.string("transactionalId")?.into();
                reader.end()?;
                Ok(Self::TransactionalId(id))
            }
            version if version > KEY_VERSION => Ok(Self::Other { version }),
            version => Err(Error::Version {
                record: KEY,
                version,
            }),
        }
    }

    /// The key of a transactional id.
    ///
    /// # Panics
    /// If the id is longer than 32,767 bytes: such a one is refused when it first comes.
    pub fn encode(transactional_id: &str) -> Bytes {
        let mut writer = Writer::versioned(KEY_VERSION);
        writer.string(transactional_id);
        writer.finish()
    }
}

impl Metadata {
    /// The value at a level of `transaction.version`.
    ///
    /// # Panics
    /// If an id without a transaction has partitions: that would be lost.
    pub fn encode(&self, level: TransactionVersion) -> Bytes {
        assert!(
            self.state != TransactionState::Empty || self.partitions.is_empty(),
            "nothing is open in state Empty"
        );
        let version = level.record_version();
        let flexible = version >= 1;
        let mut writer = Writer::versioned(version);
        writer.i64(self.producer.id.0);
        writer.i16(self.producer.epoch.0);
        writer.i32(self.timeout_ms);
        writer.i8(self.state.id());
        self.encode_partitions(&mut writer, flexible);
        writer.i64(self.updated_ms);
        writer.i64(self.start_ms);
        if flexible {
            writer.tags(self.tags());
        }
        writer.finish()
    }

    fn encode_partitions(&self, writer: &mut Writer, flexible: bool) {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in &self.partitions {
            topics
                .entry(&partition.topic)
                .or_default()
                .push(partition.index);
        }
        let length = |writer: &mut Writer, length| match flexible {
            true => writer.compact_array_length(length),
            false => writer.array_length(length),
        };
        let known = self.state != TransactionState::Empty;
        length(writer, known.then_some(topics.len()));
        for (topic, indexes) in topics {
            match flexible {
                true => writer.compact_string(topic),
                false => writer.string(topic),
            }
            length(writer, Some(indexes.len()));
            for index in indexes {
                writer.i32(index);
            }
            if flexible {
                writer.tags(Vec::new());
            }
        }
    }

    fn tags(&self) -> Vec<(u32, Writer)> {
        let mut tags = Vec::new();
        for (tag, id) in [
            (PREVIOUS_PRODUCER_ID, self.previous_id),
            (NEXT_PRODUCER_ID, self.next_id),
        ] {
            if let Some(id) = id {
                let mut value = Writer::new();
                value.i64(id.0);
                tags.push((tag, value));
            }
        }
        if self.client != TransactionVersion::default() {
            let mut value = Writer::new();
            value.i16(self.client.level());
            tags.push((CLIENT_VERSION, value));
        }
        tags
    }

    /// Reads a value. The last epoch is not in it: it is known again where the state tells it.
    ///
    /// # Errors
    /// If the bytes are damaged or of a later version. Whoever loads them must not go on as if
    /// the id had no transaction.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(VALUE, bytes);
        let version = reader.i16("version")?;
        if !(0..=MAX_VALUE_VERSION).contains(&version) {
            return Err(Error::Version {
                record: VALUE,
                version,
            });
        }
        let flexible = version >= 1;
        let id = not_negative("producerId", reader.i64("producerId")?)?;
        let epoch = reader.i16("producerEpoch")?;
        not_negative("producerEpoch", epoch.into())?;
        let timeout_ms = reader.i32("transactionTimeoutMs")?;
        let state = decode_state(reader.i8("transactionStatus")?)?;
        let partitions = decode_partitions(&mut reader, flexible)?;
        let updated_ms = reader.i64("transactionLastUpdateTimestampMs")?;
        let start_ms = reader.i64("transactionStartTimestampMs")?;
        let mut metadata = Self {
            producer: Producer::new(id, epoch),
            previous_id: None,
            next_id: None,
            last_epoch: None,
            timeout_ms,
            state,
            partitions,
            start_ms,
            updated_ms,
            client: TransactionVersion::default(),
        };
        if flexible {
            reader.tags(|tag, value| metadata.decode_tag(tag, value))?;
        }
        reader.end()?;
        metadata.last_epoch = metadata.last_epoch_told();
        Ok(metadata)
    }

    fn decode_tag(&mut self, tag: u32, value: &mut Reader<'_>) -> Result<()> {
        let id = |value: &mut Reader<'_>, field| match value.i64(field)? {
            -1 => Ok(None),
            id => not_negative(field, id).map(|id| Some(ProducerId(id))),
        };
        match tag {
            PREVIOUS_PRODUCER_ID => self.previous_id = id(value, "previousProducerId")?,
            NEXT_PRODUCER_ID => self.next_id = id(value, "nextProducerId")?,
            CLIENT_VERSION => {
                let level = value.i16("clientTransactionVersion")?;
                self.client = TransactionVersion::from_level(level).ok_or(Error::Value {
                    record: VALUE,
                    field: "clientTransactionVersion",
                    value: level.into(),
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// With epochs of their own, the end of a transaction tells which epoch it had.
    fn last_epoch_told(&self) -> Option<ProducerEpoch> {
        let ended =
            self.state != TransactionState::Empty && self.state != TransactionState::Ongoing;
        if !ended || !self.client.bumps_epochs() {
            return None;
        }
        match self.producer.epoch.0 {
            // The markers gave the place to a new producer id.
            0 => Some(ProducerEpoch(EXHAUSTED_EPOCH)),
            epoch => Some(ProducerEpoch(epoch - 1)),
        }
    }
}

fn not_negative(field: &'static str, value: i64) -> Result<i64> {
    if value < 0 {
        let record = VALUE;
        return Err(Error::Value {
            record,
            field,
            value,
        });
    }
    Ok(value)
}

/// Dead and PrepareEpochFence pass without a record.
fn decode_state(id: i8) -> Result<TransactionState> {
    match TransactionState::from_id(id) {
        Some(state) if state.is_recorded() => Ok(state),
        _ => Err(Error::Value {
            record: VALUE,
            field: "transactionStatus",
            value: id.into(),
        }),
    }
}

fn decode_partitions(reader: &mut Reader<'_>, flexible: bool) -> Result<BTreeSet<Partition>> {
    let length = |reader: &mut Reader<'_>, field| match flexible {
        true => reader.compact_array_length(field),
        false => reader.array_length(field),
    };
    let mut partitions = BTreeSet::new();
    for _ in 0..length(reader, "transactionPartitions")?.unwrap_or(0) {
        let topic: Arc<str> = match flexible {
            true => reader.compact_string("topic")?,
            false => reader.string("topic")?,
        }
        .into();
        let indexes = length(reader, "partitionIds")?.ok_or(Error::Length {
            record: VALUE,
            field: "partitionIds",
            length: -1,
        })?;
        for _ in 0..indexes {
            let index = reader.i32("partitionIds")?;
            not_negative("partitionIds", index.into())?;
            partitions.insert(Partition::new(topic.clone(), index));
        }
        if flexible {
            reader.skip_tags()?;
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests;
