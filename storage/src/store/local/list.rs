//! Listing, one directory at a time, so that memory is bounded by the widest directory.

use std::sync::Arc;

use env::IoThread;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, Result};

use super::files::Files;
use super::io_error;

/// All objects below `prefix`, directory by directory, each in order of names.
pub(super) fn list(
    files: Arc<Files>,
    pool: IoThread,
    prefix: Option<&Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let open = vec![prefix.cloned().unwrap_or_default()];
    futures::stream::try_unfold(open, move |mut open| {
        let (files, pool) = (Arc::clone(&files), pool.clone());
        async move {
            let Some(next) = open.pop() else {
                return Ok::<_, object_store::Error>(None);
            };
            let key = next.to_string();
            let found = pool.run(move || files.read_dir(&next)).await;
            let found = found.map_err(|error| io_error(&key, error))?;
            open.extend(found.directories.into_iter().rev());
            Ok(Some((
                futures::stream::iter(found.objects.into_iter().map(Ok)),
                open,
            )))
        }
    })
    .try_flatten()
    .boxed()
}
