//! Storing an object of ours under a key that carries our nonce.

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::local::UseReserve;
use crate::Error;

/// Answers in a row that an object exists which then is not there.
const GHOSTS: u32 = 3;
/// Reads before it is given up to learn what stands under a key.
const READS: u32 = 5;

/// Stores `payload` under `key`, create-only. "Already exists" is success only if exactly our bytes
/// stand there: it may be our own retried put, and on some stores a conflict where nothing landed.
/// With `use_reserve` a local store may fill its last bytes.
///
/// # Errors
/// [`Error::Foreign`] when other bytes stand under the key; [`Error::Store`] when it is not known
/// whether the object is there: asking again with the same bytes is safe.
pub async fn create(
    store: &dyn ObjectStore,
    key: &str,
    payload: PutPayload,
    use_reserve: bool,
) -> Result<(), Error> {
    let path = Path::from(key);
    let mut ghosts = 0;
    loop {
        let mut options = PutOptions::from(PutMode::Create);
        if use_reserve {
            options.extensions.insert(UseReserve);
        }
        let exists = match store.put_opts(&path, payload.clone(), options).await {
            Ok(_) => return Ok(()),
            Err(error @ object_store::Error::AlreadyExists { .. }) => error,
            Err(error) => return Err(Error::store("put", key, error)),
        };
        match holds(store, &path, &payload).await {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => {
                return Err(Error::Foreign {
                    key: key.to_owned(),
                });
            }
            Ok(None) if ghosts < GHOSTS => ghosts += 1,
            Ok(None) => return Err(Error::store("put", key, exists)),
            Err(error) => return Err(Error::store("get", key, error)),
        }
    }
}

/// Whether exactly `payload` stands at `path`; `None` when nothing does. One answer that differs
/// may be short or damaged on its way: other content is believed when two reads agree on it.
pub(super) async fn holds(
    store: &dyn ObjectStore,
    path: &Path,
    payload: &PutPayload,
) -> object_store::Result<Option<bool>> {
    let mut seen = Vec::new();
    for _ in 0..READS {
        let found = match store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut ours = payload.iter().flat_map(|piece| piece.iter());
        let mut equal = true;
        let mut content = (0_u64, crc32fast::Hasher::new());
        let mut body = found.into_stream();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            equal = equal && piece.iter().all(|byte| ours.next() == Some(byte));
            content.0 += piece.len() as u64;
            content.1.update(&piece);
        }
        if equal && ours.next().is_none() {
            return Ok(Some(true));
        }
        let other = (content.0, content.1.finalize());
        if seen.contains(&other) {
            return Ok(Some(false));
        }
        seen.push(other);
    }
    let source = "every read gave other bytes".into();
    Err(object_store::Error::Generic {
        store: "object store",
        source,
    })
}
