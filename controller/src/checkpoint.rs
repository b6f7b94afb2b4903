//! Checkpoints of the whole state in the bucket: what a cluster can be rebuilt from.
//!
//! ```text
//!   {base}/meta/checkpoint-{applied index:020}-{nonce}:   a snapshot's file, byte for byte
//! ```
//!
//! **Invariant** (R2): create-only, with a nonce in the key; nothing is overwritten. Older ones are
//! condemned by the state, and deleted through the collector's door like any object.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Client, Way};
use crate::command::Command;
use crate::error::Error;
use crate::limits::{MAX_CHECKPOINTS_LISTED, MAX_SNAPSHOT_BYTES};
use crate::raft::snapshots;
use crate::state::State;
use crate::types::ClusterId;

/// What a checkpoint holds, as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Index of the last log entry that it holds.
    pub applied: u64,
    /// Whose it is.
    pub cluster: Option<ClusterId>,
    /// Brokers.
    pub brokers: usize,
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Slices.
    pub slices: usize,
    /// Objects that slices name.
    pub objects: usize,
}

/// Writes checkpoints in the background until dropped.
pub struct CheckpointKeeper {
    writer: Writer,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Writer {
    client: Client,
    store: Arc<dyn ObjectStore>,
    base: String,
}

// === impl Client ===

impl Client {
    /// Writes a checkpoint under `{base}/meta/` now, reads it back, and records it.
    ///
    /// # Errors
    /// `Store` (retry); `Corrupt` when what was read back is not what was written; `Settings` where
    /// no voter is.
    pub async fn checkpoint(
        &self,
        store: &Arc<dyn ObjectStore>,
        base: &str,
    ) -> Result<CheckpointReport, Error> {
        let writer = Writer {
            client: self.clone(),
            store: store.clone(),
            base: base.to_owned(),
        };
        writer.write().await
    }

    /// Writes a checkpoint every `period` in which something changed, while the voter here leads:
    /// one of them is enough.
    pub fn keep_checkpoints(
        &self,
        store: Arc<dyn ObjectStore>,
        base: String,
        period: Duration,
    ) -> CheckpointKeeper {
        let writer = Writer {
            client: self.clone(),
            store,
            base,
        };
        let task = tokio::spawn(keep(writer.clone(), period));
        CheckpointKeeper { writer, task }
    }
}

async fn keep(writer: Writer, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once.
    ticks.tick().await;
    let mut last = 0;
    loop {
        ticks.tick().await;
        let applied = writer.client.image().borrow().applied;
        if applied == last || !writer.client.leads() {
            continue;
        }
        match writer.write().await {
            Ok(_) => last = writer.client.image().borrow().applied,
            Err(error) => tracing::warn!(%error, "no checkpoint this time"),
        }
    }
}

// === impl CheckpointKeeper ===

impl CheckpointKeeper {
    /// Stops, and writes a last checkpoint if the voter here leads.
    ///
    /// # Errors
    /// As [`Client::checkpoint`].
    pub async fn finish(self) -> Result<Option<CheckpointReport>, Error> {
        self.task.abort();
        if !self.writer.client.leads() {
            return Ok(None);
        }
        self.writer.write().await.map(Some)
    }
}

impl Drop for CheckpointKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Writer ===

impl Writer {
    async fn write(&self) -> Result<CheckpointReport, Error> {
        let Way::Local(local) = &self.client.inner.way else {
            return Err(Error::Settings {
                reason: "checkpoints are written where a voter is".to_owned(),
            });
        };
        let (meta, state) = local.shared.encode();
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index());
        let nonce = local.env.entropy.uuid().simple().to_string();
        let key = format!("{}checkpoint-{index:020}-{nonce}", meta_prefix(&self.base));
        let bytes = bytes::Bytes::from(snapshots::encode(&meta, &state));
        let path = Path::from(key.as_str());
        let put = self.store.put_opts(
            &path,
            PutPayload::from(bytes.clone()),
            PutMode::Create.into(),
        );
        match put.await {
            // Where an answer was lost, what stands there may be ours: reading back decides.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(store_error("put", &key, &error)),
        }
        let (report, back) = read(&*self.store, &path).await?;
        if back != bytes {
            return Err(Error::corrupt(
                key,
                "what was read back is not what was written",
            ));
        }
        self.client
            .submit(Command::RecordCheckpoint { key })
            .await?;
        Ok(report)
    }
}

/// Reads the newest checkpoint under `{base}/meta/` back into a state, and checks that this state
/// gives the same bytes again. `None` when there is no checkpoint.
///
/// # Errors
/// `Store`; `Corrupt`, naming the object.
pub async fn verify_newest_checkpoint(
    store: &dyn ObjectStore,
    base: &str,
) -> Result<Option<CheckpointReport>, Error> {
    let prefix = meta_prefix(base);
    let list = store.list(Some(&Path::from(prefix.as_str())));
    let listed: Vec<_> = list
        .map_ok(|meta| meta.location.to_string())
        .try_filter(|key| {
            let name = key.rsplit('/').next().unwrap_or_default();
            std::future::ready(name.starts_with("checkpoint-"))
        })
        .try_fold(Vec::new(), |mut keys, key| {
            keys.push(key);
            // Their numbers ascend: the greatest are the newest.
            if keys.len() >= MAX_CHECKPOINTS_LISTED {
                keys.sort_unstable_by(|a, b| b.cmp(a));
                keys.truncate(1);
            }
            std::future::ready(Ok(keys))
        })
        .await
        .map_err(|e| store_error("list", &prefix, &e))?;
    match listed.into_iter().max() {
        None => Ok(None),
        Some(key) => Ok(Some(verify_checkpoint(store, &key).await?)),
    }
}

/// Reads one checkpoint back, as [`verify_newest_checkpoint`] does.
///
/// # Errors
/// `Store`; `Corrupt`, naming the object.
pub async fn verify_checkpoint(
    store: &dyn ObjectStore,
    key: &str,
) -> Result<CheckpointReport, Error> {
    Ok(read(store, &Path::from(key)).await?.0)
}

async fn read(
    store: &dyn ObjectStore,
    path: &Path,
) -> Result<(CheckpointReport, bytes::Bytes), Error> {
    let got = store
        .get(path)
        .await
        .map_err(|e| store_error("get", path.as_ref(), &e))?;
    if got.meta.size > MAX_SNAPSHOT_BYTES {
        return Err(Error::corrupt(
            path.as_ref(),
            format!("{} bytes", got.meta.size),
        ));
    }
    let bytes = got
        .bytes()
        .await
        .map_err(|e| store_error("get", path.as_ref(), &e))?;
    let corrupt = |reason: String| Error::corrupt(path.as_ref(), reason);
    let (meta, data) = snapshots::decode(&bytes).map_err(|e| corrupt(e.0))?;
    let state = State::decode(&data).map_err(|e| corrupt(e.0))?;
    if snapshots::encode(&meta, &state.encode()) != bytes {
        return Err(corrupt(
            "its state does not give the same bytes again".to_owned(),
        ));
    }
    let partitions = || state.topics.iter().flat_map(|topic| &topic.partitions);
    let report = CheckpointReport {
        key: path.to_string(),
        bytes: bytes.len() as u64,
        applied: meta.last_log_id.as_ref().map_or(0, |id| id.index()),
        cluster: state.cluster.map(|cluster| cluster.id),
        brokers: state.brokers.len(),
        topics: state.topics.len(),
        partitions: partitions().count(),
        slices: partitions().map(|partition| partition.slices.len()).sum(),
        objects: state.objects.by_id.len(),
    };
    Ok((report, bytes))
}

fn meta_prefix(base: &str) -> String {
    match base.trim_matches('/') {
        "" => "meta/".to_owned(),
        base => format!("{base}/meta/"),
    }
}

fn store_error(what: &str, key: &str, error: &object_store::Error) -> Error {
    Error::Store {
        context: format!("{what} {key}"),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
