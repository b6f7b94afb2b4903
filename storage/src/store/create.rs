//! Storing an object of ours under a key that carries our nonce.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::local::UseReserve;
use crate::Error;

/// Answers in a row that an object exists which then is not there.
const GHOSTS: u32 = 3;

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
        match store.get(&path).await {
            Ok(found) if found.meta.size != payload.content_length() as u64 => {
                return Err(Error::Foreign {
                    key: key.to_owned(),
                });
            }
            Ok(found) => {
                let found = found
                    .bytes()
                    .await
                    .map_err(|e| Error::store("get", key, e))?;
                let ours = payload.iter().flat_map(|piece| piece.iter());
                if ours.eq(found.iter()) {
                    return Ok(());
                }
                return Err(Error::Foreign {
                    key: key.to_owned(),
                });
            }
            Err(object_store::Error::NotFound { .. }) if ghosts < GHOSTS => ghosts += 1,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::store("put", key, exists));
            }
            Err(error) => return Err(Error::store("get", key, error)),
        }
    }
}
