//! An object store in memory that misbehaves by a seed, for the simulation.
//!
//! Time is tokio's, so a paused runtime runs it in no time; nothing is spawned, late puts land when
//! the next request comes after their time; the same seed and the same requests in the same order
//! give the same answers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::faults::{Asked, Conditions, Fate, Fault, FaultSettings, Faults, damage};

/// The store. Clones share their objects.
#[derive(Clone, Debug)]
pub struct SimStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    faults: Faults,
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    by_path: BTreeMap<Path, Stored>,
    late: Vec<(Instant, Path, Bytes)>,
    puts: u64,
    landed_late: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Bytes,
    number: u64,
    since: Instant,
}

// === impl SimStore ===

impl SimStore {
    /// An empty store whose faults are drawn from `seed`.
    pub fn new(seed: u64, settings: FaultSettings) -> Self {
        let faults = Faults::new(seed, settings);
        Self {
            shared: Arc::new(Shared {
                faults,
                objects: Mutex::default(),
            }),
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, settings: FaultSettings) {
        self.shared.faults.set(settings);
    }

    /// Requests that something went wrong with.
    pub fn injected(&self) -> u64 {
        self.shared.faults.injected()
    }

    /// Late puts that have landed.
    pub fn landed_late(&self) -> u64 {
        self.objects().landed_late
    }

    /// What is stored, without latency or fault: for those who judge.
    pub fn snapshot(&self) -> BTreeMap<Path, Bytes> {
        let objects = self.objects();
        objects
            .by_path
            .iter()
            .map(|(path, stored)| (path.clone(), stored.bytes.clone()))
            .collect()
    }

    /// Puts `bytes` in the place of what stands at `path`, as damage at rest would.
    ///
    /// # Panics
    /// When nothing stands there.
    pub fn corrupt(&self, path: &Path, bytes: Bytes) {
        let mut objects = self.objects();
        objects
            .by_path
            .get_mut(path)
            .expect("an object to damage")
            .bytes = bytes;
    }

    /// The objects, with late puts landed that are due.
    fn objects(&self) -> parking_lot::MutexGuard<'_, Objects> {
        let mut objects = self.shared.objects.lock();
        let now = Instant::now();
        let late = std::mem::take(&mut objects.late);
        let (due, later) = late.into_iter().partition(|(at, _, _)| *at <= now);
        objects.late = later;
        for (_, path, bytes) in due {
            if objects.create(&path, bytes) {
                objects.landed_late += 1;
            }
        }
        objects
    }

    /// Draws a request's fate and lets the time before its deed pass.
    async fn begin(&self, asked: Asked) -> Result<Fate> {
        let fate = self.shared.faults.draw(asked);
        sleep(fate.before).await;
        if fate.fault == Fault::Unavailable {
            sleep(fate.after).await;
            return Err(generic("503 SlowDown"));
        }
        Ok(fate)
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<PutResult> {
        let fate = self.begin(Asked::Put).await?;
        let conditions = self.shared.faults.settings().conditions;
        if let Fault::LatePut(by) = fate.fault {
            self.objects()
                .late
                .push((Instant::now() + by, path.clone(), bytes));
            return Err(generic("503, yet the put lands later"));
        }
        let exists = self.objects().by_path.contains_key(path);
        if conditions == Conditions::Racy {
            tokio::task::yield_now().await;
        }
        let created = {
            let mut objects = self.objects();
            match (mode, conditions) {
                (PutMode::Create, Conditions::Honoured) => objects.create(path, bytes),
                (PutMode::Create, Conditions::Racy) if exists => false,
                (PutMode::Create | PutMode::Overwrite, _) => {
                    objects.overwrite(path, bytes);
                    true
                }
                (PutMode::Update(_), _) => return Err(not_supported("conditional update")),
            }
        };
        sleep(fate.after).await;
        if fate.fault == Fault::LostAnswer {
            return Err(generic("connection reset"));
        }
        if !created {
            return Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "412".into(),
            });
        }
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn delete(&self, path: Path) -> Result<Path> {
        let fate = self.begin(Asked::Delete).await?;
        self.objects().by_path.remove(&path);
        sleep(fate.after).await;
        if fate.fault == Fault::LostAnswer {
            return Err(generic("connection reset"));
        }
        Ok(path)
    }

    /// What a listing under `prefix` shows.
    async fn names(&self, prefix: Path) -> Result<Vec<ObjectMeta>> {
        let fate = self.begin(Asked::List).await?;
        let lag = self.shared.faults.settings().listing_lag;
        let listed = {
            let objects = self.objects();
            let now = Instant::now();
            // In the order of their bytes: what begins alike stands together.
            let from = objects.by_path.range(prefix.clone()..);
            let near = from.take_while(|(path, _)| path.as_ref().starts_with(prefix.as_ref()));
            let shown = near.filter(|(path, stored)| {
                let below = path
                    .prefix_match(&prefix)
                    .is_some_and(|mut rest| rest.next().is_some());
                below && now - stored.since >= lag
            });
            shown.map(|(path, stored)| stored.meta(path)).collect()
        };
        sleep(fate.after).await;
        Ok(listed)
    }
}

// === impl Objects ===

impl Objects {
    fn create(&mut self, path: &Path, bytes: Bytes) -> bool {
        let absent = !self.by_path.contains_key(path);
        if absent {
            self.overwrite(path, bytes);
        }
        absent
    }

    fn overwrite(&mut self, path: &Path, bytes: Bytes) {
        self.puts += 1;
        let stored = Stored {
            bytes,
            number: self.puts,
            since: Instant::now(),
        };
        self.by_path.insert(path.clone(), stored);
    }
}

impl Stored {
    /// The time is the number of the put in seconds: it orders, and it replays.
    fn meta(&self, path: &Path) -> ObjectMeta {
        ObjectMeta {
            location: path.clone(),
            last_modified: (UNIX_EPOCH + Duration::from_secs(self.number)).into(),
            size: self.bytes.len() as u64,
            e_tag: Some(format!("\"{}\"", self.number)),
            version: None,
        }
    }
}

impl std::fmt::Display for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated store")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.put(location, payload.into(), opts.mode).await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported("multipart put"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fate = self.begin(Asked::Get).await?;
        let stored = self.objects().by_path.get(location).cloned();
        sleep(fate.after).await;
        let path = location.to_string();
        let stored = stored.ok_or_else(|| Error::NotFound {
            path,
            source: "404".into(),
        })?;
        let meta = stored.meta(location);
        options.check_preconditions(&meta)?;
        let length = stored.bytes.len() as u64;
        let range: Range<u64> = match &options.range {
            Some(range) => range
                .as_range(length)
                .map_err(|error| generic(&error.to_string()))?,
            None => 0..length,
        };
        let body = if options.head {
            Bytes::new()
        } else {
            let whole = stored.bytes.slice(range.start as usize..range.end as usize);
            damage(fate.fault, whole)
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter([Ok(body)]).boxed()),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move { this.delete(location?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        futures::stream::once(async move { this.names(prefix).await })
            .flat_map(|names| match names {
                Ok(names) => futures::stream::iter(names.into_iter().map(Ok)).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let depth = prefix.parts().count() + 1;
        let mut result = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: Default::default(),
        };
        for meta in self.names(prefix).await? {
            if meta.location.parts().count() == depth {
                result.objects.push(meta);
                continue;
            }
            let common: Path = meta.location.parts().take(depth).collect();
            if result.common_prefixes.last() != Some(&common) {
                result.common_prefixes.push(common);
            }
        }
        Ok(result)
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_supported("copy"))
    }
}

fn generic(what: &str) -> Error {
    Error::Generic {
        store: "simulated",
        source: what.to_owned().into(),
    }
}

fn not_supported(what: &str) -> Error {
    Error::NotSupported {
        source: what.to_owned().into(),
    }
}
