//! Checks a whole object: every digest, every tiling, every batch against the index.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use protocol::BatchView;

use super::footer::{FOOTER_LENGTH, Footer};
use super::index::{BatchEntry, DirectoryEntry, SliceIndex};
use super::reader::ObjectReader;
use super::{Damage, Part, Place};
use crate::Error;
use crate::catalog::{ObjectRef, SliceRef};
use crate::store::StoreMetrics;

/// What one slice holds, and whether it is whole.
#[derive(Debug)]
pub struct SliceReport {
    /// Its line in the directory.
    pub entry: DirectoryEntry,
    /// Its part of the index; `None` when that is damaged.
    pub index: Option<SliceIndex>,
    /// Everything found wrong with it.
    pub errors: Vec<Error>,
}

/// What an object holds, and whether it is whole.
#[derive(Debug)]
pub struct Report {
    /// Its key.
    pub key: String,
    /// Its length, as the store tells.
    pub length: u64,
    /// Its footer; `None` when that is damaged.
    pub footer: Option<Footer>,
    /// Its slices; empty when the directory is damaged.
    pub slices: Vec<SliceReport>,
    /// What is wrong beyond single slices.
    pub errors: Vec<Error>,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.errors.is_empty() && self.slices.iter().all(|slice| slice.errors.is_empty())
    }

    /// Everything found wrong, slice after slice.
    pub fn all_errors(&self) -> impl Iterator<Item = &Error> {
        self.errors
            .iter()
            .chain(self.slices.iter().flat_map(|slice| &slice.errors))
    }
}

/// Reads the object under `key` from end to end and checks every byte of it; with `expected`, also
/// that it is the object which that reference names. Damage is in the report; memory is bounded by
/// one block and one slice's part of the index.
///
/// # Errors
/// Only when the object could not be read: [`Error::NotFound`], [`Error::Store`].
pub async fn verify_object(
    store: &Arc<dyn ObjectStore>,
    key: &str,
    expected: Option<&ObjectRef>,
) -> Result<Report, Error> {
    let reader = ObjectReader::new(Arc::clone(store), StoreMetrics::default());
    let length = head(store, key).await?;
    let mut report = Report {
        key: key.to_owned(),
        length,
        footer: None,
        slices: vec![],
        errors: vec![],
    };
    let place = Place {
        key,
        part: Part::Footer,
        position: length.saturating_sub(FOOTER_LENGTH),
    };
    if let Some(expected) = expected
        && expected.length != length
    {
        let damage = Damage::Length {
            expected: expected.length,
            found: length,
        };
        report.errors.push(place.damaged(damage));
    }
    let digest = expected.map(|object| &object.digest);
    let Some(footer) = keep(
        &mut report.errors,
        reader.footer_of(key, length, digest).await,
    )?
    else {
        return Ok(report);
    };
    report.footer = Some(footer.clone());
    let Some(directory) = keep(&mut report.errors, reader.directory(key, &footer).await)? else {
        return Ok(report);
    };
    let mut position = 0;
    for entry in directory.slices {
        let object = ObjectRef {
            key: key.to_owned(),
            length,
            digest: footer.index_digest.clone(),
        };
        let slice = slice(&reader, object, entry, &mut position).await?;
        report.slices.push(slice);
    }
    let whole = report.slices.iter().all(|slice| slice.index.is_some());
    if whole && position != footer.index_position {
        let place = Place {
            key,
            part: Part::Block,
            position,
        };
        report
            .errors
            .push(place.malformed("bytes between the blocks and the index"));
    }
    Ok(report)
}

async fn head(store: &Arc<dyn ObjectStore>, key: &str) -> Result<u64, Error> {
    match store.head(&Path::from(key)).await {
        Ok(meta) => Ok(meta.size),
        Err(object_store::Error::NotFound { .. }) => Err(Error::NotFound {
            key: key.to_owned(),
        }),
        Err(source) => Err(Error::store("head", key, source)),
    }
}

/// Sets damage aside; hands on what says nothing about the object.
fn keep<T>(errors: &mut Vec<Error>, result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (Error::Damaged { .. } | Error::Unsupported { .. })) => {
            errors.push(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn slice(
    reader: &ObjectReader,
    object: ObjectRef,
    entry: DirectoryEntry,
    position: &mut u64,
) -> Result<SliceReport, Error> {
    let key = object.key.clone();
    let reference = SliceRef {
        topic_partition: entry.topic_partition,
        leader_epoch: entry.leader_epoch,
        first_offset: entry.first_offset,
        end_offset: entry.end_offset,
        max_timestamp_ms: -1,
        bytes: 0,
        object,
        index_position: entry.index_position,
        index_length: entry.index_length,
        index_digest: entry.index_digest.clone(),
        checkpoint: entry.checkpoint,
    };
    let mut errors = Vec::new();
    let index = keep(&mut errors, reader.slice_index(&reference).await)?;
    if let Some(index) = &index {
        for (number, block) in index.blocks.iter().enumerate() {
            let place = Place {
                key: &key,
                part: Part::Block,
                position: block.position,
            };
            if block.position != *position {
                errors.push(place.malformed("blocks do not tile the object"));
            }
            *position = block.position + block.length;
            if let Some(bytes) = keep(&mut errors, reader.block(&key, block).await)? {
                let batches = check_batches(&bytes, index, index.batches_of(number), place);
                keep(&mut errors, batches)?;
            }
        }
    }
    Ok(SliceReport {
        entry,
        index,
        errors,
    })
}

/// The batches of a block are those that the index lists, each with a valid checksum of its own.
fn check_batches(
    block: &Bytes,
    slice: &SliceIndex,
    entries: &[BatchEntry],
    place: Place<'_>,
) -> Result<(), Error> {
    let mut rest = &block[..];
    for entry in entries {
        let (batch, after) =
            BatchView::split_first(rest).map_err(|_| place.malformed("not a v2 batch"))?;
        batch
            .validate_crc()
            .map_err(|_| place.malformed("checksum of a batch"))?;
        if !entry.describes(&batch) || batch.leader_epoch() != slice.leader_epoch.0 {
            return Err(place.malformed("a batch differs from its line in the index"));
        }
        rest = after;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(place.malformed("batches that the index does not list"))
    }
}
