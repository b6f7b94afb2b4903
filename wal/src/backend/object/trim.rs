//! Deleting what lies behind the trim point (R4), and what landed late in a Closed log.

use std::sync::Arc;

use env::Env;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tokio::sync::watch;

use super::store::{LogObjects, Standing};
use super::{ObjectSettings, Owned};
use crate::record::GroupKind;
use crate::{Error, Sequence, WalId};

/// Deletions in flight.
const CONCURRENCY: usize = 8;

/// Deletes groups behind the trim point, in the background.
pub(super) struct Trimmer {
    to: watch::Sender<Sequence>,
    _task: Owned<()>,
}

impl Trimmer {
    pub(super) fn start(objects: LogObjects) -> Self {
        let (to, receiver) = watch::channel(0);
        Self {
            to,
            _task: Owned(tokio::spawn(run(objects, receiver))),
        }
    }

    pub(super) fn trim(&self, to: Sequence) {
        self.to.send_if_modified(|at| {
            let moved = to > *at;
            *at = to.max(*at);
            moved
        });
    }
}

async fn run(objects: LogObjects, mut to: watch::Receiver<Sequence>) {
    let mut done = 0;
    while to.changed().await.is_ok() {
        let end = *to.borrow_and_update();
        let deleted = stream::iter(done..end).for_each_concurrent(CONCURRENCY, |sequence| {
            let objects = &objects;
            async move {
                // Below the trim point stand groups only: a seal is never below the log's end.
                let path = objects.path(sequence);
                for attempt in 1_u32.. {
                    match objects.delete(&path).await {
                        Ok(()) => return,
                        Err(error) => tracing::debug!(%error, "a trimmed group stays for now"),
                    }
                    objects.back_off(attempt).await;
                }
            }
        });
        deleted.await;
        done = end;
    }
}

/// Deletes every object of the Closed log `wal_id` but its seal at `end`: groups that were
/// committed, and puts that landed late. Beyond `end` only what is surely a group goes: what
/// cannot be read may be a seal. Returns how many. Repeat it for as long as a put may
/// still be under way.
///
/// # Errors
/// `Store`, `StoreTimeout`: repeat.
pub async fn sweep(
    env: &Env,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    wal_id: WalId,
    end: Sequence,
    settings: ObjectSettings,
) -> Result<usize, Error> {
    let objects = LogObjects::new(env, store, &prefix, wal_id, settings);
    let listed = objects.store().list(Some(objects.prefix()));
    let listed = listed.map_err(|source| Error::Store {
        action: "list",
        key: objects.prefix().to_string(),
        source: Arc::new(source),
    });
    listed
        .try_filter_map(|object| {
            let sequence = objects
                .sequence_of(&object.location)
                .filter(|at| *at != end || env::planted!("seal-swept"));
            std::future::ready(Ok(sequence.map(|sequence| (sequence, object.location))))
        })
        .map_ok(|(sequence, path)| {
            let objects = &objects;
            async move {
                if sequence > end && !is_late_group(objects, sequence).await? {
                    return Ok(0);
                }
                objects.delete(&path).await.map(|()| 1)
            }
        })
        .try_buffer_unordered(CONCURRENCY)
        .try_fold(0, |total, one: usize| std::future::ready(Ok(total + one)))
        .await
}

/// Whether a group stands at `sequence`, beyond the end. Seals stay, whoever made them.
async fn is_late_group(objects: &LogObjects, sequence: Sequence) -> Result<bool, Error> {
    match objects.header(sequence).await? {
        Standing::Group((header, _)) => Ok(header.meta.kind != GroupKind::Seal),
        Standing::Absent => Ok(false),
        Standing::Damaged(reason) => {
            let key = objects.key(sequence);
            tracing::warn!(
                key,
                reason,
                "kept beyond the end of a closed log: unreadable"
            );
            Ok(false)
        }
    }
}
