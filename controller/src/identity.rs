//! Who this voter is: one small file beside its log.
//!
//! ```text
//!   identity, integers big-endian:
//!    0  8  magic "HWVOTER1"     8 16  log id     24 8  node id     32 4  CRC-32 of bytes 0..32
//! ```

use std::path::Path;

use env::{Disk, OpenMode};
use uuid::Uuid;
use wal::WalId;

use crate::error::Error;

const MAGIC: &[u8; 8] = b"HWVOTER1";
const BYTES: usize = 36;

/// Reads the identity in `dir`, or makes it with `log`. Blocks.
///
/// # Errors
/// `Settings` when the directory is another node's; `Corrupt`, `Io`.
pub(crate) fn open(disk: &dyn Disk, dir: &Path, node: u64, log: Uuid) -> Result<WalId, Error> {
    let path = dir.join("identity");
    let io = |what: &str, e| Error::io(format!("{what} {}", path.display()), e);
    disk.create_dir_all(dir)
        .map_err(|e| io("make room for", e))?;
    if disk
        .file_len(&path)
        .map_err(|e| io("look at", e))?
        .is_some()
    {
        let file = disk
            .open(&path, OpenMode::Read)
            .map_err(|e| io("open", e))?;
        let mut bytes = vec![0; BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|e| io("read", e))?;
        return decode(&path, &bytes, node);
    }
    let new = dir.join("identity.new");
    if disk.file_len(&new).map_err(|e| io("look at", e))?.is_some() {
        disk.remove_file(&new).map_err(|e| io("clear", e))?;
    }
    let file = disk
        .open(&new, OpenMode::CreateNew)
        .map_err(|e| io("create", e))?;
    file.write_all_at(&encode(node, log), 0)
        .map_err(|e| io("write", e))?;
    file.sync_data().map_err(|e| io("sync", e))?;
    drop(file);
    disk.rename(&new, &path).map_err(|e| io("publish", e))?;
    disk.sync_dir(dir)
        .map_err(|e| io("sync the directory of", e))?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)
            .map_err(|e| io("sync the parent of", e))?;
    }
    Ok(WalId(log))
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
