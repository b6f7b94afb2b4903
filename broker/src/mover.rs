//! Gives partitions away as the image wants: those with a target, and all of them while this broker
//! drains.
//!
//! ```text
//!   image ─▶ wanted ─▶ hand over (upload, hold, upload) ─▶ Release ─▶ closed here, opened there
//! ```
//!
//! **Invariant:** a partition takes appends again only when no command that releases it at this
//! leader epoch can still be done. A release that was refused may have an attempt on its way: the
//! partition is then released to this very broker, at a higher leader epoch.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Command, CommandId, Error, ErrorKind, Image, MoveCommand, Refusal, Release, Response,
};
use protocol::NodeId;
use storage::{HandOverBounds, Held};
use tokio::time::{Instant, sleep};

use crate::broker::{Broker, Epoch};
use crate::limits::{MOVE_HELD, MOVE_SERVING, MOVES_AT_ONCE, RETRY_FIRST, RETRY_MOST};
use plan::{Key, Plan, plan};

pub(crate) use plan::at_changes;

/// Runs until the broker is gone, or the epoch can do nothing any more.
pub(crate) async fn follow(broker: Arc<Broker>, epoch: Arc<Epoch>) {
    let mut images = broker.watch_image();
    let mut assigned = broker.watch_assigned();
    let mover = Mover { broker, epoch };
    let mut pause = Pause::default();
    let mut seen: Option<Arc<Image>> = None;
    // Behind which the next batch begins.
    let mut after: Option<Key> = None;
    // Something that the image gives to this broker was not open yet when it was looked at.
    let mut waiting = false;
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        assigned.mark_unchanged();
        let same = seen.as_ref().is_some_and(|s| plan::is_same(s, &image));
        if !same {
            waiting = false;
            let storage = &mover.epoch.storage;
            let plan = plan(&image, mover.epoch.id, |tp, epoch| {
                let open = storage.partition(tp);
                let open = open.is_some_and(|open| open.leader_epoch() == epoch);
                waiting |= !open;
                open
            });
            seen = Some(image);
            if plan.is_empty() {
                pause.over();
            } else {
                let (batch, last) = plan::turn(&plan, after, MOVES_AT_ONCE);
                let begun = batch.len();
                let gone = match mover.give_away(batch).await {
                    None => return,
                    Some(gone) => gone,
                };
                after = last;
                pause.after(begun, gone);
                seen = None;
            }
        }
        if pause.is_on() {
            sleep(pause.length).await;
            seen = None;
        } else if seen.is_some() {
            tokio::select! {
                biased;
                changed = images.changed() => if changed.is_err() { return },
                // What the image gives to this broker is open only a little later.
                changed = assigned.changed(), if waiting => {
                    if changed.is_err() {
                        return;
                    }
                    seen = None;
                }
            }
        }
    }
}

/// How long moves that failed wait for their next try.
#[derive(Default)]
struct Pause {
    length: Duration,
}

impl Pause {
    fn is_on(&self) -> bool {
        self.length > Duration::ZERO
    }

    fn over(&mut self) {
        self.length = Duration::ZERO;
    }

    /// Of so many that `begun`, so many have `gone`.
    fn after(&mut self, begun: usize, gone: usize) {
        if gone == begun {
            self.over();
        } else if gone > 0 {
            // Store and controllers answer: the others have their turn soon.
            self.length = RETRY_FIRST;
        } else {
            self.length = (2 * self.length).clamp(RETRY_FIRST, RETRY_MOST);
        }
    }
}

struct Mover {
    broker: Arc<Broker>,
    epoch: Arc<Epoch>,
}

impl Mover {
    /// Gives a batch away; how many went, `None` when nothing of this epoch can go on.
    async fn give_away(&self, batch: Plan) -> Option<usize> {
        let wanted: Vec<_> = batch.keys().copied().collect();
        let bounds = HandOverBounds {
            serving: MOVE_SERVING,
            held: MOVE_HELD,
        };
        let began = Instant::now();
        // What stopped the storage stops the epoch: its supervisor knows.
        let held = self.epoch.storage.hand_over(&wanted, bounds).await.ok()?;
        let metrics = &self.broker.metrics;
        if held.is_empty() {
            metrics.moves_failed.inc_by(wanted.len() as u64);
            tracing::warn!(
                partitions = wanted.len(),
                "moves put off: not all was uploaded in time"
            );
            return Some(0);
        }
        let to = |held: &Held| batch[&(held.topic_partition, held.leader_epoch)];
        let releases = held.iter().map(|one| release(one, to(one))).collect();
        let answers = self.release(releases).await?;
        let (mut gone, mut kept) = (0, Vec::new());
        for (one, answer) in held.iter().zip(answers) {
            match answer {
                Ok(_) => {
                    gone += 1;
                    let (tp, epoch) = (one.topic_partition, one.leader_epoch);
                    self.epoch.storage.released(tp, epoch);
                    // Its groups are somebody else's from this moment on.
                    let version = (tp.topic, epoch);
                    self.broker.groups.released(tp.partition, version);
                }
                // Somebody else's by now, or deleted: the image says so, and it is closed by it.
                Err(Refusal::StaleLeader { .. } | Refusal::UnknownPartition { .. }) => {}
                Err(refusal) => {
                    let partition = one.topic_partition;
                    tracing::warn!(%partition, %refusal, "a move is put off");
                    kept.push(*one);
                }
            }
        }
        metrics.moves.inc_by(gone as u64);
        metrics.moves_failed.inc_by((wanted.len() - gone) as u64);
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(partitions = gone, took_ms, "given away");
        if !kept.is_empty() {
            self.take_back(&kept).await?;
        }
        Some(gone)
    }

    /// Makes sure that no earlier attempt to release these is ever done: by a higher leader epoch,
    /// at which they open here again.
    async fn take_back(&self, kept: &[Held]) -> Option<()> {
        let own = self.broker.config.node_id;
        let releases = kept.iter().map(|one| release(one, Some(own))).collect();
        for (one, answer) in kept.iter().zip(self.release(releases).await?) {
            if let Err(refusal) = answer {
                let partition = one.topic_partition;
                tracing::warn!(%partition, %refusal, "not taken back");
            }
        }
        Some(())
    }

    /// Asks until the outcome of each is known; `None` when this epoch is no longer accepted.
    async fn release(&self, releases: Vec<Release>) -> Option<Vec<Result<Response, Refusal>>> {
        let id: CommandId = self.broker.controller.command_id();
        let count = releases.len();
        let command = Command::Move(MoveCommand::Release {
            broker: self.epoch.id,
            releases,
        });
        loop {
            let asked = self.broker.controller.submit_as(id, command.clone());
            let error = match asked.await {
                Ok(Response::Many(answers)) if answers.len() == count => return Some(answers),
                Ok(other) => {
                    tracing::error!(?other, "no answer to a release");
                    return None;
                }
                Err(error) => error,
            };
            match (error.kind(), error.refusal()) {
                (ErrorKind::Fenced, _) => return None,
                // Refused whole.
                (_, Some(refusal)) => return Some(vec![Err(refusal.clone()); count]),
                (ErrorKind::Retry, None) => {}
                (ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal, None) => {
                    if matches!(error, Error::Stopped { .. }) {
                        return None;
                    }
                    tracing::error!(%error, "a release without outcome");
                }
            }
            self.broker.metrics.background_failures.inc();
            tracing::warn!(%error, "the outcome of a release is not known yet: asking again");
            sleep(RETRY_FIRST).await;
        }
    }
}

fn release(held: &Held, to: Option<NodeId>) -> Release {
    Release {
        topic_partition: held.topic_partition,
        leader_epoch: held.leader_epoch,
        end: held.end,
        to,
    }
}
