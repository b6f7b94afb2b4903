//! Logs: `Active → Fenced → Claimed(heir, n) → Closed(end)`.

use protocol::{BrokerEpoch, NodeId};
use wal::{Sequence, WalId};

use super::{Answer, Effects, State};
use crate::command::{Claimed, ClaimedPartition, Response, WalBackend};
use crate::error::Refusal;
use crate::limits::{ABANDON_OFFSET_GAP, MAX_CLOSED_WALS, MAX_NAME_BYTES, MAX_UNSWEPT_WALS};
use crate::types::{Claim, CommandId, SliceOutcome};

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalPhase {
    /// Its owner writes it.
    Active,
    /// Its owner is fenced; nobody recovers it yet.
    Fenced,
    /// An heir recovers it.
    Claimed {
        /// The heir's epoch.
        heir: BrokerEpoch,
        /// Its claim.
        claim: Claim,
    },
    /// Everything in it is committed, or given up.
    Closed {
        /// One past its last group.
        end: Sequence,
        /// True when it was given up.
        abandoned: bool,
        /// Orders the closed ones.
        number: u64,
    },
}

/// One broker epoch's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wal {
    pub(crate) id: WalId,
    pub(crate) broker: BrokerEpoch,
    pub(crate) node: NodeId,
    pub(crate) backend: WalBackend,
    pub(crate) phase: WalPhase,
    /// First group that is not committed (R4: it moves here only, and only by `CommitUpload`).
    pub(crate) trim: Sequence,
    /// Claims made so far.
    pub(crate) claims: u32,
    /// The last round: a repetition of it is answered however late it comes.
    pub(crate) last_commit: Option<LastCommit>,
    /// Why it may not be claimed.
    pub(crate) quarantine: Option<String>,
    /// How often an heir gave it up for another one to try.
    pub(crate) yields: u32,
    /// Heirs that died where it stands now, the last ones.
    pub(crate) deaths: Vec<Death>,
    /// When it was closed, by the proposer's clock; 0 while it is open.
    pub(crate) closed_ms: i64,
    /// True once nothing of it is left in the store but its seal.
    pub(crate) swept: bool,
}

/// An heir's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// Its node.
    pub(crate) node: NodeId,
    /// Its epoch.
    pub(crate) epoch: BrokerEpoch,
}

/// A round that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastCommit {
    pub(crate) id: CommandId,
    pub(crate) outcomes: Box<[SliceOutcome]>,
}

// === impl WalPhase ===

impl WalPhase {
    /// True for `Closed`.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

// === impl Wal ===

impl Wal {
    /// The end of a closed log that may have left groups in the store. One that was given up is
    /// left as it is: what lies there was never committed, and is its operator's to judge.
    pub(crate) fn unswept_end(&self) -> Option<Sequence> {
        match self.phase {
            WalPhase::Closed {
                end,
                abandoned: false,
                ..
            } if self.backend == WalBackend::Object && !self.swept => Some(end),
            WalPhase::Closed { .. }
            | WalPhase::Active
            | WalPhase::Fenced
            | WalPhase::Claimed { .. } => None,
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn open_wal(
        &mut self,
        epoch: BrokerEpoch,
        id: WalId,
        backend: WalBackend,
        effects: &mut Effects,
    ) -> Answer {
        let broker = self.live_broker(epoch)?;
        let node = broker.register.node;
        if let Some(standing) = broker.wal.filter(|_| !env::planted!("second-log-accepted")) {
            let reopened = self.wals.get(&standing).is_some_and(|wal| {
                wal.id == id && wal.backend == backend && wal.phase == WalPhase::Active
            });
            if reopened {
                return Ok(Response::Done);
            }
            let reason = format!("broker epoch {epoch} has a log already");
            return Err(Refusal::StaleWal { wal: id, reason });
        }
        if self.wals.contains_key(&id) {
            return Err(Refusal::invalid(format!("log {id} exists")));
        }
        self.wals.insert(
            id,
            Wal {
                id,
                broker: epoch,
                node,
                backend,
                phase: WalPhase::Active,
                trim: 0,
                claims: 0,
                last_commit: None,
                quarantine: None,
                yields: 0,
                deaths: Vec::new(),
                closed_ms: 0,
                swept: false,
            },
        );
        self.brokers.get_mut(&epoch).expect("it lives").wal = Some(id);
        effects.brokers = true;
        self.assign_waiting(effects);
        Ok(Response::Done)
    }

    pub(super) fn claim_wal(
        &mut self,
        id: WalId,
        heir: BrokerEpoch,
        effects: &mut Effects,
    ) -> Answer {
        let heir_node = self.live_broker(heir)?.register.node;
        let wal = self.wal(id)?;
        if let Some(reason) = &wal.quarantine {
            return Err(Refusal::Quarantined {
                wal: id,
                reason: reason.clone(),
            });
        }
        match wal.phase {
            WalPhase::Active => return Err(Refusal::conflict(format!("log {id} is active"))),
            WalPhase::Closed { .. } => return Err(closed(id)),
            WalPhase::Claimed { heir: holder, .. }
                if holder != heir
                    && self.live_broker(holder).is_ok()
                    && !env::planted!("claim-taken-from-living") =>
            {
                let reason = format!("log {id} is claimed by broker epoch {holder}");
                return Err(Refusal::NotReady { reason });
            }
            WalPhase::Fenced | WalPhase::Claimed { .. } => {}
        }
        match wal.backend {
            WalBackend::Memory => {
                return Err(Refusal::invalid(format!(
                    "log {id} was in memory: abandon it"
                )));
            }
            WalBackend::Disk if wal.node != heir_node => {
                return Err(Refusal::invalid(format!(
                    "log {id} is on node {}",
                    wal.node
                )));
            }
            WalBackend::Disk | WalBackend::Object => {}
        }
        let partitions = self.partitions_of(id);
        let wal = self.wals.get_mut(&id).expect("found above");
        wal.claims += 1;
        let claim = Claim(wal.claims);
        wal.phase = WalPhase::Claimed { heir, claim };
        effects.brokers = true;
        let (backend, trim) = (wal.backend, wal.trim);
        Ok(Response::Claimed(Claimed {
            claim,
            backend,
            trim,
            partitions,
        }))
    }

    pub(super) fn close_wal(
        &mut self,
        id: WalId,
        (claim, broker): (Option<Claim>, BrokerEpoch),
        end: Sequence,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Answer {
        if let WalPhase::Closed {
            end: stands,
            abandoned: false,
            ..
        } = self.wal(id)?.phase
            && stands == end
        {
            return Ok(Response::Done);
        }
        self.check_writer(id, claim, broker)?;
        if claim.is_some() && self.level() >= 2 {
            self.check_reported(id)?;
        }
        let trim = self.wals[&id].trim;
        if trim != end && !env::planted!("closed-before-trimmed") {
            return Err(Refusal::conflict(format!(
                "log {id} is trimmed to {trim}, not {end}"
            )));
        }
        self.close(id, (end, false), now_ms, effects);
        Ok(Response::Done)
    }

    /// What its owner reported as durable must have been found in the log: an heir that looks in
    /// another store than its owner's, or into one that lost objects, finds less.
    fn check_reported(&self, id: WalId) -> Result<(), Refusal> {
        let waiting = self.topics.iter().flat_map(|topic| topic.iter());
        let mut short = waiting.filter(|(_, partition)| {
            partition.awaits == Some(id)
                && partition.committed_end < partition.reported
                && !env::planted!("reported-not-checked")
        });
        let Some((tp, partition)) = short.next() else {
            return Ok(());
        };
        let (end, reported) = (partition.committed_end, partition.reported);
        Err(Refusal::Corrupt {
            reason: format!(
                "log {id} ends before what its owner had made durable: {tp} was reported up to \
                 {reported}, and is recovered up to {end}; does every broker use the same object \
                 store?"
            ),
        })
    }

    pub(super) fn abandon_wal(&mut self, id: WalId, now_ms: i64, effects: &mut Effects) -> Answer {
        let wal = self.wal(id)?;
        let end = wal.trim;
        match wal.phase {
            WalPhase::Active => {
                return Err(Refusal::conflict(format!(
                    "log {id} is active: fence its broker"
                )));
            }
            WalPhase::Closed {
                abandoned: true, ..
            } => return Ok(Response::Done),
            WalPhase::Closed {
                abandoned: false, ..
            } => return Err(closed(id)),
            WalPhase::Fenced | WalPhase::Claimed { .. } => {}
        }
        for topic in self.topics.iter_mut() {
            for partition in topic.partitions.iter_mut().filter(|p| p.awaits == Some(id)) {
                partition.skip_unknown(ABANDON_OFFSET_GAP);
            }
        }
        self.close(id, (end, true), now_ms, effects);
        Ok(Response::Done)
    }

    pub(super) fn report_wal_corrupt(
        &mut self,
        id: WalId,
        claim: Claim,
        heir: BrokerEpoch,
        reason: &str,
        effects: &mut Effects,
    ) -> Answer {
        self.check_writer(id, Some(claim), heir)?;
        let wal = self.wals.get_mut(&id).expect("checked");
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(MAX_NAME_BYTES));
        wal.quarantine = Some(reason);
        wal.phase = WalPhase::Fenced;
        effects.brokers = true;
        Ok(Response::Done)
    }

    /// Only who holds it can; what it has committed stands.
    pub(super) fn yield_wal(
        &mut self,
        id: WalId,
        claim: Claim,
        heir: BrokerEpoch,
        effects: &mut Effects,
    ) -> Answer {
        self.check_writer(id, Some(claim), heir)?;
        let wal = self.wals.get_mut(&id).expect("checked");
        wal.phase = WalPhase::Fenced;
        wal.yields = wal.yields.wrapping_add(1);
        effects.brokers = true;
        Ok(Response::Done)
    }

    pub(super) fn unquarantine_wal(&mut self, id: WalId, effects: &mut Effects) -> Answer {
        self.wal(id)?;
        let wal = self.wals.get_mut(&id).expect("found");
        wal.quarantine = None;
        wal.deaths.clear();
        effects.brokers = true;
        Ok(Response::Done)
    }

    /// Only here does a closed log leave the list of those whose objects are looked for.
    pub(super) fn record_swept(&mut self, id: WalId, effects: &mut Effects) -> Answer {
        // One that was forgotten is swept as far as anybody will ever say.
        let Some(wal) = self.wals.get_mut(&id) else {
            return Ok(Response::Done);
        };
        if !wal.phase.is_closed() {
            return Err(Refusal::conflict(format!("log {id} is open")));
        }
        wal.swept = true;
        effects.brokers = true;
        self.forget_closed_wals();
        Ok(Response::Done)
    }

    pub(super) fn wal(&self, id: WalId) -> Result<&Wal, Refusal> {
        // One that was forgotten had been closed: to its writer it is the same.
        self.wals.get(&id).ok_or_else(|| closed(id))
    }

    /// That `broker` may commit what is in the log: as its owner, or as its heir under `claim`.
    pub(super) fn check_writer(
        &self,
        id: WalId,
        claim: Option<Claim>,
        broker: BrokerEpoch,
    ) -> Result<(), Refusal> {
        let wal = self.wal(id)?;
        if env::planted!("fence-not-checked") {
            return Ok(());
        }
        self.live_broker(broker)?;
        let stale = |reason: String| Err(Refusal::StaleWal { wal: id, reason });
        match (wal.phase, claim) {
            (WalPhase::Active, None) if wal.broker == broker => Ok(()),
            (WalPhase::Claimed { heir, claim: held }, Some(claim))
                if (heir == broker && held == claim) || env::planted!("stale-claim-accepted") =>
            {
                Ok(())
            }
            (WalPhase::Closed { .. }, _) => Err(closed(id)),
            (phase, claim) => stale(format!("{phase:?} does not fit {claim:?} of {broker}")),
        }
    }

    /// The partitions that wait for a log, as its heir needs to know them (R12).
    fn partitions_of(&self, id: WalId) -> Vec<ClaimedPartition> {
        let mut partitions = Vec::new();
        for topic in self.topics.iter() {
            for (tp, partition) in topic.iter() {
                if partition.awaits == Some(id) {
                    partitions.push(ClaimedPartition {
                        topic_partition: tp,
                        leader_epoch: partition.leader_epoch,
                        committed_end: partition.committed_end,
                    });
                }
            }
        }
        partitions
    }

    /// R13: only here do the partitions of a log become free to open.
    fn close(
        &mut self,
        id: WalId,
        (end, abandoned): (Sequence, bool),
        now_ms: i64,
        effects: &mut Effects,
    ) {
        self.wals_closed += 1;
        let wal = self.wals.get_mut(&id).expect("the caller found it");
        wal.phase = WalPhase::Closed {
            end,
            abandoned,
            number: self.wals_closed,
        };
        wal.quarantine = None;
        wal.deaths.clear();
        wal.last_commit = None;
        wal.closed_ms = now_ms;
        let owner = wal.broker;
        for topic in self.topics.iter_mut() {
            let mut touched = false;
            for partition in &mut topic.partitions {
                if partition.awaits == Some(id) || partition.leader == Some(owner) {
                    partition.awaits = None;
                    partition.leader = None;
                    touched = true;
                }
            }
            if touched {
                effects.topics.insert(topic.id);
            }
        }
        effects.brokers = true;
        self.forget_broker(owner);
        self.forget_closed_wals();
        self.assign_waiting(effects);
    }

    fn forget_closed_wals(&mut self) {
        let closed = |wal: &Wal| match wal.phase {
            WalPhase::Closed { number, .. } => Some(number),
            WalPhase::Active | WalPhase::Fenced | WalPhase::Claimed { .. } => None,
        };
        let Some(keep_after) = self.wals_closed.checked_sub(MAX_CLOSED_WALS as u64) else {
            return;
        };
        let keep_unswept_after = self.wals_closed.saturating_sub(MAX_UNSWEPT_WALS as u64);
        let brokers = &self.brokers;
        self.wals.retain(|_, wal| {
            let after = match wal.unswept_end() {
                Some(_) => keep_unswept_after,
                None => keep_after,
            };
            let kept = closed(wal).is_none_or(|number| number > after);
            // A live owner's entry points here still.
            kept || brokers.contains_key(&wal.broker)
        });
    }
}

fn closed(id: WalId) -> Refusal {
    Refusal::StaleWal {
        wal: id,
        reason: "closed".to_owned(),
    }
}
