//! Builds an object in memory without copying a batch.
//!
//! `start_slice ─▶ push* ─▶ finish_slice` per slice, then `finish`: the batches come out again as
//! they went in, with index and footer behind them.

use bytes::Bytes;
use protocol::{LeaderEpoch, TopicPartition};

use super::footer::{FOOTER_LENGTH, Footer};
use super::index::{
    BatchEntry, BlockEntry, Directory, DirectoryEntry, EndedTransaction, Extension, SliceIndex,
};
use super::limits::{
    BLOCK_MAX_BYTES, BLOCK_TARGET_BYTES, DIRECTORY_MAX_BYTES, OBJECT_MAX_SLICES,
    SLICE_INDEX_MAX_BYTES, SLICE_MAX_BATCHES,
};
use crate::Error;
use crate::catalog::{Digest, ObjectRef, SliceRef};

/// Whose slice begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceStart {
    /// Whose records.
    pub topic_partition: TopicPartition,
    /// Epoch under which they were written.
    pub leader_epoch: LeaderEpoch,
    /// First offset that the slice covers.
    pub first_offset: i64,
}

/// How a slice ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceEnd {
    /// One past the last offset that it covers.
    pub end_offset: i64,
    /// Transactions whose markers lie in it, in order of the markers.
    pub ended_transactions: Vec<EndedTransaction>,
    /// The whole producer state at exactly `end_offset` (R5), when this slice is a checkpoint.
    pub producer_checkpoint: Option<Bytes>,
    /// Extension sections.
    pub extensions: Vec<Extension>,
}

/// An object ready to be stored.
#[derive(Clone, Debug)]
pub struct FinishedObject {
    /// Its bytes, in order.
    pub payload: Vec<Bytes>,
    /// The reference to keep.
    pub object: ObjectRef,
    /// One reference per slice, in the order in which they were written.
    pub slices: Vec<SliceRef>,
}

/// Builds one object.
#[derive(Debug, Default)]
pub struct ObjectWriter {
    payload: Vec<Bytes>,
    position: u64,
    slices: Vec<SliceIndex>,
    open: Option<OpenSlice>,
    directory_extensions: Vec<Extension>,
}

#[derive(Debug)]
struct OpenSlice {
    index: SliceIndex,
    block: Option<OpenBlock>,
}

#[derive(Debug)]
struct OpenBlock {
    entry: BlockEntry,
    crc: crc32fast::Hasher,
}

// === impl OpenSlice ===

impl OpenSlice {
    fn close_block(&mut self) {
        if let Some(block) = self.block.take() {
            let digest = Digest::from_crc32(block.crc.finalize());
            self.index.blocks.push(BlockEntry {
                digest,
                ..block.entry
            });
        }
    }
}

// === impl ObjectWriter ===

impl ObjectWriter {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of blocks so far.
    pub fn block_bytes(&self) -> u64 {
        self.position
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.open.is_none()
    }

    #[cfg(test)]
    pub(super) fn slices_for_test(&self) -> &[SliceIndex] {
        &self.slices
    }

    /// Begins a slice.
    ///
    /// # Errors
    /// [`Error::Limit`] when the object holds as many slices as it may.
    ///
    /// # Panics
    /// When a slice is open.
    pub fn start_slice(&mut self, start: SliceStart) -> Result<(), Error> {
        assert!(self.open.is_none(), "one slice at a time");
        if self.slices.len() >= OBJECT_MAX_SLICES {
            let limit = OBJECT_MAX_SLICES as u64;
            return Err(Error::Limit {
                what: "slices of an object",
                limit,
            });
        }
        assert!(start.first_offset >= 0, "offsets start at 0");
        let index = SliceIndex {
            topic_partition: start.topic_partition,
            leader_epoch: start.leader_epoch,
            first_offset: start.first_offset,
            end_offset: start.first_offset,
            max_timestamp_ms: -1,
            appended_at_ms: (0, 0),
            block_encoding: 0,
            key_id: 0,
            blocks: Vec::new(),
            batches: Vec::new(),
            ended_transactions: Vec::new(),
            producer_checkpoint: None,
            extensions: Vec::new(),
        };
        self.open = Some(OpenSlice { index, block: None });
        Ok(())
    }

    /// True when the open slice takes no more batches: finish it and start another.
    pub fn slice_is_full(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.index.batches.len() >= SLICE_MAX_BATCHES)
    }

    /// Adds exactly one batch to the open slice; `bytes` are those that will be served.
    ///
    /// # Errors
    /// [`Error::Limit`] when the slice is full.
    ///
    /// # Panics
    /// When no slice is open, the batch is empty, or its offsets do not follow those before.
    pub fn push(&mut self, bytes: Bytes, batch: BatchEntry) -> Result<(), Error> {
        if self.slice_is_full() {
            let limit = SLICE_MAX_BATCHES as u64;
            return Err(Error::Limit {
                what: "batches of a slice",
                limit,
            });
        }
        assert!(!bytes.is_empty(), "a batch has bytes");
        let position = self.position;
        let open = self.open.as_mut().expect("a slice is open");
        let index = &mut open.index;
        assert!(
            batch.base_offset >= index.end_offset,
            "offsets ascend within a slice"
        );
        assert!(batch.last_offset >= batch.base_offset && batch.last_offset < i64::MAX);

        let full = open.block.as_ref().is_some_and(|block| {
            let length = block.entry.length as usize;
            length >= BLOCK_TARGET_BYTES || length + bytes.len() > BLOCK_MAX_BYTES
        });
        if full {
            open.close_block();
        }
        let index = &mut open.index;
        let block = open.block.get_or_insert_with(|| OpenBlock {
            entry: BlockEntry {
                position,
                length: 0,
                digest: Digest::from_crc32(0),
                first_offset: batch.base_offset,
                max_timestamp_ms: batch.max_timestamp_ms,
                batches: 0,
            },
            crc: crc32fast::Hasher::new(),
        });
        block.crc.update(&bytes);
        block.entry.length += bytes.len() as u64;
        block.entry.batches += 1;
        block.entry.max_timestamp_ms = block.entry.max_timestamp_ms.max(batch.max_timestamp_ms);
        if index.batches.is_empty() {
            index.appended_at_ms.0 = batch.appended_at_ms;
        }
        index.appended_at_ms.1 = batch.appended_at_ms;
        index.max_timestamp_ms = index.max_timestamp_ms.max(batch.max_timestamp_ms);
        index.end_offset = batch.last_offset + 1;
        index.batches.push(batch);
        self.position += bytes.len() as u64;
        self.payload.push(bytes);
        Ok(())
    }

    /// Ends the open slice.
    ///
    /// # Panics
    /// When no slice is open, or its end lies below its last batch.
    pub fn finish_slice(&mut self, end: SliceEnd) {
        let mut open = self.open.take().expect("a slice is open");
        open.close_block();
        let mut index = open.index;
        assert!(
            end.end_offset >= index.end_offset,
            "a slice ends behind its last batch"
        );
        index.end_offset = end.end_offset;
        index.ended_transactions = end.ended_transactions;
        index.producer_checkpoint = end.producer_checkpoint;
        index.extensions = end.extensions;
        self.slices.push(index);
    }

    /// Adds an extension section to the object as a whole.
    pub fn extend(&mut self, extension: Extension) {
        self.directory_extensions.push(extension);
    }

    /// Ends the object, which will be stored under `key`.
    ///
    /// # Errors
    /// [`Error::Limit`] when a slice's part of the index, or the directory, is too large.
    ///
    /// # Panics
    /// When a slice is still open, or there is none.
    pub fn finish(mut self, key: String) -> Result<FinishedObject, Error> {
        assert!(self.open.is_none(), "every slice is finished");
        assert!(!self.slices.is_empty(), "an object holds a slice");
        let index_position = self.position;
        let mut index = crc32fast::Hasher::new();
        let mut directory = Directory {
            slices: Vec::with_capacity(self.slices.len()),
            extensions: std::mem::take(&mut self.directory_extensions),
        };
        for slice in &self.slices {
            let bytes = Bytes::from(slice.encode());
            let length = bytes.len() as u64;
            limit("index of a slice", length, SLICE_INDEX_MAX_BYTES)?;
            directory.slices.push(DirectoryEntry {
                topic_partition: slice.topic_partition,
                leader_epoch: slice.leader_epoch,
                first_offset: slice.first_offset,
                end_offset: slice.end_offset,
                index_position: self.position,
                index_length: length,
                index_digest: Digest::crc32(&bytes),
                checkpoint: slice.producer_checkpoint.is_some(),
            });
            index.update(&bytes);
            self.position += length;
            self.payload.push(bytes);
        }
        let directory_position = self.position;
        let bytes = Bytes::from(directory.encode());
        let directory_length = bytes.len() as u64;
        limit(
            "directory of an object",
            directory_length,
            DIRECTORY_MAX_BYTES,
        )?;
        index.update(&bytes);
        self.position += directory_length;
        self.payload.push(bytes);

        let (footer, digest) = Footer {
            flags: 0,
            index_position,
            index_length: self.position - index_position,
            directory_position,
            directory_length,
            index_digest: Digest::from_crc32(index.finalize()),
        }
        .encode();
        self.payload.push(Bytes::copy_from_slice(&footer));
        let object = ObjectRef {
            key,
            length: self.position + FOOTER_LENGTH,
            digest,
        };
        let slices = self.slices.iter().zip(&directory.slices);
        let slices = slices
            .map(|(slice, entry)| slice_ref(slice, entry, &object))
            .collect();
        Ok(FinishedObject {
            payload: self.payload,
            object,
            slices,
        })
    }
}

fn limit(what: &'static str, value: u64, limit: u64) -> Result<(), Error> {
    if value > limit {
        Err(Error::Limit { what, limit })
    } else {
        Ok(())
    }
}

fn slice_ref(slice: &SliceIndex, entry: &DirectoryEntry, object: &ObjectRef) -> SliceRef {
    SliceRef {
        topic_partition: slice.topic_partition,
        leader_epoch: slice.leader_epoch,
        first_offset: slice.first_offset,
        end_offset: slice.end_offset,
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.block_bytes(),
        object: object.clone(),
        index_position: entry.index_position,
        index_length: entry.index_length,
        index_digest: entry.index_digest.clone(),
        checkpoint: entry.checkpoint,
    }
}
