//! From what goes wrong inside to what clients are told: one exhaustive match per domain.

use controller::Refusal;
use protocol::ErrorCode;
use storage::CatalogError;

/// The code for an error of storage (rule 42 of the protocol's traps: what our own troubles look
/// like on the wire).
pub(crate) fn storage_code(error: &storage::Error) -> ErrorCode {
    use storage::Error;
    match error {
        Error::NotLeader { .. } | Error::Held { .. } | Error::NotOpen => {
            ErrorCode::NotLeaderOrFollower
        }
        Error::Timeout { .. } | Error::Ahead { .. } => ErrorCode::RequestTimedOut,
        Error::DiskFull { .. } => ErrorCode::KafkaStorageError,
        Error::TooLarge { .. } => ErrorCode::MessageTooLarge,
        Error::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        Error::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        Error::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        Error::InvalidBatch { .. } | Error::Rejected { .. } => ErrorCode::InvalidRecord,
        Error::Policy { .. } => ErrorCode::PolicyViolation,
        Error::Missing { .. }
        | Error::Lost { .. }
        | Error::Store { .. }
        | Error::NotFound { .. }
        | Error::Foreign { .. }
        | Error::Unsupported { .. }
        | Error::StoreUrl { .. }
        | Error::UnfitStore { .. } => ErrorCode::KafkaStorageError,
        Error::Damaged { .. } => ErrorCode::CorruptMessage,
        Error::Catalog(error) => catalog_code(error),
        Error::Log { source } => log_code(source),
        Error::Limit { .. } | Error::Internal { .. } => ErrorCode::UnknownServerError,
    }
}

fn catalog_code(error: &CatalogError) -> ErrorCode {
    match error {
        CatalogError::Unavailable(_) | CatalogError::Conflict(_) => ErrorCode::RequestTimedOut,
        CatalogError::Fenced(_) => ErrorCode::NotLeaderOrFollower,
        CatalogError::Invalid(_) | CatalogError::Corrupt(_) => ErrorCode::UnknownServerError,
    }
}

fn log_code(error: &wal::Error) -> ErrorCode {
    use wal::Error;
    match error {
        Error::DiskFull { .. } | Error::Io { .. } | Error::WriteFailed { .. } => {
            ErrorCode::KafkaStorageError
        }
        Error::Store { .. } | Error::StoreTimeout { .. } => ErrorCode::RequestTimedOut,
        // Unknown outcomes of a log that has ended: the client finds the next leader.
        Error::SyncFailed { .. }
        | Error::Panicked { .. }
        | Error::Fenced { .. }
        | Error::Closed => ErrorCode::NotLeaderOrFollower,
        Error::TooLarge { .. } => ErrorCode::MessageTooLarge,
        Error::Locked { .. }
        | Error::Missing { .. }
        | Error::Foreign { .. }
        | Error::Corrupt { .. }
        | Error::Unsupported { .. } => ErrorCode::KafkaStorageError,
    }
}

/// The code for a command that the controller did not do.
pub(crate) fn controller_code(error: &controller::Error) -> ErrorCode {
    use controller::Error;
    match error {
        Error::Refused(refusal) => refusal_code(refusal),
        Error::Unavailable { .. } | Error::Store { .. } => ErrorCode::RequestTimedOut,
        Error::Stopped { .. } => ErrorCode::NotController,
        Error::TooLarge { .. } => ErrorCode::InvalidRequest,
        Error::Io { .. } | Error::Corrupt { .. } | Error::Settings { .. } => {
            ErrorCode::UnknownServerError
        }
    }
}

/// The code for a refusal of the state machine.
pub(crate) fn refusal_code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Conflict { .. } | Refusal::NotReady { .. } => ErrorCode::RequestTimedOut,
        Refusal::StaleBroker { .. } => ErrorCode::StaleBrokerEpoch,
        Refusal::StaleWal { .. } | Refusal::Quarantined { .. } | Refusal::Corrupt { .. } => {
            ErrorCode::UnknownServerError
        }
        Refusal::StaleLeader { .. } => ErrorCode::NotLeaderOrFollower,
        Refusal::NodeInUse { .. } => ErrorCode::DuplicateBrokerRegistration,
        Refusal::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        Refusal::UnknownTopic { .. } | Refusal::UnknownPartition { .. } => {
            ErrorCode::UnknownTopicOrPartition
        }
        Refusal::InvalidTopicName { .. } => ErrorCode::InvalidTopicException,
        Refusal::InvalidPartitions { .. } => ErrorCode::InvalidPartitions,
        Refusal::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        Refusal::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
        Refusal::InvalidConfig { .. } => ErrorCode::InvalidConfig,
        Refusal::Invalid { .. } => ErrorCode::InvalidRequest,
        Refusal::LimitReached { .. } => ErrorCode::PolicyViolation,
        Refusal::LevelTooLow { .. } => ErrorCode::UnsupportedVersion,
    }
}
