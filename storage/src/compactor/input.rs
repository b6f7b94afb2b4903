//! Reads slices to be rewritten, every checksum verified.

use bytes::Bytes;
use env::HashMap;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::Error;
use crate::format::{BatchEntry, SliceIndex, decode_slice_index, verify_block};
use crate::limits::COMPACTION_WINDOW_BYTES;
use crate::partition::Slice;
use crate::producers::{ProducerBatch, Producers};
use crate::storage::Shared;

/// Objects that are held whole, because most of what they hold is wanted.
#[derive(Default)]
pub(super) struct WholeObjects {
    objects: HashMap<String, Bytes>,
}

impl WholeObjects {
    /// Reads the object under `key`, of `length` bytes, in one request.
    pub(super) async fn read(
        &mut self,
        shared: &Shared,
        key: &str,
        length: u64,
    ) -> Result<(), Error> {
        let bytes = shared
            .objects
            .store()
            .get_range(&Path::from(key), 0..length)
            .await;
        let bytes = bytes.map_err(|error| match error {
            object_store::Error::NotFound { .. } => Error::NotFound {
                key: key.to_owned(),
            },
            error => Error::store("get", key, error),
        })?;
        shared
            .metrics
            .compaction_read_bytes
            .inc_by(bytes.len() as u64);
        self.objects.insert(key.to_owned(), bytes);
        Ok(())
    }

    /// A slice's index; from the object held whole, else from the store.
    pub(super) async fn index(&self, shared: &Shared, slice: &Slice) -> Result<SliceIndex, Error> {
        let reference = &slice.reference;
        if let Some(bytes) = self.part(slice, reference.index_position, reference.index_length) {
            let (key, position) = (&reference.object.key, reference.index_position);
            let index = decode_slice_index(key, position, &bytes, &reference.index_digest);
            if let Ok(index) = index {
                return Ok(index);
            }
            // The reader below reads again, and says what is damaged.
        }
        shared
            .metrics
            .compaction_read_bytes
            .inc_by(reference.index_length);
        shared.objects.reader().slice_index(reference).await
    }

    /// Blocks `from..` of a slice, as many as fit a window.
    pub(super) async fn blocks(
        &self,
        shared: &Shared,
        slice: &Slice,
        index: &SliceIndex,
        from: usize,
    ) -> Result<Vec<Bytes>, Error> {
        // Each window takes milliseconds to check and rewrite: others on this thread go first.
        tokio::task::yield_now().await;
        let mut total = 0;
        let more = index.blocks[from..].iter().take_while(|block| {
            total += block.length;
            total <= COMPACTION_WINDOW_BYTES
        });
        let run = &index.blocks[from..from + more.count().max(1)];
        let key = &slice.reference.object.key;
        let held: Option<Vec<Bytes>> = run
            .iter()
            .map(|block| {
                let bytes = self.part(slice, block.position, block.length)?;
                verify_block(key, block, &bytes).ok().map(|()| bytes)
            })
            .collect();
        if let Some(held) = held {
            return Ok(held);
        }
        let bytes = run.iter().map(|block| block.length).sum();
        shared.metrics.compaction_read_bytes.inc_by(bytes);
        shared.objects.reader().blocks(key, run).await
    }

    fn part(&self, slice: &Slice, position: u64, length: u64) -> Option<Bytes> {
        let object = self.objects.get(&slice.reference.object.key)?;
        let start = usize::try_from(position).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= object.len()).then(|| object.slice(start..end))
    }
}

/// Cuts a block into its batches, each with its line of the index.
pub(super) fn batches<'a>(
    block: &Bytes,
    lines: &'a [BatchEntry],
) -> Result<Vec<(Bytes, &'a BatchEntry)>, Error> {
    let mut rest = block.clone();
    let mut found = Vec::with_capacity(lines.len());
    for line in lines {
        let mismatch = Error::Internal {
            what: "a block does not hold the batches of its index",
        };
        let Ok((view, _)) = protocol::BatchView::split_first(&rest) else {
            return Err(mismatch);
        };
        if !line.describes(&view) {
            return Err(mismatch);
        }
        let length = view.len();
        found.push((rest.split_to(length), line));
    }
    Ok(found)
}

/// Carries a producer checkpoint through a run: the state at its end is known when some slice of
/// it was a checkpoint (R5).
#[derive(Default)]
pub(super) struct CheckpointFold {
    state: Option<Producers>,
}

impl CheckpointFold {
    pub(super) fn pass(&mut self, index: &SliceIndex) -> Result<(), Error> {
        if let Some(bytes) = &index.producer_checkpoint {
            let what = "a producer checkpoint does not decode";
            self.state = Some(Producers::decode(bytes).map_err(|_| Error::Internal { what })?);
        } else if let Some(state) = &mut self.state {
            index
                .batches
                .iter()
                .for_each(|batch| state.record(&ProducerBatch::from(batch)));
        }
        Ok(())
    }

    /// The state at the end of the run, when it is known.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        self.state.take().map(|state| Bytes::from(state.encode()))
    }
}
