//! Recovers the logs that dead broker epochs left: fence, claim, read, commit, close.
//!
//! The same path serves a restart and, later, another broker's death. The epochs are fenced by the
//! registration that came before.
//!
//! **Invariant:** an error of kind Retry never counts against a log: it is tried for ever, visibly.
//! Only corruption that a second reading finds too sets a log aside; its partitions then stay
//! offline, and an alarm says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use controller::{
    Claimed, Client, Command, ErrorKind, Response, WalBackend as Backend, WalImage, WalPhase,
};
use env::Env;
use protocol::{BrokerEpoch, NodeId};
use storage::{ClaimedPartition, Storage, TailClaim};
use wal::{Tail, WalId};

use crate::config::Config;
use crate::node::{NodeError, Pause, Store, wal_dir, wal_prefix};

/// Why recovery did not come to an end.
pub(crate) enum TakeoverError {
    /// This broker is fenced itself.
    Fenced,
    /// The node cannot start: a wrong volume, most likely.
    Fatal(NodeError),
}

/// What recovery needs.
pub(crate) struct Takeover<'a> {
    pub(crate) env: &'a Env,
    pub(crate) config: &'a Config,
    pub(crate) client: &'a Client,
    pub(crate) store: &'a Store,
    pub(crate) storage: &'a Storage,
    pub(crate) broker: BrokerEpoch,
    pub(crate) metrics: &'a wal::Metrics,
}

impl Takeover<'_> {
    /// Recovers every log that this broker may recover.
    pub(crate) async fn run(&self) -> Result<(), TakeoverError> {
        let image = Arc::clone(&self.client.image().borrow());
        let live: BTreeSet<NodeId> = image.live_brokers().map(|(_, one)| one.node).collect();
        for (id, wal) in image.wals.iter() {
            // Whoever is back recovers its own logs.
            let others = wal.node != self.config.node_id && live.contains(&wal.node);
            if wal.broker == self.broker || others || !self.is_mine(*id, wal) {
                continue;
            }
            self.recover(*id, wal).await?;
        }
        self.clean().await;
        Ok(())
    }

    fn is_mine(&self, id: WalId, wal: &WalImage) -> bool {
        if let Some(reason) = &wal.quarantine {
            tracing::error!(wal = %id, reason, "a log is set aside: its partitions stay offline");
            return false;
        }
        let dead = match wal.phase {
            WalPhase::Fenced | WalPhase::Claimed { .. } => true,
            WalPhase::Active | WalPhase::Closed { .. } => false,
        };
        // A disk is with its node only; the object store is everywhere.
        dead && (wal.node == self.config.node_id || wal.backend == Backend::Object)
    }

    async fn recover(&self, id: WalId, wal: &WalImage) -> Result<(), TakeoverError> {
        if wal.backend == Backend::Memory {
            tracing::warn!(wal = %id, "a log in memory is gone: what was not uploaded is lost");
            let reason = "a log in memory does not outlive its process".to_owned();
            return self
                .submit(Command::AbandonWal { wal: id, reason })
                .await
                .map(drop);
        }
        let mut pause = Pause::default();
        let mut doubted = false;
        loop {
            let claim = Command::ClaimWal {
                wal: id,
                heir: self.broker,
            };
            let Response::Claimed(claimed) = self.submit(claim).await? else {
                let what = format!("no claim on log {id}");
                return Err(TakeoverError::Fatal(NodeError::Failed(what)));
            };
            match self.read(id, wal, &claimed).await {
                Ok(()) => return Ok(()),
                // One wrong bit on the way from a disk that is sound would set the log aside.
                Err(error) if !doubted && matches!(judged(&error), Judgement::Corrupt) => {
                    doubted = true;
                    self.metrics.rereads.inc();
                    tracing::error!(wal = %id, %error, "a log looks damaged: it is read once more");
                }
                Err(error) => self.judge(id, &claimed, error, &mut pause).await?,
            }
        }
    }

    /// Reads the tail, commits it, and closes the log.
    async fn read(&self, id: WalId, wal: &WalImage, claimed: &Claimed) -> Result<(), NodeError> {
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
        let recovered = self.storage.recover_tail(claim, tail).await?;
        let report = recovered.tail;
        let torn = report.torn_bytes();
        self.metrics.torn_bytes.inc_by(torn);
        tracing::info!(
            wal = %id,
            groups = report.groups,
            bytes = report.bytes,
            torn,
            "recovered a log"
        );
        let close = Command::CloseWal {
            wal: id,
            claim: Some(claimed.claim),
            broker: self.broker,
            end: report.end,
        };
        self.client.submit(close).await?;
        Ok(())
    }

    async fn tail(&self, id: WalId, wal: &WalImage, claimed: &Claimed) -> Result<Tail, NodeError> {
        let tail = match wal.backend {
            Backend::Disk => {
                wal::disk::recover(self.env, &wal_dir(self.config), id, claimed.trim).await?
            }
            Backend::Object | Backend::Memory => {
                wal::object::recover(
                    self.env,
                    Arc::clone(&self.store.store),
                    wal_prefix(&self.store.keys(self.client), wal.node),
                    id,
                    claimed.trim,
                    wal::object::ObjectSettings::STANDARD,
                )
                .await?
            }
        };
        Ok(tail)
    }

    /// What to do about a recovery that failed: go on for ever, give way, set the log aside, or
    /// refuse to start.
    async fn judge(
        &self,
        id: WalId,
        claimed: &Claimed,
        error: NodeError,
        pause: &mut Pause,
    ) -> Result<(), TakeoverError> {
        match judged(&error) {
            Judgement::Retry => {
                tracing::warn!(wal = %id, %error, "recovery goes on");
                tokio::time::sleep(pause.next()).await;
                Ok(())
            }
            Judgement::Fenced => Err(TakeoverError::Fenced),
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
                Err(TakeoverError::Fatal(NodeError::Failed(told)))
            }
            Judgement::Fatal => Err(TakeoverError::Fatal(error)),
        }
    }

    async fn submit(&self, command: Command) -> Result<Response, TakeoverError> {
        let mut pause = Pause::default();
        loop {
            match self.client.submit(command.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => match error.kind() {
                    ErrorKind::Retry => {
                        tracing::warn!(%error, "recovery waits for the controller");
                        tokio::time::sleep(pause.next()).await;
                    }
                    ErrorKind::Fenced => return Err(TakeoverError::Fenced),
                    ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal => {
                        return Err(TakeoverError::Fatal(error.into()));
                    }
                },
            }
        }
    }

    /// Removes the files of closed logs. What fails is tried at the next start.
    async fn clean(&self) {
        let keep: BTreeSet<WalId> = self.client.image().borrow().wals.keys().copied().collect();
        let removed = wal::disk::remove_others(self.env, &wal_dir(self.config), keep).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "files of closed logs are left");
        }
    }
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
        NodeError::Storage(error) => match error.kind() {
            storage::ErrorKind::Retry => Judgement::Retry,
            storage::ErrorKind::Corrupt => Judgement::Corrupt,
            storage::ErrorKind::Fenced => Judgement::Fenced,
            storage::ErrorKind::Invalid | storage::ErrorKind::Internal => Judgement::Fatal,
        },
        NodeError::Controller(error) => match error.kind() {
            ErrorKind::Retry => Judgement::Retry,
            ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Internal => Judgement::Fatal,
            ErrorKind::Fenced => Judgement::Fenced,
        },
        NodeError::DirectoryInUse { .. }
        | NodeError::Directory { .. }
        | NodeError::Bind { .. }
        | NodeError::Failed(_) => Judgement::Fatal,
    }
}
