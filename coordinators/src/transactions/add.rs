//! AddPartitionsToTxn (24), AddOffsetsToTxn (25), and the verification of what is produced.
//!
//! Versions up to 3 come from clients, before they produce. Version 4 and later come from brokers:
//! to ask whether a partition was added (verify-only, for TV1), or to add it (TV2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;

use super::TransactionState;
use super::coordinator::{Coordinator, Then};
use super::effect::{Answer, ConnectionId, Effect, RequestId};
use super::limits::{MAX_PARTITIONS, MAX_TOPIC_BYTES};
use super::metadata::Metadata;
use super::types::{Partition, Producer, TransactionVersion};

/// One transaction of AddPartitionsToTxn, or AddOffsetsToTxn with
/// [`Partition::of_offsets`].
#[derive(Clone, Copy, Debug)]
pub struct AddPartitions<'a> {
    /// The transactional id.
    pub transactional_id: &'a str,
    /// The producer that says so.
    pub producer: Producer,
    /// What to add.
    pub partitions: &'a BTreeSet<Partition>,
    /// [How the client behaves](TransactionVersion::of_add_partitions).
    pub client: TransactionVersion,
    /// The client's connection; none if a broker asks, or if it is not known.
    pub connection: Option<ConnectionId>,
}

impl Coordinator {
    /// Adds partitions to the open transaction, or begins one with them.
    pub fn add_partitions(
        &mut self,
        now_ms: i64,
        request: RequestId,
        add: AddPartitions<'_>,
    ) -> Vec<Effect> {
        let effect = match self.decide_add(now_ms, add) {
            Ok(Some(next)) => {
                let id = Arc::from(add.transactional_id);
                self.propose(&id, Some(next), Then::Add(request))
            }
            Ok(None) => answer(request, Ok(())),
            Err(code) => answer(request, Err(code)),
        };
        vec![effect]
    }

    /// The transition, or none if the partitions are in the transaction already.
    fn decide_add(
        &mut self,
        now_ms: i64,
        add: AddPartitions<'_>,
    ) -> Result<Option<Metadata>, ErrorCode> {
        let bind = self.settings.bind_connections && !add.client.bumps_epochs();
        let entry = self.known(add.transactional_id)?;
        // First, since whoever got a new producer id with the end of its transaction has it
        // before the record that says so is written.
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let current = entry.current.as_ref().expect("idle ids are in the log");
        is_current(current, add.producer)?;
        let open = current.state == TransactionState::Ongoing;
        if open && add.partitions.is_subset(&current.partitions) {
            return Ok(None);
        }
        if add
            .partitions
            .iter()
            .any(|it| it.topic.len() > MAX_TOPIC_BYTES)
        {
            return Err(ErrorCode::InvalidRequest);
        }
        let next = current.joined(add.partitions, add.client, now_ms);
        if next.partitions.len() > MAX_PARTITIONS {
            return Err(ErrorCode::UnknownServerError);
        }
        if bind && entry.is_outdated(add.producer, add.connection) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(Some(next))
    }

    /// Whether partitions were added to the open transaction of a producer: NONE, or
    /// TRANSACTION_ABORTABLE, for each. Nothing is changed.
    ///
    /// A record on its way is not waited for: a partition is in the transaction from the moment
    /// its record is durable until all markers are written.
    pub fn verify(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        partitions: &BTreeSet<Partition>,
    ) -> BTreeMap<Partition, ErrorCode> {
        let verified = self.verified(transactional_id, producer);
        let code = |partition: &Partition| match &verified {
            Ok(added) if added.contains(partition) => ErrorCode::None,
            Ok(_) => ErrorCode::TransactionAbortable,
            Err(code) => *code,
        };
        partitions
            .iter()
            .map(|partition| (partition.clone(), code(partition)))
            .collect()
    }

    fn verified(
        &mut self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&BTreeSet<Partition>, ErrorCode> {
        let entry = self.known(transactional_id)?;
        let current = entry
            .current
            .as_ref()
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        is_current(current, producer)?;
        if current.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(&current.partitions)
    }
}

/// Whether a producer is the one that may act.
pub(super) fn is_current(current: &Metadata, producer: Producer) -> Result<(), ErrorCode> {
    if current.producer.id != producer.id {
        Err(ErrorCode::InvalidProducerIdMapping)
    } else if current.producer.epoch != producer.epoch {
        Err(ErrorCode::ProducerFenced)
    } else {
        Ok(())
    }
}

fn answer(request: RequestId, outcome: Result<(), ErrorCode>) -> Effect {
    let answer = Answer::AddPartitions(outcome);
    Effect::Answer { request, answer }
}
