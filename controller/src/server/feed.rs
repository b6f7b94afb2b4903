//! A voter's image for those who have none: whole at first, then what changes.
//!
//! ```text
//!   image (watch) ──▶ delta to what was sent last ──pieces──▶ whoever follows
//! ```
//!
//! **Invariant:** nothing queues: the next delta is made when the one before has been taken, so a
//! slow follower skips the images in between.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tonic::Status;

use crate::image::{Image, delta, wire as image_wire};
use crate::limits::{IMAGE_PIECE_BYTES, WATCH_HEARTBEAT};
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
    /// Of the delta under way.
    rest: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// Feeds one follower until it goes away.
pub(super) fn follow(local: Arc<Local>, permit: OwnedSemaphorePermit) -> Watching {
    let follower = Follower {
        image: local.shared.image(),
        local,
        sent: Arc::default(),
        members: Vec::new(),
        rest: Bytes::new(),
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

// === impl Follower ===

impl Follower {
    async fn next(&mut self) -> Result<wire::Piece, Status> {
        if self.rest.is_empty() {
            self.wait().await?;
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
        if !first && let Ok(changed) = timeout(WATCH_HEARTBEAT, self.image.changed()).await {
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
        let mut change = delta::between(&self.sent, &now);
        change.members = moved.then(|| image_wire::Members {
            members: members.clone(),
        });
        self.rest = change.encode_to_vec().into();
        (self.sent, self.members) = (now, members);
        Ok(())
    }
}
