//! InitProducerId (22) with a transactional id: who may act from now on.
//!
//! A producer without a past (`resume` is none) raises the epoch and so fences whoever had the id
//! before. One that names its producer id and epoch (KIP-360) goes on after an error, unless
//! another has come since. A transaction that is open is aborted first: CONCURRENT_TRANSACTIONS,
//! come back.

use std::sync::Arc;

use protocol::ErrorCode;

use super::TransactionState;
use super::coordinator::{Coordinator, Then, World, next_id};
use super::effect::{Answer, Effect, RequestId};
use super::limits::{EXHAUSTED_EPOCH, MAX_ID_BYTES, MAX_IDS};
use super::metadata::Metadata;
use super::types::Producer;

/// InitProducerId with a transactional id.
#[derive(Clone, Copy, Debug)]
pub struct InitProducerId<'a> {
    /// The transactional id.
    pub transactional_id: &'a str,
    /// How long a transaction may take, milliseconds.
    pub timeout_ms: i32,
    /// Who the producer was, if it goes on: [`InitProducerId::resume`].
    pub resume: Option<Producer>,
}

impl InitProducerId<'_> {
    /// The producer to go on as, from the request's fields: both are -1 when there is none.
    ///
    /// # Errors
    /// INVALID_REQUEST if only one of them is.
    pub fn resume(producer_id: i64, epoch: i16) -> Result<Option<Producer>, ErrorCode> {
        match (producer_id, epoch) {
            (-1, -1) => Ok(None),
            (-1, _) | (_, -1) => Err(ErrorCode::InvalidRequest),
            (id, epoch) => Ok(Some(Producer::new(id, epoch))),
        }
    }
}

impl Coordinator {
    /// Gives out a producer.
    pub fn init_producer_id(
        &mut self,
        world: &mut World<'_>,
        request: RequestId,
        init: InitProducerId<'_>,
    ) -> Vec<Effect> {
        let effect = match self.decide_init(world, request, init) {
            Ok((next, then)) => self.propose(&Arc::from(init.transactional_id), Some(next), then),
            Err(code) => Effect::Answer {
                request,
                answer: Answer::InitProducerId(Err(code)),
            },
        };
        vec![effect]
    }

    fn decide_init(
        &self,
        world: &mut World<'_>,
        request: RequestId,
        init: InitProducerId<'_>,
    ) -> Result<(Metadata, Then), ErrorCode> {
        let id = init.transactional_id;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(ErrorCode::InvalidRequest);
        }
        if !(1..=self.settings.max_timeout_ms).contains(&init.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        self.serving()?;
        let Some(entry) = self.entries.get(id) else {
            if self.entries.len() >= MAX_IDS {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            let fresh = world
                .ids
                .take()
                .ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            let next = Metadata::new(fresh, init.timeout_ms, world.now_ms);
            return Ok((next, Then::Init(request)));
        };
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let current = entry.current.as_ref().expect("idle ids are in the log");
        let standing = Standing::of(init.resume, current)?;
        match current.state {
            TransactionState::Empty
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => {
                Ok((anew(world, init, current, standing)?, Then::Init(request)))
            }
            // One who has been answered already, or was overtaken, has no say in a transaction
            // that is open under a later epoch.
            TransactionState::Ongoing if standing == Standing::SentAgain => {
                Err(ErrorCode::ProducerFenced)
            }
            TransactionState::Ongoing => {
                Ok((self.fencing(current, world)?, Then::Fence(Some(request))))
            }
            TransactionState::PrepareCommit
            | TransactionState::PrepareAbort
            | TransactionState::Dead
            | TransactionState::PrepareEpochFence => {
                unreachable!("these are busy, or never the state of record")
            }
        }
    }
}

/// How a request stands to the producer that may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A new producer.
    Newcomer,
    /// The producer itself.
    Current,
    /// The producer as it was before its last bump: it has not heard the answer.
    SentAgain,
}

impl Standing {
    fn of(resume: Option<Producer>, current: &Metadata) -> Result<Self, ErrorCode> {
        let Some(resume) = resume else {
            return Ok(Self::Newcomer);
        };
        if resume == current.producer {
            return Ok(Self::Current);
        }
        // The answer may have been a new producer id.
        let rotated = current.producer.epoch.0 == 0
            && current.previous_id == Some(resume.id)
            && resume.epoch.0 == EXHAUSTED_EPOCH;
        let known_id = resume.id == current.producer.id || rotated;
        if known_id && current.last_epoch == Some(resume.epoch) {
            return Ok(Self::SentAgain);
        }
        Err(ErrorCode::ProducerFenced)
    }
}

fn anew(
    world: &mut World<'_>,
    init: InitProducerId<'_>,
    current: &Metadata,
    standing: Standing,
) -> Result<Metadata, ErrorCode> {
    let producer = match standing {
        Standing::SentAgain => current.producer,
        Standing::Newcomer | Standing::Current => match next_id(current, world)? {
            Some(fresh) => Producer::new(fresh.0, 0),
            None => current.producer.bumped(),
        },
    };
    let last_epoch = match standing {
        Standing::Newcomer => None,
        Standing::Current => Some(current.producer.epoch),
        Standing::SentAgain => current.last_epoch,
    };
    Ok(current.initialized(producer, last_epoch, init.timeout_ms, world.now_ms))
}
