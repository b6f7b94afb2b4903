//! The write path up to the log: permits first, then one short lock.

use bytes::Bytes;
use protocol::{
    BatchView, ProducerEpoch, ProducerId, set_base_offset, set_leader_epoch, set_log_append_time,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wal::Entry;

use super::{Partition, State, Status};
use crate::budget::MemoryPermit;
use crate::limits::ENTRY_OVERHEAD_BYTES;
use crate::producers::{ProducerBatch, Verdict};
use crate::{Error, HookBatch};

/// Circumstances of an append.
#[derive(Clone, Copy, Debug)]
pub struct AppendContext {
    /// Until when memory and a queue slot are waited for.
    pub deadline: Instant,
    /// The broker's own data (offsets, markers): uses permits of its own.
    pub internal: bool,
}

/// Memory and a queue slot, taken before the partition's lock. Dropped, both are free again.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    memory: MemoryPermit,
    slot: wal::Permit,
}

/// Queued in the log, not yet durable.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) max_timestamp_ms: i64,
    pub(super) memory: MemoryPermit,
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// A batch that has its offsets.
#[derive(Debug)]
pub struct Appended {
    /// Offset of its first record; of the original for a duplicate.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// The broker's time when the topic wants it, else -1, milliseconds.
    pub log_append_time_ms: i64,
    /// First readable offset.
    pub log_start: i64,
    /// An idempotent producer's retry: nothing was appended.
    pub duplicate: bool,
    durable: Durability,
    closed: Error,
}

#[derive(Debug)]
enum Durability {
    Reached,
    Waiting(oneshot::Receiver<()>),
}

impl Appended {
    /// Resolves when the high watermark has passed the batch (R3), for every `acks`. Dropping
    /// the future changes nothing: the batch stays queued.
    ///
    /// # Errors
    /// `NotLeader` when the partition closed or the log failed before: the outcome is unknown.
    pub async fn durable(self) -> Result<(), Error> {
        match self.durable {
            Durability::Reached => Ok(()),
            Durability::Waiting(waiting) => waiting.await.map_err(|_| self.closed),
        }
    }
}

impl Partition {
    /// Takes memory and a queue slot for a batch of `bytes`, waiting up to the deadline, while
    /// appends are held because the partition moves, and while they are too far ahead of what the
    /// controllers know.
    ///
    /// # Errors
    /// `Timeout`: nothing was queued. `TooLarge`, `DiskFull`, `NotOpen`, `Log`.
    pub async fn reserve(
        &self,
        bytes: usize,
        context: AppendContext,
    ) -> Result<Reservation, Error> {
        let shared = &self.shared;
        self.not_held(context.deadline).await?;
        shared.check_disk()?;
        drop(shared.log()?);
        let AppendContext { deadline, internal } = context;
        let wake = || shared.queue.wake();
        let memory = shared
            .budget
            .take(bytes + ENTRY_OVERHEAD_BYTES, internal, deadline, wake)
            .await?;
        // Only now: who waits for memory must not keep a log alive that has been shut down.
        let log = shared.log()?.clone();
        let slot = async {
            if internal {
                log.reserve_internal(bytes).await
            } else {
                log.reserve(bytes).await
            }
        };
        let slot = timeout_at(deadline, slot)
            .await
            .map_err(|_| Error::Timeout { bytes })??;
        Ok(Reservation {
            bytes,
            memory,
            slot,
        })
    }

    /// Appends one validated batch. Synchronous: checks, offsets and the queue under one short
    /// lock, in the order in which callers come.
    ///
    /// # Errors
    /// `NotLeader`; `Held`, `Ahead` (reserve again); `OutOfOrderSequence`, `InvalidProducerEpoch`; `InvalidBatch`; `Rejected`.
    /// Nothing was appended then.
    ///
    /// # Panics
    /// When the batch is larger than its reservation.
    pub fn append(&self, reservation: Reservation, batch: &[u8]) -> Result<Appended, Error> {
        assert!(
            batch.len() <= reservation.bytes,
            "a reservation covers its batch"
        );
        let view = BatchView::new(batch).map_err(|_| Error::InvalidBatch {
            reason: "length or magic of the batch",
        })?;
        if view.last_offset_delta() < 0 {
            return Err(Error::InvalidBatch {
                reason: "a negative offset delta",
            });
        }
        if i64::from(view.last_offset_delta()) >= self.shared.settings.unreported_offsets {
            return Err(Error::InvalidBatch {
                reason: "more offsets than one batch may take",
            });
        }
        if view.has_producer_id() && !view.is_control() && view.base_sequence() < 0 {
            return Err(Error::InvalidBatch {
                reason: "a producer without a sequence",
            });
        }
        let now_ms = self.shared.env.clock.wall_ms();
        // The one copy between socket and log: a buffer of its own size, so that a small batch
        // does not pin the frame that it came in, and what is counted is what is pinned.
        let mut bytes = batch.to_vec();
        let mut log_append_time_ms = -1;
        // Looked at before: the checksum of a whole batch is not computed under the lock.
        if self.inner.state.lock().config.log_append_time {
            set_log_append_time(&mut bytes, now_ms);
            log_append_time_ms = now_ms;
        }
        let mut state = self.inner.state.lock();
        self.append_locked(&mut state, reservation, bytes, now_ms, log_append_time_ms)
    }

    /// [`Partition::reserve`] and [`Partition::append`] in one.
    ///
    /// # Errors
    /// Those of both.
    pub async fn produce(&self, batch: &[u8], context: AppendContext) -> Result<Appended, Error> {
        loop {
            let reservation = self.reserve(batch.len(), context).await?;
            match self.append(reservation, batch) {
                Err(Error::Held { .. } | Error::Ahead { .. }) => {}
                done => return done,
            }
        }
    }

    /// Whether anything of `producer` is remembered: if not, any sequence is its first.
    pub fn knows_producer(&self, producer: ProducerId) -> bool {
        self.inner.state.lock().producers.knows(producer)
    }

    fn append_locked(
        &self,
        state: &mut State,
        reservation: Reservation,
        mut bytes: Vec<u8>,
        now_ms: i64,
        log_append_time_ms: i64,
    ) -> Result<Appended, Error> {
        match state.status {
            Status::Open => {}
            Status::Held => return Err(self.inner.held()),
            Status::Closed => return Err(self.inner.not_leader()),
        }
        let log = self.shared.log()?;
        let base_offset = state.log_end;
        set_base_offset(&mut bytes, base_offset);
        set_leader_epoch(&mut bytes, self.inner.leader_epoch.0);
        let view = BatchView::new(&bytes).expect("checked, and its length is untouched");
        let offsets = i64::from(view.last_offset_delta()) + 1;
        base_offset
            .checked_add(offsets)
            .ok_or(Error::InvalidBatch {
                reason: "offsets beyond 63 bits",
            })?;
        let (last_offset, max_timestamp_ms) = (view.last_offset(), view.max_timestamp());
        let producer = producer_batch(&view, now_ms);
        if let Some(producer) = &producer
            && !producer.control
            && let Verdict::Duplicate {
                base_offset,
                last_offset,
                timestamp_ms,
            } = state.producers.check(producer)?
        {
            let log_append_time_ms = if log_append_time_ms < 0 {
                -1
            } else {
                timestamp_ms
            };
            return Ok(self.duplicate(state, base_offset, last_offset, log_append_time_ms));
        }
        let entry = Entry {
            topic_partition: self.inner.topic_partition,
            leader_epoch: self.inner.leader_epoch,
            base_offset,
            last_offset,
            appended_at_ms: now_ms,
            batches: Bytes::from(bytes),
        };
        self.validate(&entry)?;
        self.check_reach(state, last_offset + 1)?;
        if let Some(producer) = &producer {
            state.producers.record(producer);
        }
        state.log_end = last_offset + 1;
        let (reached, durable) = oneshot::channel();
        state.pending.push_back(Pending {
            base_offset,
            last_offset,
            max_timestamp_ms,
            memory: reservation.memory,
            waiting: vec![reached],
        });
        self.inner.traffic.appended(entry.batches.len());
        log.append(reservation.slot, entry);
        let place = (base_offset, last_offset, log_append_time_ms);
        Ok(self.appended(state, place, false, Durability::Waiting(durable)))
    }

    /// That `end` is not too far beyond what the controllers know to be durable; asks for an
    /// early report when it comes near.
    fn check_reach(&self, state: &mut State, end: i64) -> Result<(), Error> {
        let reach = state.may_reach(end, self.shared.settings.unreported_offsets);
        if reach.ask {
            self.shared.report_wanted.notify_one();
        }
        if !reach.free {
            return Err(self.inner.ahead());
        }
        Ok(())
    }

    fn appended(
        &self,
        state: &State,
        (base_offset, last_offset, log_append_time_ms): (i64, i64, i64),
        duplicate: bool,
        durable: Durability,
    ) -> Appended {
        Appended {
            base_offset,
            last_offset,
            log_append_time_ms,
            log_start: state.log_start,
            duplicate,
            durable,
            closed: self.inner.not_leader(),
        }
    }

    /// Asks the hook, in order of offsets.
    fn validate(&self, entry: &Entry) -> Result<(), Error> {
        let Some(hooks) = &self.shared.hooks else {
            return Ok(());
        };
        let batch = HookBatch {
            topic_partition: entry.topic_partition,
            leader_epoch: entry.leader_epoch,
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            bytes: &entry.batches,
        };
        hooks
            .validate(batch)
            .map_err(|records| Error::Rejected { records })
    }

    /// A retry is answered as its original was, and only once the high watermark has passed it.
    fn duplicate(
        &self,
        state: &mut State,
        base_offset: i64,
        last_offset: i64,
        log_append_time_ms: i64,
    ) -> Appended {
        let at = state
            .pending
            .partition_point(|pending| pending.last_offset < last_offset);
        let durable = match state.pending.get_mut(at) {
            Some(original)
                if last_offset >= state.high_watermark
                    && !env::planted!("duplicate-answered-early") =>
            {
                let (reached, durable) = oneshot::channel();
                original.waiting.push(reached);
                Durability::Waiting(durable)
            }
            _ => Durability::Reached,
        };
        self.appended(
            state,
            (base_offset, last_offset, log_append_time_ms),
            true,
            durable,
        )
    }
}

/// What the producer state remembers of a batch; `None` without a producer.
pub(crate) fn producer_batch(view: &BatchView<'_>, appended_at_ms: i64) -> Option<ProducerBatch> {
    view.has_producer_id().then(|| ProducerBatch {
        producer_id: ProducerId(view.producer_id()),
        epoch: ProducerEpoch(view.producer_epoch()),
        base_sequence: view.base_sequence(),
        last_sequence: view.last_sequence(),
        base_offset: view.base_offset(),
        last_offset: view.last_offset(),
        timestamp_ms: view.max_timestamp(),
        appended_at_ms,
        transactional: view.is_transactional(),
        control: view.is_control(),
    })
}
