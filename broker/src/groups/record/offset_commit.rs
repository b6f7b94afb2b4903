//! Value of a committed offset.
//!
//! ```text
//! v0: offset i64, metadata string, commit time i64
//! v1: v0, expiry time i64              (written when the client asked for its own retention)
//! v2: v0
//! v3: offset i64, leader epoch i32, metadata string, commit time i64           (what we write)
//! v4: v3 with compact string and tagged fields, which are skipped
//! ```

use bytes::Bytes;

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::groups::api::Name;

/// Value of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset the group reads next.
    pub offset: i64,
    /// Leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's own string.
    pub metadata: Name,
    /// When it was committed, milliseconds since the Unix epoch.
    pub commit_ms: i64,
    /// When it expires, if the client chose its own retention.
    pub expire_ms: Option<i64>,
}

impl OffsetValue {
    /// Version 3, or version 1 with an expiry of the client's own (which has no leader epoch).
    pub fn encode(&self) -> Bytes {
        match self.expire_ms {
            None => {
                let mut writer = Writer::new(3);
                writer.i64(self.offset);
                writer.i32(self.leader_epoch);
                writer.string(&self.metadata);
                writer.i64(self.commit_ms);
                writer.finish()
            }
            Some(expire_ms) => {
                let mut writer = Writer::new(1);
                writer.i64(self.offset);
                writer.string(&self.metadata);
                writer.i64(self.commit_ms);
                writer.i64(expire_ms);
                writer.finish()
            }
        }
    }

    /// Reads versions 0 to 4.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("version")?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::Version {
                record: "OffsetCommitValue",
                version,
            });
        }
        let offset = reader.i64("offset")?;
        let leader_epoch = if version >= 3 {
            reader.i32("leaderEpoch")?
        } else {
            -1
        };
        let metadata = if version >= 4 {
            reader.compact_string("metadata")?
        } else {
            reader.string("metadata")?
        };
        let commit_ms = reader.i64("commitTimestamp")?;
        let expire_ms = match version {
            1 => Some(reader.i64("expireTimestamp")?).filter(|&at| at != -1),
            _ => None,
        };
        if version >= 4 {
            reader.skip_tags()?;
        }
        Ok(Self {
            offset,
            leader_epoch,
            metadata: metadata.into(),
            commit_ms,
            expire_ms,
        })
    }
}
