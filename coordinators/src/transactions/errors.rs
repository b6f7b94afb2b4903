//! Kafka's codes by version of the request that is answered.
//!
//! The machine speaks the newest versions' codes. Older ones of the same request know fewer.

use protocol::ErrorCode;

/// A request that tells PRODUCER_FENCED from INVALID_PRODUCER_EPOCH in its later versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionApi {
    /// 22.
    InitProducerId,
    /// 24.
    AddPartitionsToTxn,
    /// 25.
    AddOffsetsToTxn,
    /// 26.
    EndTxn,
}

impl TransactionApi {
    /// The code that a client of `version` is told. Before KIP-588, a fenced producer was told
    /// INVALID_PRODUCER_EPOCH.
    pub fn told(self, version: i16, code: ErrorCode) -> ErrorCode {
        let knows_fenced = version
            >= match self {
                Self::InitProducerId => 4,
                Self::AddPartitionsToTxn | Self::AddOffsetsToTxn | Self::EndTxn => 2,
            };
        match code {
            ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
            code => code,
        }
    }
}

/// What a request that writes in a transaction asks of the coordinator first (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Whether the partition was added; the client knows no TRANSACTION_ABORTABLE.
    Old,
    /// Whether the partition was added.
    Verify,
    /// The partition is added if it was not (TV2).
    Add,
}

impl Verification {
    /// Of a Produce request with a transactional id.
    pub const fn of_produce(version: i16) -> Self {
        match version {
            ..=10 => Self::Old,
            11 => Self::Verify,
            _ => Self::Add,
        }
    }

    /// Of a TxnOffsetCommit request.
    pub const fn of_offset_commit(version: i16) -> Self {
        match version {
            ..=3 => Self::Old,
            4 => Self::Verify,
            _ => Self::Add,
        }
    }

    /// The code that the producer is told for what the coordinator answered.
    pub const fn told(self, code: ErrorCode) -> ErrorCode {
        match (self, code) {
            // On the way of data, a fenced producer learns of it by its epoch.
            (_, ErrorCode::ProducerFenced) => ErrorCode::InvalidProducerEpoch,
            (Self::Old, ErrorCode::TransactionAbortable) => ErrorCode::InvalidTxnState,
            (_, code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorCode::{InvalidProducerEpoch, InvalidTxnState, ProducerFenced, TransactionAbortable};

    #[test]
    fn old_clients_are_told_by_their_epoch_that_they_are_fenced() {
        for (api, first) in [
            (TransactionApi::InitProducerId, 4),
            (TransactionApi::AddPartitionsToTxn, 2),
            (TransactionApi::AddOffsetsToTxn, 2),
            (TransactionApi::EndTxn, 2),
        ] {
            assert_eq!(api.told(first - 1, ProducerFenced), InvalidProducerEpoch);
            assert_eq!(api.told(first, ProducerFenced), ProducerFenced);
            assert_eq!(api.told(0, InvalidTxnState), InvalidTxnState);
        }
    }

    #[test]
    fn verification_goes_by_what_the_client_knows() {
        assert_eq!(Verification::of_produce(10), Verification::Old);
        assert_eq!(Verification::of_produce(11), Verification::Verify);
        assert_eq!(Verification::of_produce(12), Verification::Add);
        assert_eq!(Verification::of_offset_commit(3), Verification::Old);
        assert_eq!(Verification::of_offset_commit(4), Verification::Verify);
        assert_eq!(Verification::of_offset_commit(5), Verification::Add);
        assert_eq!(
            Verification::Old.told(TransactionAbortable),
            InvalidTxnState
        );
        assert_eq!(
            Verification::Verify.told(TransactionAbortable),
            TransactionAbortable
        );
        assert_eq!(Verification::Add.told(ProducerFenced), InvalidProducerEpoch);
    }
}
