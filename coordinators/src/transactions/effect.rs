//! What goes in besides requests, and what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ErrorCode;

use super::types::{Decision, Partition, Producer, TransactionVersion};

/// A request, numbered by whoever brings it; its answer has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A connection of a client to this broker. A later one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A record on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// Markers on their way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Something to do. Effects are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append this record to the partition of `__transaction_state`, and say
    /// [what became of it](super::Coordinator::appended).
    Append {
        /// Its number.
        append: AppendId,
        /// The key.
        key: Bytes,
        /// The value; none is a tombstone.
        value: Option<Bytes>,
    },
    /// Answer a request.
    Answer {
        /// Which one.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// There are markers to write: ask [for them](super::Coordinator::markers).
    MarkersDue,
    /// A later coordinator has written markers: this machine has answered everybody and does
    /// nothing any more. Whether the partition is still led here is to be asked anew.
    Resigned,
}

/// Answers that may have to wait for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To InitProducerId.
    InitProducerId(Result<Producer, ErrorCode>),
    /// To AddPartitionsToTxn or AddOffsetsToTxn: one outcome for all partitions.
    AddPartitions(Result<(), ErrorCode>),
    /// To EndTxn, with the producer to go on as from version 5 on.
    EndTxn(Result<Producer, ErrorCode>),
}

/// What became of a record. There is no "perhaps": whoever does not know waits until it is known
/// (the client may be told REQUEST_TIMED_OUT meanwhile), or loses the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable, and so is everything before it.
    Written,
    /// It is not in the log and never will be.
    Refused(Refusal),
    /// Nobody here can know: the partition moved, or its log failed. The machine resigns, and
    /// whoever opens the partition next reads what became of it.
    Lost,
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For now: memory or queue full, store away.
    Unavailable,
    /// It is larger than the log takes.
    TooLarge,
}

impl Refusal {
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::Unavailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}

/// The markers of one transaction for some partitions that one broker leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The producer id, and the epoch that is the partition's from then on.
    pub producer: Producer,
    /// The outcome.
    pub decision: Decision,
    /// The epoch of this coordinator, which goes into the marker (R14).
    pub coordinator_epoch: i32,
    /// Whether each transaction has an epoch: a partition then refuses a marker at or below the
    /// epoch it knows (KIP-890), save one sent again.
    pub version: TransactionVersion,
    /// Where.
    pub partitions: BTreeSet<Partition>,
}

/// One WriteTxnMarkers request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerBatch<N> {
    /// Its number, for [what became of it](super::Coordinator::markers_answered).
    pub batch: BatchId,
    /// The broker.
    pub node: N,
    /// What to write.
    pub markers: Vec<Marker>,
}

/// Who leads a partition, by the image at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader<N> {
    /// This broker.
    Node(N),
    /// Nobody at the moment.
    Unknown,
    /// There is no such partition any more: its marker is nobody's to write.
    Deleted,
}
