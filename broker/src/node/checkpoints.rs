//! Checkpoints of the cluster's state: written where the leader of the controllers is.

use std::sync::Arc;
use std::time::Duration;

use controller::{CheckpointKeeper, Client, Error};
use object_store::ObjectStore;
use protocol::NodeId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Context, Store};

/// What checkpoints are made of.
pub(super) struct Checkpoints {
    client: Client,
    node: NodeId,
    store: Arc<dyn ObjectStore>,
    /// Prefix of the cluster's keys.
    root: String,
    period: Duration,
}

/// Keeps checkpoints until dropped.
pub(super) struct Keeping {
    task: JoinHandle<Option<CheckpointKeeper>>,
    stop: Option<oneshot::Sender<()>>,
}

// === impl Checkpoints ===

impl Checkpoints {
    /// Of the cluster that `client` speaks for, in `store`, as configured.
    pub(super) fn of(context: &Context, client: Client, store: &Store) -> Self {
        let period = context.config.time("controller.checkpoint.interval.ms");
        Self {
            node: context.config.node_id,
            root: store.keys(&client).root().to_owned(),
            store: Arc::clone(&store.store),
            period: period.unwrap_or_default(),
            client,
        }
    }

    /// Writes a checkpoint every period in which something changed, while this node leads the
    /// controllers.
    pub(super) fn keep(self) -> Keeping {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.run(stopped));
        Keeping {
            task,
            stop: Some(stop),
        }
    }

    /// Ends with the keeper, when this node leads at that time.
    async fn run(self, mut stopped: oneshot::Receiver<()>) -> Option<CheckpointKeeper> {
        let mut images = self.client.image();
        let mut keeper = None;
        loop {
            let leads = images.borrow_and_update().controller == Some(self.node);
            if leads && keeper.is_none() {
                let (store, root) = (Arc::clone(&self.store), self.root.clone());
                keeper = Some(self.client.keep_checkpoints(store, root, self.period));
            } else if !leads {
                keeper = None;
            }
            tokio::select! {
                biased;
                _ = &mut stopped => return keeper,
                changed = images.changed() => if changed.is_err() {
                    return keeper;
                },
            }
        }
    }
}

// === impl Keeping ===

impl Keeping {
    /// Stops; where the leader is, with a last checkpoint.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        if let Some(stop) = self.stop.take() {
            // Who does not listen has ended.
            let _ = stop.send(());
        }
        match (&mut self.task).await {
            Ok(Some(keeper)) => keeper.finish().await.map(drop),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}
