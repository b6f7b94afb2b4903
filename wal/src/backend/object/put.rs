//! Making one frozen group durable, however often it takes.
//!
//! **Invariant (R8):** every attempt for a sequence number carries the same bytes. It ends when the
//! store has said that it created them, or when what is read back there is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use object_store::PutPayload;
use tokio::time::Instant;

use super::store::{Created, LogObjects, Standing};
use crate::Error;
use crate::metrics::Status;
use crate::record::{Encoded, GroupKind, GroupMeta};

/// Failed attempts after which a put is mentioned in the log, once.
const MENTION_AFTER: u32 = 4;

#[derive(Clone)]
pub(super) struct Putter {
    objects: LogObjects,
    status: Option<Status>,
    /// Smoothed time of a put, microseconds; 0 before the first.
    usual_micros: Arc<AtomicU64>,
}

impl Putter {
    pub(super) fn new(objects: LogObjects) -> Self {
        Self {
            objects,
            status: None,
            usual_micros: Arc::new(AtomicU64::new(0)),
        }
    }

    pub(super) fn attach(&mut self, status: Status) {
        self.status = Some(status);
    }

    /// Creates the object of a group. Waits out whatever passes by itself.
    pub(super) async fn put(&self, meta: &GroupMeta, frozen: &Encoded) -> Result<(), Error> {
        let payload: PutPayload = frozen.parts().into_iter().collect();
        for attempt in 1_u32.. {
            let started = Instant::now();
            let error = match self.attempt(meta.sequence, &payload).await {
                Ok(Created::Yes) => {
                    self.learn(started.elapsed());
                    return Ok(());
                }
                Ok(Created::Exists) if env::planted!("conflict-is-success") => return Ok(()),
                Ok(Created::Exists) => match self.read_back(meta, frozen).await {
                    Ok(true) => return Ok(()),
                    // A conflict that created nothing.
                    Ok(false) => None,
                    Err(error) if error.kind() == crate::ErrorKind::Retry => Some(error),
                    Err(error) => return Err(error),
                },
                Err(error) => Some(error),
            };
            if let Some(status) = &self.status {
                status.metrics.retries.inc();
            }
            if attempt == MENTION_AFTER {
                let error = error.map_or("conflict without an object".into(), |e| e.to_string());
                tracing::warn!(
                    sequence = meta.sequence,
                    error,
                    "a group waits for its store"
                );
            }
            self.objects.back_off(attempt).await;
        }
        unreachable!("attempts go on for ever")
    }

    /// One put, and a second one with the same bytes when the first is slow.
    async fn attempt(&self, sequence: u64, payload: &PutPayload) -> Result<Created, Error> {
        let first = Box::pin(self.objects.create(sequence, payload.clone()));
        let slow = Box::pin(tokio::time::sleep(self.hedge_after()));
        let first = match select(first, slow).await {
            Either::Left((result, _)) => return result,
            Either::Right(((), first)) => first,
        };
        if let Some(status) = &self.status {
            status.metrics.hedges.inc();
        }
        let second = Box::pin(self.objects.create(sequence, payload.clone()));
        match select(first, second).await {
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
            Either::Left((result, _)) | Either::Right((result, _)) => result,
        }
    }

    /// True when what stands there is ours, false when nothing does.
    async fn read_back(&self, meta: &GroupMeta, frozen: &Encoded) -> Result<bool, Error> {
        let sequence = meta.sequence;
        match self.objects.header(sequence).await? {
            Standing::Absent => Ok(false),
            Standing::Group((header, _))
                if header.meta.kind == GroupKind::Seal && !env::planted!("seal-is-success") =>
            {
                Err(Error::Fenced {
                    wal_id: meta.wal_id,
                    sequence,
                })
            }
            // The header holds nonce, length, and the checksum of all entries' checksums.
            Standing::Group((header, size))
                if (header.encoded()[..] == *frozen.header() && size == frozen.len() as u64)
                    || env::planted!("anything-is-ours")
                    || env::planted!("seal-is-success") && header.meta.kind == GroupKind::Seal =>
            {
                Ok(true)
            }
            Standing::Group((header, _)) => {
                let reason = format!("another writer's group stands there: {:?}", header.meta);
                Err(self.objects.corrupt(sequence, reason))
            }
            Standing::Damaged(reason) => {
                let reason = format!("something foreign stands there: {reason}");
                Err(self.objects.corrupt(sequence, reason))
            }
        }
    }

    fn hedge_after(&self) -> Duration {
        let usual = Duration::from_micros(self.usual_micros.load(Ordering::Relaxed));
        let longest = self.objects.settings.request_timeout / 2;
        (usual * 4)
            .max(self.objects.settings.hedge_after)
            .min(longest)
    }

    fn learn(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let usual = self.usual_micros.load(Ordering::Relaxed);
        let usual = if usual == 0 {
            took
        } else {
            (usual / 8).saturating_mul(7) + took / 8
        };
        self.usual_micros.store(usual, Ordering::Relaxed);
    }
}
