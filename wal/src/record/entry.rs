//! What a group holds: entries of partitions, or records of another log.
//!
//! ```text
//!    0  1  kind: 1 data, 2 link (reserved), 3 record
//!    1  1  zero
//!    2  2  flags (high byte critical)
//!    4  4  CRC-32 of bytes 0..4 and of all from byte 8 on, payload included
//!    8  8  bytes from byte 16 on: fields and payload
//!   data:                                    record:
//!   16 16  topic id                          16  4  tag
//!   32  4  partition                         20  4  zero
//!   36  4  leader epoch                      24  …  payload
//!   40  8  base offset
//!   48  8  last offset
//!   56  8  appended_at_ms
//!   64  …  payload: whole record batches
//! ```

use bytes::Bytes;
use protocol::{LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;

use super::DecodeError;
use super::header::{GroupHeader, array_at, u32_at, u64_at, u128_at};
use crate::Entry;
use crate::checksum::Seed;

const PREFIX_BYTES: usize = 16;
const KIND_DATA: u8 = 1;
const KIND_LINK: u8 = 2;
const KIND_RECORD: u8 = 3;
const CRITICAL_FLAGS: u16 = 0xff00;

/// A record of another log in this framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is, to its owner.
    pub tag: u32,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What groups are made of.
pub(crate) trait Item: Sized {
    const KIND: u8;
    const HEAD_BYTES: usize;
    fn payload(&self) -> &Bytes;
    fn encode_fields(&self, out: &mut Vec<u8>);
    fn decode(head: &[u8], payload: Bytes) -> Result<Self, DecodeError>;

    fn encode_head(&self, seed: Seed, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[Self::KIND, 0, 0, 0]);
        out.extend_from_slice(&[0; 4]);
        let length = Self::HEAD_BYTES - PREFIX_BYTES + self.payload().len();
        out.extend_from_slice(&(length as u64).to_be_bytes());
        self.encode_fields(out);
        assert_eq!(
            out.len() - start,
            Self::HEAD_BYTES,
            "a head has a fixed size"
        );
        let head = &out[start..];
        let crc = seed.checksum(&[&head[..4], &head[8..], self.payload()]);
        out[start + 4..start + 8].copy_from_slice(&crc.0.to_be_bytes());
    }
}

impl Item for Entry {
    const KIND: u8 = KIND_DATA;
    const HEAD_BYTES: usize = 64;

    fn payload(&self) -> &Bytes {
        &self.batches
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.topic_partition.topic.0.as_bytes());
        out.extend_from_slice(&self.topic_partition.partition.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.0.to_be_bytes());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&self.last_offset.to_be_bytes());
        out.extend_from_slice(&self.appended_at_ms.to_be_bytes());
    }

    fn decode(head: &[u8], payload: Bytes) -> Result<Self, DecodeError> {
        let entry = Self {
            topic_partition: TopicPartition {
                topic: TopicId(Uuid::from_u128(u128_at(head, 16))),
                partition: i32::from_be_bytes(array_at(head, 32)),
            },
            leader_epoch: LeaderEpoch(i32::from_be_bytes(array_at(head, 36))),
            base_offset: i64::from_be_bytes(array_at(head, 40)),
            last_offset: i64::from_be_bytes(array_at(head, 48)),
            appended_at_ms: i64::from_be_bytes(array_at(head, 56)),
            batches: payload,
        };
        if entry.base_offset < 0 || entry.last_offset < entry.base_offset {
            return Err(DecodeError::Impossible {
                what: "offsets of an entry",
            });
        }
        Ok(entry)
    }
}

impl Item for Record {
    const KIND: u8 = KIND_RECORD;
    const HEAD_BYTES: usize = 24;

    fn payload(&self) -> &Bytes {
        &self.bytes
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tag.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    fn decode(head: &[u8], payload: Bytes) -> Result<Self, DecodeError> {
        if head[20..24] != [0; 4] {
            return Err(DecodeError::Impossible {
                what: "head of a record",
            });
        }
        Ok(Self {
            tag: u32_at(head, 16),
            bytes: payload,
        })
    }
}

/// Reads all entries of a group off the front of `rest`, a slice of `whole`, and adds their heads
/// to `check`.
pub(super) fn decode_all<'a, I: Item>(
    header: &GroupHeader,
    seed: Seed,
    rest: &mut Bytes,
    whole: &'a Bytes,
    check: &mut Vec<&'a [u8]>,
) -> Result<Vec<I>, DecodeError> {
    let mut items = Vec::with_capacity((header.entries as usize).min(rest.len() / PREFIX_BYTES));
    for _ in 0..header.entries {
        if rest.len() < PREFIX_BYTES {
            return Err(DecodeError::Impossible {
                what: "number of entries",
            });
        }
        let length = u64_at(rest, 8);
        if length > (rest.len() - PREFIX_BYTES) as u64 {
            return Err(DecodeError::Impossible {
                what: "length of an entry",
            });
        }
        let end = PREFIX_BYTES + length as usize;
        let crc = seed.checksum(&[&rest[..4], &rest[8..end]]);
        if crc.0 != u32_at(rest, 4) && !env::planted!("entry-not-checked") {
            return Err(DecodeError::Checksum { what: "an entry" });
        }
        // Known to be sound from here on: what is unknown is of a later version.
        check_kind::<I>(rest)?;
        check_flags(rest)?;
        if end < I::HEAD_BYTES {
            return Err(DecodeError::Impossible {
                what: "length of an entry",
            });
        }
        let at = whole.len() - rest.len();
        check.push(&whole[at..at + I::HEAD_BYTES]);
        items.push(I::decode(
            &rest[..I::HEAD_BYTES],
            rest.slice(I::HEAD_BYTES..end),
        )?);
        *rest = rest.slice(end..);
    }
    Ok(items)
}

fn check_kind<I: Item>(head: &[u8]) -> Result<(), DecodeError> {
    match head[0] {
        kind if kind == I::KIND => Ok(()),
        KIND_LINK => Err(DecodeError::Unsupported {
            what: "entry kind 2 (link to bytes elsewhere)".into(),
        }),
        kind => Err(DecodeError::Unsupported {
            what: format!("entry kind {kind}"),
        }),
    }
}

fn check_flags(head: &[u8]) -> Result<(), DecodeError> {
    let critical = u16::from_be_bytes([head[2], head[3]]) & CRITICAL_FLAGS;
    if critical != 0 {
        let what = format!("critical entry flag bit {}", critical.trailing_zeros());
        return Err(DecodeError::Unsupported { what });
    }
    if head[1] != 0 {
        return Err(DecodeError::Impossible {
            what: "head of an entry",
        });
    }
    Ok(())
}
