//! Who this voter is: one small file beside its log.
//!
//! ```text
//!   identity, integers big-endian:
//!    0  8  magic "HWVOTER1"     8 16  log id     24 8  node id     32 4  CRC-32 of bytes 0..32
//! ```
//!
//! **Invariant:** `identity` is there only once the log is: an identity without a log means that
//! the log, and the votes in it, are lost. `identity.new` is one whose log may yet have to be made.

use std::path::Path;

use env::{Disk, OpenMode};
use uuid::Uuid;
use wal::WalId;

use crate::error::Error;

const MAGIC: &[u8; 8] = b"HWVOTER1";
const BYTES: usize = 36;

/// A voter's identity, and whether its log was ever begun.
pub(crate) struct Identity {
    pub(crate) log: WalId,
    /// False until [`publish`]: a log that is missing may then be made. Afterwards it was lost.
    pub(crate) begun: bool,
}

/// Reads the identity in `dir`, or proposes `fresh`. Blocks.
///
/// # Errors
/// `Settings` when the directory is another node's; `Corrupt`, `Io`.
pub(crate) fn open(disk: &dyn Disk, dir: &Path, node: u64, fresh: Uuid) -> Result<Identity, Error> {
    let path = dir.join("identity");
    disk.create_dir_all(dir)
        .map_err(|e| io("make room for", &path, e))?;
    if let Some(bytes) = read(disk, &path)? {
        let log = decode(&path, &bytes, node)?;
        return Ok(Identity { log, begun: true });
    }
    let new = dir.join("identity.new");
    // One that a crash cut short cannot have a log yet.
    if let Some(bytes) = read(disk, &new)?
        && let Ok(log) = decode(&new, &bytes, node)
    {
        return Ok(Identity { log, begun: false });
    }
    propose(disk, dir, node, fresh)
}

/// Writes `fresh` beside the identity that stands, if any; [`publish`] makes it the identity.
/// Blocks.
///
/// # Errors
/// `Io`.
pub(crate) fn propose(
    disk: &dyn Disk,
    dir: &Path,
    node: u64,
    fresh: Uuid,
) -> Result<Identity, Error> {
    let new = dir.join("identity.new");
    let there = disk.file_len(&new).map_err(|e| io("look at", &new, e))?;
    if there.is_some() {
        disk.remove_file(&new).map_err(|e| io("clear", &new, e))?;
    }
    let file = disk
        .open(&new, OpenMode::CreateNew)
        .map_err(|e| io("create", &new, e))?;
    file.write_all_at(&encode(node, fresh), 0)
        .map_err(|e| io("write", &new, e))?;
    file.sync_data().map_err(|e| io("sync", &new, e))?;
    drop(file);
    sync(disk, dir)?;
    let log = WalId(fresh);
    Ok(Identity { log, begun: false })
}

/// The log has its first segment, durably: from now on it must be there. Blocks.
///
/// # Errors
/// `Io`.
pub(crate) fn publish(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = dir.join("identity");
    disk.rename(&dir.join("identity.new"), &path)
        .map_err(|e| io("publish", &path, e))?;
    sync(disk, dir)
}

fn io(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::io(format!("{what} {}", path.display()), source)
}

fn sync(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    disk.sync_dir(dir).map_err(|e| io("sync", dir, e))?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).map_err(|e| io("sync", parent, e))?;
    }
    Ok(())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let length = disk.file_len(path).map_err(|e| io("look at", path, e))?;
    let Some(length) = length else {
        return Ok(None);
    };
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(|e| io("open", path, e))?;
    // Another length is found out by whoever decodes it.
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(BYTES);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|e| io("read", path, e))?;
    Ok(Some(bytes))
}

fn encode(node: u64, log: Uuid) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(log.as_bytes());
    bytes.extend_from_slice(&node.to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(path: &Path, bytes: &[u8], node: u64) -> Result<WalId, Error> {
    let corrupt = |reason: &str| Err(Error::corrupt(path.display().to_string(), reason));
    if bytes.len() < BYTES {
        return corrupt("cut short");
    }
    if &bytes[..8] != MAGIC {
        return corrupt("magic");
    }
    if bytes[32..] != crc32fast::hash(&bytes[..32]).to_be_bytes() {
        return corrupt("checksum");
    }
    let found = u64::from_be_bytes(bytes[24..32].try_into().expect("8 bytes"));
    if found != node {
        let reason = format!(
            "{} is the voter of node {found}, not of {node}",
            path.display()
        );
        return Err(Error::Settings { reason });
    }
    Ok(WalId(Uuid::from_slice(&bytes[8..24]).expect("16 bytes")))
}
