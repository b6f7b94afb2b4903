//! Snapshots of the state, as files.
//!
//! ```text
//!   {last index:020}.snapshot, integers big-endian:
//!    0  8  magic "HWCTLSNP"      12 4  bytes of meta      24 4  CRC-32 of meta, state and 0..24
//!    8  4  version (1)           16 8  bytes of state     28 …  meta, state (prost)
//! ```
//!
//! **Invariants:** a file of that name is whole: written under another name, synced, renamed, and
//! the directory synced. Two are kept; what is damaged is skipped for the older one, with an alarm,
//! and the log reaches back to that one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, OpenMode};
use openraft::alias::SnapshotMetaOf;
use prost::Message;

use super::types::{
    LogId, StoredMembers, TypeConfig, get_log_id, get_membership, put_log_id, put_membership, wire,
};
use crate::command::{Decoded, Malformed, malformed};
use crate::error::Error;
use crate::limits::{MAX_SNAPSHOT_BYTES, SNAPSHOT_AFTER_BYTES, SNAPSHOTS_KEPT};

const MAGIC: &[u8; 8] = b"HWCTLSNP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 28;
const SUFFIX: &str = ".snapshot";

/// Level of the state machine that this build runs; a change of `apply` raises it.
pub(crate) const FEATURE_LEVEL: u32 = 1;

/// A snapshot's state, encoded.
pub(crate) type SnapshotData = Arc<[u8]>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// The files of one directory. All calls block.
#[derive(Clone)]
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

// === impl Snapshots ===

impl Snapshots {
    /// Opens (or makes) the directory, and clears it of unfinished files.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, Error> {
        let context = |what: &str| format!("{what} {}", dir.display());
        disk.create_dir_all(&dir)
            .map_err(|e| Error::io(context("create"), e))?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent)
                .map_err(|e| Error::io(context("sync the parent of"), e))?;
        }
        for path in disk
            .read_dir(&dir)
            .map_err(|e| Error::io(context("list"), e))?
        {
            if path.extension().is_some_and(|extension| extension == "new") {
                disk.remove_file(&path)
                    .map_err(|e| Error::io(context("clear"), e))?;
            }
        }
        Ok(Self { disk, dir })
    }

    /// Publishes a snapshot and removes all but the newest two.
    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<(), Error> {
        let bytes = encode(meta, state);
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index());
        let path = self.dir.join(format!("{index:020}{SUFFIX}"));
        let new = path.with_extension("snapshot.new");
        self.publish(&new, &path, &bytes)
            .map_err(|e| Error::io(format!("write {}", path.display()), e))?;
        let files = self.files()?;
        for (_, old) in files.iter().rev().skip(SNAPSHOTS_KEPT) {
            let context = format!("remove {}", old.display());
            self.disk
                .remove_file(old)
                .map_err(|e| Error::io(context, e))?;
        }
        Ok(())
    }

    fn publish(&self, new: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        if self.disk.file_len(new)?.is_some() {
            self.disk.remove_file(new)?;
        }
        let file = self.disk.open(new, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        drop(file);
        self.disk.rename(new, path)?;
        self.disk.sync_dir(&self.dir)
    }

    /// The newest snapshot that is whole.
    pub(crate) fn newest(&self) -> Result<Option<(SnapshotMeta, SnapshotData)>, Error> {
        let files = self.files()?;
        let mut damage = None;
        for (_, path) in files.iter().rev() {
            match self.read(path) {
                Ok(found) => return Ok(Some(found)),
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::error!(%error, "a snapshot is damaged: trying the one before");
                    damage = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        // None is whole: the log alone does not reach back to the beginning.
        damage.map_or(Ok(None), Err)
    }

    /// Index of the oldest snapshot kept: the log must reach back to it. `None` while there are
    /// fewer than are to be kept.
    pub(crate) fn oldest_index(&self) -> Result<Option<u64>, Error> {
        let files = self.files()?;
        if files.len() < SNAPSHOTS_KEPT {
            return Ok(None);
        }
        Ok(files.first().map(|(index, _)| *index))
    }

    /// True when the disk has room for a snapshot twice the size of the newest.
    pub(crate) fn has_room(&self) -> Result<bool, Error> {
        let context = || format!("look for space in {}", self.dir.display());
        let mut newest = 0;
        if let Some((_, path)) = self.files()?.pop() {
            let len = self
                .disk
                .file_len(&path)
                .map_err(|e| Error::io(context(), e))?;
            newest = len.unwrap_or(0);
        }
        let free = self
            .disk
            .available_bytes(&self.dir)
            .map_err(|e| Error::io(context(), e))?;
        Ok(free >= (2 * newest).max(2 * SNAPSHOT_AFTER_BYTES))
    }

    fn files(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let context = format!("list {}", self.dir.display());
        let paths = self
            .disk
            .read_dir(&self.dir)
            .map_err(|e| Error::io(context, e))?;
        let mut files = Vec::new();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let index = name.and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            files.extend(index.map(|index| (index, path)));
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &Path) -> Result<(SnapshotMeta, SnapshotData), Error> {
        let context = || format!("read {}", path.display());
        let file = self
            .disk
            .open(path, OpenMode::Read)
            .map_err(|e| Error::io(context(), e))?;
        let len = file.len().map_err(|e| Error::io(context(), e))?;
        if len > MAX_SNAPSHOT_BYTES {
            return Err(Error::corrupt(
                path.display().to_string(),
                format!("{len} bytes"),
            ));
        }
        let mut bytes = vec![0; usize::try_from(len).expect("bounded above")];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|e| Error::io(context(), e))?;
        decode(&bytes).map_err(|e| Error::corrupt(path.display().to_string(), e.0))
    }
}

/// A snapshot's file, also a checkpoint's object.
pub(crate) fn encode(meta: &SnapshotMeta, state: &[u8]) -> Vec<u8> {
    let membership = meta.last_membership.membership();
    let meta = wire::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(put_log_id),
        membership_id: meta.last_membership.log_id().as_ref().map(put_log_id),
        membership: Some(put_membership(membership)),
        feature_level: FEATURE_LEVEL,
    }
    .encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + meta.len() + state.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(meta.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&(state.len() as u64).to_be_bytes());
    let crc = checksum(&bytes, &meta, state);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(state);
    bytes
}

/// Reads a snapshot's file back.
pub(crate) fn decode(bytes: &[u8]) -> Decoded<(SnapshotMeta, SnapshotData)> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return malformed("snapshot: too short");
    };
    if &header[..8] != MAGIC {
        return malformed("snapshot: magic");
    }
    let version = u32::from_be_bytes(header[8..12].try_into().expect("4 bytes"));
    if version != VERSION {
        return malformed(&format!("snapshot: version {version}"));
    }
    let meta_bytes = u32::from_be_bytes(header[12..16].try_into().expect("4 bytes")) as usize;
    let state_bytes = u64::from_be_bytes(header[16..24].try_into().expect("8 bytes"));
    let crc = u32::from_be_bytes(header[24..28].try_into().expect("4 bytes"));
    let Some((meta, state)) = body.split_at_checked(meta_bytes) else {
        return malformed("snapshot: cut short");
    };
    if state.len() as u64 != state_bytes || checksum(&header[..24], meta, state) != crc {
        return malformed("snapshot: checksum");
    }
    let meta = wire::SnapshotMeta::decode(meta).map_err(|e| Malformed(format!("snapshot: {e}")))?;
    if meta.feature_level > FEATURE_LEVEL {
        return malformed(&format!("snapshot: feature level {}", meta.feature_level));
    }
    let last: Option<LogId> = meta.last.as_ref().map(get_log_id);
    let members = meta
        .membership
        .map_or_else(|| Ok(Default::default()), get_membership)?;
    let membership_id = meta.membership_id.as_ref().map(get_log_id);
    let last_membership = StoredMembers::new(membership_id, members);
    Ok((
        SnapshotMeta {
            last_log_id: last,
            last_membership,
        },
        state.into(),
    ))
}

fn checksum(header: &[u8], meta: &[u8], state: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for part in [header, meta, state] {
        crc.update(part);
    }
    crc.finalize()
}
