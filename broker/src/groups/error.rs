//! Why a group request was refused, and Kafka's code for it.

use protocol::ErrorCode;
use thiserror::Error;

/// Why a group request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum GroupError {
    /// The group record would be larger than the log takes.
    #[error("the group's metadata record is too large")]
    RecordTooLarge,
    /// The committed metadata string is longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the committed offset is too large")]
    OffsetMetadataTooLarge,
    /// The coordinator is replaying its partition.
    #[error("the coordinator is loading")]
    LoadInProgress,
    /// The coordinator cannot take the request now.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// This broker does not lead the group's coordinator partition.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// The generation is not the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// Protocol type or protocols do not fit the group's.
    #[error("the protocol type or protocols do not fit the group's")]
    InconsistentProtocol,
    /// The group id is empty.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// The group has no such member.
    #[error("the group has no such member")]
    UnknownMember,
    /// The session timeout lies outside the configured bounds.
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    /// The group is rebalancing: join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The request does not make sense.
    #[error("the request is invalid")]
    InvalidRequest,
    /// The group still has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// Join again with the member id in the answer (KIP-394).
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// The group is full.
    #[error("the group has reached its maximum size")]
    GroupMaxSizeReached,
    /// Another member took over the instance id (KIP-345).
    #[error("the instance id belongs to another member now")]
    FencedInstanceId,
    /// A member of the group subscribes to the topic.
    #[error("the group subscribes to the topic")]
    SubscribedToTopic,
}

impl GroupError {
    /// Kafka's error code.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::RecordTooLarge => ErrorCode::UnknownServerError,
            Self::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::NotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            Self::FencedInstanceId => ErrorCode::FencedInstanceId,
            Self::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        }
    }

    /// Its number on the wire.
    pub const fn code(self) -> i16 {
        self.error_code().code()
    }
}
