//! Group commit: `queue ─▶ Writer ─▶ backend ─▶ durable(group)`.
//!
//! While groups are in flight the next one gathers in the queue; nothing lingers on purpose but
//! by the backend's pace.
//!
//! **Invariant (R3):** group k is handed to `durable` only when every group up to k is durable.
//! The first store that fails ends the log: no later group is ever acknowledged.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::{Backend, Mark, Pace, PendingGroup, Stored};
use crate::limits::END_PATIENCE;
use crate::log::{Durable, Shared};
use crate::queue::{Permit, Stop};
use crate::{Error, ErrorKind, Group, Sequence};

pub(crate) struct Writer {
    shared: Arc<Shared>,
    backend: Box<dyn Backend>,
    durable: Durable,
    next: Sequence,
    acked: Sequence,
    trimmed: Sequence,
    /// Nothing was written since the last mark.
    marked: bool,
    idle_since: Instant,
}

struct InFlight {
    stored: Stored,
    bytes: usize,
    started: Instant,
    /// Held until the group is durable.
    _permits: Vec<Permit>,
}

type Flights = FuturesOrdered<futures::future::BoxFuture<'static, InFlight>>;

enum Event {
    Stored(Box<InFlight>),
    Woken,
    Idle,
}

// === impl Writer ===

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, backend: Box<dyn Backend>, durable: Durable) -> Self {
        Self {
            shared,
            backend,
            durable,
            next: 0,
            acked: 0,
            trimmed: 0,
            marked: true,
            idle_since: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        let result = AssertUnwindSafe(self.work()).catch_unwind().await;
        let wal_id = shared.wal_id;
        // Whoever waits for a group would do so for ever.
        let result = result.unwrap_or(Err(Error::Panicked { wal_id }));
        shared.queue.abandon();
        let closed = match result {
            Ok(closed) => closed,
            Err(error) => {
                // At once: a disk that failed may hang, too, and nothing is to wait for it.
                tracing::error!(%error, wal_id = %shared.wal_id, "the log has failed");
                shared.failure.send_replace(Some(error));
                None
            }
        };
        // Whoever hears of a clean end may open the log, or remove it, at once.
        if timeout(END_PATIENCE, self.backend.end()).await.is_err() {
            tracing::warn!(wal_id = %shared.wal_id, "the log's work in the background has not ended");
        }
        if let Some(end) = closed {
            shared.closed.send_replace(Some(end));
        }
    }

    /// Gives the end after a clean stop, `None` when told to stop at once.
    async fn work(&mut self) -> Result<Option<Sequence>, Error> {
        let mut flights = Flights::new();
        loop {
            let glance = self.shared.queue.glance();
            if glance.trim > self.trimmed {
                self.trimmed = glance.trim;
                self.backend.trim(glance.trim);
            }
            if glance.stop == Stop::Now {
                return Ok(None);
            }
            let mut wait_until = None;
            if !glance.empty && flights.len() < self.backend.window() {
                match self
                    .backend
                    .pace(Instant::now(), glance.bytes, flights.len())
                {
                    Pace::Now => {
                        flights.extend(self.store());
                        continue;
                    }
                    Pace::At(when) => wait_until = Some(when),
                }
            }
            let idle = glance.empty && flights.is_empty();
            if idle && glance.stop == Stop::Drain {
                return self.close().await.map(Some);
            }
            let idle_at = self.idle_at(idle);
            let event = tokio::select! {
                biased;
                Some(flight) = flights.next(), if !flights.is_empty() => {
                    Event::Stored(Box::new(flight))
                }
                () = self.shared.queue.wake.notified() => Event::Woken,
                () = until(wait_until) => Event::Woken,
                () = until(idle_at) => Event::Idle,
            };
            match event {
                Event::Stored(flight) => self.stored(*flight)?,
                Event::Woken => {}
                Event::Idle => self.mark_idle().await?,
            }
        }
    }

    /// Hands the next group to the backend; none when the queue was abandoned since the glance.
    fn store(&mut self) -> Option<futures::future::BoxFuture<'static, InFlight>> {
        let mut entries = Vec::new();
        let mut permits = Vec::new();
        let mut bytes = 0;
        for queued in self.shared.queue.take_group() {
            bytes += queued.entry.batches.len();
            entries.push(queued.entry);
            permits.push(queued.permit);
        }
        if entries.is_empty() {
            return None;
        }
        let group = Group {
            sequence: self.next,
            entries,
        };
        self.next += 1;
        self.marked = false;
        let started = Instant::now();
        let early = env::planted!("ack-before-durable").then(|| group.clone());
        let store = self.backend.store(PendingGroup {
            group,
            acked_to: match env::planted!("told-before-durable") {
                true => self.next - 1,
                false => self.acked,
            },
        });
        Some(Box::pin(async move {
            let stored = match early {
                Some(group) => {
                    tokio::spawn(store);
                    (group, Ok(()))
                }
                None => store.await,
            };
            InFlight {
                stored,
                bytes,
                started,
                _permits: permits,
            }
        }))
    }

    fn stored(&mut self, flight: InFlight) -> Result<(), Error> {
        let (group, result) = flight.stored;
        let metrics = &self.shared.status.metrics;
        result?;
        assert_eq!(
            group.sequence, self.acked,
            "groups are acknowledged in order"
        );
        metrics.stored(flight.started.elapsed(), flight.bytes, group.entries.len());
        (self.durable)(group);
        self.acked += 1;
        self.shared.durable_end.store(self.acked, Ordering::Release);
        self.idle_since = Instant::now();
        Ok(())
    }

    fn idle_at(&self, idle: bool) -> Option<Instant> {
        let after = self.backend.idle_after()?;
        (idle && !self.marked).then(|| self.idle_since + after)
    }

    async fn mark_idle(&mut self) -> Result<(), Error> {
        assert_eq!(self.acked, self.next, "an idle log has nothing in flight");
        match self.backend.mark(Mark::Idle, self.next).await {
            Ok(()) => self.marked = true,
            // A mark can wait; the next try is as far away as this one was.
            Err(error) if error.kind() == ErrorKind::Retry => self.idle_since = Instant::now(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<Sequence, Error> {
        match self.backend.mark(Mark::Closed, self.next).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Retry => {
                // All groups are durable; only the proof that none is missing is not.
                tracing::warn!(%error, "the closed mark is left out");
            }
            Err(error) => return Err(error),
        }
        Ok(self.next)
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
