//! Uploads what a dead broker epoch left in its log: `tail ─▶ round ─▶ store ─▶ catalog`.
//!
//! The heir holds a claim, takes only entries of the leader epoch at the fence that lie beyond
//! each committed end (R12), and commits with the claim as the owner would have. Whatever it had
//! done when it died, a later claim starts at the trim point that the catalog then has, and ends
//! with the same result.

mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::{LeaderEpoch, TopicPartition};
use tokio::time::Instant;
use wal::{Group, Sequence, Tail, TailReport, WalId};

use crate::Error;
use crate::limits::{ENTRY_OVERHEAD_BYTES, MAX_SLICES_PER_ROUND};
use crate::objects::{Backoff, Patience};
use crate::storage::Storage;
use crate::uploader::{Committer, DurableGroup, KnownEnds, QueuedEntry, Round};
use room::Holding;
pub(crate) use room::RecoveryRoom;
pub use room::RecoveryTurn;

/// A claim on a dead epoch's log, as the controller gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailClaim {
    /// Whose tail.
    pub wal_id: WalId,
    /// Number of the claim.
    pub claim: u32,
    /// First group that is not committed.
    pub trim: Sequence,
    /// Partitions that were led under that log, each with its leader epoch at the fence and its
    /// committed end.
    pub partitions: BTreeMap<TopicPartition, ClaimedPartition>,
}

/// A partition of a [`TailClaim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedPartition {
    /// Its leader epoch at the fence.
    pub leader_epoch: LeaderEpoch,
    /// Up to here its data is committed.
    pub committed_end: i64,
}

/// A recovered tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// How the log ended, and what was read of it.
    pub tail: TailReport,
    /// Entries that were committed.
    pub entries: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl Storage {
    /// Uploads and commits the tail of a claimed log, from its trim point to its end. Needs no log
    /// of its own. Holds in memory what `turn` leaves room for; one group is always taken. Errors
    /// of kind Retry are tried again, with back-off, counted and logged, until nothing has come of
    /// it for `patience`: no group read, no object stored, no word of the catalog. `None`: for ever.
    ///
    /// # Errors
    /// Of kind Retry: the patience is over, and what was committed stands. `Fenced`: another claim
    /// has come. `Corrupt`, `Internal`: stop and alarm; nothing is trimmed beyond what was
    /// committed.
    pub async fn recover_tail(
        &self,
        claim: TailClaim,
        tail: Tail,
        turn: &RecoveryTurn,
        patience: Option<Duration>,
    ) -> Result<Recovered, Error> {
        let shared = self.shared();
        let patience = Arc::new(Patience::new(patience));
        let recovery = Recovery {
            committer: Committer::of_heir(shared, claim.wal_id, claim.claim, Arc::clone(&patience)),
            patience,
            from: claim.trim,
            partitions: claim.partitions,
            upload_bytes: shared.settings.upload_bytes.min(turn.round_bytes()),
            holding: turn.hold(),
            storage: self,
            recovered: (0, 0),
        };
        recovery.run(tail).await
    }

    /// Waits for room in memory to recover one log: what all of them hold stays within
    /// [`recovery_bytes`](crate::StorageSettings::recovery_bytes).
    pub async fn recovery_turn(&self) -> RecoveryTurn {
        self.shared().recovery.turn().await
    }

    /// Bytes of groups that the reader of one dead log may hold ahead.
    pub fn recovery_ahead_bytes(&self) -> usize {
        self.shared().recovery.ahead_bytes()
    }
}

/// What a group takes as long as one of its entries is held: they share its bytes.
fn pinned(group: &Group) -> usize {
    let bytes: usize = group.entries.iter().map(|entry| entry.batches.len()).sum();
    bytes + group.entries.len() * ENTRY_OVERHEAD_BYTES
}

struct Recovery<'a> {
    storage: &'a Storage,
    committer: Committer,
    patience: Arc<Patience>,
    from: Sequence,
    partitions: BTreeMap<TopicPartition, ClaimedPartition>,
    upload_bytes: u64,
    holding: Holding,
    recovered: (u64, u64),
}

impl Recovery<'_> {
    async fn run(mut self, mut tail: Tail) -> Result<Recovered, Error> {
        let mut round: Vec<DurableGroup> = Vec::new();
        let mut bytes = 0;
        let mut named = BTreeSet::new();
        let mut next = self.from;
        while let Some(group) = self.next(&mut tail).await? {
            if group.sequence < next {
                continue;
            }
            let sequence = group.sequence;
            let pinned = pinned(&group);
            let group = self.take(group);
            named.extend(group.slices());
            let full =
                bytes + pinned as u64 > self.upload_bytes || named.len() > MAX_SLICES_PER_ROUND;
            if bytes > 0 && full {
                self.upload(std::mem::take(&mut round), next).await?;
                self.holding.release();
                bytes = 0;
                named = group.slices().collect();
            }
            next = sequence + 1;
            if !group.entries.is_empty() {
                bytes += pinned as u64;
                self.holding.add(pinned);
                round.push(group);
            }
        }
        let end = tail.end().max(next);
        if end > self.from {
            self.upload(round, end).await?;
        }
        let (entries, bytes) = self.recovered;
        Ok(Recovered {
            tail: tail.report(),
            entries,
            bytes,
        })
    }

    /// The next group, as far as the patience goes.
    async fn next(&self, tail: &mut Tail) -> Result<Option<Group>, Error> {
        let shared = self.storage.shared();
        let mut backoff = Backoff::new(&shared.env);
        loop {
            match tail.next().await {
                Err(error) if error.kind() == wal::ErrorKind::Retry && !self.patience.is_over() => {
                    shared.metrics.background_failures.inc();
                    tracing::warn!(%error, "tail of a log not read yet, trying again");
                    backoff.wait().await;
                }
                Err(error) => return Err(error.into()),
                Ok(group) => {
                    self.patience.progress();
                    return Ok(group);
                }
            }
        }
    }

    /// Only what the fenced epoch wrote beyond the committed end (R12).
    fn take(&self, group: Group) -> DurableGroup {
        let wanted = |entry: &wal::Entry| {
            self.partitions
                .get(&entry.topic_partition)
                .is_some_and(|partition| {
                    let fenced = entry.leader_epoch == partition.leader_epoch
                        || env::planted!("foreign-epochs-taken");
                    let beyond = entry.last_offset >= partition.committed_end
                        || env::planted!("committed-taken-again");
                    fenced && beyond
                })
        };
        let mut group = group;
        if env::planted!("last-entry-dropped") && group.entries.len() > 1 {
            group.entries.pop();
        }
        let entries = group.entries.into_iter().filter(wanted);
        let held = |entry| QueuedEntry {
            entry,
            partition: None,
            _memory: None,
        };
        DurableGroup {
            sequence: group.sequence,
            at: Instant::now(),
            entries: entries.map(held).collect(),
        }
    }

    async fn upload(&mut self, groups: Vec<DurableGroup>, to: Sequence) -> Result<(), Error> {
        let round = Round {
            from: self.from,
            to,
            groups,
            checkpoint: false,
        };
        let known: KnownEnds = self
            .partitions
            .iter()
            .map(|(tp, partition)| (*tp, partition.committed_end))
            .collect();
        let finished = self.committer.upload_known(&round, known).await?;
        for slice in finished.parts.iter().flat_map(|part| &part.slices) {
            if let Some(hooks) = &self.storage.shared().hooks {
                hooks.finished(slice);
            }
            if let Some(partition) = self.partitions.get_mut(&slice.topic_partition) {
                partition.committed_end = slice.end_offset;
            }
        }
        self.recovered.0 += round
            .groups
            .iter()
            .map(|g| g.entries.len() as u64)
            .sum::<u64>();
        self.recovered.1 += round.bytes();
        self.from = to;
        Ok(())
    }
}
