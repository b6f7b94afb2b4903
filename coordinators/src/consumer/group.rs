//! One group: its state, and how records change it.

use std::collections::BTreeMap;

use protocol::TopicPartition;

use super::assignors::Assignor;
use super::timers::Timers;
use super::{
    Assignment, CurrentAssignment, GroupMetadata, Member, MemberMetadata, MigrationPolicy, Name,
    Outcome, Record, ResolvedRegex, Topics,
};

/// What a group is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.consumer.max.size`.
    pub max_size: usize,
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: u32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.assignors`: the first is for groups whose members name none.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: u64,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
}

impl GroupConfig {
    pub(super) fn supports(&self, name: &str) -> bool {
        self.assignors
            .iter()
            .any(|assignor| assignor.name() == name)
    }

    pub(super) fn assignor_names(&self) -> String {
        let names: Vec<_> = self.assignors.iter().map(|one| one.name()).collect();
        names.join(", ")
    }
}

/// What a group is doing, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// It has no member.
    Empty,
    /// Its targets are not those of its epoch.
    Assigning,
    /// Members are on their way to their targets.
    Reconciling,
    /// All members have their targets.
    Stable,
}

impl GroupState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    pub(super) id: Name,
    pub(super) config: GroupConfig,
    pub(super) metadata: GroupMetadata,
    pub(super) target_epoch: i32,
    pub(super) members: BTreeMap<Name, Member>,
    /// Member ids of static members, by instance id.
    pub(super) statics: BTreeMap<Name, Name>,
    pub(super) targets: BTreeMap<Name, Assignment>,
    /// Who owns what: made of the members' assignments.
    owners: BTreeMap<TopicPartition, Name>,
    pub(super) regexes: BTreeMap<Name, ResolvedRegex>,
    /// A record of version 4 is there to be taken away.
    pub(super) has_old_metadata: bool,
    pub(super) timers: Timers,
    /// Topics may have changed since the epoch was last raised.
    pub(super) is_stale: bool,
    /// Patterns are being resolved.
    pub(super) is_resolving: bool,
    /// Patterns are to be resolved again.
    pub(super) are_regexes_stale: bool,
    /// When patterns were resolved last.
    pub(super) resolved_at_ms: Option<u64>,
}

impl ConsumerGroup {
    /// A group without a member, of which nothing was written.
    pub fn new(id: Name, config: GroupConfig) -> Self {
        Self {
            id,
            config,
            metadata: GroupMetadata::default(),
            target_epoch: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            has_old_metadata: false,
            timers: Timers::default(),
            is_stale: true,
            is_resolving: false,
            are_regexes_stale: true,
            resolved_at_ms: None,
        }
    }

    /// Folds one record of the log; the order is that of the log. [`Self::loaded`] ends it.
    pub fn replay(&mut self, record: &Record) {
        match record {
            Record::Group(metadata) => self.metadata = metadata.unwrap_or_default(),
            Record::PartitionMetadata(topics) => self.has_old_metadata = topics.is_some(),
            Record::Member(id, Some(metadata)) => self.set_metadata(id, metadata),
            Record::Member(id, None) => self.forget(id),
            Record::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or_default(),
            Record::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), target.clone());
            }
            Record::Target(id, None) => {
                self.targets.remove(id);
            }
            Record::Current(id, Some(current)) => self.set_current(id, current),
            Record::Current(id, None) => {
                if self.members.contains_key(id) {
                    self.set_current(id, &CurrentAssignment::default());
                }
            }
            Record::Regex(pattern, Some(resolved)) => {
                self.regexes.insert(pattern.clone(), resolved.clone());
            }
            Record::Regex(pattern, None) => {
                self.regexes.remove(pattern);
            }
        }
    }

    fn set_metadata(&mut self, id: &Name, metadata: &MemberMetadata) {
        let member = self.members.entry(id.clone()).or_default();
        if let Some(instance) = &member.metadata.instance_id
            && member.metadata.instance_id != metadata.instance_id
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
        if let Some(instance) = &metadata.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        member.metadata = metadata.clone();
    }

    fn set_current(&mut self, id: &Name, current: &CurrentAssignment) {
        let member = self.members.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut member.current, current.clone());
        self.release(id, &before);
        for partition in current.assigned.iter().chain(current.revoking.iter()) {
            self.owners.insert(partition, id.clone());
        }
    }

    fn release(&mut self, id: &Name, current: &CurrentAssignment) {
        for partition in current.assigned.iter().chain(current.revoking.iter()) {
            if self.owners.get(&partition) == Some(id) {
                self.owners.remove(&partition);
            }
        }
    }

    fn forget(&mut self, id: &Name) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.release(id, &member.current);
        if let Some(instance) = &member.metadata.instance_id
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
    }

    /// Ends the fold: sessions begin anew, and members that the log tells of by halves go. What
    /// is given out must be written before the group is served.
    pub fn loaded(&mut self, now_ms: u64, topics: &dyn Topics) -> Outcome<()> {
        let mut records = Vec::new();
        let halves: Vec<_> = self
            .members
            .iter()
            .filter(|(id, member)| !self.is_whole(id, member))
            .map(|(id, _)| id.clone())
            .collect();
        if self.target_epoch > self.metadata.epoch {
            // Targets of an epoch that is not told of are made again.
            self.commit(Record::TargetEpoch(Some(self.metadata.epoch)), &mut records);
            self.raise_epoch(true, topics, &mut records);
        }
        self.fence(&halves, topics, &mut records);
        let orphans: Vec<_> = self
            .targets
            .keys()
            .filter(|id| !self.members.contains_key(*id))
            .cloned()
            .collect();
        for id in orphans {
            self.commit(Record::Target(id, None), &mut records);
        }
        let members: Vec<_> = self.members.keys().cloned().collect();
        for id in members {
            self.begin_session(now_ms, &id);
            self.watch_rebalance(now_ms, &id);
        }
        self.is_stale = true;
        self.are_regexes_stale = true;
        self.is_resolving = false;
        Outcome {
            records,
            resolve: Vec::new(),
            answer: Ok(()),
        }
    }

    /// A member whose metadata came, and who owns whatever its record says.
    fn is_whole(&self, id: &Name, member: &Member) -> bool {
        let current = &member.current;
        let epoch = current.epoch.max(current.previous_epoch);
        member.metadata != MemberMetadata::default()
            && epoch <= self.metadata.epoch
            && (current.assigned.iter())
                .chain(current.revoking.iter())
                .all(|partition| self.owners.get(&partition) == Some(id))
    }

    /// Applies a record and gives it out to be written.
    pub(super) fn commit(&mut self, record: Record, records: &mut Vec<Record>) {
        if let Record::Current(id, Some(current)) = &record {
            let taken = (current.assigned.iter())
                .chain(current.revoking.iter())
                .find(|partition| self.owners.get(partition).is_some_and(|owner| owner != id));
            assert!(taken.is_none(), "{id} takes {taken:?} of another member");
        }
        self.replay(&record);
        records.push(record);
    }

    /// The records that end the group; it must be empty.
    ///
    /// # Panics
    /// If it has members: whoever deletes groups refuses that before.
    pub fn delete(&mut self) -> Vec<Record> {
        assert!(self.members.is_empty(), "a group with members stays");
        let mut records = Vec::new();
        let patterns: Vec<_> = self.regexes.keys().cloned().collect();
        for pattern in patterns {
            self.commit(Record::Regex(pattern, None), &mut records);
        }
        self.commit(Record::TargetEpoch(None), &mut records);
        if self.has_old_metadata {
            self.commit(Record::PartitionMetadata(None), &mut records);
        }
        self.commit(Record::Group(None), &mut records);
        records
    }

    /// Its id.
    pub fn id(&self) -> &Name {
        &self.id
    }

    /// Its configuration.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Another configuration, from the next heartbeat of each member on.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// Its epoch.
    pub fn epoch(&self) -> i32 {
        self.metadata.epoch
    }

    /// The epoch that its targets are for.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// Its members by their ids.
    pub fn members(&self) -> &BTreeMap<Name, Member> {
        &self.members
    }

    /// What a member is to have once it has come that far.
    pub fn target(&self, member: &str) -> Option<&Assignment> {
        self.targets.get(member)
    }

    /// Who owns a partition, and at which epoch.
    pub fn partition_epoch(&self, partition: TopicPartition) -> Option<(&Name, i32)> {
        let owner = self.owners.get(&partition)?;
        Some((owner, self.members.get(owner)?.current.epoch))
    }

    /// Whether nobody owns a partition.
    pub(super) fn is_owned(&self, partition: TopicPartition) -> bool {
        self.owners.contains_key(&partition)
    }

    /// What it is doing.
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.metadata.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .all(|member| member.current.is_reconciled(self.target_epoch))
        {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }
}
