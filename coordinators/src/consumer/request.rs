//! What comes in, and what goes out.

use std::collections::BTreeSet;

use protocol::ErrorCode;

use super::{
    Assignment, ConsumerGroup, JOIN_EPOCH, LEAVE_EPOCH, NAME_BYTES_MAX, Name, Record,
    STATIC_LEAVE_EPOCH,
};

/// A ConsumerGroupHeartbeat (68) with its names instead of indexes. `None` means unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Version of the request: from 1 on the client makes the member id (KIP-1082).
    pub version: i16,
    /// The member; empty only in version 0 by one who joins.
    pub member_id: Name,
    /// An id to give to a member without one, which no member may have had.
    pub fresh_member_id: Name,
    /// 0 joins, -1 leaves, -2 leaves for a while, else the member's epoch.
    pub member_epoch: i32,
    /// Instance id of a static member.
    pub instance_id: Option<Name>,
    /// Where the client is.
    pub rack_id: Option<Name>,
    /// How long it may take to give partitions up, in milliseconds; -1 means unchanged.
    pub rebalance_timeout_ms: i32,
    /// Names of the topics that it subscribes to.
    pub topics: Option<BTreeSet<Name>>,
    /// A pattern of topics that it subscribes to; empty means none any more.
    pub regex: Option<Name>,
    /// The assignor it wants.
    pub assignor: Option<Name>,
    /// What it owns.
    pub owned: Option<Assignment>,
    /// `client.id` of its connection.
    pub client_id: Name,
    /// Address of its connection.
    pub client_host: Name,
}

/// The answer to a heartbeat that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The member.
    pub member_id: Name,
    /// The epoch that its next heartbeat must name.
    pub member_epoch: i32,
    /// When that should come.
    pub heartbeat_interval_ms: i32,
    /// What it is to have, if it changed or everything was asked for.
    pub assignment: Option<Assignment>,
}

/// Why a request is refused, in Kafka's words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// The message.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the records must be written, and the answer sent after that"]
pub struct Outcome<A> {
    /// To be written in this order, in one batch, before the answer is sent.
    pub records: Vec<Record>,
    /// Patterns to look for in the names of all topics; the result comes back with
    /// [`ConsumerGroup::regexes_resolved`].
    pub resolve: Vec<Name>,
    /// What the client is told.
    pub answer: Result<A, Refusal>,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn not_blank(value: Option<&Name>, message: &str) -> Result<(), Refusal> {
    match value {
        Some(value) if value.trim().is_empty() => Err(invalid(message)),
        _ => Ok(()),
    }
}

/// Names that become part of a record's key have an int16 length there.
pub(super) fn check_length(name: &str) -> Result<(), Refusal> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(invalid("Names can't be longer than 32767 bytes."))
}

impl Heartbeat {
    /// Whether all is said that can be said, so that all is to be answered.
    pub(super) fn is_full(&self) -> bool {
        self.member_epoch == JOIN_EPOCH
            || (self.rebalance_timeout_ms != -1
                && (self.topics.is_some() || self.regex.is_some())
                && self.owned.is_some())
    }

    /// What can be wrong with a heartbeat by itself.
    pub(super) fn validate(&self, group: &ConsumerGroup) -> Result<(), Refusal> {
        if self.version >= 1 || self.member_epoch != JOIN_EPOCH {
            not_blank(Some(&self.member_id), "MemberId can't be empty.")?;
        }
        not_blank(Some(group.id()), "GroupId can't be empty.")?;
        not_blank(self.instance_id.as_ref(), "InstanceId can't be empty.")?;
        not_blank(self.rack_id.as_ref(), "RackId can't be empty.")?;
        match self.member_epoch {
            JOIN_EPOCH => self.validate_join()?,
            1.. | LEAVE_EPOCH => {}
            STATIC_LEAVE_EPOCH if self.instance_id.is_none() => {
                return Err(invalid("InstanceId can't be null."));
            }
            STATIC_LEAVE_EPOCH => {}
            _ => return Err(invalid("MemberEpoch is invalid.")),
        }
        for name in [&self.member_id, group.id()].into_iter().chain(&self.regex) {
            check_length(name)?;
        }
        match &self.assignor {
            Some(wanted) if !group.config().supports(wanted) => Err(Refusal::new(
                ErrorCode::UnsupportedAssignor,
                format!(
                    "ServerAssignor {wanted} is not supported. Supported assignors: {}.",
                    group.config().assignor_names()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn validate_join(&self) -> Result<(), Refusal> {
        if self.rebalance_timeout_ms == -1 {
            return Err(invalid(
                "RebalanceTimeoutMs must be provided in first request.",
            ));
        }
        if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return Err(invalid("TopicPartitions must be empty when (re-)joining."));
        }
        if self.topics.is_none() && self.regex.is_none() {
            return Err(invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            ));
        }
        Ok(())
    }
}
