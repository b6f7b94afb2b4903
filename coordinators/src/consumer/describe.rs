//! ConsumerGroupDescribe (69): a group as it is.

use super::assignors::Assignor;
use super::{Assignment, ConsumerGroup, GroupState, MemberMetadata, Name};

/// A group as ConsumerGroupDescribe shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub id: Name,
    /// What it is doing.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch that its targets are for.
    pub target_epoch: i32,
    /// The assignor that makes its targets.
    pub assignor: Assignor,
    /// Its members by id.
    pub members: Vec<DescribedMember>,
}

/// A member as ConsumerGroupDescribe shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: Name,
    /// What it said of itself.
    pub metadata: MemberMetadata,
    /// Its epoch.
    pub epoch: i32,
    /// What it has.
    pub assigned: Assignment,
    /// What it is to have.
    pub target: Assignment,
}

impl DescribedMember {
    /// The type of a member in version 1: 0 for a classic one, 1 for one of this protocol.
    pub fn member_type(&self) -> i8 {
        i8::from(self.metadata.classic.is_none())
    }
}

impl ConsumerGroup {
    /// The group as it is.
    pub fn describe(&self) -> DescribedGroup {
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            id: id.clone(),
            metadata: member.metadata.clone(),
            epoch: member.current.epoch,
            assigned: member.current.assigned.clone(),
            target: self.targets.get(id).cloned().unwrap_or_default(),
        });
        DescribedGroup {
            id: self.id.clone(),
            state: self.state(),
            epoch: self.metadata.epoch,
            target_epoch: self.target_epoch,
            assignor: self.preferred_assignor(),
            members: members.collect(),
        }
    }
}
