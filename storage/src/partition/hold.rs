//! Holding appends while a partition is given away.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::wait::wake;
use super::{Inner, Partition, Status};
use crate::Error;

impl Inner {
    /// Holds appends; false when it is not open for them.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.state.lock();
        let open = state.status == Status::Open;
        if open {
            state.status = Status::Held;
        }
        open
    }

    /// Takes appends again.
    pub(crate) fn go_on(&self) {
        let mut state = self.state.lock();
        if state.status != Status::Held {
            return;
        }
        state.status = Status::Open;
        let wakers = state.wakers.take();
        drop(state);
        wake(wakers);
    }

    /// Its end, when appends are held and all of it is committed.
    pub(crate) fn held_end(&self) -> Option<i64> {
        let state = self.state.lock();
        let ready = state.status == Status::Held && state.committed_end == state.log_end;
        ready.then_some(state.log_end)
    }

    /// Up to where it is committed, as far as is known here.
    pub(crate) fn committed_end(&self) -> i64 {
        self.state.lock().committed_end
    }

    /// Next offset to give.
    pub(crate) fn log_end(&self) -> i64 {
        self.state.lock().log_end
    }

    /// Up to where it is committed and its producers are known. The catalog may have told of more
    /// than rounds of ours have seen to the end.
    pub(crate) fn folded_end(&self) -> i64 {
        let state = self.state.lock();
        state.committed_end.min(state.committed.at)
    }

    /// Whether rounds have seen it up to `wanted`, or will once they have come to `queued_end`.
    pub(crate) fn is_seen(&self, queued_end: i64, wanted: i64) -> bool {
        let state = self.state.lock();
        state.status == Status::Closed || state.committed.at.max(queued_end) >= wanted
    }

    /// Waits until nothing of it is queued in the log, or it is closed.
    pub(crate) async fn all_durable(&self) {
        let notify = Arc::new(Notify::new());
        loop {
            {
                let mut state = self.state.lock();
                if state.status == Status::Closed || state.pending.is_empty() {
                    return;
                }
                state.wakers.add(&notify);
            }
            notify.notified().await;
        }
    }
}

impl Partition {
    /// Whether it serves here at this moment.
    pub fn status(&self) -> Status {
        self.inner.state.lock().status
    }

    /// Waits until appends are not held and not too far ahead, or the partition is closed.
    ///
    /// # Errors
    /// `Held` or `Ahead` at the deadline.
    pub(super) async fn not_held(&self, deadline: Instant) -> Result<(), Error> {
        let notify = Arc::new(Notify::new());
        loop {
            let why = {
                let mut state = self.inner.state.lock();
                let why = match state.status {
                    Status::Held => self.inner.held(),
                    Status::Open if state.is_ahead() => self.inner.ahead(),
                    Status::Open | Status::Closed => return Ok(()),
                };
                state.wakers.add(&notify);
                why
            };
            let waited = timeout_at(deadline, notify.notified()).await;
            waited.map_err(|_| why)?;
        }
    }
}
