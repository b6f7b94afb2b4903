//! The raft log: votes, entries, cuts and purges as records of a `wal::SegmentLog`.
//!
//! ```text
//!   record tag:  1 entry · 2 vote · 3 truncate after · 4 purged up to · 5 committed
//!   every record's bytes: a prost message of `types::wire`
//! ```
//!
//! **Invariants:** records become durable in the order of issue, on one thread, as many at once as
//! wait (one write, one sync); an entry can be read as soon as it is issued; a failed write or sync
//! is final.

mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use env::{Env, IoThread};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, LogIdOptionExt, OptionalSend};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wal::{Record, SegmentLog, SegmentLogSettings, WalId};

use super::types::{Entry, LogId, TypeConfig, Vote, encode_entry, put_log_id, put_vote};
use crate::error::Error;
use crate::limits::{
    LOG_IDLE, LOG_SEGMENT_BYTES, MAX_APPEND_BYTES, MAX_LOG_GROUP_BYTES, SMALL_ENTRY_BYTES,
};

const ENTRY: u32 = 1;
const VOTE: u32 = 2;
const TRUNCATE: u32 = 3;
const PURGE: u32 = 4;
const COMMITTED: u32 = 5;

/// What the records amount to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// Told when records are durable.
enum Waiter {
    Raft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<io::Result<()>>),
}

/// Records issued together.
struct Issued {
    records: Vec<Record>,
    /// Index of the last entry among them.
    last_entry: Option<u64>,
    waiter: Option<Waiter>,
    /// Segments with nothing but entries up to this index are given up after it.
    purge_to: Option<u64>,
}

#[derive(Default)]
struct Queue {
    issued: VecDeque<Issued>,
    /// Set when a write failed for good.
    failed: Option<String>,
    /// True while the disk is full and what is issued waits for space.
    stalled: bool,
}

/// The segment files, with where each entry lies.
struct Files {
    log: Option<SegmentLog>,
    /// Group numbers with the last entry index in or before each.
    groups: VecDeque<(u64, u64)>,
}

struct Inner {
    contents: Mutex<Contents>,
    queue: Mutex<Queue>,
    files: Mutex<Files>,
    io: IoThread,
    activity: Notify,
    failure: watch::Sender<Option<String>>,
}

/// openraft's log store. Copies share one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    inner: Arc<Inner>,
}

/// Marks idleness, and tries again after a full disk; stops when dropped.
pub(crate) struct LogKeeper {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

// === impl LogStore ===

impl LogStore {
    /// Opens the log in `dir`; when there is none, makes it if `make`, else gives `None`.
    pub(crate) async fn open(
        env: &Env,
        dir: &Path,
        id: WalId,
        make: bool,
    ) -> Result<Option<(Self, LogKeeper)>, Error> {
        let io = env.threads.io_thread("raft-log");
        let settings = SegmentLogSettings {
            segment_bytes: LOG_SEGMENT_BYTES,
        };
        let nonce = env.entropy.uuid().as_u128();
        let (disk, dir) = (env.disk.clone(), dir.to_owned());
        let opened = io
            .run(move || replay::open(disk, &dir, id, nonce, settings, make))
            .await?;
        let Some(opened) = opened else {
            return Ok(None);
        };
        let inner = Arc::new(Inner {
            contents: Mutex::new(opened.contents),
            queue: Mutex::new(Queue::default()),
            files: Mutex::new(Files {
                log: Some(opened.log),
                groups: opened.groups,
            }),
            io,
            activity: Notify::new(),
            failure: watch::Sender::new(None),
        });
        let task = tokio::spawn(keep(inner.clone()));
        let store = Self {
            inner: inner.clone(),
        };
        Ok(Some((store, LogKeeper { inner, task })))
    }

    /// True when nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        *self.inner.contents.lock() == Contents::default()
    }

    fn issue(&self, issued: Issued) {
        self.inner.queue.lock().issued.push_back(issued);
        self.inner.start_flush();
    }

    /// Issues records and waits until they, and all before, are durable.
    async fn write(&self, records: Vec<Record>, purge_to: Option<u64>) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        let waiter = Some(Waiter::Caller(done));
        self.issue(Issued {
            records,
            last_entry: None,
            waiter,
            purge_to,
        });
        result
            .await
            .map_err(|_| io::Error::other("the raft log is closed"))?
    }
}

// === impl Inner ===

impl Inner {
    /// Every issue starts one flush; the first to run takes all that waits, the others find
    /// nothing: that is the group commit.
    fn start_flush(self: &Arc<Self>) {
        let inner = self.clone();
        drop(self.io.run(move || inner.flush()));
        self.activity.notify_one();
    }

    /// On the I/O thread.
    fn flush(&self) {
        while let Some(batch) = self.take() {
            let records: Vec<_> = batch
                .iter()
                .flat_map(|issued| issued.records.iter().cloned())
                .collect();
            let result = self.append(&records, &batch);
            match result {
                Ok(()) => answer(batch, Ok(())),
                Err(wal::Error::DiskFull { path }) => {
                    tracing::warn!(path = %path.display(), "no space for the raft log: waiting");
                    let mut queue = self.queue.lock();
                    queue.stalled = true;
                    for issued in batch.into_iter().rev() {
                        queue.issued.push_front(issued);
                    }
                    return;
                }
                Err(error) => self.fail(batch, &error.to_string()),
            }
        }
    }

    fn take(&self) -> Option<Vec<Issued>> {
        let mut queue = self.queue.lock();
        queue.stalled = false;
        if let Some(reason) = queue.failed.clone() {
            let batch: Vec<_> = queue.issued.drain(..).collect();
            drop(queue);
            answer(batch, Err(&reason));
            return None;
        }
        let mut bytes = 0;
        let fits = |issued: &&Issued| {
            bytes += issued
                .records
                .iter()
                .map(|record| record.bytes.len())
                .sum::<usize>();
            bytes <= MAX_LOG_GROUP_BYTES
        };
        let count = queue.issued.iter().take_while(fits).count().max(1);
        let count = count.min(queue.issued.len());
        let batch: Vec<_> = queue.issued.drain(..count).collect();
        (!batch.is_empty()).then_some(batch)
    }

    fn append(&self, records: &[Record], batch: &[Issued]) -> Result<(), wal::Error> {
        let mut files = self.files.lock();
        let files = &mut *files;
        let Some(log) = &mut files.log else {
            return Ok(());
        };
        if !records.is_empty() {
            let sequence = log.append(records)?;
            let last = batch.iter().filter_map(|issued| issued.last_entry).max();
            let before = files.groups.back().map(|(_, last)| *last);
            if let Some(last) = last.max(before) {
                files.groups.push_back((sequence, last));
            }
        }
        for purge_to in batch.iter().filter_map(|issued| issued.purge_to) {
            // The newest groups stay: they hold the vote and the purge themselves.
            while files.groups.len() > 1 && files.groups[0].1 <= purge_to {
                files.groups.pop_front();
            }
            if let Some((first, _)) = files.groups.front() {
                log.purge(*first);
            }
        }
        Ok(())
    }

    fn fail(&self, batch: Vec<Issued>, reason: &str) {
        self.queue.lock().failed = Some(reason.to_owned());
        self.failure.send_replace(Some(reason.to_owned()));
        answer(batch, Err(reason));
    }

    /// On the I/O thread.
    fn mark_idle(&self) {
        let marked = match &mut self.files.lock().log {
            Some(log) => log.mark_idle(),
            None => Ok(()),
        };
        match marked {
            Ok(()) | Err(wal::Error::DiskFull { .. }) => {}
            Err(error) => self.fail(Vec::new(), &error.to_string()),
        }
    }
}

fn answer(batch: Vec<Issued>, result: Result<(), &str>) {
    for waiter in batch.into_iter().filter_map(|issued| issued.waiter) {
        let result = result.map_err(|reason| io::Error::other(reason.to_owned()));
        match waiter {
            Waiter::Raft(flushed) => flushed.io_completed(result),
            Waiter::Caller(done) => {
                // A caller that is gone needs no answer.
                let _ = done.send(result);
            }
        }
    }
}

async fn keep(inner: Arc<Inner>) {
    loop {
        inner.activity.notified().await;
        while timeout(LOG_IDLE, inner.activity.notified()).await.is_ok() {}
        if inner.queue.lock().stalled {
            inner.start_flush();
            continue;
        }
        let marked = inner.clone();
        inner.io.run(move || marked.mark_idle()).await;
    }
}

// === impl LogKeeper ===

impl LogKeeper {
    /// Says when the log has failed for good, and why.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    /// Marks a clean stop, and closes the files.
    pub(crate) async fn close(self) -> Result<(), Error> {
        self.task.abort();
        let inner = self.inner.clone();
        let closed = self.inner.io.run(move || {
            inner.flush();
            let log = inner.files.lock().log.take();
            log.map_or(Ok(()), SegmentLog::close)
        });
        closed
            .await
            .map_err(|e| Error::io("close the raft log", io::Error::other(e)))
    }
}

impl Drop for LogKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl RaftLogStorage ===

fn record(tag: u32, message: &impl Message) -> Record {
    Record {
        tag,
        bytes: Bytes::from(message.encode_to_vec()),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let contents = self.inner.contents.lock();
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        Ok(contents
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    /// What fits into one call, and at least one.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let contents = self.inner.contents.lock();
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += match &entry.payload {
                EntryPayload::Normal(command) => command.0.len(),
                EntryPayload::Blank | EntryPayload::Membership(_) => SMALL_ENTRY_BYTES,
            };
            first || bytes <= MAX_APPEND_BYTES
        };
        let entries = contents.entries.range(start..end).map(|(_, entry)| entry);
        Ok(entries.take_while(fits).cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.inner.contents.lock().vote)
    }
}

/// A `BTreeMap` panics at ranges that end before they start.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(start), Bound::Excluded(end)) => start >= end,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Excluded(start), Bound::Excluded(end) | Bound::Included(end)) => start >= end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let contents = self.inner.contents.lock();
        let last = contents
            .entries
            .last_key_value()
            .map(|(_, entry)| entry.log_id);
        Ok(LogState {
            last_purged_log_id: contents.purged,
            last_log_id: last.or(contents.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.inner.contents.lock().vote = Some(*vote);
        if env::planted!("vote-not-kept") {
            return Ok(());
        }
        self.write(vec![record(VOTE, &put_vote(vote))], None).await
    }

    /// Rides with the next records: a restart may apply less than was applied before, which the
    /// start makes good by committing all of the log before anybody reads.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.inner.contents.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.inner.contents.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut last_entry = None;
        {
            let mut contents = self.inner.contents.lock();
            if let Some(committed) = &contents.committed {
                records.push(record(COMMITTED, &put_log_id(committed)));
            }
            for entry in entries {
                let index = entry.log_id().index();
                let last = contents.entries.last_key_value().map(|(last, _)| *last);
                let next = last
                    .map(|last| last + 1)
                    .or(contents.purged.as_ref().map(next_of));
                assert!(
                    next.is_none_or(|next| next == index),
                    "{index} leaves a hole in the log"
                );
                records.push(Record {
                    tag: ENTRY,
                    bytes: encode_entry(&entry).into(),
                });
                contents.entries.insert(index, entry);
                last_entry = Some(index);
            }
        }
        let waiter = Some(Waiter::Raft(callback));
        self.issue(Issued {
            records,
            last_entry,
            waiter,
            purge_to: None,
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let keep = last_log_id.as_ref().map_or(0, next_of);
        self.inner.contents.lock().entries.split_off(&keep);
        let marker = super::types::wire::TruncateFrom { index: keep };
        self.write(vec![record(TRUNCATE, &marker)], None).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let records = {
            let mut contents = self.inner.contents.lock();
            if contents.purged.index() >= Some(log_id.index()) {
                return Ok(());
            }
            contents.entries = contents.entries.split_off(&next_of(&log_id));
            contents.purged = Some(log_id);
            // Written again, because what held it may go.
            let vote = contents
                .vote
                .iter()
                .map(|vote| record(VOTE, &put_vote(vote)));
            let committed = contents.committed.iter();
            let committed = committed.map(|id| record(COMMITTED, &put_log_id(id)));
            let purged = [record(PURGE, &put_log_id(&log_id))];
            vote.chain(committed).chain(purged).collect()
        };
        self.write(records, Some(log_id.index())).await
    }
}

fn next_of(id: &LogId) -> u64 {
    id.index() + 1
}
