//! Records on their way into the log: one batch at a time, so that their order is the order of
//! decisions, with everything that gathers meanwhile in the next one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::{Duration, sleep};
use tracing::warn;

use super::Parts;
use crate::groups::api::{GroupRecord, Name};
use crate::groups::batch;
use crate::groups::limits::RETRY_MS;
use crate::groups::log::{GroupLog, LogError};
use crate::groups::metrics::GroupMetrics;

/// Numbers records from 1 and knows which of them are durable.
#[derive(Default)]
pub(super) struct Writer {
    unwritten: VecDeque<GroupRecord>,
    unwritten_bytes: usize,
    /// How many records at the front of `unwritten` are in flight.
    in_flight: Option<(usize, BoxFuture<'static, Result<(), LogError>>)>,
    durable: u64,
    /// Per group with records that are not durable, the number of its last one.
    last: BTreeMap<Name, u64>,
}

impl Writer {
    /// Queues records.
    pub(super) fn push(&mut self, records: Vec<GroupRecord>) {
        for record in records {
            self.unwritten_bytes += size(&record);
            let number = self.durable + self.unwritten.len() as u64 + 1;
            self.last.insert(record.group.clone(), number);
            self.unwritten.push_back(record);
        }
    }

    /// The number of the group's last record, unless it is durable.
    pub(super) fn last_unwritten(&self, group: &Name) -> Option<u64> {
        self.last.get(group).copied()
    }

    /// Records up to this number are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// Sends the next batch off if none is on its way.
    pub(super) fn start(&mut self, parts: &Parts) {
        if self.in_flight.is_some() || self.unwritten.is_empty() {
            return;
        }
        let (batch, count) = batch::build(self.unwritten.iter(), parts.clock.wall_ms());
        parts.metrics.records.inc_by(count as u64);
        let append = append(
            parts.partition,
            parts.log.clone(),
            batch,
            parts.metrics.clone(),
        );
        self.in_flight = Some((count, Box::pin(append)));
    }

    /// Resolves when the batch in flight is durable; never while there is none. Cancel-safe: the
    /// batch goes on when this is asked again.
    ///
    /// # Errors
    /// When the log is lost.
    pub(super) async fn written(&mut self) -> Result<(), LogError> {
        let Some((count, append)) = &mut self.in_flight else {
            return std::future::pending().await;
        };
        append.as_mut().await?;
        let count = *count;
        self.in_flight = None;
        for record in self.unwritten.drain(..count) {
            self.unwritten_bytes -= size(&record);
            self.durable += 1;
            if self.last.get(&record.group) == Some(&self.durable) {
                self.last.remove(&record.group);
            }
        }
        Ok(())
    }
}

fn size(record: &GroupRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
}

/// Appends until it is done or the log is lost: what was decided is never taken back.
async fn append(
    partition: i32,
    log: Arc<dyn GroupLog>,
    batch: Bytes,
    metrics: GroupMetrics,
) -> Result<(), LogError> {
    let mut wait_ms = RETRY_MS.0;
    loop {
        match log.append(batch.clone()).await {
            Err(LogError::Retry { reason }) => {
                metrics.log_failures.inc();
                if wait_ms == RETRY_MS.0 {
                    warn!(partition, %reason, "group records cannot be written yet");
                }
                sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(RETRY_MS.1);
            }
            done => return done,
        }
    }
}
