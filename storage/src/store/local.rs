//! Objects as files of a directory, durable before success.
//!
//! ```text
//!   put: .tmp/<slot>/<nonce> written, synced ─▶ hard link to <key> (fails if it exists)
//!        ─▶ directory synced ─▶ success ─▶ .tmp/… removed
//! ```
//!
//! **Invariant:** an object is whole or absent, whenever the machine stops; a success survives it;
//! nothing is ever overwritten. Each process takes a slot of its own under `.tmp`, held by a
//! directory lock, so that what a dead one left there is known to be waste and removed at start.

mod files;
mod list;

use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use env::{Env, IoThread};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use self::files::Files;

const STORE: &str = "local";
/// A get of up to this is read at once, into one buffer: whoever asks for so much holds it whole.
const WHOLE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a longer one that are read at once.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// Put into [`PutOptions::extensions`]: this put may use the last bytes of the disk. For recovery
/// and uploads, after which space can be freed; never for new data.
#[derive(Clone, Copy, Debug)]
pub struct UseReserve;

/// Our own durable store in a directory of this machine.
pub struct LocalStore {
    files: Arc<Files>,
    pool: IoThread,
    read_only: bool,
}

// === impl LocalStore ===

impl LocalStore {
    /// Opens the store in `root`, which is made if absent, and removes what a killed process left
    /// half-way. Puts leave `reserve_bytes` of the file system free unless they carry
    /// [`UseReserve`].
    ///
    /// # Errors
    /// [`crate::Error::Store`] when the directory cannot be made, locked or cleaned.
    pub async fn open(
        env: &Env,
        root: &FilePath,
        reserve_bytes: u64,
    ) -> Result<Self, crate::Error> {
        let files = Files::new(env, root, reserve_bytes);
        let pool = env.threads.pool();
        let opened = pool
            .run(move || {
                let mut files = files;
                files.prepare()?;
                Ok(files)
            })
            .await;
        let files = opened.map_err(|error: io::Error| {
            let shown = root.display().to_string();
            crate::Error::store("open", shown.clone(), io_error(&shown, error))
        })?;
        Ok(Self {
            files: Arc::new(files),
            pool,
            read_only: false,
        })
    }

    /// The store in `root` for reading only; touches nothing.
    pub fn open_read_only(env: &Env, root: &FilePath) -> Self {
        let files = Files::new(env, root, 0);
        Self {
            files: Arc::new(files),
            pool: env.threads.pool(),
            read_only: true,
        }
    }

    fn writable(&self, operation: &str) -> Result<()> {
        if self.read_only {
            return Err(not_supported(format!(
                "{operation}: the store is open for reading only"
            )));
        }
        Ok(())
    }

    /// A closure over the files, run off the runtime.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Files) -> T + Send + 'static) -> T {
        let files = Arc::clone(&self.files);
        self.pool.run(move || job(&files)).await
    }
}

impl std::fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalStore({:?})", self.files)
    }
}

impl std::fmt::Display for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "local({})", self.files.root().display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.writable("put")?;
        if opts.mode != PutMode::Create {
            return Err(not_supported(
                "put: objects are only created, never overwritten".into(),
            ));
        }
        let path = self.files.path_of(location)?;
        let may_use_reserve = opts.extensions.get::<UseReserve>().is_some();
        let key = location.to_string();
        self.run(move |files| files.create(&path, payload, may_use_reserve))
            .await
            .map_err(|error| io_error(&key, error))?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported(
            "multipart put: it has no create-only mode".into(),
        ))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.files.path_of(location)?;
        let key = location.to_string();
        let length = {
            let path = path.clone();
            self.run(move |files| files.length(&path))
                .await
                .map_err(|e| io_error(&key, e))?
        };
        let meta = meta(location.clone(), length);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range
                .as_range(length)
                .map_err(|error| generic(Box::new(error)))?,
            None => 0..length,
        };
        let payload = if options.head {
            futures::stream::empty().boxed()
        } else if range.end - range.start <= WHOLE_BYTES {
            let part = range.clone();
            let bytes = self.run(move |files| files.read(&path, part)).await;
            let bytes = bytes.map_err(|error| io_error(&key, error));
            futures::stream::iter([bytes]).boxed()
        } else {
            chunks(
                Arc::clone(&self.files),
                self.pool.clone(),
                path,
                key,
                range.clone(),
            )
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    /// Each range in a buffer of its own size: nothing is copied, and none pins another.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = self.files.path_of(location)?;
        let ranges = ranges.to_vec();
        self.run(move |files| files.read_each(&path, &ranges))
            .await
            .map_err(|error| io_error(location.as_ref(), error))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (files, pool) = (Arc::clone(&self.files), self.pool.clone());
        let writable = self.writable("delete").err().map(|error| error.to_string());
        locations
            .then(move |location| {
                let (files, pool, refused) = (Arc::clone(&files), pool.clone(), writable.clone());
                async move {
                    let location = location?;
                    if let Some(reason) = refused {
                        return Err(not_supported(reason));
                    }
                    let path = files.path_of(&location)?;
                    pool.run(move || files.remove(&path))
                        .await
                        .map_err(|error| io_error(location.as_ref(), error))?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::list(Arc::clone(&self.files), self.pool.clone(), prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let key = prefix.to_string();
        let found = self.run(move |files| files.read_dir(&prefix)).await;
        let found = found.map_err(|error| io_error(&key, error))?;
        Ok(ListResult {
            common_prefixes: found.directories,
            objects: found.objects,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_supported("copy".into()))
    }
}

/// The range in pieces, each read when it is asked for.
fn chunks(
    files: Arc<Files>,
    pool: IoThread,
    path: PathBuf,
    key: String,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    futures::stream::try_unfold(range.start, move |position| {
        let (files, path, key, end) = (Arc::clone(&files), path.clone(), key.clone(), range.end);
        let pool = pool.clone();
        async move {
            if position >= end {
                return Ok(None);
            }
            let part = position..end.min(position + CHUNK_BYTES);
            let next = part.end;
            let bytes = pool.run(move || files.read(&path, part)).await;
            Ok(Some((bytes.map_err(|error| io_error(&key, error))?, next)))
        }
    })
    .boxed()
}

/// When it was written is not kept: nothing here depends on the age of an object.
fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: std::time::UNIX_EPOCH.into(),
        size,
        e_tag: None,
        version: None,
    }
}

/// True when the store, or the disk below it, has no room left.
pub fn is_no_space(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
        }
        source = error.source();
    }
    false
}

fn io_error(key: &str, error: io::Error) -> object_store::Error {
    let path = key.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            object_store::Error::NotFound {
                path,
                source: Box::new(error),
            }
        }
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists {
            path,
            source: Box::new(error),
        },
        io::ErrorKind::PermissionDenied => object_store::Error::PermissionDenied {
            path,
            source: Box::new(error),
        },
        _ => generic(Box::new(error)),
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic {
        store: STORE,
        source,
    }
}

fn not_supported(what: String) -> object_store::Error {
    object_store::Error::NotSupported {
        source: what.into(),
    }
}

#[cfg(test)]
mod tests;
