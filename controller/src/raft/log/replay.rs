//! Reads the log back: record by record, in the order of issue.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use env::Disk;
use openraft::LogIdOptionExt;
use openraft::entry::RaftEntry;
use prost::Message;
use wal::{Record, SegmentLog, SegmentLogSettings, WalId};

use super::{COMMITTED, Contents, ENTRY, PURGE, TRUNCATE, VOTE, next_of};
use crate::command::{Decoded, Malformed, malformed};
use crate::error::Error;
use crate::raft::types::{decode_entry, decode_log_id, decode_vote, wire};

/// A log as it was found.
pub(super) struct Opened {
    pub(super) log: SegmentLog,
    pub(super) contents: Contents,
    pub(super) groups: VecDeque<(u64, u64)>,
}

/// Opens the log of `dir`, or makes it when the directory has none and `make` is true; `None` when
/// not. Blocks.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    id: WalId,
    nonce: u128,
    settings: SegmentLogSettings,
    make: bool,
) -> Result<Option<Opened>, Error> {
    let mut contents = Contents::default();
    let mut groups = VecDeque::new();
    let mut bad = None;
    let mut visit = |sequence: u64, records: Vec<Record>| {
        for record in records {
            if let Err(e) = replay(&mut contents, &record)
                && bad.is_none()
            {
                bad = Some(Error::corrupt(format!("raft log, group {sequence}"), e.0));
            }
        }
        if let Some((last, _)) = contents.entries.last_key_value() {
            groups.push_back((sequence, *last));
        }
        Ok(())
    };
    let opened = SegmentLog::open(disk.clone(), dir, id, nonce, settings, &mut visit);
    let log = match opened {
        Ok((log, report)) => {
            tracing::debug!(?report, "raft log read");
            log
        }
        Err(wal::Error::Missing { .. }) if !make => return Ok(None),
        Err(wal::Error::Missing { .. }) => {
            SegmentLog::create(disk, dir, id, nonce, settings).map_err(from_wal)?
        }
        Err(error) => return Err(from_wal(error)),
    };
    if let Some(bad) = bad {
        return Err(bad);
    }
    check(&mut contents)?;
    Ok(Some(Opened {
        log,
        contents,
        groups,
    }))
}

fn replay(contents: &mut Contents, record: &Record) -> Decoded<()> {
    match record.tag {
        ENTRY => {
            let entry = decode_entry(&record.bytes)?;
            let index = entry.log_id().index();
            // Groups that were given up may be seen again.
            if Some(index) > contents.purged.index() {
                contents.entries.insert(index, entry);
            }
        }
        VOTE => contents.vote = Some(decode_vote(&record.bytes)?),
        TRUNCATE => {
            let marker = wire::TruncateFrom::decode(&*record.bytes);
            let marker = marker.map_err(|e| Malformed(format!("truncation: {e}")))?;
            contents.entries.split_off(&marker.index);
        }
        PURGE => {
            let purged = decode_log_id(&record.bytes)?;
            contents.entries = contents.entries.split_off(&next_of(&purged));
            contents.purged = Some(purged);
        }
        COMMITTED => contents.committed = Some(decode_log_id(&record.bytes)?),
        other => return malformed(&format!("raft log record {other}")),
    }
    Ok(())
}

/// No hole: what was appended follows what was purged, one by one.
fn check(contents: &mut Contents) -> Result<(), Error> {
    let mut next = contents.purged.as_ref().map(next_of);
    for index in contents.entries.keys() {
        if next.is_some_and(|next| next != *index) {
            return Err(Error::corrupt(
                "raft log",
                format!("a hole before entry {index}"),
            ));
        }
        next = Some(index + 1);
    }
    Ok(())
}

fn from_wal(error: wal::Error) -> Error {
    match error.kind() {
        wal::ErrorKind::Corrupt => Error::corrupt("raft log", error.to_string()),
        _ => Error::io("raft log", std::io::Error::other(error)),
    }
}
