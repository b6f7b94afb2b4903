//! Packs durable entries into objects: `log ─▶ queue ─▶ round ─▶ store ─▶ catalog ─▶ trim`.
//!
//! Rounds cover one contiguous range of the log each and commit one after the other.
//! **Invariant:** the log is trimmed only behind what the catalog has recorded or rightly dropped
//! (R4, R6), and the cache evicts only what the owner has applied (R7).

mod hand_over;
mod queue;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use protocol::TopicPartition;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use wal::Sequence;

pub use hand_over::{HandOverBounds, Held};
pub(crate) use queue::{DurableGroup, Queue, QueuedEntry};
pub(crate) use round::{Committer, Finished, KnownEnds, Round};

use crate::Error;
use crate::limits::{MAX_SLICES_PER_ROUND, OWN_OBJECT_BYTES};
use crate::objects::Backoff;
use crate::partition::{Inner, Status};
use crate::storage::Shared;

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct Uploader {
    tx: mpsc::Sender<Message>,
}

enum Message {
    /// Upload all that is durable now, with producer checkpoints.
    Drain {
        /// Up to where partitions are durable.
        durable: Vec<(Arc<Inner>, i64)>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Bring partitions to where they may be released.
    HandOver {
        partitions: Vec<Arc<Inner>>,
        bounds: HandOverBounds,
        reply: oneshot::Sender<Result<Vec<Held>, Error>>,
    },
}

/// The actor.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    log: wal::Log,
    committer: Committer,
    /// The log's trim point.
    from: Sequence,
    rx: mpsc::Receiver<Message>,
}

// === impl Uploader ===

impl Uploader {
    pub(crate) fn new(shared: &Arc<Shared>, log: wal::Log) -> (Self, Worker) {
        let (tx, rx) = mpsc::channel(4);
        let committer = Committer::new(shared, log.wal_id());
        let worker = Worker {
            shared: Arc::clone(shared),
            log,
            committer,
            from: 0,
            rx,
        };
        (Self { tx }, worker)
    }

    /// Uploads and commits all that is durable now, and all of `durable` in any case.
    ///
    /// # Errors
    /// What stopped the uploader for good.
    pub(crate) async fn drain(&self, durable: Vec<(Arc<Inner>, i64)>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.tx
            .send(Message::Drain { durable, reply })
            .await
            .map_err(|_| Error::NotOpen)?;
        answer.await.map_err(|_| Error::NotOpen)?
    }

    /// Brings `partitions` to where they may be released.
    ///
    /// # Errors
    /// What stopped the uploader for good.
    pub(crate) async fn hand_over(
        &self,
        partitions: Vec<Arc<Inner>>,
        bounds: HandOverBounds,
    ) -> Result<Vec<Held>, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::HandOver {
            partitions,
            bounds,
            reply,
        };
        self.tx.send(message).await.map_err(|_| Error::NotOpen)?;
        answer.await.map_err(|_| Error::NotOpen)?
    }
}

// === impl Worker ===

impl Worker {
    /// Runs until a fence or corruption; ends with the handle otherwise.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let result = loop {
            let settings = &shared.settings;
            let pressed = shared.budget.is_pressed();
            if shared.queue.is_due(settings.upload_bytes, pressed) {
                if let Err(error) = self.round(false).await {
                    break Err(error);
                }
                // Writes that are faster than rounds must not keep a stop or a move waiting.
                match self.rx.try_recv() {
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break Ok(()),
                    Ok(message) => {
                        if let Err(error) = self.serve(message).await {
                            break Err(error);
                        }
                    }
                }
                continue;
            }
            let due = shared.queue.oldest().map(|at| at + settings.upload_age);
            tokio::select! {
                biased;
                message = self.rx.recv() => match message {
                    None => break Ok(()),
                    Some(message) => if let Err(error) = self.serve(message).await {
                        break Err(error);
                    }
                },
                () = shared.queue.changed() => {}
                () = until(due) => {
                    if let Err(error) = self.round(false).await {
                        break Err(error);
                    }
                }
            }
        };
        if let Err(error) = result {
            shared.fail(error);
        }
    }

    async fn serve(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Drain { durable, reply } => {
                let result = self.drain(&durable).await;
                // Who asked may have given up.
                let _ = reply.send(result.clone());
                result
            }
            Message::HandOver {
                partitions,
                bounds,
                mut reply,
            } => {
                let result = self.hand_over(&partitions, bounds, &mut reply).await;
                let failed = result.clone().map(drop);
                if reply.send(result).is_err() {
                    // Nobody is left who could release them.
                    partitions.iter().for_each(|inner| inner.go_on());
                }
                failed
            }
        }
    }

    async fn drain(&mut self, durable: &[(Arc<Inner>, i64)]) -> Result<(), Error> {
        self.all_queued(durable).await;
        while !self.shared.queue.is_empty() {
            self.round(true).await?;
        }
        Ok(())
    }

    /// Uploads one contiguous range of the log.
    async fn round(&mut self, checkpoint: bool) -> Result<(), Error> {
        let settings = &self.shared.settings;
        let groups = self
            .shared
            .queue
            .cut(settings.upload_bytes, MAX_SLICES_PER_ROUND);
        let Some(last) = groups.last() else {
            return Ok(());
        };
        let to = last.sequence + 1;
        let round = Round {
            from: self.from,
            to,
            groups,
            checkpoint,
        };
        let bytes = round.bytes();
        if env::planted!("trim-before-commit") {
            self.log.trim(to);
        }
        if env::planted!("evicted-before-committed") {
            let chunks = round.chunks().into_iter();
            chunks.for_each(|(inner, end, _)| inner.evict_below(end));
        }
        let finished = self.committer.upload(&round).await?;
        self.apply(&finished, &round).await;
        self.from = to;
        self.log.trim(to);
        self.shared.queue.done(bytes);
        Ok(())
    }

    /// R7: first the owner's own slice lists, then the cache may let go.
    async fn apply(&self, finished: &Finished, round: &Round) {
        self.apply_parts(finished).await;
        for (inner, end_offset, bytes) in round.chunks() {
            let kept = {
                let state = inner.state.lock();
                state.status != Status::Closed && state.committed_end >= end_offset
            };
            if kept {
                self.shared.retained.uploaded(&inner, end_offset, bytes);
            }
        }
    }

    /// What the catalog took of a round is here too from now on.
    async fn apply_parts(&self, finished: &Finished) {
        for part in &finished.parts {
            let hooks = self.shared.hooks.as_deref();
            let Some(inner) = &part.partition else {
                if let Some(hooks) = hooks {
                    part.slices.iter().for_each(|slice| hooks.finished(slice));
                }
                continue;
            };
            let Some(committed) = &part.committed else {
                inner.finish(&part.slices, hooks);
                continue;
            };
            let tp = inner.topic_partition;
            let applied = inner.apply_commit(&part.slices, part.bytes, committed.clone(), hooks);
            if !applied || finished.moved.contains(&tp) {
                self.refresh(tp).await;
            }
        }
        let uploaded = finished
            .parts
            .iter()
            .filter_map(|part| part.partition.as_ref());
        self.shared.compaction_wanted(uploaded);
    }

    /// Takes the catalog's word for a partition, however long the catalog is away.
    async fn refresh(&self, tp: TopicPartition) {
        let mut backoff = Backoff::new(&self.shared.env);
        while let Err(error) = self.shared.refresh(tp).await {
            self.shared.metrics.background_failures.inc();
            tracing::warn!(%error, partition = %tp, "catalog not read again yet");
            backoff.wait().await;
        }
    }
}

/// Waits until `due`; for ever without it.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Whether a partition's part of a round gets an object of its own.
pub(crate) fn wants_own_object(bytes: u64) -> bool {
    bytes >= OWN_OBJECT_BYTES as u64
}
