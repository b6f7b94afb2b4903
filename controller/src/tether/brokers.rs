//! Fences brokers whose process is gone.
//!
//! Every voter keeps a tether to each broker whose log is in the object store, so that one that
//! comes to lead knows whose process went with the leader before it; only the leader fences.
//!
//! **Invariants:** wrong evidence does no harm: seals stop the acknowledgements of an object log,
//! not leases. A broker that stops in order takes connections until its process ends. Those with
//! logs on disk are let alone: nobody could recover them sooner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::{BrokerEpoch, NodeId};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Judge, Tether};
use crate::command::{Listener, WalBackend};
use crate::image::Image;
use crate::limits::{FENCE_TIMEOUT, LEASE_TICK_LATE, MAX_TETHERS};
use crate::raft::Local;

/// Whom a tether tells of.
struct Broker {
    local: Arc<Local>,
    own: NodeId,
    broker: BrokerEpoch,
    at: Listener,
}

/// Keeps a tether to every broker that may have one, until aborted.
pub(crate) async fn keep(local: Arc<Local>, own: NodeId) {
    let mut images = local.shared.image();
    let mut tasks = JoinSet::new();
    let mut kept: BTreeMap<BrokerEpoch, AbortHandle> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        kept.retain(|broker, task| {
            let stays = wanted(&image, own, *broker).is_some();
            if !stays {
                task.abort();
            }
            stays && !task.is_finished()
        });
        for (broker, _) in image.live_brokers() {
            if kept.len() < MAX_TETHERS
                && !kept.contains_key(&broker)
                && let Some(at) = wanted(&image, own, broker)
            {
                let (local, at) = (local.clone(), at.clone());
                let tether = Tether {
                    net: local.env.net.clone(),
                    host: at.host.clone(),
                    port: at.port,
                    // Kafka's listener.
                    tls: None,
                    judge: Broker {
                        local,
                        own,
                        broker,
                        at,
                    },
                };
                kept.insert(broker, tasks.spawn(tether.hold()));
            }
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a tether has failed: it is made anew");
            }
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Where to tether `broker`: another node's, live, with a log in the object store.
fn wanted(image: &Image, own: NodeId, broker: BrokerEpoch) -> Option<&Listener> {
    let found = image.brokers.get(&broker)?;
    let wal = image.wals.get(&found.wal?)?;
    let may = !found.fenced && found.node != own && wal.backend == WalBackend::Object;
    found.listeners.first().filter(|_| may)
}

// === impl Broker ===

impl Broker {
    fn leads(&self) -> bool {
        let leader = self.local.shared.image().borrow().controller;
        leader == Some(self.own) && self.local.raft.is_leader()
    }
}

impl Judge for Broker {
    /// Fences the broker, if this voter leads.
    async fn refused(&self, _: bool) {
        let local = &self.local;
        let image = local.shared.image().borrow().clone();
        if !self.leads() || wanted(&image, self.own, self.broker).is_none() {
            return;
        }
        let term = local.term();
        let confirmed = timeout(LEASE_TICK_LATE, local.confirm()).await;
        if !matches!(confirmed, Ok(Ok(_))) {
            return;
        }
        {
            let mut sessions = local.sessions.lock();
            if !sessions.in_term(term) {
                return;
            }
            sessions.end(self.broker, local.env.clock.monotonic());
        }
        tracing::warn!(
            broker = %self.broker,
            host = %self.at.host,
            port = self.at.port,
            "its host answers and its process is gone: fencing"
        );
        match timeout(FENCE_TIMEOUT, local.fence(self.broker)).await {
            Ok(Ok(())) => {}
            // The lease's own watch goes on with it, for as long as this voter leads.
            Ok(Err(error)) => tracing::warn!(broker = %self.broker, ?error, "not fenced yet"),
            Err(_) => tracing::warn!(broker = %self.broker, "not fenced yet"),
        }
    }

    /// The leader before may have died with this broker: whoever comes to lead does not wait.
    async fn wait(&self, pause: Duration) {
        let leads_now = async {
            let mut images = self.local.shared.image();
            if self.leads() {
                return std::future::pending().await;
            }
            // Not `wait_for`: its closure runs under the channel's lock, which `leads` takes, too.
            loop {
                if images.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if self.leads() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = leads_now => {}
            () = sleep(pause) => {}
        }
    }
}
