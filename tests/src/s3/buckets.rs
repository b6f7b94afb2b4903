//! What is stored, and S3's operations on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use s3s::dto::{
    CommonPrefix, CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput,
    ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

use crate::faults::{Conditions, Faults};

/// A single object may be this large.
const MAX_OBJECT_BYTES: usize = 1 << 30;
const MAX_KEYS: usize = 1000;
/// Smaller objects stay in memory, directory or not.
const SMALL: usize = 64 << 10;

/// All buckets.
pub(super) struct Buckets {
    faults: Arc<Faults>,
    dir: Option<PathBuf>,
    moved: Arc<Moved>,
    state: Mutex<State>,
}

/// Bytes of objects that were stored and read.
#[derive(Default)]
pub(super) struct Moved {
    put: AtomicU64,
    got: AtomicU64,
}

struct State {
    buckets: BTreeMap<String, BTreeMap<String, Stored>>,
    puts: u64,
    files: u64,
}

#[derive(Clone)]
struct Stored {
    content: Content,
    e_tag: String,
    modified: SystemTime,
    since: Instant,
}

/// Where an object's bytes are.
#[derive(Clone)]
enum Content {
    Memory(Bytes),
    File(Arc<OnDisk>),
}

/// A file that is gone when nothing refers to it any more.
struct OnDisk {
    path: PathBuf,
    length: usize,
}

// === impl Moved ===

impl Moved {
    pub(super) fn so_far(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.put), of(&self.got))
    }
}

// === impl Content ===

impl Content {
    fn length(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(file) => file.length,
        }
    }

    /// These bytes of it; the caller has checked that it has them.
    async fn read(&self, range: std::ops::Range<usize>) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range)),
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; range.len()];
                    let open = std::fs::File::open(&file.path)?;
                    open.read_exact_at(&mut bytes, range.start as u64)?;
                    Ok(bytes.into())
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // The directory is thrown away in the end.
        let _ = std::fs::remove_file(&self.path);
    }
}

// === impl Buckets ===

impl Buckets {
    pub(super) fn new(
        bucket: &str,
        faults: Arc<Faults>,
        dir: Option<PathBuf>,
        moved: Arc<Moved>,
    ) -> Self {
        let buckets = BTreeMap::from([(bucket.to_owned(), BTreeMap::new())]);
        Self {
            faults,
            dir,
            moved,
            state: Mutex::new(State {
                buckets,
                puts: 0,
                files: 0,
            }),
        }
    }

    fn get(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        let state = self.state.lock();
        let objects = state
            .buckets
            .get(bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))?;
        let stored = objects
            .get(key)
            .ok_or_else(|| s3_error!(NoSuchKey, "no such key"))?;
        Ok(stored.clone())
    }

    /// Where `bytes` are to lie.
    async fn content(&self, bytes: Bytes) -> S3Result<Content> {
        let Some(dir) = self.dir.as_ref().filter(|_| bytes.len() >= SMALL) else {
            return Ok(Content::Memory(bytes));
        };
        let number = {
            let mut state = self.state.lock();
            state.files += 1;
            state.files
        };
        let file = OnDisk {
            path: dir.join(number.to_string()),
            length: bytes.len(),
        };
        let written = tokio::task::spawn_blocking(move || {
            std::fs::write(&file.path, &bytes)?;
            Ok::<_, io::Error>(file)
        });
        let file = written.await.map_err(io::Error::other).flatten();
        let file = file.map_err(|error| s3_error!(error, InternalError))?;
        Ok(Content::File(Arc::new(file)))
    }

    /// Stores `bytes`; with `create_only`, not over anything.
    async fn put(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        create_only: bool,
    ) -> S3Result<String> {
        let conditions = self.faults.settings().conditions;
        let refused = || s3_error!(PreconditionFailed, "the object exists");
        let create_only = match conditions {
            Conditions::Honoured => create_only,
            Conditions::Ignored => false,
            Conditions::Racy => {
                let exists = self.get(bucket, key).is_ok();
                tokio::time::sleep(Duration::from_millis(5)).await;
                if create_only && exists {
                    return Err(refused());
                }
                false
            }
        };
        let length = bytes.len() as u64;
        let content = self.content(bytes).await?;
        let mut state = self.state.lock();
        state.puts += 1;
        let e_tag = format!("{:032x}", state.puts);
        let objects = state
            .buckets
            .get_mut(bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))?;
        if create_only && objects.contains_key(key) {
            return Err(refused());
        }
        self.moved.put.fetch_add(length, Ordering::Relaxed);
        let stored = Stored {
            content,
            e_tag: e_tag.clone(),
            modified: SystemTime::now(),
            since: Instant::now(),
        };
        objects.insert(key.to_owned(), stored);
        Ok(e_tag)
    }

    fn list(&self, input: &ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty());
        let after = input
            .continuation_token
            .clone()
            .or_else(|| input.start_after.clone());
        let asked = input.max_keys.and_then(|keys| usize::try_from(keys).ok());
        let limit = asked.unwrap_or(MAX_KEYS).min(MAX_KEYS);
        let lag = self.faults.settings().listing_lag;

        let state = self.state.lock();
        let objects = state
            .buckets
            .get(&input.bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))?;
        let mut contents = Vec::new();
        let mut common = BTreeSet::new();
        let mut next = None;
        let mut last = None;
        for (key, stored) in objects.range(prefix.clone()..) {
            if !key.starts_with(&prefix) {
                break;
            }
            let seen = after.as_ref().is_some_and(|after| key <= after);
            if seen || stored.since.elapsed() < lag {
                continue;
            }
            if contents.len() + common.len() >= limit {
                next = last;
                break;
            }
            last = Some(key.clone());
            let rest = &key[prefix.len()..];
            let cut = delimiter
                .as_ref()
                .and_then(|d| rest.find(d.as_str()).map(|at| at + d.len()));
            match cut {
                Some(at) => {
                    common.insert(format!("{prefix}{}", &rest[..at]));
                }
                None => contents.push(stored.listed(key)),
            }
        }
        let prefixes = common.into_iter().map(|prefix| CommonPrefix {
            prefix: Some(prefix),
        });
        let prefixes: Vec<_> = prefixes.collect();
        Ok(ListObjectsV2Output {
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter,
            name: Some(input.bucket.clone()),
            prefix: Some(prefix),
            ..ListObjectsV2Output::default()
        })
    }
}

impl Stored {
    fn tag(&self) -> ETag {
        ETag::Strong(self.e_tag.clone())
    }

    fn length(&self) -> i64 {
        i64::try_from(self.content.length()).expect("objects are bounded")
    }

    fn listed(&self, key: &str) -> Object {
        Object {
            key: Some(key.to_owned()),
            e_tag: Some(self.tag()),
            size: Some(self.length()),
            last_modified: Some(Timestamp::from(self.modified)),
            ..Object::default()
        }
    }
}

#[async_trait::async_trait]
impl S3 for Buckets {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.state
            .lock()
            .buckets
            .entry(req.input.bucket)
            .or_default();
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.state.lock().buckets.contains_key(&req.input.bucket) {
            return Err(s3_error!(NoSuchBucket, "no such bucket"));
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        if input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "If-Match"));
        }
        let create_only = match &input.if_none_match {
            Some(condition) if condition.is_any() => true,
            Some(_) => return Err(s3_error!(NotImplemented, "If-None-Match with a tag")),
            None => false,
        };
        let mut body = Vec::new();
        if let Some(mut blob) = input.body {
            while let Some(piece) = blob.next().await {
                let piece = piece.map_err(|_| s3_error!(IncompleteBody, "the body broke off"))?;
                if body.len() + piece.len() > MAX_OBJECT_BYTES {
                    return Err(s3_error!(EntityTooLarge, "too large"));
                }
                body.extend_from_slice(&piece);
            }
        }
        let announced = input
            .content_length
            .and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length != body.len()) {
            return Err(s3_error!(IncompleteBody, "not as long as announced"));
        }
        let e_tag = self
            .put(&input.bucket, &input.key, body.into(), create_only)
            .await?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(e_tag)),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let stored = self.get(&input.bucket, &input.key)?;
        let length = stored.content.length();
        let (range, content_range) = match input.range {
            None => (0..length, None),
            Some(range) => {
                let range = range.check(length as u64)?;
                let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                (range.start as usize..range.end as usize, Some(shown))
            }
        };
        let read = stored.content.read(range).await;
        let body = read.map_err(|error| s3_error!(error, InternalError))?;
        let got = body.len() as u64;
        self.moved.got.fetch_add(got, Ordering::Relaxed);
        let content_length = i64::try_from(body.len()).ok();
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::from(s3s::Body::from(body))),
            content_length,
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(stored.tag()),
            last_modified: Some(Timestamp::from(stored.modified)),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let stored = self.get(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(stored.length()),
            e_tag: Some(stored.tag()),
            last_modified: Some(Timestamp::from(stored.modified)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut state = self.state.lock();
        let objects = state
            .buckets
            .get_mut(&req.input.bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))?;
        // As S3 does it: deleting what is not there is success.
        objects.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Ok(S3Response::new(self.list(&req.input)?))
    }
}
