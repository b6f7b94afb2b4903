//! Files, by `std::fs` and rustix.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, ReadWriteFlags, pread, pwritev, pwritev2};

use crate::{DirLock, Disk, File, OpenMode};

/// Parts that one call of the system writes (IOV_MAX).
const MAX_PARTS: usize = 1024;

/// RWF_DONTCACHE (Linux 6.14): written pages leave the page cache once they are on disk.
const UNCACHED: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// A write with [`UNCACHED`] was refused that went well without.
static UNCACHED_REFUSED: AtomicBool = AtomicBool::new(false);

pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Existing => options.read(true).write(true),
            OpenMode::CreateNew => options.read(true).write(true).create_new(true),
        };
        Ok(Box::new(SystemFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(path)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("LOCK"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(SystemLock { _file: file }))
    }
}

struct SystemFile(fs::File);

impl File for SystemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn read_new_at(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        // Not filled with zeros first: that would touch every page twice.
        let mut buf = Vec::with_capacity(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            match pread(&self.0, spare_capacity(&mut buf), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given room for more than was asked for.
        buf.truncate(len);
        Ok(buf)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        write_parts(parts, offset, |slices, at| pwritev(&self.0, slices, at))
    }

    fn write_once_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        write_parts(parts, offset, |slices, at| {
            uncached_or_plain(
                &UNCACHED_REFUSED,
                || pwritev2(&self.0, slices, at, UNCACHED),
                || pwritev(&self.0, slices, at),
            )
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// Writes by `uncached`; by `plain` where that is refused, and always once `plain` could what
/// `uncached` could not: an older kernel, or a file system that cannot. A write that is wrong in
/// itself is refused both ways and tells nothing.
fn uncached_or_plain(
    refused: &AtomicBool,
    uncached: impl FnOnce() -> rustix::io::Result<usize>,
    plain: impl FnOnce() -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    if refused.load(Ordering::Relaxed) {
        return plain();
    }
    match uncached() {
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            let written = plain()?;
            refused.store(true, Ordering::Relaxed);
            Ok(written)
        }
        result => result,
    }
}

/// Writes all of `parts` by as few calls of `write` as it takes.
fn write_parts(
    parts: &[&[u8]],
    mut offset: u64,
    write: impl Fn(&[IoSlice<'_>], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    for parts in parts.chunks(MAX_PARTS) {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let mut rest = slices.as_mut_slice();
        // Empty parts would make a write of nothing look like a full disk.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match write(rest, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The kernel drops the lock with the file, also when the process is killed.
struct SystemLock {
    _file: fs::File,
}

impl DirLock for SystemLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncached_writes_end_only_where_plain_ones_do_better() {
        let refused = AtomicBool::new(false);
        let write = |uncached, plain| uncached_or_plain(&refused, || uncached, || plain);
        assert_eq!(write(Ok(3), Ok(4)), Ok(3));
        assert_eq!(write(Err(Errno::IO), Ok(4)), Err(Errno::IO));
        assert_eq!(
            write(Err(Errno::INVAL), Err(Errno::INVAL)),
            Err(Errno::INVAL)
        );
        assert!(!refused.load(Ordering::Relaxed));
        assert_eq!(write(Err(Errno::INVAL), Ok(4)), Ok(4));
        assert!(refused.load(Ordering::Relaxed));
        assert_eq!(write(Ok(3), Ok(4)), Ok(4));
    }

    #[test]
    fn parts_are_written_back_to_back_and_read_into_a_buffer_of_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = SystemDisk.open(&path, OpenMode::CreateNew).unwrap();
        // More parts than one call takes, empty ones at every place.
        let all: Vec<Vec<u8>> = (0..3 * MAX_PARTS).map(|n| vec![n as u8; n % 7]).collect();
        let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        file.write_parts_at(&parts, 5).unwrap();
        let half = parts.len() / 2;
        let second = 5 + parts[..half].concat().len() as u64;
        file.write_once_at(&parts[half..], second).unwrap();
        file.write_parts_at(&[&[], &[]], 0).unwrap();
        file.write_parts_at(&[], 0).unwrap();
        let whole = parts.concat();
        assert_eq!(file.len().unwrap(), 5 + whole.len() as u64);
        let read = file.read_new_at(whole.len(), 5).unwrap();
        assert_eq!(read, whole);
        assert_eq!(file.read_new_at(0, 1 << 40).unwrap(), Vec::<u8>::new());
        let past = file.read_new_at(whole.len() + 1, 5).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }
}
