//! What is known of one transactional id, and each step from one state to the next.
//!
//! A step gives the metadata as it is to be; it becomes true when its record is durable.

use std::collections::BTreeSet;

use protocol::{ProducerEpoch, ProducerId};

use super::TransactionState;
use super::types::{Decision, Partition, Producer, TransactionVersion};

/// What is known of one transactional id: one record of `__transaction_state`, and the last
/// epoch, which is not in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The producer that may act now.
    pub producer: Producer,
    /// The producer id before the last transition, if there was one.
    pub previous_id: Option<ProducerId>,
    /// The producer id that takes over when the markers are written, because the epochs of this
    /// one are used up.
    pub next_id: Option<ProducerId>,
    /// The epoch that the producer had before its last bump: a request that still has it is one
    /// sent again. `None` if that producer was fenced.
    pub last_epoch: Option<ProducerEpoch>,
    /// How long a transaction may take, milliseconds.
    pub timeout_ms: i32,
    /// Where the id stands.
    pub state: TransactionState,
    /// The partitions of the transaction; none once all markers are written.
    pub partitions: BTreeSet<Partition>,
    /// When the transaction began, milliseconds since the Unix epoch; -1 if none has yet.
    pub start_ms: i64,
    /// When the last transition was asked for, milliseconds since the Unix epoch.
    pub updated_ms: i64,
    /// How the client that asked for it behaves.
    pub client: TransactionVersion,
}

impl Metadata {
    /// The first producer of a new transactional id.
    pub(super) fn new(id: ProducerId, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer {
                id,
                epoch: ProducerEpoch(0),
            },
            previous_id: None,
            next_id: None,
            last_epoch: None,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            client: TransactionVersion::Tv0,
        }
    }

    /// The outcome that is being carried out, if one is.
    pub fn decision(&self) -> Option<Decision> {
        match self.state {
            TransactionState::PrepareCommit => Some(Decision::Commit),
            TransactionState::PrepareAbort => Some(Decision::Abort),
            TransactionState::Empty
            | TransactionState::Ongoing
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort
            | TransactionState::Dead
            | TransactionState::PrepareEpochFence => None,
        }
    }

    /// When the transaction is to be aborted, if there is one. A time-out of `i32::MAX` means
    /// never (KIP-939).
    pub fn deadline_ms(&self) -> Option<i64> {
        (self.state == TransactionState::Ongoing && self.timeout_ms != i32::MAX)
            .then(|| self.start_ms.saturating_add(self.timeout_ms.into()))
    }

    fn step(&self, state: TransactionState, now_ms: i64) -> Self {
        assert!(
            state.may_follow(self.state),
            "{} does not follow {}",
            state.name(),
            self.state.name()
        );
        Self {
            previous_id: Some(self.producer.id),
            state,
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// A producer begins anew under `producer`. `last_epoch` is what a request sent again has.
    pub(super) fn initialized(
        &self,
        producer: Producer,
        last_epoch: Option<ProducerEpoch>,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Self {
        Self {
            producer,
            last_epoch,
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: -1,
            // What is answered once more must be so a third time, too.
            previous_id: if producer == self.producer {
                self.previous_id
            } else {
                Some(self.producer.id)
            },
            ..self.step(TransactionState::Empty, now_ms)
        }
    }

    /// Partitions join the transaction, or begin one.
    pub(super) fn joined(
        &self,
        partitions: &BTreeSet<Partition>,
        client: TransactionVersion,
        now_ms: i64,
    ) -> Self {
        let begins = self.state != TransactionState::Ongoing;
        Self {
            partitions: self.partitions.union(partitions).cloned().collect(),
            start_ms: if begins { now_ms } else { self.start_ms },
            client,
            ..self.step(TransactionState::Ongoing, now_ms)
        }
    }

    /// The outcome is decided. With epochs of their own (TV2) the next transaction's begins here:
    /// markers carry it, and nothing that was sent before can follow them. `next_id` is the
    /// producer id to go on with when the epochs of this one are used up.
    pub(super) fn decided(
        &self,
        decision: Decision,
        client: TransactionVersion,
        next_id: Option<ProducerId>,
        now_ms: i64,
    ) -> Self {
        let (producer, last_epoch) = if client.bumps_epochs() {
            (self.producer.bumped(), Some(self.producer.epoch))
        } else {
            (self.producer, self.last_epoch)
        };
        let begins = self.state != TransactionState::Ongoing;
        Self {
            producer,
            last_epoch,
            next_id,
            start_ms: if begins { now_ms } else { self.start_ms },
            client,
            ..self.step(prepared(decision), now_ms)
        }
    }

    /// Aborted under an epoch that its producer does not know, who is fenced thereby. For
    /// clients whose transactions share one epoch (TV0, TV1).
    pub(super) fn fenced(&self, now_ms: i64) -> Self {
        Self {
            producer: self.producer.bumped(),
            last_epoch: None,
            client: TransactionVersion::Tv0,
            ..self.step(TransactionState::PrepareAbort, now_ms)
        }
    }

    /// Every partition has its marker.
    pub(super) fn completed(&self, now_ms: i64) -> Self {
        let state = match self.decision().expect("only what is decided completes") {
            Decision::Commit => TransactionState::CompleteCommit,
            Decision::Abort => TransactionState::CompleteAbort,
        };
        let producer = match self.next_id {
            Some(id) => Producer {
                id,
                epoch: ProducerEpoch(0),
            },
            None => self.producer,
        };
        Self {
            producer,
            next_id: None,
            partitions: BTreeSet::new(),
            ..self.step(state, now_ms)
        }
    }

    /// Who acts once the markers are written: what a client with epochs of its transactions'
    /// own is told when the outcome is decided.
    pub(super) fn successor(&self) -> Producer {
        match self.next_id {
            Some(id) => Producer {
                id,
                epoch: ProducerEpoch(0),
            },
            None => self.producer,
        }
    }
}

fn prepared(decision: Decision) -> TransactionState {
    match decision {
        Decision::Commit => TransactionState::PrepareCommit,
        Decision::Abort => TransactionState::PrepareAbort,
    }
}
