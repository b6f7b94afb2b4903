//! The group coordinator of a broker: one task per partition of `__consumer_offsets` led here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use env::Clock;
use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::actor::{self, Message, Parts, Status, StatusCell};
use super::api::{ListRequest, Listing, Name, Reply, Request};
use super::config::GroupConfig;
use super::error::GroupError;
use super::limits::REQUEST_QUEUE;
use super::log::GroupLog;
use super::metrics::GroupMetrics;

/// The group coordinator of a broker. Cheap to clone; [`Coordinator::drain`] ends its tasks, and
/// so does dropping the last handle.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    config: GroupConfig,
    metrics: GroupMetrics,
    partitions: Mutex<BTreeMap<i32, Slot>>,
    /// Set when the broker is about to stop: nothing opens any more.
    stopped: AtomicBool,
}

/// One partition led here.
struct Slot {
    version: (TopicId, LeaderEpoch),
    messages: mpsc::Sender<Message>,
    status: Arc<StatusCell>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Coordinator({} partitions)",
            self.inner.partitions.lock().len()
        )
    }
}

impl Coordinator {
    /// One that leads nothing yet.
    pub fn new(clock: Arc<dyn Clock>, config: GroupConfig, metrics: GroupMetrics) -> Self {
        let partitions = Mutex::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner {
                clock,
                config,
                metrics,
                partitions,
                stopped: AtomicBool::new(false),
            }),
        }
    }

    /// The settings.
    pub fn config(&self) -> &GroupConfig {
        &self.inner.config
    }

    /// A partition of `__consumer_offsets` is led here: loads it and serves its groups. Nothing
    /// happens if it is open at that version; at another one it is closed first.
    pub fn opened(
        &self,
        partition: i32,
        version: (TopicId, LeaderEpoch),
        log: impl FnOnce() -> Arc<dyn GroupLog>,
    ) {
        let mut partitions = self.inner.partitions.lock();
        if self.inner.stopped.load(Ordering::Acquire) {
            return;
        }
        let lost = |slot: &Slot| slot.status.get() == Status::Closed;
        if partitions
            .get(&partition)
            .is_some_and(|s| s.version == version && !lost(s))
        {
            return;
        }
        partitions.remove(&partition);
        let log = log();
        let (messages, receiver) = mpsc::channel(REQUEST_QUEUE);
        let status = Arc::new(StatusCell::default());
        let cancel = CancellationToken::new();
        let parts = Parts {
            partition,
            log,
            clock: self.inner.clock.clone(),
            config: self.inner.config.clone(),
            metrics: self.inner.metrics.clone(),
            status: status.clone(),
            cancel: cancel.clone(),
        };
        let span = tracing::info_span!("group coordinator", partition);
        let run = tracing::Instrument::instrument(actor::run(parts, receiver), span);
        let task = tokio::spawn(run);
        let slot = Slot {
            version,
            messages,
            status,
            cancel,
            task,
        };
        partitions.insert(partition, slot);
    }

    /// A partition is no longer led here: whoever waits is told `NOT_COORDINATOR`.
    pub fn closed(&self, partition: i32) {
        self.inner.partitions.lock().remove(&partition);
    }

    /// As [`Coordinator::closed`], if it is open at that version.
    pub fn released(&self, partition: i32, version: (TopicId, LeaderEpoch)) {
        let mut partitions = self.inner.partitions.lock();
        let same = |slot: &Slot| slot.version == version;
        if partitions.get(&partition).is_some_and(same) {
            partitions.remove(&partition);
        }
    }

    /// Closes every partition: the lease lapsed, or this broker was fenced.
    pub fn close_all(&self) {
        self.inner.partitions.lock().clear();
    }

    /// Closes every partition, and opens none any more: the broker is about to stop.
    pub fn stop(&self) {
        let mut partitions = self.inner.partitions.lock();
        self.inner.stopped.store(true, Ordering::Release);
        partitions.clear();
    }

    /// Closes every partition and waits until their tasks have ended.
    pub async fn drain(&self) {
        let slots = std::mem::take(&mut *self.inner.partitions.lock());
        for (_, mut slot) in slots {
            slot.cancel.cancel();
            // A task that panicked has said so itself; nothing is left of it to wait for.
            let _ = (&mut slot.task).await;
        }
    }

    /// Partitions that are loading or could not be loaded.
    pub fn unready(&self) -> Vec<i32> {
        let partitions = self.inner.partitions.lock();
        let unready = partitions
            .iter()
            .filter(|(_, slot)| slot.status.get() != Status::Ready);
        unready.map(|(&partition, _)| partition).collect()
    }

    /// Asks the coordinator partition that a request's group belongs to, and waits up to
    /// `patience` for the answer (for ever without).
    ///
    /// # Errors
    /// `NotCoordinator`, `LoadInProgress`, `NotAvailable` when the log does not keep up.
    pub async fn ask(
        &self,
        partition: i32,
        request: Request,
        patience: Option<Duration>,
    ) -> Result<Reply, GroupError> {
        let messages = self.messages(partition)?;
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            let message = Message::Request { request, reply };
            messages
                .send(message)
                .await
                .map_err(|_| GroupError::NotCoordinator)?;
            answer.await.map_err(|_| GroupError::NotCoordinator)
        };
        match patience {
            Some(patience) => timeout(patience, exchange)
                .await
                .unwrap_or(Err(GroupError::NotAvailable)),
            None => exchange.await,
        }
    }

    fn messages(&self, partition: i32) -> Result<mpsc::Sender<Message>, GroupError> {
        let partitions = self.inner.partitions.lock();
        let slot = partitions
            .get(&partition)
            .ok_or(GroupError::NotCoordinator)?;
        match slot.status.get() {
            Status::Loading => Err(GroupError::LoadInProgress),
            Status::Ready => Ok(slot.messages.clone()),
            Status::Failed => Err(GroupError::NotAvailable),
            Status::Closed => Err(GroupError::NotCoordinator),
        }
    }

    /// The groups of every partition led here, in order of their ids.
    ///
    /// # Errors
    /// `LoadInProgress` or `NotAvailable` when a partition cannot be asked: the list would be
    /// short.
    pub async fn list(
        &self,
        request: &ListRequest,
        patience: Duration,
    ) -> Result<Vec<Listing>, GroupError> {
        let partitions = self
            .inner
            .partitions
            .lock()
            .keys()
            .copied()
            .collect::<Vec<_>>();
        let mut all = Vec::new();
        for partition in partitions {
            let request = Request::List(request.clone());
            match self.ask(partition, request, Some(patience)).await {
                Ok(Reply::List(listed)) => all.extend(listed?),
                Ok(_) => unreachable!("a list is answered with a list"),
                // It moved away since: another broker lists it.
                Err(GroupError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(all)
    }

    /// Topics were deleted: their committed offsets go. Waits for room in each queue.
    pub async fn topics_deleted(&self, topics: &[Name]) {
        let senders = {
            let partitions = self.inner.partitions.lock();
            partitions
                .values()
                .map(|slot| slot.messages.clone())
                .collect::<Vec<_>>()
        };
        for messages in senders {
            // A partition that was lost meanwhile is somebody else's.
            let _ = messages.send(Message::TopicsDeleted(topics.to_vec())).await;
        }
    }
}
