//! EndTxn (26): commit or abort.
//!
//! ```text
//! state of the id       shared epoch (v0-4)       epoch per transaction (v5, KIP-890)
//!                       producer is current       producer is current  before the last bump
//! Empty                 INVALID_TXN_STATE         abort: new epoch     PRODUCER_FENCED
//! Ongoing               decided                   decided, new epoch   PRODUCER_FENCED
//! being completed       CONCURRENT_TRANSACTIONS   CONCURRENT_TRANSACTIONS (both)
//! CompleteCommit        commit: done              abort: new epoch     commit: done
//! CompleteAbort         abort: done               abort: new epoch     abort: done
//! (otherwise)           INVALID_TXN_STATE         INVALID_TXN_STATE    INVALID_TXN_STATE
//! ```
//!
//! With a shared epoch a request sent again cannot be told from one for the next transaction: see
//! `adr/0003` for how far that is closed.

use std::sync::Arc;

use protocol::ErrorCode;

use super::TransactionState;
use super::add::is_current;
use super::coordinator::{Coordinator, Entry, Then, World, next_id};
use super::effect::{Answer, ConnectionId, Effect, RequestId};
use super::limits::EXHAUSTED_EPOCH;
use super::metadata::Metadata;
use super::types::{Decision, Producer, TransactionVersion};

/// EndTxn.
#[derive(Clone, Copy, Debug)]
pub struct EndTxn<'a> {
    /// The transactional id.
    pub transactional_id: &'a str,
    /// The producer that says so.
    pub producer: Producer,
    /// How its transaction is to end.
    pub decision: Decision,
    /// [How the client behaves](TransactionVersion::of_end_txn).
    pub client: TransactionVersion,
    /// The client's connection, if known.
    pub connection: Option<ConnectionId>,
}

/// What to do about a request.
enum Verdict {
    /// Decide, and write it down.
    Decide(Metadata),
    /// It is a request sent again, and done.
    Done(Producer),
}

impl Coordinator {
    /// Decides how a transaction ends. The answer is given when the decision is durable; markers
    /// follow.
    pub fn end_txn(
        &mut self,
        world: &mut World<'_>,
        request: RequestId,
        end: EndTxn<'_>,
    ) -> Vec<Effect> {
        let answer = |outcome| Effect::Answer {
            request,
            answer: Answer::EndTxn(outcome),
        };
        let bind = self.settings.bind_connections;
        let verdict = self.known(end.transactional_id).and_then(|entry| {
            if end.client.bumps_epochs() {
                own_epoch(entry, world, end)
            } else {
                shared_epoch(entry, world.now_ms, end, bind)
            }
        });
        let effect = match verdict {
            Ok(Verdict::Decide(next)) => {
                let id = Arc::from(end.transactional_id);
                self.propose(&id, Some(next), Then::End(request))
            }
            Ok(Verdict::Done(producer)) => answer(Ok(producer)),
            Err(code) => answer(Err(code)),
        };
        vec![effect]
    }
}

/// For clients whose transactions share one epoch.
fn shared_epoch(
    entry: &mut Entry,
    now_ms: i64,
    end: EndTxn<'_>,
    bind: bool,
) -> Result<Verdict, ErrorCode> {
    let busy = entry.is_busy();
    let current = entry
        .current
        .as_ref()
        .ok_or(ErrorCode::InvalidProducerIdMapping)?;
    is_current(current, end.producer)?;
    if busy {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let verdict = match (current.state, end.decision) {
        (TransactionState::Ongoing, decision) => {
            Verdict::Decide(current.decided(decision, TransactionVersion::Tv0, None, now_ms))
        }
        (TransactionState::CompleteCommit, Decision::Commit)
        | (TransactionState::CompleteAbort, Decision::Abort) => Verdict::Done(current.producer),
        _ => return Err(ErrorCode::InvalidTxnState),
    };
    if bind && entry.is_outdated(end.producer, end.connection) {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    Ok(verdict)
}

/// For clients with an epoch for each transaction.
fn own_epoch(entry: &Entry, world: &mut World<'_>, end: EndTxn<'_>) -> Result<Verdict, ErrorCode> {
    // First, since whoever got a new producer id has it before its record is written.
    if entry.is_busy() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let current = entry.current.as_ref().expect("idle ids are in the log");
    let sent_again = is_sent_again(current, end.producer);
    if !sent_again {
        is_current(current, end.producer)?;
    }
    match (current.state, end.decision) {
        (TransactionState::CompleteCommit, Decision::Commit)
        | (TransactionState::CompleteAbort, Decision::Abort)
            if sent_again =>
        {
            Ok(Verdict::Done(current.producer))
        }
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, _) if sent_again => {
            Err(ErrorCode::InvalidTxnState)
        }
        (_, _) if sent_again => Err(ErrorCode::ProducerFenced),
        // What was produced may be unknown here: an abort is always in order.
        (TransactionState::Ongoing, _) | (_, Decision::Abort) => {
            let next_id = next_id(current, world)?;
            let next = current.decided(end.decision, end.client, next_id, world.now_ms);
            Ok(Verdict::Decide(next))
        }
        (_, Decision::Commit) => Err(ErrorCode::InvalidTxnState),
    }
}

/// Whether a producer is the one before the last bump, and that bump was the end of its own
/// transaction: the same number may have been given to another since (`adr/0003`).
fn is_sent_again(current: &Metadata, producer: Producer) -> bool {
    let rotated = current.producer.epoch.0 == 0
        && current.previous_id == Some(producer.id)
        && producer.epoch.0 == EXHAUSTED_EPOCH;
    current.client.bumps_epochs()
        && current.last_epoch == Some(producer.epoch)
        && (producer.id == current.producer.id || rotated)
}
