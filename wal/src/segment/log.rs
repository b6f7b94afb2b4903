//! A synchronous log of records in segment files: what the Raft log is kept in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{DirLock, Disk};

use super::file::{SegmentId, SegmentWriter, check_header, sync_parent};
use super::frame::decode_frame;
use super::prepare::{Preparation, Prepared};
use super::scan::{ScanReport, Scanner, SegmentFile};
use crate::limits::BLOCK_BYTES;
use crate::record::{Body, Encoded, GroupHeader, GroupKind, GroupMeta, Record};
use crate::{Error, Sequence, WalId};

/// How a [`SegmentLog`] lays out its files.
#[derive(Clone, Copy, Debug)]
pub struct SegmentLogSettings {
    /// Bytes of a segment file, a multiple of 4096 and at least 8192. One group may be larger.
    pub segment_bytes: u64,
}

/// A log of groups of [`Record`]s, each group durable before the next is written. All calls block:
/// keep it on one I/O thread.
///
/// What a record means is its owner's affair. To take back a tail, append a record that says so;
/// to shorten the front, write what is still needed again and [`purge`](Self::purge).
pub struct SegmentLog {
    writer: SegmentWriter,
    dir: PathBuf,
    id: WalId,
    nonce: u128,
    settings: SegmentLogSettings,
    free: Vec<(PathBuf, u64)>,
    /// Kept over a full disk, so that the file in work is not forgotten.
    preparing: Option<Preparation>,
    next: Sequence,
    failed: Option<Error>,
    idle: bool,
    _lock: Box<dyn DirLock>,
}

impl SegmentLog {
    /// Makes an empty log in `dir`, which must hold none yet.
    ///
    /// # Errors
    /// `Locked`, `Io`, `DiskFull`; `Invalid` kinds when `dir` holds a log.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: WalId,
        nonce: u128,
        settings: SegmentLogSettings,
    ) -> Result<Self, Error> {
        sync_parent(&*disk, dir)?;
        let lock = lock(&*disk, dir)?;
        let segment = SegmentId {
            wal_id: id,
            generation: 1,
        };
        if !super::list_segments(&*disk, dir)
            .map_err(|e| Error::io("list", dir, e))?
            .is_empty()
        {
            let source = std::io::ErrorKind::AlreadyExists.into();
            return Err(Error::io("make a log in", dir, source));
        }
        let mut first = Preparation::create(disk.clone(), dir, segment, settings.segment_bytes);
        let writer = SegmentWriter::new(disk, id, finish(&mut first)?);
        Ok(Self::assemble(writer, dir, id, nonce, settings, 0, lock))
    }

    /// Opens the log of `dir`, cuts off a torn tail, and calls `visit` for each group in order.
    /// What was visited is durable.
    ///
    /// # Errors
    /// `Missing` when there is none, `Foreign`, `Corrupt`, `Locked`, `Io`, or what `visit` gives.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: WalId,
        nonce: u128,
        settings: SegmentLogSettings,
        visit: &mut dyn FnMut(Sequence, Vec<Record>) -> Result<(), Error>,
    ) -> Result<(Self, ScanReport), Error> {
        require(&*disk, dir, id)?;
        let lock = lock(&*disk, dir)?;
        let mut scanner = Scanner::open(&disk, dir, id, None)?;
        // A killed process may leave groups in the page cache that no sync has covered: they
        // count from here on, so they must be durable.
        for segment in &scanner.segments {
            segment
                .file
                .sync_data()
                .map_err(|e| Error::sync(&segment.path, e))?;
        }
        let mut ends = Vec::new();
        let mut last = None;
        while let Some(frame) = scanner.next()? {
            let header = frame.group.header;
            last = Some((scanner.at, frame.position, frame.bytes, header));
            let meta = frame.group.header.meta;
            let past = if meta.kind.is_numbered() {
                meta.sequence + 1
            } else {
                meta.sequence
            };
            ends.resize(scanner.at + 1, past);
            ends[scanner.at] = past;
            match frame.group.body {
                Body::Records(records) => visit(meta.sequence, records)?,
                Body::Mark => {}
                Body::Entries(_) => {
                    return Err(Error::Corrupt {
                        wal_id: id,
                        sequence: meta.sequence,
                        place: frame.path.display().to_string(),
                        reason: "a group of entries in a log of records".into(),
                    });
                }
            }
        }
        let report = scanner.report();
        write_end_again(&scanner, last, id)?;
        let writer = resume(disk, dir, scanner, id, &ends, report)?;
        let mut log = Self::assemble(writer, dir, id, nonce, settings, report.end, lock);
        log.idle = matches!(report.ending, super::Ending::Idle | super::Ending::Closed);
        Ok((log, report))
    }

    fn assemble(
        writer: SegmentWriter,
        dir: &Path,
        id: WalId,
        nonce: u128,
        settings: SegmentLogSettings,
        next: Sequence,
        lock: Box<dyn DirLock>,
    ) -> Self {
        let dir = dir.to_owned();
        Self {
            writer,
            dir,
            id,
            nonce,
            settings,
            free: Vec::new(),
            preparing: None,
            next,
            failed: None,
            idle: true,
            _lock: lock,
        }
    }

    /// Number that the next group will have.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Writes `records` as one group with one write and one sync: durable at return.
    ///
    /// # Errors
    /// `DiskFull`: nothing was written, try again later. Any other failure is final: the log
    /// refuses all that follows, and the process must end.
    pub fn append(&mut self, records: &[Record]) -> Result<Sequence, Error> {
        let sequence = self.next;
        self.write(GroupKind::Records, records)?;
        self.next += 1;
        self.idle = false;
        Ok(sequence)
    }

    /// Marks that all before is acknowledged, so that damage to it cannot pass for a torn tail.
    /// To be called after a while without appends; does nothing when nothing was appended since.
    ///
    /// # Errors
    /// As [`SegmentLog::append`].
    pub fn mark_idle(&mut self) -> Result<(), Error> {
        if self.idle {
            return Ok(());
        }
        self.write(GroupKind::Idle, &[])?;
        self.idle = true;
        Ok(())
    }

    /// Marks a clean stop.
    ///
    /// # Errors
    /// As [`SegmentLog::append`].
    pub fn close(mut self) -> Result<(), Error> {
        self.write(GroupKind::Closed, &[])
    }

    /// Gives up groups below `to`: files that hold nothing else are reused. Others stay, so
    /// groups below `to` may be seen again at the next opening.
    pub fn purge(&mut self, to: Sequence) {
        self.free.extend(self.writer.release(to));
    }

    fn write(&mut self, kind: GroupKind, records: &[Record]) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.try_write(kind, records);
        if let Err(error) = &result
            && !matches!(error, Error::DiskFull { .. })
        {
            self.failed = Some(error.clone());
        }
        result
    }

    fn try_write(&mut self, kind: GroupKind, records: &[Record]) -> Result<(), Error> {
        let meta = GroupMeta {
            kind,
            wal_id: self.id,
            sequence: self.next,
            nonce: self.nonce,
            acked_to: self.next,
            window: 1,
            generation: 0,
        };
        let bytes = Encoded::bytes_of(records);
        if !self.writer.fits(bytes) {
            let next = self.prepare()?;
            self.writer.roll(next);
        }
        self.writer.write(meta, records)
    }

    fn prepare(&mut self) -> Result<Prepared, Error> {
        let disk = self.writer.disk().clone();
        if self.preparing.is_none() {
            let id = SegmentId {
                wal_id: self.id,
                generation: self.writer.generation() + 1,
            };
            // Oldest first, so that the files that remain have no gap.
            while self.free.len() > 1 {
                let (extra, _) = &self.free[0];
                disk.remove_file(extra)
                    .map_err(|e| Error::io("remove", extra, e))?;
                self.free.remove(0);
            }
            self.preparing = Some(match self.free.pop() {
                Some((path, bytes)) => Preparation::recycle(disk, &self.dir, id, path, bytes),
                None => Preparation::create(disk, &self.dir, id, self.settings.segment_bytes),
            });
        }
        let preparation = self.preparing.as_mut().expect("set above");
        let prepared = finish(preparation)?;
        self.preparing = None;
        Ok(prepared)
    }
}

fn finish(preparation: &mut Preparation) -> Result<Prepared, Error> {
    loop {
        if let Some(prepared) = preparation.step()? {
            return Ok(prepared);
        }
    }
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>, Error> {
    disk.lock_dir(dir).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked {
            path: dir.to_owned(),
        },
        _ => Error::io("lock", dir, e),
    })
}

/// That `dir` is there.
fn require(disk: &dyn Disk, dir: &Path, wal_id: WalId) -> Result<(), Error> {
    let found = disk.file_len(dir);
    if found.map_err(|e| Error::io("look at", dir, e))?.is_some() {
        return Ok(());
    }
    Err(Error::Missing {
        path: dir.to_owned(),
        wal_id,
        reason: "the directory does not exist".to_owned(),
    })
}

/// Writes the last group and the header of the segment in work once more.
fn write_end_again(
    scanner: &Scanner,
    last: Option<(usize, u64, u64, GroupHeader)>,
    wal_id: WalId,
) -> Result<(), Error> {
    if let Some((at, position, bytes, header)) = last {
        write_again(&scanner.segments[at], position, bytes, |frame| {
            decode_frame(&header, frame).is_ok()
        })?;
    }
    let segment = &scanner.segments[scanner.at];
    let generation = segment.generation;
    let id = SegmentId { wal_id, generation };
    write_again(segment, 0, BLOCK_BYTES as u64, |block| {
        check_header(block, id, &segment.path).is_ok()
    })
}

/// Writes what stands there once more, and syncs it.
///
/// The process before may have ended because its last sync failed. Then the page cache shows bytes
/// as clean that never reached the disk, and a sync alone does not write them: the next power loss
/// would leave a hole below groups that follow. Only the last group and the header of the segment
/// in work can be such bytes, since nothing is written after a failed sync; every group before is
/// proven by the one after it.
///
/// What is written is what was just read, so it must be `sound`: a bit that was wrong on the way from
/// the disk would be wrong on it from then on.
fn write_again(
    segment: &SegmentFile,
    position: u64,
    bytes: u64,
    sound: impl FnOnce(&Bytes) -> bool,
) -> Result<(), Error> {
    let len = usize::try_from(bytes).expect("a group was read into memory before");
    let mut buffer = vec![0; len];
    let path = &segment.path;
    segment
        .file
        .read_exact_at(&mut buffer, position)
        .map_err(|e| Error::io("read", path, e))?;
    let buffer = Bytes::from(buffer);
    if !sound(&buffer) {
        let error = std::io::Error::other("a second reading differs from the first: start again");
        return Err(Error::io("read", path, error));
    }
    segment
        .file
        .write_all_at(&buffer, position)
        .map_err(|e| Error::write(path, e))?;
    segment.file.sync_data().map_err(|e| Error::sync(path, e))
}

/// A writer that goes on where the scan ended.
fn resume(
    disk: Arc<dyn Disk>,
    dir: &Path,
    scanner: Scanner,
    id: WalId,
    ends: &[Sequence],
    report: ScanReport,
) -> Result<SegmentWriter, Error> {
    let (at, position) = (scanner.at, scanner.position);
    let mut current = None;
    let mut full = Vec::new();
    for (index, segment) in scanner.segments.into_iter().enumerate() {
        let (path, generation, bytes) = (segment.path, segment.generation, segment.bytes);
        if index < at {
            full.push((path, bytes, ends.get(index).copied().unwrap_or(0)));
        } else if index == at {
            current = Some(Prepared {
                file: segment.file,
                path,
                generation,
                bytes,
            });
        } else {
            // Made ready, and at most a torn group in it: its generation will be used afresh.
            disk.remove_file(&path)
                .map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    disk.sync_dir(dir).map_err(|e| Error::sync(dir, e))?;
    let current = current.expect("a scan ends in a segment");
    if let super::Ending::Torn { bytes } = report.ending {
        // Traces of the torn group must not be found beyond the groups that follow now.
        let zeros = vec![0; (bytes as usize).next_multiple_of(BLOCK_BYTES)];
        let path = &current.path;
        current
            .file
            .write_all_at(&zeros, position)
            .map_err(|e| Error::write(path, e))?;
        current.file.sync_data().map_err(|e| Error::sync(path, e))?;
    }
    let mut writer = SegmentWriter::resume(disk, id, current, position, None, report.end);
    for (path, bytes, end) in full {
        writer.adopt(path, bytes, end);
    }
    Ok(writer)
}
