//! Keeps the next segment ready.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use env::{DirLock, Disk, Env, IoThread};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::DiskSettings;
use crate::limits::{DISK_FULL_RETRY, FREE_SEGMENTS};
use crate::metrics::Status;
use crate::record::GroupKind;
use crate::segment::{Preparation, Prepared, SegmentId};
use crate::{Error, ErrorKind, WalId};

/// Handle to the task that prepares segments.
#[derive(Clone)]
pub(super) struct Preparer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes the task.
    work: Notify,
    /// Wakes the writer.
    ready: Notify,
    thread: IoThread,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    wal_id: WalId,
    settings: DiskSettings,
}

struct State {
    next: Option<Prepared>,
    /// Generation and size of the next one to make.
    generation: u64,
    bytes: u64,
    free: VecDeque<(PathBuf, u64)>,
    /// True while the writer can do nothing without a segment.
    wanted: bool,
    failed: Option<Error>,
    task: Option<JoinHandle<()>>,
}

// === impl Preparer ===

impl Preparer {
    pub(super) fn new(env: &Env, dir: PathBuf, wal_id: WalId, settings: DiskSettings) -> Self {
        let state = State {
            next: None,
            generation: 2,
            bytes: (settings.first_segment_bytes * 2).min(settings.segment_bytes),
            free: VecDeque::new(),
            wanted: false,
            failed: None,
            task: None,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            work: Notify::new(),
            ready: Notify::new(),
            thread: env.threads.io_thread("wal-prepare"),
            disk: env.disk.clone(),
            dir,
            wal_id,
            settings,
        }))
    }

    /// Each job holds `lock` until it has run: a file made after its release would appear in
    /// a directory that another has begun to read or to remove.
    pub(super) fn start(&self, status: Status, lock: Arc<dyn DirLock>) {
        let worker = Worker {
            shared: self.0.clone(),
            status,
            lock,
        };
        let task = tokio::spawn(worker.run());
        self.0.state.lock().task = Some(task);
    }

    pub(super) fn stop(&self) {
        if let Some(task) = self.0.state.lock().task.take() {
            task.abort();
        }
    }

    /// Stops the task and waits for the job that it may have begun.
    pub(super) async fn end(&self) {
        let task = self.0.state.lock().task.take();
        if let Some(task) = task {
            task.abort();
            // Cancelled, as asked for, or over already.
            let _ = task.await;
        }
        self.0.thread.run(|| ()).await;
    }

    /// The next segment, if it is ready.
    pub(super) fn take(&self) -> Option<Prepared> {
        let mut state = self.0.state.lock();
        let next = state.next.take();
        state.wanted = next.is_none();
        drop(state);
        self.0.work.notify_one();
        next
    }

    /// Waits until [`Preparer::take`] will give a segment. For a mark, which can be left out,
    /// a full disk is an error.
    pub(super) async fn ready(&self, kind: GroupKind) -> Result<(), Error> {
        loop {
            {
                let state = self.0.state.lock();
                if state.next.is_some() {
                    return Ok(());
                }
                if let Some(error) = &state.failed {
                    let mark = !kind.is_numbered();
                    if mark || error.kind() != ErrorKind::Retry {
                        return Err(error.clone());
                    }
                }
            }
            self.0.ready.notified().await;
        }
    }

    pub(super) fn add_free(&self, files: Vec<(PathBuf, u64)>) {
        if !files.is_empty() {
            self.0.state.lock().free.extend(files);
            self.0.work.notify_one();
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    status: Status,
    lock: Arc<dyn DirLock>,
}

// === impl Worker ===

impl Worker {
    async fn run(self) {
        loop {
            let wants_next = self.shared.state.lock().next.is_none();
            if wants_next && !self.prepare().await {
                return;
            }
            self.remove_extra().await;
            self.shared.work.notified().await;
        }
    }

    /// False when it failed for good.
    async fn prepare(&self) -> bool {
        let mut preparation = self.plan();
        loop {
            let lock = self.lock.clone();
            let work = move || {
                let result = preparation.step();
                drop(lock);
                (preparation, result)
            };
            let (back, result) = self.shared.thread.run(work).await;
            preparation = back;
            match result {
                Ok(None) => {}
                Ok(Some(prepared)) => {
                    let mut state = self.shared.state.lock();
                    state.generation += 1;
                    state.bytes = (state.bytes * 2).min(self.shared.settings.segment_bytes);
                    state.next = Some(prepared);
                    state.failed = None;
                    drop(state);
                    // A stall raised below may have nobody else to end it: no group need wait.
                    self.status.unstall();
                    self.shared.ready.notify_one();
                    return true;
                }
                Err(error) => {
                    let passes = error.kind() == ErrorKind::Retry;
                    let wanted = {
                        let mut state = self.shared.state.lock();
                        state.failed = Some(error.clone());
                        state.wanted
                    };
                    self.shared.ready.notify_one();
                    if !passes {
                        return false;
                    }
                    if wanted {
                        self.status.stall(error);
                    }
                    self.status.metrics.retries.inc();
                    tokio::time::sleep(DISK_FULL_RETRY).await;
                }
            }
        }
    }

    fn plan(&self) -> Preparation {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let id = SegmentId {
            wal_id: shared.wal_id,
            generation: state.generation,
        };
        match state.free.pop_front() {
            Some((path, bytes)) => {
                self.status.metrics.segments_recycled.inc();
                Preparation::recycle(shared.disk.clone(), &shared.dir, id, path, bytes)
            }
            None => {
                self.status.metrics.segments_created.inc();
                Preparation::create(shared.disk.clone(), &shared.dir, id, state.bytes)
            }
        }
    }

    async fn remove_extra(&self) {
        loop {
            let extra = {
                let mut state = self.shared.state.lock();
                if state.free.len() <= FREE_SEGMENTS {
                    return;
                }
                state.free.pop_front().expect("longer than that")
            };
            let (disk, lock) = (self.shared.disk.clone(), self.lock.clone());
            let path = extra.0.clone();
            let removed = self
                .shared
                .thread
                .run(move || {
                    let removed = disk.remove_file(&path);
                    drop(lock);
                    removed
                })
                .await;
            if let Err(error) = removed {
                // It lies behind the trim point: harmless but for its space, and goes with the
                // directory.
                tracing::warn!(%error, path = %extra.0.display(), "cannot remove a segment");
            }
        }
    }
}
