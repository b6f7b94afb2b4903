//! Puts, deletes and pauses between tries: what uploader, recovery and compactor share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use env::Env;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use protocol::{BrokerEpoch, NodeId};
use tokio::time::Instant;

use crate::Error;
use crate::format::{FinishedObject, ObjectReader};
use crate::keys::KeySpace;
use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX, MAX_GIVEN_UP};
use crate::store::{StoreMetrics, create};

/// Whose nonces the keys of new objects carry.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) keys: KeySpace,
    pub(crate) node: NodeId,
    pub(crate) broker_epoch: BrokerEpoch,
}

/// The object store as this broker epoch writes it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    env: Env,
    store: Arc<dyn ObjectStore>,
    writer: Writer,
    reader: ObjectReader,
    given_up: GivenUp,
}

/// Keys under which this broker epoch put something, or tried to, that nothing names or ever will:
/// for the collector, which comes by when the store answers again. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct GivenUp(Arc<Mutex<VecDeque<String>>>);

impl Objects {
    pub(crate) fn new(
        env: Env,
        store: Arc<dyn ObjectStore>,
        writer: Writer,
        metrics: StoreMetrics,
    ) -> Self {
        let reader = ObjectReader::new(Arc::clone(&store), metrics);
        Self {
            env,
            store,
            writer,
            reader,
            given_up: GivenUp::default(),
        }
    }

    pub(crate) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) fn reader(&self) -> &ObjectReader {
        &self.reader
    }

    /// A key that nobody else ever writes (R2).
    pub(crate) fn new_key(&self) -> String {
        let Writer {
            keys,
            node,
            broker_epoch,
        } = &self.writer;
        keys.data(*node, *broker_epoch, self.env.entropy.uuid())
    }

    /// Stores `object`, create-only. Uploads may use the reserve of a full disk.
    ///
    /// # Errors
    /// `Store`: try again. `Foreign`: never ours.
    pub(crate) async fn create(&self, object: &FinishedObject) -> Result<(), Error> {
        let payload = PutPayload::from_iter(object.payload.iter().cloned());
        debug_assert_eq!(payload.content_length() as u64, object.object.length);
        create(self.store.as_ref(), &object.object.key, payload, true).await
    }

    /// Stores `object`, however long the store is away, as far as `patience` goes.
    ///
    /// # Errors
    /// What trying again cannot mend; `Store` when the patience is over.
    pub(crate) async fn create_patiently(
        &self,
        object: &FinishedObject,
        retries: &Counter,
        patience: &Patience,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::new(&self.env);
        loop {
            match self.create(object).await {
                Ok(()) => {
                    patience.progress();
                    return Ok(());
                }
                Err(error @ Error::Store { .. }) if !patience.is_over() => {
                    retries.inc();
                    tracing::warn!(%error, "object not stored yet, trying again");
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes an object of ours that nothing names: now, or by the collector.
    pub(crate) async fn delete_own(&self, key: &str) {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, key, "own object not deleted, left to the collector");
                self.given_up.add(key.to_owned());
            }
        }
    }
}

// === impl GivenUp ===

impl GivenUp {
    /// Those beyond a bound stay orphans, which are found once this broker epoch is closed. So is
    /// what lands only after its deletion.
    pub(crate) fn add(&self, key: String) {
        let mut keys = self.0.lock();
        if keys.len() < MAX_GIVEN_UP {
            keys.push_back(key);
        }
    }

    /// The first ones; they stay until they are [`done`](Self::done).
    pub(crate) fn first(&self, count: usize) -> Vec<String> {
        self.0.lock().iter().take(count).cloned().collect()
    }

    /// The first `count` need no more to be done. By one at a time.
    pub(crate) fn done(&self, count: usize) {
        self.0.lock().drain(..count);
    }
}

/// For how long what fails is tried again while nothing comes of it.
#[derive(Debug)]
pub(crate) struct Patience {
    /// `None`: for ever.
    most: Option<Duration>,
    /// When something came of it last.
    since: Mutex<Instant>,
}

impl Patience {
    /// Begins now.
    pub(crate) fn new(most: Option<Duration>) -> Self {
        let since = Mutex::new(Instant::now());
        Self { most, since }
    }

    pub(crate) fn endless() -> Self {
        Self::new(None)
    }

    /// Something came of it: it begins anew.
    pub(crate) fn progress(&self) {
        *self.since.lock() = Instant::now();
    }

    /// To be asked after a failure: an attempt that is slow and succeeds is none.
    pub(crate) fn is_over(&self) -> bool {
        let waited = self.since.lock().elapsed();
        self.most.is_some_and(|most| waited >= most)
    }
}

/// Pauses that double, with jitter, from a tenth of a second to ten.
pub(crate) struct Backoff {
    env: Env,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(env: &Env) -> Self {
        Self {
            env: env.clone(),
            next: BACKOFF_FIRST,
        }
    }

    /// Waits between half and all of the next pause.
    pub(crate) async fn wait(&mut self) {
        let half = self.next / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_micros(self.env.entropy.next_u64() % spread);
        self.next = (self.next * 2).min(BACKOFF_MAX);
        tokio::time::sleep(half + jitter).await;
    }

    /// Waits as long as after `n` tries.
    pub(crate) async fn wait_nth(mut self, n: u32) {
        self.next =
            (BACKOFF_FIRST * 2_u32.saturating_pow(n.saturating_sub(1).min(10))).min(BACKOFF_MAX);
        self.wait().await;
    }
}
