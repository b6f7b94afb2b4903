//! Making a segment file ready ahead of need: zero-filled and synced, or reused.
//!
//! ```text
//!   new:    create G.new ─▶ zeros, synced piece by piece ─▶ header, sync ─▶ rename G.wal ─▶ sync dir
//!   reuse:  rename g.wal G.new ─▶ sync dir ─▶ header, sync ─▶ rename G.wal ─▶ sync dir
//! ```
//!
//! **Invariant:** a file named `.wal` has a durable header of the generation that its name says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, File, OpenMode};

use super::file::{SegmentId, file_name, header_block};
use crate::Error;
use crate::limits::{BLOCK_BYTES, ZERO_FILL_BYTES};

/// A segment ready to be written to.
pub(crate) struct Prepared {
    pub(super) file: Box<dyn File>,
    pub(super) path: PathBuf,
    pub(super) generation: u64,
    pub(super) bytes: u64,
}

/// A segment being made ready. Blocks: call [`Preparation::step`] on an I/O thread.
pub(crate) struct Preparation {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: SegmentId,
    bytes: u64,
    file: Option<Box<dyn File>>,
    filled: u64,
    /// Zeros to fill with; not made anew for every piece.
    zeros: Vec<u8>,
    reuse: Option<PathBuf>,
}

impl Preparation {
    /// A new file of `bytes`.
    pub(crate) fn create(disk: Arc<dyn Disk>, dir: &Path, id: SegmentId, bytes: u64) -> Self {
        assert!(
            bytes > BLOCK_BYTES as u64,
            "a segment holds more than its header"
        );
        Self {
            disk,
            dir: dir.to_owned(),
            id,
            bytes,
            file: None,
            filled: 0,
            zeros: Vec::new(),
            reuse: None,
        }
    }

    /// The file `old` of `bytes`, all of which lies behind the trim point.
    pub(crate) fn recycle(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: SegmentId,
        old: PathBuf,
        bytes: u64,
    ) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            id,
            bytes,
            file: None,
            filled: bytes,
            zeros: Vec::new(),
            reuse: Some(old),
        }
    }

    /// Does a bounded piece of the work. After an error it may be called again.
    pub(crate) fn step(&mut self) -> Result<Option<Prepared>, Error> {
        let new = self
            .dir
            .join(format!("{}.new", file_name(self.id.generation)));
        if self.file.is_none() {
            self.file = Some(self.open(&new)?);
            return Ok(None);
        }
        let file = self.file.as_ref().expect("opened above");
        if self.filled < self.bytes {
            let piece = (self.bytes - self.filled).min(ZERO_FILL_BYTES as u64) as usize;
            if self.zeros.len() < piece {
                self.zeros = vec![0; piece];
            }
            file.write_all_at(&self.zeros[..piece], self.filled)
                .map_err(|e| Error::io("fill", &new, e))?;
            // A failed sync of zeros that nobody relies on costs this file only.
            if let Err(e) = file.sync_data() {
                return self.start_over(&new, e);
            }
            self.filled += piece as u64;
            return Ok(None);
        }
        let header = header_block(self.id, self.bytes);
        file.write_all_at(&header, 0)
            .map_err(|e| Error::io("write", &new, e))?;
        if let Err(e) = file.sync_data() {
            return self.start_over(&new, e);
        }
        let path = self.dir.join(file_name(self.id.generation));
        self.disk
            .rename(&new, &path)
            .map_err(|e| Error::io("rename", &new, e))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(|e| Error::sync(&self.dir, e))?;
        let file = self.file.take().expect("still held");
        Ok(Some(Prepared {
            file,
            path,
            generation: self.id.generation,
            bytes: self.bytes,
        }))
    }

    fn open(&mut self, new: &Path) -> Result<Box<dyn File>, Error> {
        if let Some(old) = &self.reuse {
            self.disk
                .rename(old, new)
                .map_err(|e| Error::io("rename", old, e))?;
            self.reuse = None;
            self.disk
                .sync_dir(&self.dir)
                .map_err(|e| Error::sync(&self.dir, e))?;
            return self
                .disk
                .open(new, OpenMode::Existing)
                .map_err(|e| Error::io("open", new, e));
        }
        if self.filled == self.bytes {
            // A reused file whose first step failed after the rename.
            return self
                .disk
                .open(new, OpenMode::Existing)
                .map_err(|e| Error::io("open", new, e));
        }
        // What an earlier process left half-made.
        match self.disk.remove_file(new) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", new, e)),
        }
        self.disk
            .open(new, OpenMode::CreateNew)
            .map_err(|e| Error::io("create", new, e))
    }

    /// The file is given up after a failed sync: never synced again, made anew.
    fn start_over<T>(&mut self, new: &Path, source: std::io::Error) -> Result<T, Error> {
        self.file = None;
        self.filled = 0;
        Err(Error::io("sync", new, source))
    }
}
