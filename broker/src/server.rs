//! Accepts Kafka connections behind a permit: `listener ─▶ permit ─▶ connection task`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use env::Listener;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Identity, Shared};
use crate::limits::ACCEPT_PAUSE;
use crate::metrics::ConnectionMetrics;

/// What all listeners of a node share.
pub(crate) struct Server {
    shared: Shared,
    permits: Arc<Semaphore>,
    next_id: AtomicU64,
    connections: TaskTracker,
    /// Closes every connection at once when cancelled; replaced then, so that new ones can come.
    close: Mutex<CancellationToken>,
    /// Cancelled at the very end.
    stop: CancellationToken,
}

impl Server {
    /// A server of at most `max_connections` connections. Ends with `stop`.
    pub(crate) fn new(
        shared: Shared,
        max_connections: usize,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            permits: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            next_id: AtomicU64::new(1),
            connections: TaskTracker::new(),
            close: Mutex::new(stop.child_token()),
            stop,
        })
    }

    /// Accepts until the server stops. One that drains closes what comes at once: a refusal would
    /// pass for evidence that the process is gone.
    pub(crate) async fn run(self: Arc<Self>, listener: Box<dyn Listener>, name: Arc<str>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = self.accept(listener.as_ref()) => accepted,
            };
            let (permit, stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = %name, %error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !self.shared.drain.is_cancelled() {
                self.spawn(permit, stream, peer, Arc::clone(&name));
            }
        }
    }

    /// Further clients wait in the system's queue while all permits are out.
    async fn accept(
        &self,
        listener: &dyn Listener,
    ) -> std::io::Result<(OwnedSemaphorePermit, env::BoxStream, SocketAddr)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the connections' semaphore is never closed");
        let (stream, peer) = listener.accept().await?;
        Ok((permit, stream, peer))
    }

    fn spawn(
        &self,
        permit: OwnedSemaphorePermit,
        stream: env::BoxStream,
        peer: SocketAddr,
        listener: Arc<str>,
    ) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let identity = Identity { id, listener, peer };
        let close = self.close.lock().clone();
        let shared = self.shared.clone();
        shared.metrics.accepted.inc();
        self.connections.spawn(async move {
            let metrics = Arc::clone(&shared.metrics);
            metrics.open.inc();
            let _open = Open(&metrics);
            tokio::select! {
                biased;
                () = close.cancelled() => {}
                () = connection::serve(stream, identity, shared) => {}
            }
            drop(permit);
        });
    }

    /// Closes every connection at once; clients may come again.
    pub(crate) fn close_all(&self) {
        let next = self.stop.child_token();
        std::mem::replace(&mut *self.close.lock(), next).cancel();
    }

    /// Waits until every connection has ended. Nothing is served to newcomers any more once `drain`
    /// is cancelled.
    pub(crate) async fn wait(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

struct Open<'a>(&'a ConnectionMetrics);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}
