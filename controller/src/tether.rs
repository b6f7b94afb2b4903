//! Evidence of death: an idle connection to each broker whose log is in the object store.
//!
//! ```text
//!   connect ─▶ established ─▶ breaks ─▶ connect: refused, and again refused ─▶ FenceBroker
//!                   ▲                       └── taken: a new tether
//! ```
//!
//! Every voter keeps them, so that one that comes to lead knows whose process went with the leader
//! before it; only the leader fences.
//!
//! **Invariants:** only a host that answers and refuses is evidence, and only where a connection had
//! stood before: time-outs, silence and whatever else say nothing. Wrong evidence does no harm: seals
//! stop the acknowledgements of an object log, not leases. A broker that stops in order takes
//! connections until its process ends. Those with logs on disk are let alone: nobody could recover
//! them sooner.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::sync::Arc;

use env::BoxStream;
use protocol::{BrokerEpoch, NodeId};
use tokio::io::AsyncReadExt;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::command::{Listener, WalBackend};
use crate::image::Image;
use crate::limits::{
    FENCE_TIMEOUT, LEASE_TICK_LATE, MAX_TETHERS, TETHER_CONNECT, TETHER_PAUSE, TETHER_REFUSAL,
    TETHER_REFUSAL_MOST,
};
use crate::raft::Local;

/// What a connect came to.
enum Reached {
    Stands(BoxStream),
    /// The host answers, and nobody listens.
    Refused,
    Unclear,
}

/// The tether of one broker epoch.
struct Tether {
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
            stays
        });
        for (broker, _) in image.live_brokers() {
            if kept.len() < MAX_TETHERS
                && !kept.contains_key(&broker)
                && let Some(at) = wanted(&image, own, broker)
            {
                let (local, at) = (local.clone(), at.clone());
                let tether = Tether {
                    local,
                    own,
                    broker,
                    at,
                };
                kept.insert(broker, tasks.spawn(tether.hold()));
            }
        }
        while tasks.try_join_next().is_some() {}
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

// === impl Tether ===

impl Tether {
    async fn hold(self) {
        loop {
            let mut next = self.reach().await;
            while let Reached::Stands(stream) = next {
                broken(stream).await;
                next = self.look().await;
            }
            sleep(TETHER_PAUSE).await;
        }
    }

    /// A tether broke. For as long as the broker's host refuses, there is evidence; ends with a
    /// new tether, or with nothing that says anything.
    async fn look(&self) -> Reached {
        let mut pause = TETHER_REFUSAL;
        let mut refused = 0;
        loop {
            match self.reach().await {
                Reached::Refused => refused += 1,
                Reached::Stands(stream) => {
                    // One that breaks as soon as it stands shall not keep us busy.
                    sleep(pause).await;
                    return Reached::Stands(stream);
                }
                Reached::Unclear => return Reached::Unclear,
            }
            if refused > 1 {
                self.fence().await;
                pause = (pause * 2).min(TETHER_REFUSAL_MOST);
            }
            sleep(pause).await;
        }
    }

    async fn reach(&self) -> Reached {
        let net = &self.local.env.net;
        let reaching = async {
            let Ok(addresses) = net.resolve(&self.at.host, self.at.port).await else {
                return Reached::Unclear;
            };
            let mut reached = Reached::Unclear;
            for address in addresses {
                match net.connect(address).await {
                    Ok(stream) => return Reached::Stands(stream),
                    Err(error) if error.kind() == Io::ConnectionRefused => {
                        reached = Reached::Refused;
                    }
                    Err(_) => return Reached::Unclear,
                }
            }
            reached
        };
        let reached = timeout(TETHER_CONNECT, reaching).await;
        reached.unwrap_or(Reached::Unclear)
    }

    /// Fences the broker, if this voter leads.
    async fn fence(&self) {
        let local = &self.local;
        let image = local.shared.image().borrow().clone();
        let leads = image.controller == Some(self.own) && local.raft.is_leader();
        if !leads || wanted(&image, self.own, self.broker).is_none() {
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
}

/// Waits until the other side closes or resets. It has nothing to say: bytes end it, too.
async fn broken(mut stream: BoxStream) {
    let mut byte = [0];
    // Closed, reset or answered without being asked: the connection is of no more use.
    let _ = stream.read(&mut byte).await;
}
