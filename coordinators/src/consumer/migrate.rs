//! From the classic protocol to this one and back, while members go on
//! (`group.consumer.migration.policy`).
//!
//! ```text
//! classic group ── first member of this protocol ──▶ consumer group with classic members
//!       ▲                                                        │
//!       └───────── last member of this protocol is gone ─────────┘
//! ```
//!
//! What a classic group is written as is its coordinator's: a tombstone of its record goes before
//! the records of [`ConsumerGroup::upgrade`], and its record after those of
//! [`ConsumerGroup::downgrade`], in one batch with them.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ErrorCode;

use super::embedded::{by_id, decode_assignment, decode_subscription, encode_assignment};
use super::{
    Assignment, ClassicMember, ConsumerGroup, CurrentAssignment, GroupConfig, GroupMetadata,
    MemberMetadata, MemberState, Name, Record, Refusal, Topics,
};

/// `group.consumer.migration.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Groups stay what they are.
    Disabled,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy of a name, whatever its case.
    pub fn parse(name: &str) -> Option<Self> {
        [
            ("disabled", Self::Disabled),
            ("upgrade", Self::Upgrade),
            ("downgrade", Self::Downgrade),
            ("bidirectional", Self::Bidirectional),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, policy)| policy)
    }

    /// Whether classic groups may become consumer groups.
    pub const fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether consumer groups may become classic groups.
    pub const fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// A classic group, as far as it goes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroup {
    /// Its generation.
    pub generation: i32,
    /// The assignor it uses.
    pub protocol: Name,
    /// Its members by id.
    pub members: BTreeMap<Name, ClassicGroupMember>,
}

/// A member of a classic group, as far as it goes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicGroupMember {
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Its `client.id`.
    pub client_id: Name,
    /// Its address.
    pub client_host: Name,
    /// Its rebalance time-out in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What it offered at its join.
    pub offer: ClassicMember,
    /// What its leader gave it.
    pub assignment: Bytes,
}

fn malformed(id: &Name) -> Refusal {
    Refusal::new(
        ErrorCode::GroupIdNotFound,
        format!(
            "Cannot upgrade the classic group {id} to consumer group because the embedded \
             consumer protocol is malformed."
        ),
    )
}

impl ConsumerGroup {
    /// The consumer group that takes the place of a classic group of consumers, and its records.
    /// Who waits for a join or sync there has to be answered REBALANCE_IN_PROGRESS.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND if the policy forbids it, the group is too large, or its bytes cannot be
    /// read.
    pub fn upgrade(
        now_ms: u64,
        id: Name,
        config: GroupConfig,
        classic: &ClassicGroup,
        topics: &dyn Topics,
    ) -> Result<(Self, Vec<Record>), Refusal> {
        if !config.migration.upgrades() || classic.members.len() > config.max_size {
            return Err(Refusal::new(
                ErrorCode::GroupIdNotFound,
                format!("Group {id} is not a consumer group."),
            ));
        }
        let mut group = Self::new(id, config);
        let mut members = Vec::new();
        let mut taken = Assignment::new();
        for (member_id, member) in &classic.members {
            let (metadata, mut assigned) = read_member(member, &classic.protocol, topics)
                .ok_or_else(|| malformed(&group.id))?;
            // A leader may have given one partition twice: the first has it.
            assigned = assigned.without(&taken);
            taken.extend(assigned.iter());
            members.push((member_id.clone(), metadata, assigned));
        }
        let mut records = Vec::new();
        let epoch = classic.generation;
        for (member, metadata, _) in &members {
            let record = Record::Member(member.clone(), Some(metadata.clone()));
            group.commit(record, &mut records);
        }
        let metadata = GroupMetadata {
            epoch,
            metadata_hash: group.metadata_hash(topics),
        };
        group.commit(Record::Group(Some(metadata)), &mut records);
        for (member, _, assigned) in &members {
            let record = Record::Target(member.clone(), Some(assigned.clone()));
            group.commit(record, &mut records);
        }
        group.commit(Record::TargetEpoch(Some(epoch)), &mut records);
        for (member, _, assigned) in members {
            let current = CurrentAssignment {
                epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned,
                revoking: Assignment::new(),
            };
            let record = Record::Current(member.clone(), Some(current));
            group.commit(record, &mut records);
            group.begin_session(now_ms, &member);
        }
        Ok((group, records))
    }

    /// The classic group that takes the place of this one, with the records that end this one, if
    /// only members of the classic protocol are left and the policy allows it. It is asked after
    /// whatever takes a member out or replaces one. All have to join again there.
    pub fn downgrade(
        &mut self,
        classic_max_size: usize,
        topics: &dyn Topics,
    ) -> Option<(ClassicGroup, Vec<Record>)> {
        let is_due = self.config.migration.downgrades()
            && !self.members.is_empty()
            && self.members.len() <= classic_max_size
            && (self.members.values()).all(|member| member.metadata.classic.is_some());
        if !is_due {
            return None;
        }
        let protocol = self.common_protocol()?;
        let nothing = Assignment::new();
        let mut members = BTreeMap::new();
        for (id, member) in &self.members {
            let offer = member.metadata.classic.clone()?;
            let subscription = offer
                .protocols
                .iter()
                .find(|(name, _)| *name == protocol)
                .and_then(|(_, metadata)| decode_subscription(metadata).ok());
            let version = subscription.map_or(0, |subscription| subscription.version);
            let target = self.targets.get(id).unwrap_or(&nothing);
            let member = ClassicGroupMember {
                instance_id: member.metadata.instance_id.clone(),
                client_id: member.metadata.client_id.clone(),
                client_host: member.metadata.client_host.clone(),
                rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
                offer,
                assignment: encode_assignment(version, target, topics),
            };
            members.insert(id.clone(), member);
        }
        let classic = ClassicGroup {
            generation: self.metadata.epoch,
            protocol,
            members,
        };
        let mut records = Vec::new();
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            self.remove(id, &mut records);
        }
        records.extend(self.delete());
        Some((classic, records))
    }

    /// The assignor that all members support and most of them prefer; the first by name of several.
    fn common_protocol(&self) -> Option<Name> {
        let offers: Vec<_> = self
            .members
            .values()
            .filter_map(|member| member.metadata.classic.as_ref())
            .collect();
        let is_common = |name: &Name| {
            (offers.iter()).all(|offer| offer.protocols.iter().any(|(other, _)| other == name))
        };
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for offer in &offers {
            let choice = offer.protocols.iter().find(|(name, _)| is_common(name));
            *votes.entry(&choice?.0).or_default() += 1;
        }
        let most = votes.values().max()?;
        let chosen = votes.iter().find(|(_, count)| *count == most)?;
        Some((*chosen.0).clone())
    }
}

/// What a classic member wants and has.
fn read_member(
    member: &ClassicGroupMember,
    protocol: &Name,
    topics: &dyn Topics,
) -> Option<(MemberMetadata, Assignment)> {
    let (_, bytes) = (member.offer.protocols.iter()).find(|(name, _)| name == protocol)?;
    let subscription = decode_subscription(bytes).ok()?;
    let assigned = by_id(&decode_assignment(&member.assignment).ok()?, topics);
    let metadata = MemberMetadata {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics,
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(member.offer.clone()),
    };
    Some((metadata, assigned))
}
