//! Kafka's error codes: number, name, whether a client may retry, and a sentence for people.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attribute:meta])? $variant:ident = $code:literal, $name:literal, $retriable:literal,
       $message:literal;)*) => {
        /// An error code of Kafka's protocol (`error_code` fields are `int16`).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", $name, "`: ", $message, ".")]
                $(#[$attribute])?
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// Every code known here, in ascending order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// Kafka's name, in upper case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for the `error_message` fields.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// Whether Kafka's clients retry on it.
            pub const fn is_retriable(self) -> bool {
                match self { $(Self::$variant => $retriable,)* }
            }

            /// The code with this number, if it is one we know.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false,
        "the broker met an error it has no code for";
    #[default] None = 0, "NONE", false, "no error";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false,
        "the offset lies outside the range this partition holds";
    CorruptMessage = 2, "CORRUPT_MESSAGE", true, "the batch failed its checksum or is malformed";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true,
        "this broker knows no such topic or partition";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false, "the fetch size is invalid";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true, "the partition has no leader yet";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true,
        "this broker does not lead the partition";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true, "the request did not complete in time";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false, "the broker is not available";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true, "the replica is not available here";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false,
        "the batch is larger than the topic or the broker allows";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", false, "stale controller epoch";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false,
        "the metadata of the offset commit is too long";
    NetworkException = 13, "NETWORK_EXCEPTION", true, "the connection broke before an answer came";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true,
        "the coordinator is still loading its state";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true,
        "the coordinator is not available";
    NotCoordinator = 16, "NOT_COORDINATOR", true, "this broker is not the coordinator";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false,
        "the topic name is invalid or the topic may not be used so";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false,
        "the batch is larger than a segment may be";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true,
        "fewer replicas are in sync than are required";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true,
        "not enough replicas after append";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false, "acks must be -1, 0 or 1";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false,
        "the generation is not the group's current one";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false,
        "the member's protocols do not fit those of the group";
    InvalidGroupId = 24, "INVALID_GROUP_ID", false, "the group id is invalid";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false, "the coordinator knows no such member";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false,
        "the session timeout is outside the range the broker allows";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false,
        "the group is rebalancing; join again";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false,
        "the offset commit is too large";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false,
        "not authorized for the topic";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false,
        "not authorized for the group";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false,
        "not authorized for the cluster";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false,
        "a timestamp lies outside the range the topic allows";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false,
        "the SASL mechanism is not enabled";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false,
        "the request is not allowed in this state of authentication";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false,
        "the version of the API is not supported";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false, "a topic with this name exists";
    InvalidPartitions = 37, "INVALID_PARTITIONS", false, "the number of partitions is invalid";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false,
        "the replication factor must be positive, or -1";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false,
        "the replica assignment is invalid";
    InvalidConfig = 40, "INVALID_CONFIG", false, "a configuration name or value is invalid";
    NotController = 41, "NOT_CONTROLLER", true, "this broker cannot reach the controller";
    InvalidRequest = 42, "INVALID_REQUEST", false,
        "the request contradicts itself or lacks a field";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false,
        "the message format does not support this";
    PolicyViolation = 44, "POLICY_VIOLATION", false,
        "the request violates a policy of the topic or the broker";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false,
        "the producer's sequence number is not the next one";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false,
        "the sequence number was seen before";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false,
        "the producer's epoch is older than the current one";
    InvalidTxnState = 48, "INVALID_TXN_STATE", false,
        "the transaction is not in a state that allows this";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false,
        "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false,
        "the transaction timeout is longer than the broker allows";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true,
        "another transaction of this producer is still ending";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", false,
        "transaction coordinator fenced";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false,
        "not authorized for the transactional id";
    SecurityDisabled = 54, "SECURITY_DISABLED", false, "security features are disabled";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false,
        "not attempted, because another part of the request failed";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true, "the storage below the partition failed";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false, "no such log directory";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false, "authentication failed";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false, "nothing is known of the producer id";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false,
        "a reassignment of the partition is under way";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", false,
        "delegation token auth disabled";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", false, "delegation token not found";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", false,
        "delegation token owner mismatch";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false,
        "delegation token request not allowed";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false,
        "delegation token authorization failed";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", false, "delegation token expired";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", false, "invalid principal type";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false, "the group has members";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false, "no such group";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true, "no such fetch session";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true,
        "the fetch session is at another epoch";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true, "the leader has no listener of this name";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false, "deleting topics is disabled";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true,
        "the leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true,
        "the leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false,
        "this version may not use the compression type";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false, "the broker epoch is stale";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true,
        "the new leader cannot tell the offset yet";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false, "join again with the member id given";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true,
        "preferred leader not available";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false,
        "the group has as many members as it may";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false,
        "another member took over this group instance id";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true,
        "eligible leaders not available";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true, "no election is needed";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false,
        "no reassignment is under way";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false,
        "the group is subscribed to the topic";
    InvalidRecord = 87, "INVALID_RECORD", false, "the broker refused a record";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true,
        "offsets of an open transaction are pending";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true, "the quota is exceeded";
    ProducerFenced = 90, "PRODUCER_FENCED", false,
        "a newer producer took over the transactional id";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false, "no such resource";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false, "the resource is named twice";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false, "unacceptable credential";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", false, "inconsistent voter set";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false, "invalid update version";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false, "feature update failed";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", false,
        "principal deserialization failure";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", false, "snapshot not found";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", false, "position out of range";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true, "this broker knows no topic with this id";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false,
        "duplicate broker registration";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false, "broker id not registered";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true,
        "the topic id does not belong to the topic";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false, "inconsistent cluster id";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false,
        "transactional id not found";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true,
        "the fetch session mixes topic names and topic ids";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false, "ineligible replica";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false, "new leader elected";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false,
        "the offset has moved to tiered storage";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false, "fenced member epoch";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false, "unreleased instance id";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false, "unsupported assignor";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false, "stale member epoch";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false,
        "the endpoint is of another type than the one asked for";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false,
        "the endpoint type is not supported";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", false, "unknown controller id";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false, "unknown subscription id";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false, "telemetry too large";
    InvalidRegistration = 119, "INVALID_REGISTRATION", false, "invalid registration";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false,
        "the transaction can only be aborted";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", false, "invalid record state";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", true, "share session not found";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", true,
        "invalid share session epoch";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", false, "fenced state epoch";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", false, "invalid voter key";
    DuplicateVoter = 126, "DUPLICATE_VOTER", false, "duplicate voter";
    VoterNotFound = 127, "VOTER_NOT_FOUND", false, "voter not found";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false,
        "invalid regular expression";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false,
        "the client reached another cluster or node than it meant";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", false, "streams invalid topology";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false,
        "streams invalid topology epoch";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", false, "streams topology fenced";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", true,
        "share session limit reached";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_code() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
            assert!(!code.message().is_empty());
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
    }

    #[test]
    fn numbers_are_kafkas() {
        assert_eq!(ErrorCode::UnsupportedVersion.code(), 35);
        assert_eq!(ErrorCode::UnknownTopicId.code(), 100);
        assert_eq!(
            ErrorCode::NotLeaderOrFollower.to_string(),
            "NOT_LEADER_OR_FOLLOWER"
        );
        assert!(ErrorCode::KafkaStorageError.is_retriable());
        assert!(!ErrorCode::InvalidRecord.is_retriable());
    }
}
