//! One object per group, created only if absent, at the next sequence number.
//!
//! ```text
//!   {prefix}/{log id}/{sequence:020}       the log id is random: the writer's nonce in the key (R2)
//!
//!   owner:  put k … put k+7 in flight, acknowledged in order; slow puts hedged with the same bytes
//!   heir:   read k, k+1, … until absent ─▶ create a seal there ─▶ the end
//!   operator: create a seal there, reading nothing ─▶ the log is given up
//! ```
//!
//! **Invariant (R8):** the bytes of a sequence number are frozen at the first attempt; "already
//! exists" is success only when what stands there is ours. **Invariant (R9):** the first seal in
//! sequence is the end, whoever made it.

mod pace;
mod put;
mod seal;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Backend, Mark, Pace, PendingGroup, Stored};
use crate::limits::{OBJECT_WINDOW, PUTS_PER_SECOND, READ_AHEAD_BYTES};
use crate::metrics::Status;
use crate::record::{Encoded, GroupKind, GroupMeta};
use crate::{Error, Sequence, WalId};
use pace::TokenBucket;
use put::Putter;
pub use seal::seal;
pub(crate) use store::LogObjects;
pub use tail::recover;
use trim::Trimmer;
pub use trim::sweep;

/// How an object log speaks to its store.
#[derive(Clone, Copy, Debug)]
pub struct ObjectSettings {
    /// Puts per second that small groups may use, and the burst above it.
    pub puts_per_second: u32,
    /// After this an attempt is given up and made again.
    pub request_timeout: Duration,
    /// A second put of the same bytes starts when the first takes this long, or four times the
    /// usual, whichever is more.
    pub hedge_after: Duration,
    /// Pause after the first failed attempt; doubles from there.
    pub back_off: Duration,
    /// Longest pause.
    pub back_off_most: Duration,
    /// Bytes of groups that [`recover`] holds ahead of the one that it gives.
    pub read_ahead_bytes: usize,
}

impl ObjectSettings {
    /// What a broker uses.
    pub const STANDARD: Self = Self {
        puts_per_second: PUTS_PER_SECOND,
        request_timeout: Duration::from_secs(10),
        hedge_after: Duration::from_millis(100),
        back_off: Duration::from_millis(50),
        back_off_most: Duration::from_secs(2),
        read_ahead_bytes: READ_AHEAD_BYTES,
    };
}

/// The log `wal_id` under `prefix`, which ends with the node id: objects are
/// `{prefix}/{wal_id}/{sequence:020}`. Touches the store only once something is appended.
pub fn create(
    env: &Env,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    wal_id: WalId,
    settings: ObjectSettings,
) -> Box<dyn Backend> {
    let objects = LogObjects::new(env, store, &prefix, wal_id, settings);
    let mut nonce = [0; 16];
    env.entropy.fill(&mut nonce);
    Box::new(ObjectBackend {
        wal_id,
        nonce: u128::from_be_bytes(nonce),
        bucket: TokenBucket::new(settings.puts_per_second),
        putter: Putter::new(objects.clone()),
        trimmer: Trimmer::start(objects),
    })
}

struct ObjectBackend {
    wal_id: WalId,
    nonce: u128,
    bucket: TokenBucket,
    putter: Putter,
    trimmer: Trimmer,
}

impl Backend for ObjectBackend {
    fn window(&self) -> usize {
        OBJECT_WINDOW
    }

    fn attach(&mut self, status: Status) {
        self.putter.attach(status);
    }

    fn store(&mut self, pending: PendingGroup) -> BoxFuture<'static, Stored> {
        let meta = GroupMeta {
            kind: GroupKind::Entries,
            wal_id: self.wal_id,
            sequence: pending.group.sequence,
            nonce: self.nonce,
            acked_to: pending.acked_to,
            window: OBJECT_WINDOW as u32,
            generation: 0,
        };
        let frozen = Encoded::new(&meta, &[], &pending.group.entries);
        let putter = self.putter.clone();
        // A task of its own, so that a put goes on while the writer does something else.
        let task = Owned(tokio::spawn(
            async move { putter.put(&meta, &frozen).await },
        ));
        Box::pin(async move { (pending.group, task.await) })
    }

    fn pace(&mut self, now: Instant, queued_bytes: usize, in_flight: usize) -> Pace {
        self.bucket.pace(now, queued_bytes, in_flight)
    }

    fn idle_after(&self) -> Option<Duration> {
        // A put is whole or absent: there is no torn tail to tell from damage.
        None
    }

    fn mark(&mut self, _mark: Mark, _next: Sequence) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn trim(&mut self, to: Sequence) {
        self.trimmer.trim(to);
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        // Its tasks end with their handles.
        drop(self);
        Box::pin(async {})
    }
}

/// A task that ends with its handle.
pub(super) struct Owned<T>(JoinHandle<T>);

impl<T> Future for Owned<T> {
    type Output = T;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<T> {
        match std::pin::Pin::new(&mut self.0).poll(context) {
            std::task::Poll::Ready(Ok(value)) => std::task::Poll::Ready(value),
            std::task::Poll::Ready(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only its handle cancels it, or the runtime as it ends: nobody polls then.
                Err(_) => std::task::Poll::Pending,
            },
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
