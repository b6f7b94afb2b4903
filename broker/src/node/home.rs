//! That this node's object store is the one of all the others.
//!
//! ```text
//!   {cluster}/{generation}/meta/home:   empty; put by the first broker
//! ```
//!
//! An heir that looked into another bucket would find an empty log where a dead broker's is, and
//! close it: acknowledged records would be gone. So a broker takes part only where the mark is.
//!
//! **Invariant:** the mark is made only by a broker that is registered and sees no other node's
//! registration or log: of two that begin at once one sees the other.

use std::sync::Arc;

use controller::{Client, Image};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use protocol::NodeId;

use super::{Pause, Store};

/// What the store of a registered broker is.
pub(super) enum Home {
    /// That of the cluster.
    Here,
    /// Nobody else's: it is to be marked.
    First(Mark),
    /// Not that of the cluster, or not yet, or it does not answer; why.
    Elsewhere(String),
}

/// The mark, to be made.
pub(super) struct Mark {
    store: Arc<dyn ObjectStore>,
    key: String,
}

/// Looks for the mark.
pub(super) async fn find(client: &Client, node: NodeId, store: &Store) -> Home {
    let key = store.keys(client).meta("home");
    let looked = store.store.head(&Path::from(key.as_str())).await;
    if looked.is_ok() {
        return Home::Here;
    }
    let image = Arc::clone(&client.image().borrow());
    let Some(other) = other(&image, node) else {
        // Alone, it need not wait for a store that is away.
        let store = Arc::clone(&store.store);
        return Home::First(Mark { store, key });
    };
    let shown = &store.shown;
    Home::Elsewhere(match looked {
        Ok(_) | Err(object_store::Error::NotFound { .. }) => {
            let cluster = image.cluster.map(|id| id.to_string()).unwrap_or_default();
            format!(
                "the object store {shown} holds nothing of cluster {cluster}: is object.store.url \
                 the same as that of node {other}?"
            )
        }
        Err(error) => format!("the object store {shown} does not answer: {error}"),
    })
}

// === impl Mark ===

impl Mark {
    /// Makes it, for as long as that takes. It is empty: that it is there says all.
    pub(super) async fn make(self) {
        let mut pause = Pause::default();
        loop {
            let empty = PutPayload::new();
            match storage::store::create(&*self.store, &self.key, empty, false).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the object store is not marked yet"),
            }
            tokio::time::sleep(pause.next()).await;
        }
    }
}

/// A node that was here before, or has begun at the same time.
fn other(image: &Image, own: NodeId) -> Option<NodeId> {
    let brokers = image.brokers.values().map(|broker| broker.node);
    let mut nodes = brokers.chain(image.wals.values().map(|wal| wal.node));
    nodes.find(|node| *node != own)
}
