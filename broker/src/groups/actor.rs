//! One coordinator partition at work: loads, then serves until the partition goes away.
//!
//! ```text
//! requests ─▶ Shard ─┬─ records ─▶ unwritten ─▶ one batch in flight ─▶ log
//!                    └─ answers ─▶ held ◀── durable ──────────────────┘
//! ```
//!
//! **Invariant:** an answer about a group leaves only when every record that its state rests on is
//! durable; one that rests on none, only while nobody else can lead the log. **Invariant:** memory is never rolled back: a write is tried until it is done or the
//! partition is lost, and then everything here is forgotten with it.

mod load;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use env::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::api::{Answer, Effects, Input, Name, Now, Reply, Request, WaiterId};
use super::config::GroupConfig;
use super::error::GroupError;
use super::limits::{MAX_UNWRITTEN_BYTES, RELOAD_MS, STALL_MS};
use super::log::{GroupLog, LogError, Standing};
use super::metrics::GroupMetrics;
use super::shard::Shard;
use write::Writer;

/// What a partition's task is asked.
#[derive(Debug)]
pub(super) enum Message {
    /// A request; the answer goes to `reply`. A dropped `reply` says that the partition was lost.
    Request {
        /// What is asked.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Topics were deleted.
    TopicsDeleted(Vec<Name>),
}

/// How far a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    /// Replaying its log.
    Loading = 0,
    /// Serving.
    Ready = 1,
    /// Its log cannot be read or written; it tries again now and then.
    Failed = 2,
    /// Lost.
    Closed = 3,
}

/// A [`Status`] that others may look at.
#[derive(Debug, Default)]
pub(super) struct StatusCell(AtomicU8);

impl StatusCell {
    pub(super) fn get(&self) -> Status {
        match self.0.load(Ordering::Acquire) {
            0 => Status::Loading,
            1 => Status::Ready,
            2 => Status::Failed,
            _ => Status::Closed,
        }
    }

    fn set(&self, status: Status) {
        self.0.store(status as u8, Ordering::Release);
    }
}

/// What a partition's task works with.
pub(super) struct Parts {
    pub(super) partition: i32,
    pub(super) log: Arc<dyn GroupLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: GroupConfig,
    pub(super) metrics: GroupMetrics,
    pub(super) status: Arc<StatusCell>,
    pub(super) cancel: CancellationToken,
}

impl Parts {
    /// The two times, on the runtime's clock and on the wall.
    fn now(&self, started: Instant) -> Now {
        Now {
            monotonic_ms: millis_since(started),
            wall_ms: self.clock.wall_ms(),
        }
    }
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Its end is the partition's.
struct Closes(Arc<StatusCell>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.set(Status::Closed);
    }
}

/// Runs one coordinator partition until it is cancelled or lost.
pub(super) async fn run(parts: Parts, mut messages: mpsc::Receiver<Message>) {
    let cancel = parts.cancel.clone();
    // Said even if this panics: whoever follows the assignment then opens the partition anew.
    let _closes = Closes(Arc::clone(&parts.status));
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = live(&parts, &mut messages) => {}
    }
    parts.status.set(Status::Closed);
    // What still waits in the queue learns by its dropped reply that this is the wrong broker.
    messages.close();
}

async fn live(parts: &Parts, messages: &mut mpsc::Receiver<Message>) {
    let started = Instant::now();
    loop {
        let loading = Counted::new(&parts.metrics.loading);
        parts.status.set(Status::Loading);
        let lost = match load::load(parts, started).await {
            Ok(shard) => {
                drop(loading);
                let _ready = Counted::new(&parts.metrics.partitions);
                parts.status.set(Status::Ready);
                let mut actor = Actor::new(parts, started, shard);
                let lost = actor.serve(messages).await;
                info!(partition = parts.partition, reason = %lost, "group coordinator stops");
                lost
            }
            Err(lost) => {
                drop(loading);
                lost
            }
        };
        match lost {
            LogError::Gone { .. } => return,
            LogError::Retry { reason } | LogError::Failed { reason } => {
                error!(partition = parts.partition, %reason, "group coordinator cannot use its log");
                parts.status.set(Status::Failed);
                let _loading = Counted::new(&parts.metrics.loading);
                sleep(Duration::from_millis(RELOAD_MS)).await;
            }
        }
    }
}

/// Counts itself in a gauge while it lives.
struct Counted<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Actor<'a> {
    parts: &'a Parts,
    started: Instant,
    shard: Shard,
    writer: Writer,
    /// Who waits, for an answer that the shard has not given yet.
    waiting: BTreeMap<WaiterId, oneshot::Sender<Reply>>,
    /// Answers that wait for a record to be durable, by that record's number.
    held: BTreeMap<(u64, WaiterId), Reply>,
    next_waiter: u64,
    groups: i64,
}

impl<'a> Actor<'a> {
    fn new(parts: &'a Parts, started: Instant, shard: Shard) -> Self {
        let groups = shard.group_count() as i64;
        parts.metrics.groups.inc_by(groups);
        Self {
            parts,
            started,
            shard,
            writer: Writer::default(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            next_waiter: 0,
            groups,
        }
    }

    /// Serves until the log is lost or fails. Dropping the future forgets whoever waits.
    async fn serve(&mut self, messages: &mut mpsc::Receiver<Message>) -> LogError {
        loop {
            self.writer.start(self.parts);
            // While the log does not keep up nobody is heard, and so nobody's session ends.
            let listens = self.writer.unwritten_bytes() <= MAX_UNWRITTEN_BYTES;
            let wake = self.wake_at();
            tokio::select! {
                biased;
                written = self.writer.written() => match written {
                    Ok(()) => self.release(),
                    Err(lost) => return lost,
                },
                message = messages.recv(), if listens => match message {
                    Some(message) => self.hear(message),
                    None => return LogError::Gone { reason: "shut down".to_owned() },
                },
                () = sleep_until(wake), if listens => self.apply(Input::Tick),
            }
        }
    }

    fn wake_at(&self) -> Instant {
        // Without a deadline the next look is far off, but there is one.
        let at_ms = self
            .shard
            .next_deadline()
            .unwrap_or(u64::MAX)
            .min(u64::from(u32::MAX));
        self.started + Duration::from_millis(at_ms)
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Request { request, reply } => {
                self.next_waiter += 1;
                let waiter = WaiterId(self.next_waiter);
                self.waiting.insert(waiter, reply);
                self.apply(Input::Request { waiter, request });
            }
            Message::TopicsDeleted(topics) => self.apply(Input::TopicsDeleted(topics)),
        }
    }

    fn apply(&mut self, input: Input) {
        let now = self.parts.now(self.started);
        let due = self.shard.next_deadline();
        if due.is_some_and(|due| now.monotonic_ms > due.saturating_add(STALL_MS)) {
            warn!(
                partition = self.parts.partition,
                "the process stood still: sessions of group members start anew"
            );
            self.shard.restart_sessions(now);
        }
        let effects = self.shard.apply(now, input);
        self.take(effects);
        let groups = self.shard.group_count() as i64;
        self.parts.metrics.groups.inc_by(groups - self.groups);
        self.groups = groups;
    }

    fn take(&mut self, effects: Effects) {
        self.writer.push(effects.records);
        for Answer {
            waiter,
            group,
            reply,
        } in effects.answers
        {
            if let Reply::Commit(Ok(results)) = &reply {
                let count = results.iter().filter(|result| result.is_ok()).count();
                self.parts.metrics.commits.inc_by(count as u64);
            }
            match group.and_then(|group| self.writer.last_unwritten(&group)) {
                Some(number) => {
                    self.held.insert((number, waiter), reply);
                }
                None => self.tell(waiter, reply),
            }
        }
    }

    /// Answers what rests on nothing but memory, if nobody else can know more.
    fn tell(&mut self, waiter: WaiterId, reply: Reply) {
        match (self.parts.log.standing(), reply) {
            (Standing::Led, reply) => self.send(waiter, reply),
            (Standing::Leaving, Reply::FetchOffsets(_)) => {
                self.send(waiter, Reply::FetchOffsets(Err(GroupError::LoadInProgress)));
            }
            (Standing::Leaving, Reply::Describe(_)) => {
                self.send(waiter, Reply::Describe(Err(GroupError::LoadInProgress)));
            }
            // The rest decides nothing: who is heard here once more is heard there, too.
            (Standing::Leaving, reply) => self.send(waiter, reply),
            // A dropped reply says that this is the wrong broker.
            (Standing::Gone, _) => drop(self.waiting.remove(&waiter)),
        }
    }

    /// Lets go what waited for records that are durable now.
    fn release(&mut self) {
        let still = self
            .held
            .split_off(&(self.writer.durable() + 1, WaiterId(0)));
        for ((_, waiter), reply) in std::mem::replace(&mut self.held, still) {
            self.send(waiter, reply);
        }
    }

    fn send(&mut self, waiter: WaiterId, reply: Reply) {
        let sender = self
            .waiting
            .remove(&waiter)
            .expect("a waiter is answered once");
        // A client that went away does not hear it: its loss.
        let _ = sender.send(reply);
    }
}

impl Drop for Actor<'_> {
    fn drop(&mut self) {
        self.parts.metrics.groups.dec_by(self.groups);
    }
}
