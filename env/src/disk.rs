//! Files and directories. All calls block: run them on an [`IoThread`](crate::IoThread).

use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened; always for reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; never written.
    Read,
    /// The file must exist.
    Existing,
    /// The file must not exist.
    CreateNew,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` or the system's own.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Makes a directory and its parents; exists already is success. Durable only after
    /// [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// The system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Paths of what stands in a directory, sorted.
    ///
    /// # Errors
    /// The system's.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Renames, replacing what stood at `to`. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives `from` a second name, failing with `AlreadyExists` when `to` exists: how a file is
    /// published create-only. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `AlreadyExists`, or the system's.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory. Durable only after [`Disk::sync_dir`] of its parent.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// The system's; fatal to whoever relies on it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Length of the file at `path`, or `None` when nothing stands there.
    ///
    /// # Errors
    /// The system's, `NotFound` excepted.
    fn file_len(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Bytes that this process may still write on the file system of `path`.
    ///
    /// # Errors
    /// The system's.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes the exclusive lock of a directory (a file `LOCK` in it), held until dropped or until
    /// the process dies.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Reads and writes name their position; there is no cursor.
pub trait File: Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes at `offset`; 0 is the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, or the system's.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.read_at(buf, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[n..];
            offset += n as u64;
        }
        Ok(())
    }

    /// `len` bytes from `offset`, in a buffer of exactly that size.
    ///
    /// # Errors
    /// As [`File::read_exact_at`].
    fn read_new_at(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }

    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// The system's; part of `buf` may then be written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Writes `parts`, back to back, at `offset`: as one write of all of them, where the system
    /// can do that without a copy.
    ///
    /// # Errors
    /// As [`File::write_all_at`].
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_all_at(&parts.concat(), offset)
    }

    /// [`File::write_parts_at`] for bytes that are hardly read again from here: the system is
    /// asked not to keep them in its cache, where they would only push out others.
    ///
    /// # Errors
    /// As [`File::write_all_at`].
    fn write_once_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_parts_at(parts, offset)
    }

    /// Makes written bytes durable, and of metadata what is needed to read them (fdatasync).
    ///
    /// # Errors
    /// The system's. What was written since the last success is then in doubt for ever: never
    /// sync the same file again and believe it.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// True when the length is 0.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// Held while a directory is ours alone.
pub trait DirLock: Send + Sync + 'static {}
