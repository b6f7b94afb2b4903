//! What waits to be written: bounded in entries and bytes by permits taken beforehand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::{GROUP_BYTES, GROUP_ENTRIES};
use crate::{Entry, Sequence};

/// A place in the queue. Given back when dropped, or when its entry is durable.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    pub(crate) reserved: usize,
    /// Bytes of its entry, while they count as queued.
    counted: Option<(QueuedBytes, i64)>,
}

type QueuedBytes = Gauge<i64, AtomicI64>;

impl Permit {
    /// Counts `bytes` as queued for as long as the permit lives.
    pub(crate) fn count(&mut self, gauge: &QueuedBytes, bytes: usize) {
        gauge.inc_by(bytes as i64);
        self.counted = Some((gauge.clone(), bytes as i64));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((gauge, bytes)) = self.counted.take() {
            gauge.dec_by(bytes);
        }
    }
}

/// One class of permits.
#[derive(Clone)]
pub(crate) struct Permits {
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most_bytes: u32,
}

impl Permits {
    pub(crate) fn new(entries: usize, bytes: usize) -> Self {
        let most_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            slots: Arc::new(Semaphore::new(entries)),
            bytes: Arc::new(Semaphore::new(most_bytes as usize)),
            most_bytes,
        }
    }

    /// Waits for room, in order of asking. Cancel-safe. An entry larger than the whole queue
    /// waits for all of it.
    pub(crate) async fn acquire(&self, bytes: usize) -> Permit {
        let open = "the queue's semaphores are never closed";
        let slot = self.slots.clone().acquire_owned().await.expect(open);
        let counted = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.most_bytes);
        let held = self
            .bytes
            .clone()
            .acquire_many_owned(counted)
            .await
            .expect(open);
        Permit {
            _slot: slot,
            _bytes: held,
            reserved: bytes,
            counted: None,
        }
    }
}

pub(crate) struct Queued {
    pub(crate) entry: Entry,
    pub(crate) permit: Permit,
}

/// How the log stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not at all.
    No,
    /// After all that is queued.
    Drain,
    /// At once.
    Now,
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    pub(crate) wake: Notify,
}

struct State {
    entries: VecDeque<Queued>,
    bytes: usize,
    stop: Stop,
    trim: Sequence,
}

impl Default for State {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            stop: Stop::No,
            trim: 0,
        }
    }
}

/// What the writer sees of the queue.
pub(crate) struct Glance {
    pub(crate) empty: bool,
    pub(crate) bytes: usize,
    pub(crate) stop: Stop,
    pub(crate) trim: Sequence,
}

impl Queue {
    pub(crate) fn push(&self, queued: Queued) {
        let mut state = self.state.lock();
        if state.stop != Stop::No {
            // Never acknowledged; its owner learns from the log's failure.
            return;
        }
        state.bytes += queued.entry.batches.len();
        state.entries.push_back(queued);
        drop(state);
        self.wake.notify_one();
    }

    /// The next group: in order, up to the size of one.
    pub(crate) fn take_group(&self) -> Vec<Queued> {
        let mut state = self.state.lock();
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(front) = state.entries.front() {
            let length = front.entry.batches.len();
            let full = bytes + length > GROUP_BYTES || group.len() == GROUP_ENTRIES;
            if full && !group.is_empty() {
                break;
            }
            bytes += length;
            group.push(state.entries.pop_front().expect("looked at above"));
        }
        state.bytes -= bytes;
        group
    }

    pub(crate) fn glance(&self) -> Glance {
        let state = self.state.lock();
        Glance {
            empty: state.entries.is_empty(),
            bytes: state.bytes,
            stop: state.stop,
            trim: state.trim,
        }
    }

    pub(crate) fn trim(&self, to: Sequence) {
        let mut state = self.state.lock();
        state.trim = state.trim.max(to);
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self, stop: Stop) {
        let mut state = self.state.lock();
        if state.stop != Stop::Now {
            state.stop = stop;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Refuses all from now on and drops what waits.
    pub(crate) fn abandon(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.stop = Stop::Now;
            state.bytes = 0;
            std::mem::take(&mut state.entries)
        };
        drop(dropped);
    }
}
