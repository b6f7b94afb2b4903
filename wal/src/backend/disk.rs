//! Segment files on a local disk: `{dir}/{log id}/{generation}.wal`.
//!
//! ```text
//!   store ─▶ thread "wal-write": one write, one fdatasync per group
//!   prepare task ─▶ thread "wal-prepare": the next segment, zero-filled ahead of need or reused
//!   trim ─▶ files behind the trim point ─▶ reused or removed
//! ```
//!
//! A full disk is waited out ([`Error::DiskFull`] meanwhile, kind Retry). A failed sync, or a
//! failed write for another reason, ends the log.

#[cfg(test)]
mod crash_tests;
mod prepare;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{DirLock, Disk, Env, IoThread};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Backend, Mark, Pace, PendingGroup, Stored};
use crate::limits::{
    BLOCK_BYTES, DISK_FULL_RETRY, FIRST_SEGMENT_BYTES, IDLE_MARK_AFTER, SEGMENT_BYTES,
};
use crate::metrics::Status;
use crate::record::{Encoded, GroupKind, GroupMeta};
use crate::segment::{Preparation, SegmentId, SegmentWriter, sync_parent};
use crate::{Entry, Error, Sequence, WalId};
use prepare::Preparer;
pub use tail::recover;

/// How segment files are laid out.
#[derive(Clone, Copy, Debug)]
pub struct DiskSettings {
    /// Bytes of a full segment, a multiple of 4096.
    pub segment_bytes: u64,
    /// Bytes of the first one; each later one is twice the one before, up to the full size.
    pub first_segment_bytes: u64,
    /// Idleness after which the log is marked idle.
    pub idle_mark_after: Duration,
}

impl DiskSettings {
    /// What a broker uses.
    pub const STANDARD: Self = Self {
        segment_bytes: SEGMENT_BYTES,
        first_segment_bytes: FIRST_SEGMENT_BYTES,
        idle_mark_after: IDLE_MARK_AFTER,
    };
}

/// Makes the log `wal_id` in `{dir}/{wal_id}` and locks that directory.
///
/// # Errors
/// `Locked`, `DiskFull`, `Io`.
pub async fn create(
    env: &Env,
    dir: &Path,
    wal_id: WalId,
    settings: DiskSettings,
) -> Result<Box<dyn Backend>, Error> {
    let block = BLOCK_BYTES as u64;
    assert!(
        settings.first_segment_bytes > block && settings.first_segment_bytes.is_multiple_of(block)
    );
    assert!(settings.segment_bytes.is_multiple_of(block));
    let dir = dir.join(wal_id.to_string());
    let thread = env.threads.io_thread("wal-write");
    let (disk, at) = (env.disk.clone(), dir.clone());
    let (writer, lock) = thread
        .run(move || {
            sync_parent(&*disk, &at)?;
            let lock = lock(&*disk, &at)?;
            let id = SegmentId {
                wal_id,
                generation: 1,
            };
            let bytes = settings.first_segment_bytes.min(settings.segment_bytes);
            let mut first = Preparation::create(disk.clone(), &at, id, bytes);
            let first = loop {
                if let Some(prepared) = first.step()? {
                    break prepared;
                }
            };
            Ok::<_, Error>((SegmentWriter::new(disk, wal_id, first), lock))
        })
        .await?;
    let mut nonce = [0; 16];
    env.entropy.fill(&mut nonce);
    Ok(Box::new(DiskBackend {
        thread,
        writer: Arc::new(Mutex::new(writer)),
        preparer: Preparer::new(env, dir, wal_id, settings),
        wal_id,
        nonce: u128::from_be_bytes(nonce),
        idle_mark_after: settings.idle_mark_after,
        status: None,
        lock: Arc::from(lock),
    }))
}

/// Removes the directories of all logs in `dir` but those in `keep`: logs that are Closed, and
/// what a start left that was killed before its log was registered.
///
/// # Errors
/// `Io`; what was not removed is next time.
pub async fn remove_others(
    env: &Env,
    dir: &Path,
    keep: BTreeSet<WalId>,
) -> Result<Vec<WalId>, Error> {
    let (disk, dir) = (env.disk.clone(), dir.to_owned());
    env.threads
        .pool()
        .run(move || remove_others_now(&*disk, &dir, &keep))
        .await
}

fn remove_others_now(
    disk: &dyn Disk,
    dir: &Path,
    keep: &BTreeSet<WalId>,
) -> Result<Vec<WalId>, Error> {
    let mut removed = Vec::new();
    let listed = match disk.read_dir(dir) {
        Ok(listed) => listed,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    for path in listed {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Ok(id) = Uuid::try_parse(name) else {
            continue;
        };
        if keep.contains(&WalId(id)) {
            continue;
        }
        for file in disk
            .read_dir(&path)
            .map_err(|e| Error::io("list", &path, e))?
        {
            disk.remove_file(&file)
                .map_err(|e| Error::io("remove", &file, e))?;
        }
        disk.remove_dir(&path)
            .map_err(|e| Error::io("remove", &path, e))?;
        removed.push(WalId(id));
    }
    if !removed.is_empty() {
        disk.sync_dir(dir).map_err(|e| Error::sync(dir, e))?;
    }
    Ok(removed)
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>, Error> {
    disk.lock_dir(dir).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked {
            path: dir.to_owned(),
        },
        _ => Error::io("lock", dir, e),
    })
}

struct DiskBackend {
    thread: IoThread,
    /// Locked by jobs of `thread` only, so never waited for.
    writer: Arc<Mutex<SegmentWriter>>,
    preparer: Preparer,
    wal_id: WalId,
    nonce: u128,
    idle_mark_after: Duration,
    status: Option<Status>,
    /// Shared with jobs: held until the last one has run.
    lock: Arc<dyn DirLock>,
}

impl DiskBackend {
    fn meta(&self, kind: GroupKind, sequence: Sequence, acked_to: Sequence) -> GroupMeta {
        let (wal_id, nonce) = (self.wal_id, self.nonce);
        GroupMeta {
            kind,
            wal_id,
            sequence,
            nonce,
            acked_to,
            window: 1,
            generation: 0,
        }
    }

    fn job(&self) -> WriteJob {
        WriteJob {
            thread: self.thread.clone(),
            writer: self.writer.clone(),
            preparer: self.preparer.clone(),
            lock: self.lock.clone(),
        }
    }
}

impl Backend for DiskBackend {
    fn window(&self) -> usize {
        1
    }

    fn attach(&mut self, status: Status) {
        self.preparer.start(status.clone(), self.lock.clone());
        self.status = Some(status);
    }

    fn store(&mut self, pending: PendingGroup) -> BoxFuture<'static, Stored> {
        let meta = self.meta(GroupKind::Entries, pending.group.sequence, pending.acked_to);
        let job = self.job();
        let status = self
            .status
            .clone()
            .expect("attached before the first group");
        Box::pin(async move {
            let mut group = pending.group;
            loop {
                let (entries, result) = job.write(meta, group.entries).await;
                group.entries = entries;
                match result {
                    Err(error @ Error::DiskFull { .. }) => {
                        status.stall(error);
                        status.metrics.retries.inc();
                        tokio::time::sleep(DISK_FULL_RETRY).await;
                    }
                    result => {
                        status.unstall();
                        return (group, result);
                    }
                }
            }
        })
    }

    fn pace(&mut self, _now: Instant, _queued_bytes: usize, _in_flight: usize) -> Pace {
        Pace::Now
    }

    fn idle_after(&self) -> Option<Duration> {
        Some(self.idle_mark_after)
    }

    fn mark(&mut self, mark: Mark, next: Sequence) -> BoxFuture<'static, Result<(), Error>> {
        let kind = match mark {
            Mark::Idle => GroupKind::Idle,
            Mark::Closed => GroupKind::Closed,
        };
        let meta = self.meta(kind, next, next);
        let job = self.job();
        Box::pin(async move { job.write(meta, Vec::new()).await.1 })
    }

    fn trim(&mut self, to: Sequence) {
        let (writer, preparer, lock) = (
            self.writer.clone(),
            self.preparer.clone(),
            self.lock.clone(),
        );
        // The future is only the answer: the job runs in any case, in order with the writes.
        drop(self.thread.run(move || {
            preparer.add_free(writer.lock().release(to));
            drop(lock);
        }));
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Both threads work in order: an empty job runs after all others.
            self.thread.run(|| ()).await;
            self.preparer.end().await;
        })
    }
}

impl Drop for DiskBackend {
    fn drop(&mut self) {
        self.preparer.stop();
    }
}

#[derive(Clone)]
struct WriteJob {
    thread: IoThread,
    writer: Arc<Mutex<SegmentWriter>>,
    preparer: Preparer,
    lock: Arc<dyn DirLock>,
}

impl WriteJob {
    /// Writes one group, waiting for the next segment when the current one is full.
    async fn write(
        &self,
        meta: GroupMeta,
        mut entries: Vec<Entry>,
    ) -> (Vec<Entry>, Result<(), Error>) {
        loop {
            let (writer, preparer, lock) = (
                self.writer.clone(),
                self.preparer.clone(),
                self.lock.clone(),
            );
            let (back, result) = self
                .thread
                .run(move || {
                    let result = write_now(&mut writer.lock(), &preparer, meta, &entries);
                    drop(lock);
                    (entries, result)
                })
                .await;
            entries = back;
            match result {
                Ok(true) => return (entries, Ok(())),
                Ok(false) => {
                    if let Err(error) = self.preparer.ready(meta.kind).await {
                        return (entries, Err(error));
                    }
                }
                Err(error) => return (entries, Err(error)),
            }
        }
    }
}

/// `Ok(false)`: the segment is full and the next one is not ready.
fn write_now(
    writer: &mut SegmentWriter,
    preparer: &Preparer,
    meta: GroupMeta,
    entries: &[Entry],
) -> Result<bool, Error> {
    let bytes = Encoded::bytes_of(entries);
    if !writer.fits(bytes) {
        let Some(next) = preparer.take() else {
            return Ok(false);
        };
        writer.roll(next);
    }
    writer.write(meta, entries)?;
    Ok(true)
}
