//! What each producer wrote last (KIP-98): refuses gaps, recognises retries, fences old epochs.
//!
//! Pure: input and time in, verdict out. The same code runs at append, when a slice is cut (for
//! the state at exactly the slice's end, R5) and when a partition opens.

mod checkpoint;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use protocol::{ProducerEpoch, ProducerId, increment_sequence};

use crate::Error;
use crate::format::BatchEntry;
use crate::limits::{MAX_PRODUCERS, PRODUCER_WINDOW};

/// A batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// Largest timestamp of its records, milliseconds.
    pub(crate) timestamp_ms: i64,
    /// When the broker took it, milliseconds: what expiry counts from.
    pub(crate) appended_at_ms: i64,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It follows: append it.
    New,
    /// It was appended before, here.
    Duplicate {
        base_offset: i64,
        last_offset: i64,
        timestamp_ms: i64,
    },
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
    timestamp_ms: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first, at most [`PRODUCER_WINDOW`], of `epoch` only.
    window: VecDeque<Remembered>,
    appended_at_ms: i64,
    /// First offset of the open transaction, when there is one.
    open_since: Option<i64>,
    /// Epoch of the coordinator whose marker was seen last (R14); -1 for none.
    coordinator_epoch: i32,
}

impl From<&BatchEntry> for ProducerBatch {
    fn from(batch: &BatchEntry) -> Self {
        Self {
            producer_id: batch.producer_id,
            epoch: batch.producer_epoch,
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            timestamp_ms: batch.max_timestamp_ms,
            appended_at_ms: batch.appended_at_ms,
            transactional: batch.transactional,
            control: batch.control,
        }
    }
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    map: BTreeMap<ProducerId, Producer>,
}

impl Producers {
    /// Judges `batch`, and changes nothing.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `OutOfOrderSequence`. With no state any sequence is taken:
    /// retention or expiry dropped what came before.
    pub(crate) fn check(&self, batch: &ProducerBatch) -> Result<Verdict, Error> {
        let Some(known) = self.map.get(&batch.producer_id) else {
            return Ok(Verdict::New);
        };
        if batch.epoch == known.epoch
            && let Some(same) = known.window.iter().find(|r| {
                r.base_sequence == batch.base_sequence && r.last_sequence == batch.last_sequence
            })
        {
            return Ok(Verdict::Duplicate {
                base_offset: same.base_offset,
                last_offset: same.last_offset,
                timestamp_ms: same.timestamp_ms,
            });
        }
        if batch.epoch < known.epoch && !env::planted!("old-producer-epoch-taken") {
            return Err(Error::InvalidProducerEpoch {
                producer_id: batch.producer_id,
                epoch: batch.epoch,
                current: known.epoch,
            });
        }
        let last = known.window.back().map(|r| r.last_sequence);
        let expected = match last {
            Some(last) if batch.epoch == known.epoch => increment_sequence(last, 1),
            // A marker alone made this state: its epoch has no batch yet.
            None if batch.epoch == known.epoch => batch.base_sequence,
            _ => 0,
        };
        if batch.base_sequence != expected && !env::planted!("sequence-gap-taken") {
            return Err(Error::OutOfOrderSequence {
                producer_id: batch.producer_id,
                sequence: batch.base_sequence,
                last: last.filter(|_| batch.epoch == known.epoch).unwrap_or(-1),
            });
        }
        Ok(Verdict::New)
    }

    /// Whether anything of `producer` is remembered.
    pub(crate) fn knows(&self, producer: ProducerId) -> bool {
        self.map.contains_key(&producer)
    }

    /// Remembers a batch that has its offsets. Batches come in order of offsets.
    pub(crate) fn record(&mut self, batch: &ProducerBatch) {
        if batch.producer_id.0 < 0 {
            return;
        }
        if !self.map.contains_key(&batch.producer_id) && self.map.len() >= MAX_PRODUCERS {
            self.forget_idle();
        }
        let producer = self
            .map
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.epoch,
                window: VecDeque::new(),
                appended_at_ms: batch.appended_at_ms,
                open_since: None,
                coordinator_epoch: -1,
            });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.window.clear();
        }
        producer.appended_at_ms = producer.appended_at_ms.max(batch.appended_at_ms);
        if batch.control {
            producer.open_since = None;
            return;
        }
        if batch.transactional && producer.open_since.is_none() {
            producer.open_since = Some(batch.base_offset);
        }
        let window = match env::planted!("window-of-four") {
            true => 4,
            false => PRODUCER_WINDOW,
        };
        if producer.window.len() == window {
            producer.window.pop_front();
        }
        producer.window.push_back(Remembered {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            timestamp_ms: batch.timestamp_ms,
        });
    }

    /// Forgets who wrote nothing for `expiration_ms` and has no open transaction.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.map.retain(|_, producer| {
            producer.open_since.is_some()
                || now_ms.saturating_sub(producer.appended_at_ms) < expiration_ms
        });
    }

    /// First offset of the oldest open transaction: nothing from there on is stable.
    #[cfg(test)]
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.map
            .values()
            .filter_map(|producer| producer.open_since)
            .min()
    }

    /// How many are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Drops a sixteenth of all, the longest idle, so that a flood of ids costs no memory.
    fn forget_idle(&mut self) {
        let mut idle: Vec<(i64, ProducerId)> = self
            .map
            .iter()
            .filter(|(_, producer)| producer.open_since.is_none())
            .map(|(id, producer)| (producer.appended_at_ms, *id))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(MAX_PRODUCERS.div_ceil(16)) {
            self.map.remove(&id);
        }
    }
}
