//! The common store as one machine reaches it: it may be away for this one alone, slow, or have
//! answers wait while the machine stands still. Requests of a process that died are never answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use env::sim::SimDisk;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tests::simstore::SimStore;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::steps::{Step, Steps};

/// How long a request takes to fail while the store is away.
const AWAY: Duration = Duration::from_millis(250);

/// A machine's way to the store.
#[derive(Clone, Debug)]
pub(crate) struct View {
    store: SimStore,
    gate: Arc<Gate>,
    counted: Counted,
}

/// Whose requests they are, where they are counted.
#[derive(Clone)]
pub(super) struct Counted {
    pub(super) node: i32,
    pub(super) steps: Steps,
    pub(super) disk: SimDisk,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)
    }
}

#[derive(Debug, Default)]
struct Gate {
    away: AtomicBool,
    held: AtomicBool,
    /// Milliseconds that each request takes longer.
    slower: AtomicU64,
    /// Processes that died.
    deaths: AtomicU64,
    changed: Notify,
}

/// What one process holds.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    view: View,
    born: u64,
}

// === impl View ===

impl View {
    pub(super) fn new(store: SimStore, counted: Counted) -> Self {
        let gate = Arc::default();
        Self {
            store,
            gate,
            counted,
        }
    }

    pub(super) fn mount(&self) -> Mounted {
        Mounted {
            view: self.clone(),
            born: self.gate.deaths.load(Ordering::Relaxed),
        }
    }

    /// What is stored, for those who judge.
    pub(crate) fn objects(&self) -> BTreeMap<Path, Bytes> {
        self.store.snapshot()
    }

    /// Puts `bytes` in the place of what stands at `path`.
    pub(crate) fn corrupt(&self, path: &Path, bytes: Bytes) {
        self.store.corrupt(path, bytes);
    }

    /// What a process that died still asks is never answered.
    pub(super) fn kill(&self) {
        self.gate.deaths.fetch_add(1, Ordering::Relaxed);
        self.gate.changed.notify_waiters();
    }

    pub(super) fn hold(&self) {
        self.gate.held.store(true, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.gate.held.store(false, Ordering::Relaxed);
        self.gate.changed.notify_waiters();
    }

    /// Whether this machine reaches the store.
    pub(crate) fn set_away(&self, away: bool) {
        self.gate.away.store(away, Ordering::Relaxed);
    }

    /// How much longer each request takes.
    pub(crate) fn set_slower(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.gate.slower.store(by, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.set_away(false);
        self.set_slower(Duration::ZERO);
    }
}

// === impl Mounted ===

impl Mounted {
    /// Waits while the machine stands still; for ever when the process died.
    async fn alive(&self) {
        let gate = &self.view.gate;
        loop {
            let changed = gate.changed.notified();
            if gate.deaths.load(Ordering::Relaxed) != self.born {
                std::future::pending::<()>().await;
            }
            if !gate.held.load(Ordering::Relaxed) {
                return;
            }
            changed.await;
        }
    }

    /// Counts a request, or its answer; never returns when its process ends there.
    async fn step(&self, verb: &str, path: Option<&Path>) {
        let Counted { node, steps, disk } = &self.view.counted;
        let (node, place) = (*node, path.map_or_else(|| "objects".to_owned(), place));
        let step = Step {
            node,
            verb,
            place: &place,
        };
        if steps.is_last(step) {
            disk.crash_now();
            std::future::pending::<()>().await;
        }
    }

    async fn begin(&self) -> Result<()> {
        self.alive().await;
        if self.view.gate.away.load(Ordering::Relaxed) {
            sleep(AWAY).await;
            self.alive().await;
            return Err(Error::Generic {
                store: "simulated",
                source: "no route to the store".into(),
            });
        }
        let slower = self.view.gate.slower.load(Ordering::Relaxed);
        if slower > 0 {
            sleep(Duration::from_millis(slower)).await;
            self.alive().await;
        }
        Ok(())
    }

    /// The answer to `request`, which is cut off wherever it is when the process dies.
    async fn end<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let died = async {
            loop {
                let changed = self.view.gate.changed.notified();
                if self.view.gate.deaths.load(Ordering::Relaxed) != self.born {
                    return;
                }
                changed.await;
            }
        };
        let answer = tokio::select! {
            biased;
            () = died => std::future::pending().await,
            answer = request => answer,
        };
        self.alive().await;
        answer
    }
}

/// What kind of object stands at `path`, and of a log, whose. Cluster and generation come first.
fn place(path: &Path) -> String {
    let parts: Vec<_> = path.parts().collect();
    match (parts.get(2), parts.get(3)) {
        (Some(kind), Some(node)) if kind.as_ref() == "wal" => {
            format!("objects wal {}", node.as_ref())
        }
        (Some(kind), _) => format!("objects {}", kind.as_ref()),
        (None, _) => "objects".to_owned(),
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Mounted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.begin().await?;
        self.step("put", Some(location)).await;
        let put = self.view.store.put_opts(location, payload, opts);
        let answer = self.end(put).await;
        self.step("answer to put", Some(location)).await;
        answer
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.view.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.begin().await?;
        self.step("get", Some(location)).await;
        self.end(self.view.store.get_opts(location, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let passed = locations.then(move |location| {
            let this = this.clone();
            async move {
                this.begin().await?;
                let location = location?;
                this.step("delete", Some(&location)).await;
                Ok(location)
            }
        });
        let this = self.clone();
        let deleted = self.view.store.delete_stream(passed.boxed());
        let answered = deleted.then(move |answer| {
            let this = this.clone();
            async move { this.end(std::future::ready(answer)).await }
        });
        answered.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let begun = this.begin().await;
            this.step("list", prefix.as_ref()).await;
            match begun {
                Ok(()) => this.view.store.list(prefix.as_ref()),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            }
        };
        let this = self.clone();
        let listed = futures::stream::once(listing).flatten();
        let answered = listed.then(move |answer| {
            let this = this.clone();
            async move { this.end(std::future::ready(answer)).await }
        });
        answered.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.begin().await?;
        self.end(self.view.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.view.store.copy_opts(from, to, options).await
    }
}
