//! An object store in memory that goes wrong on order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use parking_lot::Mutex;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 503, nothing done.
    Unavailable,
    /// 403, nothing done.
    Forbidden,
    /// Done, and the answer is lost.
    AnswerLost,
    /// "Already exists", nothing done.
    Conflict,
    /// Takes this long.
    Slow(Duration),
    /// Never answers; nothing is done.
    Hang,
    /// A body cut short, with status 200.
    Truncated,
    /// A body with a wrong bit.
    Flipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Put,
    Get,
}

#[derive(Debug, Default)]
struct State {
    faults: BTreeMap<(Op, u64), VecDeque<Fault>>,
    /// Of every request from now on.
    always: BTreeMap<Op, Fault>,
    puts: BTreeMap<u64, Vec<Bytes>>,
    blind_listing: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FaultStore {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

impl FaultStore {
    pub(crate) fn fail_put(&self, sequence: u64, fault: Fault) {
        self.push(Op::Put, sequence, fault);
    }

    pub(crate) fn fail_get(&self, sequence: u64, fault: Fault) {
        self.push(Op::Get, sequence, fault);
    }

    pub(crate) fn always(&self, op: Op, fault: Option<Fault>) {
        let mut state = self.state.lock();
        match fault {
            Some(fault) => state.always.insert(op, fault),
            None => state.always.remove(&op),
        };
    }

    pub(crate) fn blind_listing(&self) {
        self.state.lock().blind_listing = true;
    }

    fn push(&self, op: Op, sequence: u64, fault: Fault) {
        self.state
            .lock()
            .faults
            .entry((op, sequence))
            .or_default()
            .push_back(fault);
    }

    /// Bodies of all attempts to put `sequence`.
    pub(crate) fn attempts(&self, sequence: u64) -> Vec<Bytes> {
        self.state
            .lock()
            .puts
            .get(&sequence)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let listed: Vec<_> = self.inner.list(None).collect().await;
        let mut keys: Vec<_> = listed
            .into_iter()
            .map(|object| object.unwrap().location.to_string())
            .collect();
        keys.sort();
        keys
    }

    /// Sequence numbers that something stands at.
    pub(crate) async fn sequences(&self) -> Vec<u64> {
        let keys = self.keys().await;
        keys.iter()
            .map(|key| key.rsplit('/').next().unwrap().parse().unwrap())
            .collect()
    }

    /// The store behind the faults.
    pub(crate) fn inner(&self) -> &InMemory {
        &self.inner
    }

    fn fault(&self, op: Op, location: &Path) -> Option<Fault> {
        let mut state = self.state.lock();
        let sequence = location.filename()?.parse().ok()?;
        let scripted = state
            .faults
            .get_mut(&(op, sequence))
            .and_then(VecDeque::pop_front);
        scripted.or_else(|| state.always.get(&op).cloned())
    }
}

impl std::fmt::Display for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultStore")
    }
}

fn generic(what: &str) -> Error {
    Error::Generic {
        store: "fault",
        source: what.into(),
    }
}

async fn before(fault: Option<&Fault>, location: &Path) -> Result<()> {
    match fault {
        Some(Fault::Unavailable) => Err(generic("503 SlowDown")),
        Some(Fault::Forbidden) => Err(Error::PermissionDenied {
            path: location.to_string(),
            source: "403".into(),
        }),
        Some(Fault::Conflict) => Err(Error::AlreadyExists {
            path: location.to_string(),
            source: "409".into(),
        }),
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
        Some(Fault::Hang) => std::future::pending().await,
        _ => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        assert_eq!(
            options.mode,
            PutMode::Create,
            "every put is create-only (R2)"
        );
        let sequence = location.filename().unwrap().parse().unwrap();
        let body: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        self.state
            .lock()
            .puts
            .entry(sequence)
            .or_default()
            .push(body.into());
        let fault = self.fault(Op::Put, location);
        before(fault.as_ref(), location).await?;
        let result = self.inner.put_opts(location, payload, options).await;
        if fault == Some(Fault::AnswerLost) {
            return Err(generic("connection reset"));
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        panic!("multipart has no conditional mode")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.fault(Op::Get, location);
        before(fault.as_ref(), location).await?;
        let mut result = self.inner.get_opts(location, options).await?;
        if !matches!(fault, Some(Fault::Truncated | Fault::Flipped)) {
            return Ok(result);
        }
        let range = result.range.clone();
        let (meta, attributes) = (result.meta.clone(), result.attributes.clone());
        let mut body = result.bytes().await?.to_vec();
        if fault == Some(Fault::Truncated) {
            body.truncate(body.len() / 2);
        } else {
            let middle = body.len() / 2;
            body[middle] ^= 0x10;
        }
        let body = futures::stream::once(async move { Ok(Bytes::from(body)) });
        let payload = GetResultPayload::Stream(body.boxed());
        result = GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions: Default::default(),
        };
        Ok(result)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.state.lock().blind_listing {
            return futures::stream::empty().boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("nothing is copied")
    }
}
