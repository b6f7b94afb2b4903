//! One log: claimed, read, committed, closed.

use std::sync::Arc;

use controller::{
    Claim, Claimed, Command, ErrorKind, Refusal, Response, WalBackend as Backend, WalImage,
};
use storage::{ClaimedPartition, RecoveryTurn, TailClaim};
use tokio::time::{Instant, sleep};
use wal::{Tail, WalId};

use super::Takeover;
use crate::limits::{HEIR_PATIENCE, RETRY_FIRST, RETRY_MOST};
use crate::node::{NodeError, Pause, home, wal_dir, wal_prefix};

/// Why a log was not recovered here.
pub(super) enum Ended {
    /// It is another broker's to recover, or nobody's any more.
    NotOurs(String),
    /// This broker is fenced.
    Fenced,
    /// It is damaged, and set aside.
    Damaged(NodeError),
    /// A fault here, or a request that will not do.
    Failed(NodeError),
}

// === impl Takeover ===

impl Takeover {
    /// Recovers a dead log, however long the store or the controller is away.
    pub(super) async fn recover(&self, id: WalId, wal: &WalImage) -> Result<(), Ended> {
        if wal.backend == Backend::Memory {
            tracing::warn!(wal = %id, "a log in memory is gone: what was not uploaded is lost");
            let reason = "a log in memory does not outlive its process".to_owned();
            let abandon = Command::AbandonWal { wal: id, reason };
            return self.submit(abandon).await.map(drop);
        }
        let mut pause = Pause::default();
        let mut doubted = false;
        let mut began = Instant::now();
        let own = wal.node == self.config.node_id;
        loop {
            // Who waits for the store holds no turn: whatever else is this broker's to recover comes
            // as far, and loses its patience as soon.
            let answers = self.store_answers(id, wal, began).await;
            let turn = match answers {
                true => match self.turn(id, wal, &mut began).await? {
                    Some(turn) => Some(turn),
                    None => continue,
                },
                false => None,
            };
            // Who dies under a claim is held against the log: not for a store that is away.
            let heir = self.broker;
            let claim = self.submit(Command::ClaimWal { wal: id, heir }).await?;
            let Response::Claimed(claimed) = claim else {
                let what = format!("no claim on log {id}");
                return Err(Ended::Failed(NodeError::Failed(what)));
            };
            let Some(turn) = turn else {
                self.give_up(id, claimed.claim, Ok(())).await?;
                continue;
            };
            match self.read(id, wal, &claimed, &turn).await {
                Ok(()) => return Ok(()),
                // One wrong bit on the way from a disk that is sound would set the log aside.
                Err(error) if !doubted && matches!(judged(&error), Judgement::Corrupt) => {
                    doubted = true;
                    self.metrics.rereads.inc();
                    tracing::error!(wal = %id, %error, "a log looks damaged: it is read once more");
                }
                Err(error) => {
                    drop(turn);
                    let judged = self.judge_failed(id, &claimed, error, &mut pause).await;
                    match judged {
                        Ok(()) if own || began.elapsed() < HEIR_PATIENCE => {}
                        Err(ended) if own => return Err(ended),
                        judged => self.give_up(id, claimed.claim, judged).await?,
                    }
                }
            }
        }
    }

    /// Waits for room to read a log; `None` when the store has gone away meanwhile. What others take
    /// their time for is not held against this one: `began` moves with it.
    async fn turn(
        &self,
        id: WalId,
        wal: &WalImage,
        began: &mut Instant,
    ) -> Result<Option<RecoveryTurn>, Ended> {
        let asked = Instant::now();
        let turn = self.storage.recovery_turn().await;
        let waited = asked.elapsed();
        *began += waited;
        if waited < RETRY_FIRST {
            return Ok(Some(turn));
        }
        if self.client.image().borrow().heir(id) != Some(self.broker) {
            let why = "it became another broker's meanwhile";
            return Err(Ended::NotOurs(why.to_owned()));
        }
        Ok(self.looked(wal).await.is_ok().then_some(turn))
    }

    /// Whether the cluster's own store answers here, for a log that lies in it.
    async fn looked(&self, wal: &WalImage) -> Result<(), String> {
        if wal.backend != Backend::Object {
            return Ok(());
        }
        home::check(&self.env, &self.client, self.config.node_id, &self.store).await
    }

    /// Waits until the cluster's own store answers here; false when another broker may fare better.
    async fn store_answers(&self, id: WalId, wal: &WalImage, began: Instant) -> bool {
        let (node, mut pause) = (self.config.node_id, Pause::default());
        loop {
            let Err(why) = self.looked(wal).await else {
                return true;
            };
            self.counts.retries.inc();
            tracing::warn!(wal = %id, why, "recovery waits for the store");
            if wal.node != node && began.elapsed() >= HEIR_PATIENCE {
                return false;
            }
            sleep(pause.next()).await;
        }
    }

    /// Lets another broker try what this one cannot do, or has not done for long. A log that is set
    /// aside, or is another's by now, is not ours to give up.
    async fn give_up(
        &self,
        id: WalId,
        claim: Claim,
        judged: Result<(), Ended>,
    ) -> Result<(), Ended> {
        let why = match judged {
            Ok(()) => "it has come to nothing for long".to_owned(),
            Err(Ended::Failed(error)) => error.to_string(),
            Err(ended @ (Ended::Fenced | Ended::Damaged(_) | Ended::NotOurs(_))) => {
                return Err(ended);
            }
        };
        let heir = self.broker;
        let given_up = Command::YieldWal {
            wal: id,
            claim,
            heir,
        };
        self.counts.failures.inc();
        match self.client.submit(given_up).await {
            Ok(_) => {
                tracing::warn!(wal = %id, why, "another broker is to recover this log");
                Err(Ended::NotOurs(why))
            }
            // The level is too low, or the controller is away: this one goes on.
            Err(error) => {
                tracing::warn!(wal = %id, why, %error, "recovery goes on here");
                sleep(RETRY_MOST).await;
                Ok(())
            }
        }
    }

    /// Reads the tail, commits it, and closes the log.
    async fn read(
        &self,
        id: WalId,
        wal: &WalImage,
        claimed: &Claimed,
        turn: &RecoveryTurn,
    ) -> Result<(), NodeError> {
        let began = Instant::now();
        let tail = self.tail(id, wal, claimed).await?;
        let ends = claimed.partitions.iter().map(|partition| {
            let (leader_epoch, committed_end) = (partition.leader_epoch, partition.committed_end);
            (
                partition.topic_partition,
                ClaimedPartition {
                    leader_epoch,
                    committed_end,
                },
            )
        });
        let claim = TailClaim {
            wal_id: id,
            claim: claimed.claim.0,
            trim: claimed.trim,
            partitions: ends.collect(),
        };
        // Of its own log a node knows that others are not better off: its data, perhaps its disk.
        let patience = (wal.node != self.config.node_id).then_some(HEIR_PATIENCE);
        let recovered = self
            .storage
            .recover_tail(claim, tail, turn, patience)
            .await?;
        let report = recovered.tail;
        let torn = report.torn_bytes();
        self.metrics.torn_bytes.inc_by(torn);
        let committed = began.elapsed();
        let close = Command::CloseWal {
            wal: id,
            claim: Some(claimed.claim),
            broker: self.broker,
            end: report.end,
        };
        self.client.submit(close).await?;
        self.counts.seconds.observe(began.elapsed().as_secs_f64());
        tracing::info!(
            wal = %id,
            groups = report.groups,
            bytes = report.bytes,
            torn,
            ?committed,
            closed = ?began.elapsed(),
            "recovered a log"
        );
        Ok(())
    }

    async fn tail(&self, id: WalId, wal: &WalImage, claimed: &Claimed) -> Result<Tail, NodeError> {
        let tail = match wal.backend {
            Backend::Disk => {
                wal::disk::recover(&self.env, &wal_dir(&self.config), id, claimed.trim).await?
            }
            Backend::Object | Backend::Memory => {
                let settings = wal::object::ObjectSettings {
                    read_ahead_bytes: self.storage.recovery_ahead_bytes(),
                    ..wal::object::ObjectSettings::STANDARD
                };
                wal::object::recover(
                    &self.env,
                    Arc::clone(&self.store.store),
                    wal_prefix(&self.store.keys(&self.client), wal.node),
                    id,
                    claimed.trim,
                    settings,
                )
                .await?
            }
        };
        Ok(tail)
    }

    /// What to do about a recovery that failed: go on for ever, give way, set the log aside, or end.
    async fn judge_failed(
        &self,
        id: WalId,
        claimed: &Claimed,
        error: NodeError,
        pause: &mut Pause,
    ) -> Result<(), Ended> {
        match judged(&error) {
            Judgement::Retry => {
                self.counts.retries.inc();
                tracing::warn!(wal = %id, %error, "recovery goes on");
                sleep(pause.next()).await;
                Ok(())
            }
            Judgement::Fenced => Err(fenced(&error)),
            Judgement::Corrupt => {
                tracing::error!(wal = %id, %error, "a log is damaged: it is set aside");
                let report = Command::ReportWalCorrupt {
                    wal: id,
                    claim: claimed.claim,
                    heir: self.broker,
                    reason: error.to_string(),
                };
                self.submit(report).await?;
                let told = format!(
                    "{error}. Nothing that only this log holds is served. Put its files back \
                     whole, from a copy of the volume, and say `headwater wal unquarantine --wal \
                     {id}`; or give up what it holds: `headwater wal abandon --wal {id}`"
                );
                Err(Ended::Damaged(NodeError::Failed(told)))
            }
            Judgement::Fatal => Err(Ended::Failed(error)),
        }
    }

    async fn submit(&self, command: Command) -> Result<Response, Ended> {
        let mut pause = Pause::default();
        loop {
            let error = match self.client.submit(command.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.kind() {
                // Held by another heir that lives.
                ErrorKind::Retry if error.refusal().is_some() => {
                    return Err(Ended::NotOurs(error.to_string()));
                }
                ErrorKind::Retry => {
                    tracing::warn!(%error, "recovery waits for the controller");
                    sleep(pause.next()).await;
                }
                ErrorKind::Corrupt if error.refusal().is_none() => {
                    self.counts.retries.inc();
                    tracing::error!(%error, "the controller's answer makes no sense: asked again");
                    sleep(pause.next()).await;
                }
                ErrorKind::Fenced => return Err(fenced(&error.into())),
                ErrorKind::Invalid if is_quarantined(&error) => {
                    return Err(Ended::NotOurs(error.to_string()));
                }
                ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal => {
                    return Err(Ended::Failed(error.into()));
                }
            }
        }
    }
}

fn is_quarantined(error: &controller::Error) -> bool {
    matches!(error.refusal(), Some(Refusal::Quarantined { .. }))
}

/// Of kind Fenced: the claim is another's now, or this broker is fenced altogether.
fn fenced(error: &NodeError) -> Ended {
    if let NodeError::Controller(error) = error
        && let Some(Refusal::StaleBroker { .. }) = error.refusal()
    {
        return Ended::Fenced;
    }
    Ended::NotOurs(error.to_string())
}

enum Judgement {
    Retry,
    Fenced,
    Corrupt,
    Fatal,
}

fn judged(error: &NodeError) -> Judgement {
    match error {
        // The lock of the data directory is ours: it is an earlier life of this process that has
        // the log still, and is about to let go.
        NodeError::Wal(wal::Error::Locked { .. }) => Judgement::Retry,
        NodeError::Wal(error) => match error.kind() {
            wal::ErrorKind::Retry => Judgement::Retry,
            wal::ErrorKind::Corrupt => Judgement::Corrupt,
            wal::ErrorKind::Fenced => Judgement::Fenced,
            wal::ErrorKind::Invalid | wal::ErrorKind::Internal => Judgement::Fatal,
        },
        // Other bytes under a key that the heir had made up itself: the next try makes up others.
        NodeError::Storage(storage::Error::Foreign { .. }) => Judgement::Retry,
        NodeError::Storage(error) => match error.kind() {
            storage::ErrorKind::Retry => Judgement::Retry,
            storage::ErrorKind::Corrupt => Judgement::Corrupt,
            storage::ErrorKind::Fenced => Judgement::Fenced,
            storage::ErrorKind::Invalid | storage::ErrorKind::Internal => Judgement::Fatal,
        },
        NodeError::Controller(error) => match error.kind() {
            ErrorKind::Retry => Judgement::Retry,
            // The state's own word: the log is short of what its owner had reported.
            ErrorKind::Corrupt if error.refusal().is_some() => Judgement::Corrupt,
            // An answer that makes no sense says nothing of the log.
            ErrorKind::Corrupt => Judgement::Retry,
            ErrorKind::Invalid | ErrorKind::Internal => Judgement::Fatal,
            ErrorKind::Fenced => Judgement::Fenced,
        },
        NodeError::DirectoryInUse { .. }
        | NodeError::Directory { .. }
        | NodeError::Bind { .. }
        | NodeError::Failed(_) => Judgement::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use controller::Error as Told;
    use storage::CatalogError;

    use super::*;

    fn kind(error: impl Into<NodeError>) -> &'static str {
        match judged(&error.into()) {
            Judgement::Retry => "retry",
            Judgement::Fenced => "fenced",
            Judgement::Corrupt => "corrupt",
            Judgement::Fatal => "fatal",
        }
    }

    #[test]
    fn only_damage_and_the_states_own_word_set_a_log_aside() {
        let reason = || "why".to_owned();
        let damaged = wal::Error::Corrupt {
            wal_id: WalId(uuid::Uuid::nil()),
            sequence: 3,
            place: reason(),
            reason: reason(),
        };
        assert_eq!(kind(damaged.clone()), "corrupt");
        let source = Arc::new(damaged);
        assert_eq!(kind(storage::Error::Log { source }), "corrupt");
        let short = Refusal::Corrupt { reason: reason() };
        assert_eq!(kind(Told::from(short)), "corrupt");
        let gap = CatalogError::Corrupt(reason());
        assert_eq!(kind(storage::Error::Catalog(gap)), "corrupt");
        // An answer that does not decode, a catalog in motion, somebody else's bytes.
        let malformed = Told::Corrupt {
            what: reason(),
            reason: reason(),
        };
        assert_eq!(kind(malformed), "retry");
        let moved = CatalogError::Conflict(reason());
        assert_eq!(kind(storage::Error::Catalog(moved)), "retry");
        let key = reason();
        assert_eq!(kind(storage::Error::Foreign { key }), "retry");
        let moved = Refusal::Conflict { reason: reason() };
        assert_eq!(kind(Told::from(moved)), "retry");
    }
}
