//! The whole producer state of a partition as bytes, kept in the index of a checkpoint slice.
//!
//! ```text
//! checkpoint := version u8 (1) | prost Checkpoint
//! ```

use std::collections::VecDeque;

use prost::Message;
use protocol::{ProducerEpoch, ProducerId};

use super::{Producer, Producers, Remembered};
use crate::limits::PRODUCER_WINDOW;

const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
struct Checkpoint {
    #[prost(message, repeated, tag = "1")]
    producers: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(int64, tag = "3")]
    appended_at_ms: i64,
    #[prost(int64, optional, tag = "4")]
    open_since: Option<i64>,
    #[prost(sint32, tag = "5")]
    coordinator_epoch: i32,
    #[prost(message, repeated, tag = "6")]
    window: Vec<Batch>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Batch {
    #[prost(int32, tag = "1")]
    base_sequence: i32,
    #[prost(int32, tag = "2")]
    last_sequence: i32,
    #[prost(int64, tag = "3")]
    base_offset: i64,
    #[prost(int64, tag = "4")]
    last_offset: i64,
    #[prost(sint64, tag = "5")]
    timestamp_ms: i64,
}

impl Producers {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let producers = self.map.iter().map(|(id, producer)| Entry {
            producer_id: id.0,
            epoch: i32::from(producer.epoch.0),
            appended_at_ms: producer.appended_at_ms,
            open_since: producer.open_since,
            coordinator_epoch: producer.coordinator_epoch,
            window: producer
                .window
                .iter()
                .map(|r| Batch {
                    base_sequence: r.base_sequence,
                    last_sequence: r.last_sequence,
                    base_offset: r.base_offset,
                    last_offset: r.last_offset,
                    timestamp_ms: r.timestamp_ms,
                })
                .collect(),
        });
        let message = Checkpoint {
            producers: producers.collect(),
        };
        let mut bytes = Vec::with_capacity(1 + message.encoded_len());
        bytes.push(VERSION);
        message.encode(&mut bytes).expect("a vector grows");
        bytes
    }

    /// From bytes of [`Producers::encode`].
    ///
    /// # Errors
    /// What is wrong with them; they come from an object whose checksum was right.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (version, body) = bytes.split_first().ok_or("an empty producer checkpoint")?;
        if *version != VERSION {
            return Err("a producer checkpoint of an unknown version");
        }
        let message = Checkpoint::decode(body).map_err(|_| "a malformed producer checkpoint")?;
        let mut producers = Self::default();
        for entry in message.producers {
            if entry.window.len() > PRODUCER_WINDOW {
                return Err("a producer checkpoint with too long a window");
            }
            let epoch = i16::try_from(entry.epoch).map_err(|_| "a producer epoch out of range")?;
            let window: VecDeque<Remembered> = entry
                .window
                .iter()
                .map(|b| Remembered {
                    base_sequence: b.base_sequence,
                    last_sequence: b.last_sequence,
                    base_offset: b.base_offset,
                    last_offset: b.last_offset,
                    timestamp_ms: b.timestamp_ms,
                })
                .collect();
            let producer = Producer {
                epoch: ProducerEpoch(epoch),
                window,
                appended_at_ms: entry.appended_at_ms,
                open_since: entry.open_since,
                coordinator_epoch: entry.coordinator_epoch,
            };
            producers
                .map
                .insert(ProducerId(entry.producer_id), producer);
        }
        Ok(producers)
    }
}
