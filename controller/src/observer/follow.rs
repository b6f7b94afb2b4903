//! Follows the image of one voter at a time.

use std::sync::Arc;

use env::Env;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::Remote;
use crate::image::{Image, wire as image_wire};
use crate::level::VERSION_FEATURE;
use crate::limits::{
    FIND_TIMEOUT, MAX_IMAGE_BYTES, WATCH_PATIENCE, WATCH_PAUSE, WATCH_PAUSE_MOST, WATCH_SILENCE,
};
use crate::rpc::{method, wire};

/// The task.
pub(super) struct Follow {
    env: Env,
    remote: Arc<Remote>,
    publish: watch::Sender<Arc<Image>>,
    failed: watch::Sender<Option<String>>,
    /// Why nobody is followed now.
    says: watch::Sender<String>,
}

/// Why a voter is followed no more.
enum Ended {
    /// Another one may do.
    Lost(String),
    /// This process cannot follow the cluster at all.
    Failed(String),
}

/// The image of one voter, as it comes in.
#[derive(Default)]
struct Incoming {
    image: Image,
    /// Of the change under way.
    pieces: Vec<u8>,
    complete: bool,
    lag: Lag,
}

/// How long a voter has been behind what is known to be there.
#[derive(Default)]
struct Lag(Option<(u64, Instant)>);

// === impl Follow ===

impl Follow {
    pub(super) fn new(
        env: Env,
        remote: Arc<Remote>,
        publish: watch::Sender<Arc<Image>>,
        failed: watch::Sender<Option<String>>,
        says: watch::Sender<String>,
    ) -> Self {
        Self {
            env,
            remote,
            publish,
            failed,
            says,
        }
    }

    pub(super) async fn run(self) {
        let (mut last, mut pause, mut said) = (String::new(), WATCH_PAUSE, String::new());
        loop {
            let address = self.pick(&last);
            let mut followed = false;
            let reason = match self.follow(&address, &mut followed).await {
                Ended::Lost(reason) => reason,
                Ended::Failed(reason) => {
                    tracing::error!("cannot follow the controllers: {reason}");
                    self.failed.send_replace(Some(reason));
                    return;
                }
            };
            if followed {
                (pause, said) = (WATCH_PAUSE, String::new());
            }
            if said != reason {
                tracing::warn!(controller = %address, "not followed any more: {reason}");
                self.says
                    .send_replace(format!("controller at {address}: {reason}"));
                said = reason;
            }
            last = address;
            sleep(pause).await;
            pause = (2 * pause).min(WATCH_PAUSE_MOST);
        }
    }

    /// Any controller, but not the last one again if there is another: so the load is spread.
    fn pick(&self, last: &str) -> String {
        let mut addresses = self.remote.addresses();
        if addresses.len() > 1 {
            addresses.retain(|address| address != last);
        }
        let count = addresses.len() as u64;
        let at = self.env.entropy.next_u64() % count;
        addresses.swap_remove(usize::try_from(at).expect("fewer than MAX_CONTROLLERS"))
    }

    async fn follow(&self, address: &str, followed: &mut bool) -> Ended {
        let lost = |status: tonic::Status| Ended::Lost(status.message().to_owned());
        let target = match self.remote.identify(address).await {
            Ok((target, identity)) if identity.initialized => target,
            Ok(_) => return Ended::Lost("it is of no cluster yet".to_owned()),
            Err(status) => return lost(status),
        };
        let channels = self.remote.channels();
        let question = wire::Watch {};
        let begun = channels.watch(&target, method::WATCH, question, FIND_TIMEOUT);
        let mut pieces: Streaming<wire::Piece> = match begun.await {
            Ok(pieces) => pieces,
            Err(status) => return lost(status),
        };
        let mut incoming = Incoming::default();
        loop {
            let piece = match timeout(WATCH_SILENCE, pieces.message()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Ended::Lost("the stream ended".to_owned()),
                Ok(Err(status)) => return lost(status),
                Err(_) => return Ended::Lost(format!("silent for {WATCH_SILENCE:?}")),
            };
            match self.take(&mut incoming, piece) {
                Ok(()) => *followed |= incoming.complete,
                Err(ended) => return ended,
            }
        }
    }

    fn take(&self, incoming: &mut Incoming, piece: wire::Piece) -> Result<(), Ended> {
        let changed = incoming.add(piece).map_err(Ended::Lost)?;
        if let Some(members) = changed {
            if let Some(members) = members {
                self.remote.set_members(&members.members);
            }
            self.publish(&incoming.image)?;
        }
        let published = self.publish.borrow().applied;
        let goal = self.remote.goal().max(published);
        if incoming.complete && incoming.lag.too_long(incoming.image.applied, goal) {
            let reason = format!(
                "it is at {} while the leader is at {goal}",
                incoming.image.applied
            );
            return Err(Ended::Lost(reason));
        }
        Ok(())
    }

    /// Swaps the image, unless that would be a step back.
    fn publish(&self, image: &Image) -> Result<(), Ended> {
        let level = image.level();
        let newest = self.remote.newest_level();
        if level > newest {
            return Err(Ended::Failed(format!(
                "the cluster is at level {level} of {VERSION_FEATURE}, this build knows \
                 {newest} and below: start a newer one"
            )));
        }
        let standing = self.publish.borrow().clone();
        if standing.cluster.is_some() && standing.cluster != image.cluster {
            let reason = match image.cluster {
                Some(other) => format!("it is of another cluster, {other}"),
                None => "it has no cluster yet".to_owned(),
            };
            return Err(Ended::Lost(reason));
        }
        if image.applied >= standing.applied {
            self.publish.send_replace(Arc::new(image.clone()));
        }
        Ok(())
    }
}

// === impl Incoming ===

impl Incoming {
    /// What came with a change that is complete now: the voters, when they changed, too.
    fn add(&mut self, piece: wire::Piece) -> Result<Option<Option<image_wire::Members>>, String> {
        if self.pieces.len() + piece.bytes.len() > MAX_IMAGE_BYTES {
            return Err(format!("a change of more than {MAX_IMAGE_BYTES} bytes"));
        }
        self.pieces.extend_from_slice(&piece.bytes);
        if piece.more || self.pieces.is_empty() {
            return Ok(None);
        }
        let pieces = std::mem::take(&mut self.pieces);
        let mut delta =
            image_wire::Delta::decode(&*pieces).map_err(|e| format!("a malformed change: {e}"))?;
        let members = delta.members.take();
        self.image = self.image.with(delta).map_err(|e| e.to_string())?;
        self.complete = true;
        Ok(Some(members))
    }
}

// === impl Lag ===

impl Lag {
    /// Whether what was known to be there some time ago has still not come.
    fn too_long(&mut self, applied: u64, goal: u64) -> bool {
        let standing = self.0.filter(|(goal, _)| applied < *goal);
        self.0 = standing.or_else(|| (applied < goal).then(|| (goal, Instant::now())));
        self.0
            .is_some_and(|(_, since)| since.elapsed() >= WATCH_PATIENCE)
    }
}
