//! A voter's image for those who have none: whole at first, then what changes.
//!
//! ```text
//!   image (watch) ──▶ delta to what was sent last ──pieces──▶ whoever follows
//! ```
//!
//! **Invariant:** nothing queues: the next delta is made when the one before has been taken, so a
//! slow follower skips the images in between.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tokio::sync::{Mutex, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::image::{Image, delta, wire as image_wire};
use crate::limits::{IMAGE_PIECE_BYTES, WATCH_HEARTBEAT, WHOLE_IMAGE_AGE};
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

/// The whole image that is being sent, however many begin to follow within a short time.
#[derive(Default)]
pub(super) struct Wholes(Mutex<Weak<Whole>>);

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
    pieces.boxed()
}

// === impl Wholes ===

impl Wholes {
    /// `image`, or one shortly before it that somebody is being sent still: what changed since comes
    /// next. An older one would make followers begin with what was long ago, each with a longer way
    /// to the present, for as long as one of them is slow.
    async fn of(&self, image: &Arc<Image>) -> Arc<Whole> {
        let mut sent = self.0.lock().await;
        if let Some(whole) = sent.upgrade()
            && whole.made.elapsed() < WHOLE_IMAGE_AGE
        {
            return whole;
        }
        let change = delta::between(&Image::default(), image);
        let whole = Arc::new(Whole {
            image: image.clone(),
            bytes: change.encode_to_vec().into(),
            made: Instant::now(),
        });
        *sent = Arc::downgrade(&whole);
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
    use super::*;

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
}
