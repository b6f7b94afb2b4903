//! What goes into the coordinator and what comes out of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::GroupError;

/// A group id, member id, instance id, topic or protocol name.
pub type Name = Arc<str>;

/// The two times the coordinator takes as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that only goes up; every timer runs on it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; stored in records, never decides about sessions.
    pub wall_ms: i64,
}

/// Names whoever waits for one answer; the caller chooses it, unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// One input of the coordinator.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request that `waiter` wants answered.
    Request {
        /// Who waits.
        waiter: WaiterId,
        /// For what.
        request: Request,
    },
    /// Topics were deleted: their committed offsets go.
    TopicsDeleted(Vec<Name>),
    /// Nothing but time passed.
    Tick,
}

/// A request to the coordinator of a group.
#[derive(Clone, Debug)]
pub enum Request {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(MemberRequest),
    /// LeaveGroup.
    Leave(LeaveRequest),
    /// OffsetCommit.
    Commit(CommitRequest),
    /// OffsetFetch for one group.
    FetchOffsets(FetchOffsetsRequest),
    /// DescribeGroups for one group.
    Describe(Name),
    /// ListGroups.
    List(ListRequest),
    /// DeleteGroups for one group.
    DeleteGroup(Name),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsetsRequest),
}

impl Request {
    /// The group the request is about; none for a listing.
    pub fn group(&self) -> Option<&Name> {
        match self {
            Self::Join(r) => Some(&r.group),
            Self::Sync(r) => Some(&r.member.group),
            Self::Heartbeat(r) => Some(&r.group),
            Self::Leave(r) => Some(&r.group),
            Self::Commit(r) => Some(&r.member.group),
            Self::FetchOffsets(r) => Some(&r.group),
            Self::Describe(group) | Self::DeleteGroup(group) => Some(group),
            Self::DeleteOffsets(r) => Some(&r.group),
            Self::List(_) => None,
        }
    }
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The group.
    pub group: Name,
    /// Empty at the first join of a dynamic member, or of a static one after a restart.
    pub member_id: Name,
    /// `group.instance.id` (KIP-345, v5+).
    pub instance_id: Option<Name>,
    /// The client's id, for new member ids and DescribeGroups.
    pub client_id: Name,
    /// The client's address, for DescribeGroups.
    pub client_host: Name,
    /// Session timeout, milliseconds.
    pub session_timeout_ms: i32,
    /// Rebalance timeout, milliseconds (v0: the session timeout).
    pub rebalance_timeout_ms: i32,
    /// `consumer` or `connect`, usually.
    pub protocol_type: Name,
    /// Offered protocols with their metadata, best first.
    pub protocols: Vec<(Name, Bytes)>,
    /// Whether a new dynamic member must come back with an id of ours (KIP-394, v4+).
    pub requires_member_id: bool,
    /// Whether the client understands `skip_assignment` (KIP-814, v9+).
    pub supports_skip_assignment: bool,
    /// 128 random bits; they become part of a new member's id.
    pub nonce: u128,
}

/// Who speaks: the part common to all requests of members.
#[derive(Clone, Debug)]
pub struct MemberRequest {
    /// The group.
    pub group: Name,
    /// The member's id.
    pub member_id: Name,
    /// The member's instance id, if it is a static one.
    pub instance_id: Option<Name>,
    /// The generation the member is in; -1 for none.
    pub generation: i32,
}

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// Who speaks.
    pub member: MemberRequest,
    /// v5+: the protocol type the member believes in.
    pub protocol_type: Option<Name>,
    /// v5+: the protocol the member believes in.
    pub protocol: Option<Name>,
    /// Member id and assignment; only the leader's are heard.
    pub assignments: Vec<(Name, Bytes)>,
}

/// A LeaveGroup request: one member before v3, a batch from v3 on.
#[derive(Clone, Debug)]
pub struct LeaveRequest {
    /// The group.
    pub group: Name,
    /// Member id (may be empty when an instance id is given) and instance id.
    pub members: Vec<(Name, Option<Name>)>,
}

/// An OffsetCommit request.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Who speaks; generation -1 and an empty member id for simple consumers.
    pub member: MemberRequest,
    /// Whether the client's version (v9+) knows `GROUP_ID_NOT_FOUND`.
    pub knows_group_id_not_found: bool,
    /// v2 to v4: how long the offsets are to be kept, milliseconds; else the broker's setting.
    pub retention_ms: Option<i64>,
    /// The offsets.
    pub offsets: Vec<CommitOffset>,
}

/// One offset of an OffsetCommit request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic.
    pub topic: Name,
    /// The partition.
    pub partition: i32,
    /// The offset the group will read next.
    pub offset: i64,
    /// Leader epoch of the record before it, -1 if unknown (v6+).
    pub leader_epoch: i32,
    /// The client's own string.
    pub metadata: Name,
}

/// An OffsetFetch request for one group.
#[derive(Clone, Debug)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group: Name,
    /// The partitions asked for; none means all.
    pub partitions: Option<Vec<(Name, i32)>>,
}

/// A ListGroups request; empty filters let everything pass.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// States to list, any case (v4+).
    pub states: Vec<Name>,
    /// Group types to list, any case (v5+).
    pub types: Vec<Name>,
}

/// An OffsetDelete request.
#[derive(Clone, Debug)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group: Name,
    /// The partitions whose offsets go.
    pub partitions: Vec<(Name, i32)>,
}

/// What the coordinator wants done after one input.
#[derive(Debug, Default)]
pub struct Effects {
    /// Records to append to the coordinator's partition, in this order.
    pub records: Vec<GroupRecord>,
    /// Answers. One about a group may leave only when every record of that group, of this input
    /// and of earlier ones, is durable.
    pub answers: Vec<Answer>,
}

/// A record for `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// The group it is about.
    pub group: Name,
    /// Key.
    pub key: Bytes,
    /// Value; none is a tombstone.
    pub value: Option<Bytes>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who waits for it.
    pub waiter: WaiterId,
    /// The group it is about; none for a listing.
    pub group: Option<Name>,
    /// What it says.
    pub reply: Reply,
}

/// The answer to one [`Request`], of the variant that fits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a join.
    Join(JoinReply),
    /// To a sync.
    Sync(Result<SyncReply, GroupError>),
    /// To a heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To a leave: one result per member, in the order of the request.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To a commit: one result per offset, in the order of the request.
    Commit(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To a fetch of offsets.
    FetchOffsets(Result<Vec<FetchedOffset>, GroupError>),
    /// To a description.
    Describe(Result<Description, GroupError>),
    /// To a listing.
    List(Result<Vec<Listing>, GroupError>),
    /// To a deletion of a group.
    DeleteGroup(Result<(), GroupError>),
    /// To a deletion of offsets: one result per partition, in the order of the request.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// None is success.
    pub error: Option<GroupError>,
    /// The generation joined; -1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Name>,
    /// The protocol chosen.
    pub protocol: Option<Name>,
    /// The leader's member id.
    pub leader: Name,
    /// Whether the leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// The member's id, new ones included.
    pub member_id: Name,
    /// For the leader: every member. Empty for the others.
    pub members: Vec<JoinMember>,
}

impl JoinReply {
    /// A refusal.
    pub fn refused(error: GroupError, member_id: Name) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Name::from(""),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinMember {
    /// Its id.
    pub member_id: Name,
    /// Its instance id.
    pub instance_id: Option<Name>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    /// The group's protocol type.
    pub protocol_type: Option<Name>,
    /// The protocol chosen.
    pub protocol: Option<Name>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

/// One committed offset as a fetch answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The topic.
    pub topic: Name,
    /// The partition.
    pub partition: i32,
    /// The offset, -1 when none is committed.
    pub offset: i64,
    /// The leader epoch committed with it, or -1.
    pub leader_epoch: i32,
    /// The client's own string.
    pub metadata: Name,
}

/// The states of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Deleted.
    Dead,
}

impl GroupState {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type, empty for a simple group.
    pub protocol_type: Name,
    /// The protocol in force while stable, else empty.
    pub protocol: Name,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Name,
    /// Its instance id.
    pub instance_id: Option<Name>,
    /// Its client id.
    pub client_id: Name,
    /// Its address.
    pub client_host: Name,
    /// Its metadata for the protocol in force; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The group.
    pub group: Name,
    /// Its protocol type, empty for a simple group.
    pub protocol_type: Name,
    /// Its state.
    pub state: GroupState,
}
