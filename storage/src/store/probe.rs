//! The start-up probe: does the store keep the promises that the data relies on?
//!
//! Racing conditional creates have one winner, a create never overwrites, what was written is read
//! at once, ranges are exact, what is deleted is gone. A store that answers wrongly is refused with
//! the condition by name; one that cannot be reached is [`crate::ErrorKind::Retry`]: wait, say why.

use std::sync::Arc;

use bytes::Bytes;
use env::Env;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::Error;

/// Creators that race for one key.
const RACERS: usize = 8;
/// Races run; a store without a lock is caught in most.
const ROUNDS: usize = 10;
/// Races in which nobody won, as S3's 409 allows, before that is the store's habit.
const DRAWS: usize = 5;
/// Bytes of an object of the probe; more than one packet, so that answers can be cut.
const OBJECT_BYTES: usize = 96 * 1024;

const CONDITIONS: &str = "the store must honour If-None-Match: * on PUT atomically: use one that \
     does (Amazon S3, MinIO, Google Cloud Storage, Azure Blob Storage, a local directory), or \
     switch conditional writes on in its settings";
const CONSISTENCY: &str = "the store must be strongly consistent: use its own endpoint, not a \
     cache or a mirror in front of it";
const RANGES: &str = "the store must serve exact byte ranges: use its own endpoint, not a proxy \
     that rewrites Range requests";
const DELETES: &str = "the credentials must allow deletion, and the bucket must not keep deleted \
     objects readable under their keys";

/// Probes `store` under `prefix`, and removes what it wrote, also on failure.
///
/// # Errors
/// [`Error::UnfitStore`] names the broken condition; [`Error::Store`] when the store could not be
/// asked.
pub async fn probe(env: &Env, store: &Arc<dyn ObjectStore>, prefix: &str) -> Result<(), Error> {
    let nonce = env.entropy.uuid().as_simple().to_string();
    let base = if prefix.is_empty() {
        String::new()
    } else {
        format!("{prefix}/")
    };
    let mut probe = Probe {
        store: Arc::clone(store),
        base: format!("{base}probe-{nonce}"),
        put: 0,
    };
    let result = probe.run().await;
    let cleaned = probe.clean().await;
    // The first thing that went wrong explains more than the last.
    result.and(cleaned)
}

struct Probe {
    store: Arc<dyn ObjectStore>,
    base: String,
    put: usize,
}

// === impl Probe ===

impl Probe {
    async fn run(&mut self) -> Result<(), Error> {
        let mut draws = 0;
        let mut rounds = 0;
        while rounds < ROUNDS {
            match self.race().await? {
                Some((path, bytes)) => {
                    self.refuses_overwrite(&path, &bytes).await?;
                    rounds += 1;
                    if rounds == 1 {
                        self.ranges(&path, &bytes).await?;
                        self.deletes(&path).await?;
                    }
                }
                None if draws < DRAWS => draws += 1,
                None => {
                    return Err(unfit(
                        "every racing conditional create was refused",
                        CONDITIONS,
                    ));
                }
            }
        }
        Ok(())
    }

    fn path(&self, number: usize) -> Path {
        Path::from(format!("{}/{number}", self.base))
    }

    /// Races for a new key; the winner's object, or `None` when nobody won.
    async fn race(&mut self) -> Result<Option<(Path, Bytes)>, Error> {
        let path = self.path(self.put);
        self.put += 1;
        let racers = (0..RACERS).map(|racer| {
            let (store, path) = (Arc::clone(&self.store), path.clone());
            async move {
                let bytes = content(racer);
                let options = PutOptions::from(PutMode::Create);
                (
                    store.put_opts(&path, bytes.clone().into(), options).await,
                    bytes,
                )
            }
        });
        let mut winners = Vec::new();
        for (result, bytes) in join_all(racers).await {
            match result {
                Ok(_) => winners.push(bytes),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(put_failed(&path, error)),
            }
        }
        match winners.len() {
            0 => Ok(None),
            1 => {
                let bytes = winners.remove(0);
                self.reads(&path, &bytes, "an object read right after its put")
                    .await?;
                Ok(Some((path, bytes)))
            }
            several => Err(unfit(
                format!("{several} of {RACERS} racing conditional creates of one key succeeded"),
                CONDITIONS,
            )),
        }
    }

    async fn refuses_overwrite(&self, path: &Path, bytes: &Bytes) -> Result<(), Error> {
        let other = Bytes::from_static(b"must not be stored");
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(path, other.into(), options).await {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Ok(_) => {
                let condition = "a conditional create of an existing object succeeded";
                return Err(unfit(condition, CONDITIONS));
            }
            Err(error) => return Err(put_failed(path, error)),
        }
        self.reads(path, bytes, "an object whose overwriting was refused")
            .await
    }

    async fn reads(&self, path: &Path, bytes: &Bytes, what: &str) -> Result<(), Error> {
        // By range, so that an answer cut short on its way is told from other content.
        let found = match self.store.get_range(path, 0..bytes.len() as u64).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(unfit(format!("{what} was not found"), CONSISTENCY));
            }
            Err(error) => return Err(failed("get", path, error)),
        };
        if found != bytes {
            return Err(unfit(format!("{what} had other content"), CONSISTENCY));
        }
        let meta = self
            .store
            .head(path)
            .await
            .map_err(|e| failed("head", path, e))?;
        if meta.size != bytes.len() as u64 {
            return Err(unfit(format!("{what} had another length"), CONSISTENCY));
        }
        Ok(())
    }

    async fn ranges(&self, path: &Path, bytes: &Bytes) -> Result<(), Error> {
        let end = bytes.len() as u64;
        for range in [0..1, 1..4096, 65_535..65_537, end - 1..end, 0..end] {
            let expected = bytes.slice(range.start as usize..range.end as usize);
            self.range(path, GetRange::Bounded(range), &expected)
                .await?;
        }
        Ok(())
    }

    async fn range(&self, path: &Path, range: GetRange, expected: &Bytes) -> Result<(), Error> {
        let shown = range.to_string();
        let options = GetOptions {
            range: Some(range),
            ..GetOptions::default()
        };
        let result = match self.store.get_opts(path, options).await {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(found) if found == expected => Ok(()),
            Ok(_) => Err(unfit(format!("the range {shown} had other bytes"), RANGES)),
            // The whole object was just read, so that is no answer to a sound range.
            Err(
                object_store::Error::NotFound { .. } | object_store::Error::NotSupported { .. },
            ) => Err(unfit(format!("the range {shown} was refused"), RANGES)),
            Err(error) => Err(failed("get", path, error)),
        }
    }

    async fn deletes(&self, path: &Path) -> Result<(), Error> {
        self.store
            .delete(path)
            .await
            .map_err(|e| failed("delete", path, e))?;
        match self.store.get(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Ok(_) => Err(unfit("a deleted object was still readable", DELETES)),
            Err(error) => Err(failed("get", path, error)),
        }
    }

    async fn clean(&self) -> Result<(), Error> {
        for number in 0..self.put {
            let path = self.path(number);
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed("delete", &path, error)),
            }
        }
        Ok(())
    }
}

/// Bytes that differ everywhere between racers, and between positions.
fn content(racer: usize) -> Bytes {
    (0..OBJECT_BYTES)
        .map(|n| (n * 7 + n / 256 + racer * 31) as u8)
        .collect()
}

fn unfit(condition: impl Into<String>, advice: &'static str) -> Error {
    Error::UnfitStore {
        condition: condition.into(),
        advice,
    }
}

fn failed(operation: &'static str, path: &Path, error: object_store::Error) -> Error {
    Error::store(operation, path.as_ref(), error)
}

fn put_failed(path: &Path, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            unfit("conditional creates are not supported", CONDITIONS)
        }
        error => failed("put", path, error),
    }
}
