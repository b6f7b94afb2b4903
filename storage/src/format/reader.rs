//! Reads parts of objects and gives out only what has its digest.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::footer::{FOOTER_LENGTH, Footer};
use super::index::{BlockEntry, Directory, SliceIndex};
use super::limits::{
    BLOCK_READ_MAX_BYTES, DAMAGED_READS, DIRECTORY_MAX_BYTES, SLICE_INDEX_MAX_BYTES,
};
use super::{Damage, Part, Place, verify_block};
use crate::Error;
use crate::catalog::{Digest, ObjectRef, SliceRef};
use crate::store::StoreMetrics;

/// Reads objects. Cheap to clone.
///
/// Bytes that do not match are read again a few times, for a store may answer short or stale once
/// (each time is counted); what stays wrong is [`Error::Damaged`].
#[derive(Clone, Debug)]
pub struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    metrics: StoreMetrics,
}

impl ObjectReader {
    /// A reader of `store`, which counts damage in `metrics`.
    pub fn new(store: Arc<dyn ObjectStore>, metrics: StoreMetrics) -> Self {
        Self { store, metrics }
    }

    /// A slice's part of the index, read alone.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the object is gone (plan again); [`Error::Damaged`];
    /// [`Error::Unsupported`]; [`Error::Store`].
    pub async fn slice_index(&self, slice: &SliceRef) -> Result<SliceIndex, Error> {
        let key = &slice.object.key;
        let place = Place {
            key,
            part: Part::SliceIndex,
            position: slice.index_position,
        };
        let range = range(place, slice.index_length, SLICE_INDEX_MAX_BYTES)?;
        let (index, _) = self
            .verified(place, range, |bytes| {
                let index =
                    decode_slice_index(key, slice.index_position, bytes, &slice.index_digest)?;
                if index.topic_partition != slice.topic_partition
                    || index.first_offset != slice.first_offset
                    || index.end_offset != slice.end_offset
                {
                    return Err(place.malformed("not the slice that the reference names"));
                }
                Ok(index)
            })
            .await?;
        Ok(index)
    }

    /// One block of the object under `key`.
    ///
    /// # Errors
    /// As [`ObjectReader::slice_index`].
    pub async fn block(&self, key: &str, block: &BlockEntry) -> Result<Bytes, Error> {
        let place = Place {
            key,
            part: Part::Block,
            position: block.position,
        };
        let range = range(place, block.length, BLOCK_READ_MAX_BYTES)?;
        let (_, bytes) = self
            .verified(place, range, |bytes| verify_block(key, block, bytes))
            .await?;
        Ok(bytes)
    }

    /// A run of blocks that follow each other, by one request where that is cheapest; they may be
    /// views into one allocation (`unpinned` before one is cached alone).
    ///
    /// # Errors
    /// As [`ObjectReader::slice_index`].
    ///
    /// # Panics
    /// When the blocks do not follow each other.
    pub async fn blocks(&self, key: &str, blocks: &[BlockEntry]) -> Result<Vec<Bytes>, Error> {
        let Some(first) = blocks.first() else {
            return Ok(Vec::new());
        };
        for pair in blocks.windows(2) {
            assert!(
                pair[0].position + pair[0].length == pair[1].position,
                "a run of blocks"
            );
        }
        let length = blocks.iter().map(|block| block.length).sum();
        let place = Place {
            key,
            part: Part::Block,
            position: first.position,
        };
        range(place, length, BLOCK_READ_MAX_BYTES)?;
        let ranges: Vec<Range<u64>> = blocks
            .iter()
            .map(|block| block.position..block.position + block.length)
            .collect();
        let check = |found: &Vec<Bytes>| {
            let mut pairs = blocks.iter().zip(found);
            pairs.try_for_each(|(block, bytes)| verify_block(key, block, bytes))
        };
        let get = || self.get_ranges(place, &ranges);
        Ok(self.attempts(place, get, check).await?.1)
    }

    /// Footer of the object that `object` names.
    ///
    /// # Errors
    /// As [`ObjectReader::slice_index`].
    pub async fn footer(&self, object: &ObjectRef) -> Result<Footer, Error> {
        self.footer_of(&object.key, object.length, Some(&object.digest))
            .await
    }

    pub(super) async fn footer_of(
        &self,
        key: &str,
        length: u64,
        digest: Option<&Digest>,
    ) -> Result<Footer, Error> {
        let position = length.saturating_sub(FOOTER_LENGTH);
        let place = Place {
            key,
            part: Part::Footer,
            position,
        };
        if length < FOOTER_LENGTH {
            return Err(place.damaged(Damage::Length {
                expected: FOOTER_LENGTH,
                found: length,
            }));
        }
        let check = |bytes: &Bytes| Footer::decode(key, length, bytes, digest);
        Ok(self.verified(place, position..length, check).await?.0)
    }

    /// The list of slices of the object under `key`, whose footer is `footer`. The index is read
    /// whole and checked against the footer.
    ///
    /// # Errors
    /// As [`ObjectReader::slice_index`].
    pub async fn directory(&self, key: &str, footer: &Footer) -> Result<Directory, Error> {
        let place = Place {
            key,
            part: Part::Directory,
            position: footer.directory_position,
        };
        let range = range(place, footer.directory_length, DIRECTORY_MAX_BYTES)?;
        let check = |bytes: &Bytes| Directory::decode(bytes, footer, place);
        self.index_digest(key, footer).await?;
        Ok(self.verified(place, range, check).await?.0)
    }

    /// Checks the digest of the whole index, a piece at a time.
    async fn index_digest(&self, key: &str, footer: &Footer) -> Result<(), Error> {
        let place = Place {
            key,
            part: Part::Index,
            position: footer.index_position,
        };
        let end = footer.index_position + footer.index_length;
        for attempt in 1.. {
            let mut crc = crc32fast::Hasher::new();
            let mut position = footer.index_position;
            while position < end {
                let piece = position..end.min(position + PIECE_BYTES);
                position = piece.end;
                crc.update(&self.verified(place, piece, |_| Ok(())).await?.1);
            }
            let found = Digest::from_crc32(crc.finalize());
            if found.algorithm != footer.index_digest.algorithm {
                let algorithm = footer.index_digest.algorithm;
                return Err(place.unsupported(format!("digest algorithm {algorithm}")));
            }
            if found == footer.index_digest {
                return Ok(());
            }
            self.metrics.damaged(place.part);
            if attempt >= DAMAGED_READS {
                break;
            }
        }
        Err(place.damaged(Damage::Checksum))
    }

    /// Reads `range` until it has its length and passes `check`, a few times.
    pub(super) async fn verified<T>(
        &self,
        place: Place<'_>,
        range: Range<u64>,
        check: impl Fn(&Bytes) -> Result<T, Error>,
    ) -> Result<(T, Bytes), Error> {
        let get = || self.get(place, range.clone());
        self.attempts(place, get, check).await
    }

    /// Gets until what came passes `check`, a few times.
    async fn attempts<B, T, F: Future<Output = Result<B, Error>>>(
        &self,
        place: Place<'_>,
        get: impl Fn() -> F,
        check: impl Fn(&B) -> Result<T, Error>,
    ) -> Result<(T, B), Error> {
        let mut attempt = 1;
        loop {
            let error = match get().await {
                Ok(bytes) => match check(&bytes) {
                    Ok(value) => return Ok((value, bytes)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !matches!(error, Error::Damaged { .. }) {
                return Err(error);
            }
            self.metrics.damaged(place.part);
            if attempt >= DAMAGED_READS {
                return Err(error);
            }
            tracing::warn!(%error, attempt, "stored bytes do not match; reading them again");
            attempt += 1;
        }
    }

    /// Ranges that follow each other.
    async fn get_ranges(
        &self,
        place: Place<'_>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, Error> {
        let path = Path::from(place.key);
        match self.store.get_ranges(&path, ranges).await {
            Ok(found) => {
                let length = |range: &Range<u64>| range.end - range.start;
                let right = found.iter().map(|bytes| bytes.len() as u64);
                if right.eq(ranges.iter().map(length)) {
                    return Ok(found);
                }
                let expected = ranges.iter().map(length).sum();
                let found = found.iter().map(|bytes| bytes.len() as u64).sum();
                Err(place.damaged(Damage::Length { expected, found }))
            }
            Err(error) => {
                let end = ranges.last().map_or(place.position, |range| range.end);
                Err(self.explain(place, &path, place.position..end, error).await)
            }
        }
    }

    async fn get(&self, place: Place<'_>, range: Range<u64>) -> Result<Bytes, Error> {
        let path = Path::from(place.key);
        let expected = range.end - range.start;
        match self.store.get_range(&path, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == expected => Ok(bytes),
            Ok(bytes) => {
                let found = bytes.len() as u64;
                Err(place.damaged(Damage::Length { expected, found }))
            }
            Err(error) => Err(self.explain(place, &path, range, error).await),
        }
    }

    /// Tells an object that is too short, for which stores have many words, from a store in
    /// trouble: the first never mends.
    async fn explain(
        &self,
        place: Place<'_>,
        path: &Path,
        range: Range<u64>,
        source: object_store::Error,
    ) -> Error {
        let key = place.key.to_owned();
        if matches!(source, object_store::Error::NotFound { .. }) {
            return Error::NotFound { key };
        }
        if let Ok(meta) = self.store.head(path).await
            && meta.size < range.end
        {
            return place.damaged(Damage::Length {
                expected: range.end,
                found: meta.size,
            });
        }
        Error::store("get", key, source)
    }
}

/// `pieces` such that each pins about its own bytes and no more: those that share an allocation,
/// or lie in a much larger one, are copied out.
pub(crate) fn unpinned(pieces: Vec<Bytes>) -> Vec<Bytes> {
    // Looked at together: the last view of a shared allocation looks as if it owned it.
    if pieces.iter().any(|piece| !piece.is_unique()) {
        return pieces.iter().map(|b| Bytes::copy_from_slice(b)).collect();
    }
    let own = |piece: Bytes| match piece.try_into_mut() {
        Ok(own) if own.capacity() <= own.len() + own.len() / 8 => own.freeze(),
        Ok(piece) => Bytes::copy_from_slice(&piece),
        Err(piece) => Bytes::copy_from_slice(&piece),
    };
    pieces.into_iter().map(own).collect()
}

/// Bytes read at once when a long part is only checked.
pub(super) const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Decodes a slice's part of the index, read from `position` of the object under `key`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Unsupported`].
pub fn decode_slice_index(
    key: &str,
    position: u64,
    bytes: &[u8],
    digest: &Digest,
) -> Result<SliceIndex, Error> {
    let place = Place {
        key,
        part: Part::SliceIndex,
        position,
    };
    digest.check(bytes, place)?;
    SliceIndex::decode(bytes, place)
}

/// The byte range of a part, after its length was checked: it comes from stored bytes.
fn range(place: Place<'_>, length: u64, max: u64) -> Result<Range<u64>, Error> {
    if length == 0 || length > max {
        return Err(place.malformed("length past its limit"));
    }
    let end = place
        .position
        .checked_add(length)
        .ok_or_else(|| place.malformed("position"))?;
    Ok(place.position..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_pins_its_own_bytes_only() {
        // Views of one allocation are copied out, the last one too.
        let whole = Bytes::from(vec![7; 300]);
        let start = whole.as_ptr();
        let views = vec![whole.slice(..100), whole.slice(100..300)];
        drop(whole);
        let own = unpinned(views);
        assert_eq!(own.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 200]);
        assert!(own.iter().all(|b| b.iter().all(|byte| *byte == 7)));
        assert!(own[0].as_ptr() != start, "a copy");
        // What has an allocation of its own stays where it lies.
        let single = Bytes::from(vec![1; 100]);
        let start = single.as_ptr();
        let own = unpinned(vec![single]);
        assert_eq!((own[0].as_ptr(), own[0].len()), (start, 100));
        // But not when that is much larger.
        let mut large = bytes::BytesMut::with_capacity(1_000);
        large.extend_from_slice(&[2; 100]);
        let large = large.freeze();
        let start = large.as_ptr();
        let own = unpinned(vec![large]);
        assert!(own[0].as_ptr() != start && own[0] == vec![2; 100]);
    }
}
