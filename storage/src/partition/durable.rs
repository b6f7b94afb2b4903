//! What happens when entries are durable, in this order (R3): hot cache, high watermark, waiters,
//! replies.

use std::sync::Arc;

use wal::Entry;

use super::wait::wake;
use super::{Inner, Status};
use crate::budget::MemoryPermit;
use crate::cache::HotBatch;

impl Inner {
    /// Publishes a durable entry. Gives back the memory that it pins, which whoever uploads it
    /// now holds.
    pub(crate) fn publish(&self, entry: &Entry) -> MemoryPermit {
        let mut state = self.state.lock();
        let pending = state
            .pending
            .pop_front()
            .expect("what is durable was queued");
        assert!(
            pending.base_offset == entry.base_offset && pending.last_offset == entry.last_offset,
            "entries become durable in order of offsets"
        );
        if state.status == Status::Closed {
            // Its waiters were told; the entry is uploaded all the same.
            return pending.memory;
        }
        assert!(
            pending.base_offset == state.high_watermark,
            "offsets have no holes"
        );
        state.hot.push(HotBatch {
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            max_timestamp_ms: pending.max_timestamp_ms,
            bytes: entry.batches.clone(),
        });
        state.high_watermark = entry.last_offset + 1;
        state.unuploaded_bytes += entry.batches.len() as u64;
        let wakers = state.wakers.take();
        drop(state);
        wake(wakers);
        for reached in pending.waiting {
            // Whoever does not wait any more misses nothing.
            let _ = reached.send(());
        }
        pending.memory
    }

    /// Stops appends and reads. Queued entries stay queued; their waiters get an error, since the
    /// outcome is unknown to them.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.status = Status::Closed;
        state.hot = crate::cache::HotLog::default();
        let wakers = state.wakers.take();
        let waiting: Vec<_> = state
            .pending
            .iter_mut()
            .flat_map(|p| std::mem::take(&mut p.waiting))
            .collect();
        drop(state);
        drop(waiting);
        wake(wakers);
    }

    /// True when no entry of it is in the log's queue.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().pending.is_empty()
    }
}
