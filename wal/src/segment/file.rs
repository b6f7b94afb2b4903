//! The header block of a segment, the files of a directory, and the one writer.
//!
//! ```text
//!    0  8  magic "HWWALSEG"     16 16  log id
//!    8  2  version (1)          32  8  generation
//!   10  2  zero                 40  8  bytes of the file when it was made
//!   12  4  flags (critical)     48  4  CRC-32 of bytes 0..48;  zeros up to 4096
//! ```

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Disk;
use uuid::Uuid;

use super::frame;
use super::prepare::Prepared;
use crate::checksum::Seed;
use crate::limits::BLOCK_BYTES;
use crate::record::{Encoded, Extension, GroupMeta, Item};
use crate::{Error, Sequence, WalId};

const MAGIC: &[u8; 8] = b"HWWALSEG";
const VERSION: u16 = 1;
const CHECKED_BYTES: usize = 48;

/// One use of one file by one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId {
    pub(crate) wal_id: WalId,
    /// From 1, without holes.
    pub(crate) generation: u64,
}

pub(super) fn file_name(generation: u64) -> String {
    format!("{generation:020}.wal")
}

pub(super) fn header_block(id: SegmentId, bytes: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(MAGIC);
    block.extend_from_slice(&VERSION.to_be_bytes());
    block.extend_from_slice(&[0; 6]);
    block.extend_from_slice(id.wal_id.0.as_bytes());
    block.extend_from_slice(&id.generation.to_be_bytes());
    block.extend_from_slice(&bytes.to_be_bytes());
    let crc = Seed::new(id.wal_id, id.generation).checksum(&[&block]);
    block.extend_from_slice(&crc.0.to_be_bytes());
    block.resize(BLOCK_BYTES, 0);
    block
}

/// Checks a header block; gives the size that it names.
pub(super) fn check_header(block: &[u8], id: SegmentId, path: &Path) -> Result<u64, Error> {
    let place = || path.display().to_string();
    let found = WalId(Uuid::from_slice(&block[16..32]).expect("16 bytes"));
    let generation = u64::from_be_bytes(block[32..40].try_into().expect("8 bytes"));
    let crc = Seed::new(found, generation).checksum(&[&block[..CHECKED_BYTES]]);
    let sound = &block[..8] == MAGIC
        && block[48..52] == crc.0.to_be_bytes()
        && block[52..].iter().all(|byte| *byte == 0);
    if sound && found != id.wal_id {
        return Err(Error::Foreign {
            place: place(),
            found,
            expected: id.wal_id,
        });
    }
    if !sound || generation != id.generation {
        return Err(Error::Corrupt {
            wal_id: id.wal_id,
            sequence: 0,
            place: place(),
            reason: "the header of a segment is damaged".into(),
        });
    }
    let version = u16::from_be_bytes([block[8], block[9]]);
    if version != VERSION {
        return Err(Error::Unsupported {
            place: place(),
            what: format!("segment version {version}"),
        });
    }
    let flags = u32::from_be_bytes(block[12..16].try_into().expect("4 bytes"));
    if flags != 0 {
        let what = format!("critical segment flag bit {}", flags.trailing_zeros());
        return Err(Error::Unsupported {
            place: place(),
            what,
        });
    }
    Ok(u64::from_be_bytes(
        block[40..48].try_into().expect("8 bytes"),
    ))
}

/// Generations and paths of the segments in `dir`, in order.
pub(crate) fn list_segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for path in disk.read_dir(dir)? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(stem) = name.strip_suffix(".wal") else {
            continue;
        };
        if let Ok(generation) = stem.parse::<u64>()
            && file_name(generation) == name
        {
            segments.push((generation, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// Makes `dir`, and makes its name and those of the directories above durable.
pub(crate) fn sync_parent(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    disk.create_dir_all(dir)
        .map_err(|e| Error::io("create", dir, e))?;
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        match disk.sync_dir(above) {
            Ok(()) => {}
            // Not ours to open, so not made by us either.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
            Err(e) => return Err(Error::sync(above, e)),
        }
    }
    Ok(())
}

/// Groups below this are gathered before they are written; the parts of larger ones are written
/// from where they lie.
const GATHER_BYTES: usize = 64 << 10;

struct Full {
    path: PathBuf,
    bytes: u64,
    /// One past its last numbered group.
    end: Sequence,
}

/// Writes the groups of one log, one after the other. Blocks.
pub(crate) struct SegmentWriter {
    disk: Arc<dyn Disk>,
    wal_id: WalId,
    current: Prepared,
    position: u64,
    /// Where the segment before ended, until the first group of this one names it.
    previous_end: Option<(u64, u64)>,
    /// True when a group of the current segment is durable.
    current_durable: bool,
    full: VecDeque<Full>,
    end: Sequence,
    /// For small groups: reused, so that nothing is allocated.
    buffer: Vec<u8>,
}

impl SegmentWriter {
    pub(crate) fn new(disk: Arc<dyn Disk>, wal_id: WalId, first: Prepared) -> Self {
        Self {
            disk,
            wal_id,
            current: first,
            position: BLOCK_BYTES as u64,
            previous_end: None,
            current_durable: false,
            full: VecDeque::new(),
            end: 0,
            buffer: Vec::new(),
        }
    }

    /// Goes on in an existing log.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        wal_id: WalId,
        current: Prepared,
        position: u64,
        previous_end: Option<(u64, u64)>,
        end: Sequence,
    ) -> Self {
        let current_durable = position > BLOCK_BYTES as u64;
        let mut writer = Self::new(disk, wal_id, current);
        writer.position = position;
        writer.previous_end = previous_end;
        writer.current_durable = current_durable;
        writer.end = end;
        writer
    }

    pub(super) fn adopt(&mut self, path: PathBuf, bytes: u64, end: Sequence) {
        self.full.push_back(Full { path, bytes, end });
    }

    pub(crate) fn generation(&self) -> u64 {
        self.current.generation
    }

    /// True when a group of `group_bytes` goes into the current segment. An empty segment takes
    /// any.
    pub(crate) fn fits(&self, group_bytes: u64) -> bool {
        self.position == BLOCK_BYTES as u64
            || self.position + padded_with_link(group_bytes) <= self.current.bytes
    }

    /// Goes on in `next`.
    pub(crate) fn roll(&mut self, next: Prepared) {
        assert_eq!(
            next.generation,
            self.current.generation + 1,
            "generations have no holes"
        );
        self.previous_end = Some((self.current.generation, self.position));
        let old = std::mem::replace(&mut self.current, next);
        self.full.push_back(Full {
            path: old.path,
            bytes: old.bytes,
            end: self.end,
        });
        self.position = BLOCK_BYTES as u64;
        self.current_durable = false;
    }

    /// Writes one group and syncs it: durable at return. One write, one sync.
    ///
    /// After [`Error::DiskFull`] nothing of the group counts and the same may be tried again.
    pub(crate) fn write<I: Item>(&mut self, mut meta: GroupMeta, items: &[I]) -> Result<(), Error> {
        meta.generation = self.current.generation;
        let link = self
            .previous_end
            .map(|(g, position)| Extension::previous_end(g, position));
        let group = Encoded::new(&meta, link.as_slice(), items);
        let tail = frame::tail(group.len(), meta.sequence, self.wal_id, meta.generation);
        let (file, path) = (&self.current.file, &self.current.path);
        let written = if group.len() < GATHER_BYTES {
            self.buffer.clear();
            group.write_to(&mut self.buffer);
            self.buffer.extend_from_slice(&tail);
            file.write_all_at(&self.buffer, self.position)
        } else {
            let pieces = group.parts();
            let mut parts: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            parts.push(&tail);
            file.write_parts_at(&parts, self.position)
        };
        written.map_err(|e| Error::write(path, e))?;
        if !env::planted!("drop-fsync") {
            let synced = match file.sync_data() {
                Err(_) if env::planted!("sync-tried-again") => file.sync_data(),
                synced => synced,
            };
            synced.map_err(|e| Error::sync(path, e))?;
        }
        self.position += (group.len() + tail.len()) as u64;
        self.previous_end = None;
        self.current_durable = true;
        if meta.kind.is_numbered() {
            self.end = meta.sequence + 1;
        }
        Ok(())
    }

    /// Files all of whose groups are below `to`, for reuse or removal, oldest first. The last
    /// durable group stays whatever `to` is: it is what tells an emptied log from a lost one.
    pub(crate) fn release(&mut self, to: Sequence) -> Vec<(PathBuf, u64)> {
        let mut released = Vec::new();
        while let Some(full) = self.full.front() {
            let last_durable = self.full.len() == 1 && !self.current_durable;
            if full.end > to || last_durable {
                break;
            }
            let full = self.full.pop_front().expect("looked at above");
            released.push((full.path, full.bytes));
        }
        released
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

/// A group may carry the section that ties its segment to the one before: 28 bytes.
fn padded_with_link(group_bytes: u64) -> u64 {
    frame::padded_bytes(group_bytes + 28)
}
