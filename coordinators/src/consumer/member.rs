//! What a group knows of one of its members: what it said, and how far it has come.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Assignment, Name};

/// Epoch of a heartbeat that joins.
pub const JOIN_EPOCH: i32 = 0;
/// Epoch of a heartbeat that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// Epoch of a heartbeat by which a static member leaves for a while, and of that member since.
pub const STATIC_LEAVE_EPOCH: i32 = -2;

/// What a member said of itself; the value of its record of version 5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Name>,
    /// Where the client is.
    pub rack_id: Option<Name>,
    /// `client.id`.
    pub client_id: Name,
    /// Address of the client.
    pub client_host: Name,
    /// Names of the topics that it subscribed to.
    pub topics: BTreeSet<Name>,
    /// Pattern of further topics; empty means none.
    pub regex: Option<Name>,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor it wants.
    pub assignor: Option<Name>,
    /// What a member of the classic protocol has besides.
    pub classic: Option<ClassicMember>,
}

impl MemberMetadata {
    /// The pattern, unless it is empty.
    pub fn pattern(&self) -> Option<&Name> {
        self.regex.as_ref().filter(|regex| !regex.is_empty())
    }
}

/// What a member that speaks the classic protocol said besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMember {
    /// Its session time-out in milliseconds.
    pub session_timeout_ms: i32,
    /// The assignors it supports with the bytes it sent for each, by its preference.
    pub protocols: Vec<(Name, Bytes)>,
}

/// How far a member is on its way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has all of its target at its epoch.
    #[default]
    Stable,
    /// It was told to give partitions up and has not confirmed it.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// A state of a later version: the member has to begin again.
    Unknown,
}

/// How far a member has come; the value of its record of version 8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    /// The epoch that its heartbeats must name.
    pub epoch: i32,
    /// The epoch before: the answer that told it of the present one may be lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it has.
    pub assigned: Assignment,
    /// What it must give up, and owns until it confirms.
    pub revoking: Assignment,
}

impl CurrentAssignment {
    /// Whether nothing is left to do until the target changes.
    pub fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it said.
    pub metadata: MemberMetadata,
    /// How far it has come.
    pub current: CurrentAssignment,
}
