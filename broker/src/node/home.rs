//! That this node's object store is the one of all the others.
//!
//! ```text
//!   {cluster}/{generation}/meta/home:  an id, put by whoever came first
//!   read ─▶ RecordHome: the controller keeps the first ─▶ equal? take part : stay away
//! ```
//!
//! An heir that looked into another bucket would find an empty log where a dead broker's is, and
//! close it: acknowledged records would be gone. So a broker registers only where the mark is.
//!
//! **Invariant:** once a mark is recorded, no broker takes part over a store that answers without
//! it, whoever else is there. A copy of a store carries its mark, and passes.

use std::sync::Arc;

use controller::{Client, Command, Image};
use env::Env;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use protocol::NodeId;
use uuid::Uuid;

use super::Store;

/// Bytes of an id; it is followed by the same bytes inverted, so that damage shows.
const ID_BYTES: usize = 16;
/// Before it no cluster has more than one node.
const SINCE_LEVEL: u16 = 2;

/// Whether this node may take part over `store`.
///
/// # Errors
/// Why not, or not yet.
pub(crate) async fn check(
    env: &Env,
    client: &Client,
    node: NodeId,
    store: &Store,
) -> Result<(), String> {
    let image = Arc::clone(&client.image().borrow());
    // What lives in this process's memory is no one else's, and gone with it.
    if image.level() < SINCE_LEVEL || store.shown.starts_with("memory") {
        return Ok(());
    }
    let key = store.keys(client).meta("home");
    let found = match read(&*store.store, &key).await {
        Ok(None) if image.home.is_none() => make(env, &*store.store, &key).await,
        found => found,
    };
    let mark = match found {
        Ok(Some(Mark::Id(mark))) => mark,
        Ok(Some(Mark::Damaged)) => {
            // Its key names the cluster: the store is the right one.
            tracing::error!(key, "the mark of the cluster's store is damaged");
            return Ok(());
        }
        Ok(None) => return Err(foreign(&image, store)),
        // Alone, it need not wait for a store that is away.
        Err(_) if other(&image, node).is_none() => return Ok(()),
        Err(error) => {
            let shown = &store.shown;
            return Err(format!("the object store {shown} does not answer: {error}"));
        }
    };
    if image.home.is_none() {
        let recorded = client.submit(Command::RecordHome { mark }).await;
        recorded.map_err(|error| format!("the object store is not recorded yet: {error}"))?;
    }
    let image = Arc::clone(&client.image().borrow());
    if image.home == Some(mark) {
        return Ok(());
    }
    Err(foreign(&image, store))
}

/// What stands in a store.
enum Mark {
    Id(Uuid),
    Damaged,
}

/// Whether the mark under `key` is whole.
///
/// # Errors
/// That it is damaged, or not there; what the store says.
pub(crate) async fn verify(store: &dyn ObjectStore, key: &str) -> anyhow::Result<()> {
    match read(store, key).await.map_err(anyhow::Error::msg)? {
        Some(Mark::Id(_)) => Ok(()),
        Some(Mark::Damaged) => anyhow::bail!("{key} is damaged"),
        None => anyhow::bail!("{key} is not there"),
    }
}

async fn read(store: &dyn ObjectStore, key: &str) -> Result<Option<Mark>, String> {
    let bytes = match store.get(&Path::from(key)).await {
        Ok(found) => found.bytes().await.map_err(|error| error.to_string())?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Some(decode(&bytes).map_or(Mark::Damaged, Mark::Id)))
}

/// Puts a mark, unless another one is quicker.
async fn make(env: &Env, store: &dyn ObjectStore, key: &str) -> Result<Option<Mark>, String> {
    let mark = env.entropy.uuid();
    let payload = PutPayload::from(encode(mark));
    match storage::store::create(store, key, payload, false).await {
        Ok(()) => Ok(Some(Mark::Id(mark))),
        Err(storage::Error::Foreign { .. }) => read(store, key).await,
        Err(error) => Err(error.to_string()),
    }
}

fn encode(mark: Uuid) -> Vec<u8> {
    let id = mark.as_bytes().iter().copied();
    id.clone().chain(id.map(|byte| !byte)).collect()
}

fn decode(bytes: &[u8]) -> Option<Uuid> {
    let mark = Uuid::from_slice(bytes.get(..ID_BYTES)?).ok()?;
    (encode(mark) == bytes).then_some(mark)
}

fn foreign(image: &Image, store: &Store) -> String {
    let cluster = image.cluster.map(|id| id.to_string()).unwrap_or_default();
    let shown = &store.shown;
    format!(
        "the object store {shown} holds nothing of cluster {cluster}: is object.store.url the same \
         as that of the other nodes, and as it was?"
    )
}

/// A node that was here before, or has begun at the same time.
fn other(image: &Image, own: NodeId) -> Option<NodeId> {
    let brokers = image.brokers.values().map(|broker| broker.node);
    let mut nodes = brokers.chain(image.wals.values().map(|wal| wal.node));
    nodes.find(|node| *node != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_mark_is_none() {
        let mark = Uuid::from_u128(0x1234_5678_9abc_def0);
        let good = encode(mark);
        assert_eq!(decode(&good), Some(mark));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        assert_eq!(decode(&good[..31]), None);
        assert_eq!(decode(&[]), None);
    }
}
