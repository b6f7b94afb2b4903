//! Memory of recoveries: a share of the budget of its own, taken before anything is read.
//!
//! ```text
//!   share ─▶ turns of a fixed size each ─▶ one log at a time per turn: a round, a group in hand, groups read ahead
//! ```
//!
//! Dead brokers leave their logs just when the living have the most to do: what is read of them
//! must not take an heir down with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Parts of the share that a round of one log may hold, of [`PARTS`].
const ROUND_PARTS: usize = 4;
/// The group in hand: a larger one (a single batch) is taken all the same.
const GROUP_PARTS: usize = 2;
/// Groups read ahead of it.
const AHEAD_PARTS: usize = 2;
const PARTS: usize = 16;
const TURN_PARTS: usize = ROUND_PARTS + GROUP_PARTS + AHEAD_PARTS;

/// All that recoveries may hold.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryRoom {
    total: usize,
    free: Arc<Semaphore>,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Leave to recover one log; dropped, another one may be.
#[derive(Debug)]
pub struct RecoveryTurn {
    room: RecoveryRoom,
    _taken: OwnedSemaphorePermit,
}

/// Bytes of entries that are held; dropped, they are not.
#[derive(Debug)]
pub(super) struct Holding {
    held: Arc<Held>,
    bytes: usize,
}

// === impl RecoveryRoom ===

impl RecoveryRoom {
    pub(crate) fn new(total: usize) -> Self {
        let total = total.clamp(PARTS, u32::MAX as usize);
        Self {
            total,
            free: Arc::new(Semaphore::new(total)),
            held: Arc::default(),
        }
    }

    /// First come, first served.
    pub(crate) async fn turn(&self) -> RecoveryTurn {
        let bytes = self.total / PARTS * TURN_PARTS;
        let bytes = u32::try_from(bytes).expect("bounded when it was made");
        let taken = Arc::clone(&self.free).acquire_many_owned(bytes);
        RecoveryTurn {
            room: self.clone(),
            _taken: taken.await.expect("never closed"),
        }
    }

    /// Bytes of entries that recoveries hold now, and the most that they ever held.
    pub(crate) fn held(&self) -> (usize, usize) {
        let Held { now, most } = &*self.held;
        (now.load(Ordering::Relaxed), most.load(Ordering::Relaxed))
    }

    /// Bytes of groups that one log's reader may hold ahead of the one in hand.
    pub(crate) fn ahead_bytes(&self) -> usize {
        self.total / PARTS * AHEAD_PARTS
    }
}

// === impl RecoveryTurn ===

impl RecoveryTurn {
    /// Bytes that one round of the log may hold.
    pub(super) fn round_bytes(&self) -> u64 {
        (self.room.total / PARTS * ROUND_PARTS) as u64
    }

    /// Counts what is held of the log from here on.
    pub(super) fn hold(&self) -> Holding {
        let held = Arc::clone(&self.room.held);
        Holding { held, bytes: 0 }
    }
}

// === impl Holding ===

impl Holding {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let now = self.held.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.held.most.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.held.now.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.release();
    }
}
