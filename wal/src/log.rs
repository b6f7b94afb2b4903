//! The handle of a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use env::Env;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::limits::{
    INTERNAL_QUEUE_BYTES, INTERNAL_QUEUE_ENTRIES, MAX_BODY_BYTES, QUEUE_BYTES, QUEUE_ENTRIES,
};
use crate::metrics::{Metrics, Status};
use crate::queue::{Permit, Permits, Queue, Queued, Stop};
use crate::writer::Writer;
use crate::{Entry, Error, Group, Sequence, WalId};

/// Bounds and figures of a log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Entries that may wait or be in flight.
    pub queue_entries: usize,
    /// Bytes that may wait or be in flight.
    pub queue_bytes: usize,
    /// The same for [`Log::reserve_internal`].
    pub internal_queue_entries: usize,
    /// The same for [`Log::reserve_internal`].
    pub internal_queue_bytes: usize,
    /// Where to count.
    pub metrics: Metrics,
}

impl LogSettings {
    /// The standard bounds, counting into `metrics`.
    pub fn standard(metrics: Metrics) -> Self {
        Self {
            queue_entries: QUEUE_ENTRIES,
            queue_bytes: QUEUE_BYTES,
            internal_queue_entries: INTERNAL_QUEUE_ENTRIES,
            internal_queue_bytes: INTERNAL_QUEUE_BYTES,
            metrics,
        }
    }
}

/// What to call with each durable group.
pub type Durable = Box<dyn FnMut(Group) + Send>;

/// One broker epoch's log. Cheap to clone; when the last clone is dropped without
/// [`Log::close`], it stops where it is.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    user: Permits,
    internal: Permits,
    _owner: Arc<Owner>,
}

pub(crate) struct Shared {
    pub(crate) wal_id: WalId,
    pub(crate) queue: Queue,
    pub(crate) durable_end: AtomicU64,
    pub(crate) failure: watch::Sender<Option<Error>>,
    pub(crate) closed: watch::Sender<Option<Sequence>>,
    pub(crate) status: Status,
}

/// Stops the writer when no handle is left.
struct Owner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

// === impl Log ===

impl Log {
    /// Starts the log `wal_id`, empty, over `backend`. `durable` is called on the writer's task,
    /// in order of sequence, once per group, after it and all before it are durable (R3).
    pub fn start(
        _env: &Env,
        wal_id: WalId,
        mut backend: Box<dyn Backend>,
        settings: LogSettings,
        durable: Durable,
    ) -> Self {
        let status = Status::new(settings.metrics);
        backend.attach(status.clone());
        let shared = Arc::new(Shared {
            wal_id,
            queue: Queue::default(),
            durable_end: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            closed: watch::Sender::new(None),
            status,
        });
        let task = tokio::spawn(Writer::new(shared.clone(), backend, durable).run());
        Self {
            user: Permits::new(settings.queue_entries, settings.queue_bytes),
            internal: Permits::new(
                settings.internal_queue_entries,
                settings.internal_queue_bytes,
            ),
            _owner: Arc::new(Owner {
                shared: shared.clone(),
                task,
            }),
            shared,
        }
    }

    /// Which log this is.
    pub fn wal_id(&self) -> WalId {
        self.shared.wal_id
    }

    /// A place for an entry of `bytes`, to be taken before the partition's lock. Waits while the
    /// queue is full. Cancel-safe.
    ///
    /// # Errors
    /// `DiskFull` and other errors of kind Retry while the log cannot write; the log's failure once
    /// it has failed; `TooLarge`.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Error> {
        self.acquire(&self.user, bytes).await
    }

    /// As [`Log::reserve`], from places of their own for internal topics, transaction markers and
    /// recovery, which user data cannot use up.
    ///
    /// # Errors
    /// As [`Log::reserve`].
    pub async fn reserve_internal(&self, bytes: usize) -> Result<Permit, Error> {
        self.acquire(&self.internal, bytes).await
    }

    async fn acquire(&self, permits: &Permits, bytes: usize) -> Result<Permit, Error> {
        if bytes as u64 > MAX_BODY_BYTES / 2 {
            return Err(Error::TooLarge { bytes });
        }
        let mut failure = self.shared.failure.subscribe();
        let mut stalled = self.shared.status.watch();
        tokio::select! {
            biased;
            error = first_error(&mut failure) => Err(error),
            error = first_error(&mut stalled) => Err(error),
            permit = permits.acquire(bytes) => Ok(permit),
        }
    }

    /// Queues an entry. Never blocks; called under the partition's lock, so that the order of the
    /// log is the order of offsets. After a failure the entry goes nowhere, and is never durable.
    ///
    /// # Panics
    /// When the entry is larger than what was reserved.
    pub fn append(&self, mut permit: Permit, entry: Entry) {
        assert!(
            entry.batches.len() <= permit.reserved,
            "an entry fits its reservation"
        );
        permit.count(
            &self.shared.status.metrics.queued_bytes,
            entry.batches.len(),
        );
        self.shared.queue.push(Queued { entry, permit });
    }

    /// Groups below `to` may be deleted: the controller's trim point has passed them (R4).
    ///
    /// # Panics
    /// When `to` is beyond what is durable.
    pub fn trim(&self, to: Sequence) {
        assert!(to <= self.durable_end(), "only durable groups are trimmed");
        self.shared.queue.trim(to);
    }

    /// One past the last group that is durable and was handed to `durable`.
    pub fn durable_end(&self) -> Sequence {
        self.shared.durable_end.load(Ordering::Acquire)
    }

    /// Holds the error that ended the log, once there is one: fenced by a seal, a failed sync
    /// (kind Internal: the process must end), corruption. Told at once: work in the background may
    /// still go on, and a log on a disk stays locked until it has ended.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.shared.failure.subscribe()
    }

    /// Holds an error while the log cannot write for a reason that passes by itself, such as a full
    /// disk.
    pub fn stalled(&self) -> watch::Receiver<Option<Error>> {
        self.shared.status.watch()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.status.metrics
    }

    /// Writes what is queued, then the closed mark. Appends from now on go nowhere.
    ///
    /// # Errors
    /// The log's failure.
    pub async fn close(self) -> Result<Sequence, Error> {
        let mut closed = self.shared.closed.subscribe();
        let mut failure = self.shared.failure.subscribe();
        self.shared.queue.stop(Stop::Drain);
        tokio::select! {
            biased;
            end = first_value(&mut closed) => Ok(end),
            error = first_error(&mut failure) => Err(error),
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("wal_id", &self.shared.wal_id)
            .field("durable_end", &self.durable_end())
            .finish_non_exhaustive()
    }
}

async fn first_value<T: Copy>(receiver: &mut watch::Receiver<Option<T>>) -> T {
    let found = receiver
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|value| *value);
    match found {
        Some(value) => value,
        // The handle that asks keeps the sender.
        None => std::future::pending().await,
    }
}

async fn first_error(receiver: &mut watch::Receiver<Option<Error>>) -> Error {
    // The guard must be gone before the next await: it is a lock.
    let failed = receiver
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|error| error.clone());
    match failed {
        Some(error) => error,
        None => std::future::pending().await,
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.task.abort();
    }
}
