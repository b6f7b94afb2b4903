//! A voter's image for those who have none: whole at first, then what changes.
//!
//! ```text
//!   image (watch) ──▶ delta to what was sent last ──pieces──▶ whoever follows
//! ```
//!
//! **Invariants:** nothing queues: the next delta is made when the one before has been taken, so a
//! slow follower skips the images in between. A few whole images are alive at once, however many
//! begin to follow and are slow; who takes nothing for long holds nothing any more.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex as Lock;
use prost::Message;
use tokio::sync::{Mutex, OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use crate::image::{Image, delta, wire as image_wire};
use crate::limits::{
    IMAGE_PIECE_BYTES, MAX_WHOLE_IMAGES, WATCH_HEARTBEAT, WATCH_UNTAKEN, WHOLE_IMAGE_AGE,
};
use crate::raft::Local;
use crate::rpc::wire;

/// The pieces.
pub(super) type Watching = BoxStream<'static, Result<wire::Piece, Status>>;

/// What one follower was sent.
struct Follower {
    local: Arc<Local>,
    image: watch::Receiver<Arc<Image>>,
    sent: Arc<Image>,
    members: Vec<wire::Member>,
    /// Of the delta under way: who the members are, then the rest.
    head: Bytes,
    rest: Bytes,
    wholes: Arc<Wholes>,
    /// What `rest` is of, while it is a whole image.
    whole: Option<Arc<Whole>>,
    _permit: OwnedSemaphorePermit,
}

/// An image, encoded whole.
struct Whole {
    image: Arc<Image>,
    bytes: Bytes,
    made: Instant,
}

/// The whole images that are being sent, oldest first: one for all who begin to follow within a short
/// time.
#[derive(Default)]
pub(super) struct Wholes(Mutex<Vec<Weak<Whole>>>);

/// The pieces of one stream.
struct Kept {
    /// An error in their place, when nobody took them for long.
    pieces: Watching,
    /// When they were asked for last; while there is a reader that takes any, heartbeats are.
    asked: Instant,
}

/// Feeds one follower until it goes away.
pub(super) fn follow(
    local: Arc<Local>,
    wholes: Arc<Wholes>,
    permit: OwnedSemaphorePermit,
) -> Watching {
    let follower = Follower {
        image: local.shared.image(),
        local,
        sent: Arc::default(),
        members: Vec::new(),
        head: Bytes::new(),
        rest: Bytes::new(),
        wholes,
        whole: None,
        _permit: permit,
    };
    let pieces = stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(piece) => Some((Ok(piece), Some(follower))),
            Err(status) => Some((Err(status), None)),
        }
    });
    while_taken(pieces.boxed())
}

/// The same pieces, and an end when they are not asked for: HTTP/2 keeps a stream for as long as its
/// reader's connection answers pings, and reads none of its pieces meanwhile.
fn while_taken(pieces: Watching) -> Watching {
    let kept = Arc::new(Lock::new(Kept {
        pieces,
        asked: Instant::now(),
    }));
    // Ends with the stream.
    let mut ending = JoinSet::new();
    ending.spawn(end_untaken(kept.clone()));
    let pieces = stream::poll_fn(move |context| {
        let _ending = &ending;
        let mut kept = kept.lock();
        kept.asked = Instant::now();
        kept.pieces.poll_next_unpin(context)
    });
    pieces.boxed()
}

async fn end_untaken(kept: Arc<Lock<Kept>>) {
    loop {
        let end = kept.lock().asked + WATCH_UNTAKEN;
        sleep_until(end).await;
        let mut kept = kept.lock();
        if kept.asked.elapsed() >= WATCH_UNTAKEN {
            let why = Status::deadline_exceeded("nobody took a piece for long");
            kept.pieces = stream::iter([Err(why)]).boxed();
            return;
        }
    }
}

// === impl Wholes ===

impl Wholes {
    /// `image`, or one shortly before it that somebody is being sent still: what changed since comes
    /// next. An older one would make followers begin with what was long ago, each with a longer way
    /// to the present, for as long as one of them is slow: that is done only where too many are.
    async fn of(&self, image: &Arc<Image>) -> Arc<Whole> {
        let mut sent = self.0.lock().await;
        sent.retain(|whole| whole.strong_count() > 0);
        if let Some(newest) = sent.last().and_then(Weak::upgrade)
            && (newest.made.elapsed() < WHOLE_IMAGE_AGE || sent.len() >= MAX_WHOLE_IMAGES)
        {
            return newest;
        }
        let change = delta::between(&Image::default(), image);
        let whole = Arc::new(Whole {
            image: image.clone(),
            bytes: change.encode_to_vec().into(),
            made: Instant::now(),
        });
        sent.push(Arc::downgrade(&whole));
        whole
    }
}

// === impl Follower ===

impl Follower {
    async fn next(&mut self) -> Result<wire::Piece, Status> {
        if self.rest.is_empty() {
            self.whole = None;
            self.wait().await?;
        }
        if !self.head.is_empty() {
            return Ok(wire::Piece {
                bytes: std::mem::take(&mut self.head),
                more: !self.rest.is_empty(),
            });
        }
        let bytes = self.rest.split_to(self.rest.len().min(IMAGE_PIECE_BYTES));
        Ok(wire::Piece {
            bytes,
            more: !self.rest.is_empty(),
        })
    }

    /// Returns when there is a delta to send, or a heartbeat is due.
    async fn wait(&mut self) -> Result<(), Status> {
        let first = self.members.is_empty();
        // What was sent may be behind already.
        let behind = first || !Arc::ptr_eq(&self.image.borrow(), &self.sent);
        if !behind && let Ok(changed) = timeout(WATCH_HEARTBEAT, self.image.changed()).await {
            changed.map_err(|_| Status::unavailable("the voter has stopped"))?;
        }
        let members = self.local.member_list();
        let own = self.local.voter.node;
        if !members.iter().any(|member| member.node == own) {
            return Err(Status::unavailable(format!(
                "voter {own} is no member: its image is of the past"
            )));
        }
        let now = self.image.borrow_and_update().clone();
        let moved = members != self.members;
        if !first && !moved && Arc::ptr_eq(&now, &self.sent) {
            return Ok(());
        }
        // Messages of prost that follow each other are one: the members go ahead of what is shared.
        let head = image_wire::Delta {
            members: moved.then(|| image_wire::Members {
                members: members.clone(),
            }),
            ..Default::default()
        };
        self.head = head.encode_to_vec().into();
        self.members = members;
        if first {
            let whole = self.wholes.of(&now).await;
            self.rest = whole.bytes.clone();
            self.sent = whole.image.clone();
            self.whole = Some(whole);
        } else {
            self.rest = delta::between(&self.sent, &now).encode_to_vec().into();
            self.sent = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use env::sim::{NetworkFaults, SimHost, SimNetwork};
    use protocol::NodeId;
    use tokio::sync::Semaphore;
    use tokio::time::sleep;

    use super::*;
    use crate::level::NEWEST_LEVEL;
    use crate::server::{Controller, ControllerSettings};

    fn image(applied: u64) -> Arc<Image> {
        Arc::new(Image {
            applied,
            ..Image::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_takes_for_ever_makes_nobody_begin_with_an_old_image() {
        let wholes = Wholes::default();
        let slow = wholes.of(&image(7)).await;
        tokio::time::advance(WHOLE_IMAGE_AGE).await;
        let fresh = wholes.of(&image(9)).await;
        assert_eq!(fresh.image.applied, 9);
        let shared = wholes.of(&image(10)).await;
        assert!(Arc::ptr_eq(&fresh, &shared));
        assert_eq!(slow.image.applied, 7, "it is sent on to who began with it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_image_is_encoded_once_while_anybody_is_sent_it() {
        let wholes = Wholes::default();
        let standing = image(7);
        let (first, again) = tokio::join!(wholes.of(&standing), wholes.of(&standing));
        assert!(Arc::ptr_eq(&first, &again));
        // One that begins later is sent the same, and then what changed since.
        let later = wholes.of(&image(9)).await;
        assert!(Arc::ptr_eq(&first, &later));
        drop((first, again, later));
        let fresh = wholes.of(&image(9)).await;
        assert_eq!(fresh.image.applied, 9);
        let delta = image_wire::Delta::decode(&*fresh.bytes).unwrap();
        assert_eq!(Image::default().with(delta).unwrap().applied, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn followers_that_take_for_ever_share_a_few_whole_images() {
        let wholes = Wholes::default();
        let mut stalled = Vec::new();
        for n in 0..20 {
            stalled.push(wholes.of(&image(n)).await);
            tokio::time::advance(WHOLE_IMAGE_AGE + Duration::from_secs(1)).await;
        }
        let mut sent: Vec<_> = stalled.iter().map(|whole| whole.image.applied).collect();
        sent.dedup();
        assert_eq!(sent, [0, 1, 2, 3], "the newest of them for all others");
        // As soon as one is let go there is room for another one.
        stalled.remove(1);
        assert_eq!(wholes.of(&image(30)).await.image.applied, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_lets_go_of_what_it_holds() {
        let network = SimNetwork::new(87, NetworkFaults::QUIET);
        let host = SimHost::new(87, &network, "n1", IpAddr::from([10, 0, 0, 1]));
        let settings = ControllerSettings {
            dir: "/data/raft".into(),
            node: NodeId(1),
            voters: [(NodeId(1), "10.0.0.1:9093".to_owned())].into(),
            listener: None,
            cluster: None,
            generation: 1,
            lease: Duration::from_secs(6),
            tls: None,
            newest_level: NEWEST_LEVEL,
        };
        let controller = Controller::start(host.env(), settings).await.unwrap();
        let (wholes, permits) = (Arc::<Wholes>::default(), Arc::new(Semaphore::new(2)));
        let begin = || {
            let permit = permits.clone().try_acquire_owned().unwrap();
            let local = controller.client().local().clone();
            follow(local, wholes.clone(), permit)
        };
        let mut stalled = begin();
        assert!(stalled.next().await.unwrap().unwrap().more);
        let whole = wholes.0.lock().await[0].clone();
        assert!(whole.upgrade().is_some(), "it is in the middle of it");
        let mut read = begin();
        let began = Instant::now();
        while began.elapsed() < WATCH_UNTAKEN - Duration::from_secs(1) {
            read.next().await.unwrap().unwrap();
        }
        assert_eq!(permits.available_permits(), 0);
        assert!(whole.upgrade().is_some());
        while began.elapsed() < 3 * WATCH_UNTAKEN {
            read.next().await.unwrap().unwrap();
        }
        assert_eq!(
            permits.available_permits(),
            1,
            "one is read, the other is not"
        );
        assert!(whole.upgrade().is_none());
        assert!(stalled.next().await.unwrap().is_err());
        assert!(stalled.next().await.is_none());
        drop(read);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(permits.available_permits(), 2);
        controller.shutdown().await.unwrap();
    }
}
