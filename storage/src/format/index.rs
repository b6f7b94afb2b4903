//! The index: one part per slice, each readable alone, then the directory that lists them.

mod wire;

use bytes::Bytes;
use protocol::{BatchView, LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};

use super::limits::{
    BLOCK_READ_MAX_BYTES, OBJECT_MAX_SLICES, SLICE_INDEX_MAX_BYTES, SLICE_MAX_BATCHES,
};
use super::{Place, footer::Footer};
use crate::Error;
use crate::catalog::Digest;

/// Where one block stands, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Byte position in the object.
    pub position: u64,
    /// Bytes.
    pub length: u64,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Base offset of the first batch.
    pub first_offset: i64,
    /// Largest timestamp of its records, milliseconds.
    pub max_timestamp_ms: i64,
    /// Number of batches.
    pub batches: u32,
}

/// What is kept of one batch beside its bytes: enough to rebuild producer state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Largest timestamp of its records, milliseconds.
    pub max_timestamp_ms: i64,
    /// When the broker took it, milliseconds since the Unix epoch.
    pub appended_at_ms: i64,
    /// Its producer, -1 for none.
    pub producer_id: ProducerId,
    /// The producer's epoch, -1 for none.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// Sequence of the last record (wraps after `i32::MAX`), -1 for none.
    pub last_sequence: i32,
    /// Part of a transaction.
    pub transactional: bool,
    /// A control batch (transaction marker).
    pub control: bool,
}

impl BatchEntry {
    /// The line of `batch`, whose base offset is final, taken at `appended_at_ms`.
    pub fn of(batch: &BatchView<'_>, appended_at_ms: i64) -> Self {
        Self {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp_ms: batch.max_timestamp(),
            appended_at_ms,
            producer_id: ProducerId(batch.producer_id()),
            producer_epoch: ProducerEpoch(batch.producer_epoch()),
            base_sequence: batch.base_sequence(),
            last_sequence: batch.last_sequence(),
            transactional: batch.is_transactional(),
            control: batch.is_control(),
        }
    }

    /// True when this is the line of `batch`.
    pub fn describes(&self, batch: &BatchView<'_>) -> bool {
        *self == Self::of(batch, self.appended_at_ms)
    }
}

/// A transaction whose marker lies in the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// Offset of its first record in this partition.
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    /// The partition's last stable offset once it ended.
    pub last_stable_offset: i64,
    /// Committed, else aborted.
    pub committed: bool,
    /// Epoch of the coordinator that wrote the marker.
    pub coordinator_epoch: i32,
}

/// Room for what comes later: readers skip kinds that they do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub kind: u32,
    /// Version of its layout.
    pub version: u32,
    /// Its bytes.
    pub bytes: Bytes,
}

/// One slice's part of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceIndex {
    /// Whose records.
    pub topic_partition: TopicPartition,
    /// Epoch under which they were written.
    pub leader_epoch: LeaderEpoch,
    /// First offset covered.
    pub first_offset: i64,
    /// One past the last offset covered.
    pub end_offset: i64,
    /// Largest timestamp of its records, milliseconds; -1 without records.
    pub max_timestamp_ms: i64,
    /// When the broker took the first and the last batch; 0 without batches.
    pub appended_at_ms: (i64, i64),
    /// 0: blocks are plain.
    pub block_encoding: u32,
    /// 0: blocks are not encrypted.
    pub key_id: u64,
    /// In order of offsets.
    pub blocks: Vec<BlockEntry>,
    /// All batches of all blocks, in order.
    pub batches: Vec<BatchEntry>,
    /// In order of their markers.
    pub ended_transactions: Vec<EndedTransaction>,
    /// The whole producer state at `end_offset`, in the producers' own format.
    pub producer_checkpoint: Option<Bytes>,
    /// Room for what comes later.
    pub extensions: Vec<Extension>,
}

impl SliceIndex {
    /// The block that holds `offset`, or the first after it: compaction leaves holes.
    pub fn block_for(&self, offset: i64) -> Option<usize> {
        if offset >= self.end_offset {
            return None;
        }
        let after = self
            .blocks
            .partition_point(|block| block.first_offset <= offset);
        let candidate = after.saturating_sub(1);
        if self
            .batches_of(candidate)
            .last()
            .is_some_and(|last| last.last_offset >= offset)
        {
            return Some(candidate);
        }
        (after < self.blocks.len()).then_some(after)
    }

    /// The batches of block number `block`; empty when there is no such block.
    pub fn batches_of(&self, block: usize) -> &[BatchEntry] {
        let Some(entry) = self.blocks.get(block) else {
            return &[];
        };
        let start = self
            .batches
            .partition_point(|batch| batch.base_offset < entry.first_offset);
        &self.batches[start..start + entry.batches as usize]
    }

    /// Bytes of all blocks.
    pub fn block_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.length).sum()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::encode_slice(self)
    }

    /// Decodes and checks the rules of the layout.
    pub(crate) fn decode(bytes: &[u8], place: Place<'_>) -> Result<Self, Error> {
        if bytes.len() as u64 > SLICE_INDEX_MAX_BYTES {
            return Err(place.malformed("slice index past its limit"));
        }
        let slice = wire::decode_slice(bytes, place)?;
        slice.validate(place)?;
        Ok(slice)
    }

    /// Offsets ascend, blocks follow each other and hold all batches.
    fn validate(&self, place: Place<'_>) -> Result<(), Error> {
        if self.first_offset < 0 || self.end_offset < self.first_offset {
            return Err(place.malformed("slice offsets"));
        }
        if self.batches.len() > SLICE_MAX_BATCHES {
            return Err(place.malformed("too many batches in a slice"));
        }
        let mut next = self.first_offset;
        for batch in &self.batches {
            if batch.base_offset < next || batch.last_offset < batch.base_offset {
                return Err(place.malformed("batch offsets do not ascend"));
            }
            // No overflow: below `end_offset`, which is checked next.
            if batch.last_offset >= self.end_offset {
                return Err(place.malformed("a batch past the end of its slice"));
            }
            next = batch.last_offset + 1;
        }
        self.validate_blocks(place)
    }

    fn validate_blocks(&self, place: Place<'_>) -> Result<(), Error> {
        let mut batch = 0_usize;
        let mut position = self.blocks.first().map_or(0, |block| block.position);
        for block in &self.blocks {
            if block.length == 0 || block.length > BLOCK_READ_MAX_BYTES || block.batches == 0 {
                return Err(place.malformed("block length or count"));
            }
            if block.position != position {
                return Err(place.malformed("the blocks of a slice do not follow each other"));
            }
            position = position
                .checked_add(block.length)
                .ok_or_else(|| place.malformed("block position"))?;
            if self.batches.get(batch).map(|b| b.base_offset) != Some(block.first_offset) {
                return Err(place.malformed("a block does not start at a batch"));
            }
            batch += block.batches as usize;
        }
        if batch != self.batches.len() {
            return Err(place.malformed("batches outside of any block"));
        }
        Ok(())
    }
}

/// A slice in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Whose records.
    pub topic_partition: TopicPartition,
    /// Epoch under which they were written.
    pub leader_epoch: LeaderEpoch,
    /// First offset covered.
    pub first_offset: i64,
    /// One past the last offset covered.
    pub end_offset: i64,
    /// Position of the slice's part of the index.
    pub index_position: u64,
    /// Its length.
    pub index_length: u64,
    /// Its digest.
    pub index_digest: Digest,
    /// True when that part carries a whole producer checkpoint.
    pub checkpoint: bool,
}

/// The list of an object's slices: what makes an object describe itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// In order of their parts of the index.
    pub slices: Vec<DirectoryEntry>,
    /// Room for what comes later; the footer's extensions are these.
    pub extensions: Vec<Extension>,
}

impl Directory {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::encode_directory(self)
    }

    /// Decodes, and checks that the slices' parts tile the index before the directory.
    pub(crate) fn decode(bytes: &[u8], footer: &Footer, place: Place<'_>) -> Result<Self, Error> {
        let directory = wire::decode_directory(bytes, place)?;
        if directory.slices.len() > OBJECT_MAX_SLICES {
            return Err(place.malformed("too many slices"));
        }
        let mut position = footer.index_position;
        for slice in &directory.slices {
            if slice.index_position != position {
                return Err(place.malformed("slice indexes do not follow each other"));
            }
            position = position
                .checked_add(slice.index_length)
                .ok_or_else(|| place.malformed("slice index length"))?;
        }
        if position != footer.directory_position {
            return Err(place.malformed("slice indexes do not end at the directory"));
        }
        Ok(directory)
    }
}
