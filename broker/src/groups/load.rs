//! Folds the records of a coordinator partition into its groups.
//!
//! The newest record per key counts, a tombstone takes it away. A group with offsets and no
//! metadata is a simple one. What cannot be read was written by something else than this
//! coordinator: it is counted, skipped, and left in the log.

use std::collections::BTreeMap;

use super::api::{GroupState, Name, Now};
use super::config::GroupConfig;
use super::group::Group;
use super::member::{Member, millis};
use super::offsets::Offsets;
use super::record::{GroupMetadataValue, MemberValue, OffsetValue, RecordError, RecordKey};
use super::shard::Shard;

/// What a load met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Records read.
    pub records: u64,
    /// Records of kinds this coordinator does not keep.
    pub skipped: u64,
    /// Records that could not be read.
    pub damaged: u64,
}

/// Folds records, in the order of their offsets.
#[derive(Debug, Default)]
pub struct Loader {
    offsets: BTreeMap<Name, Offsets>,
    groups: BTreeMap<Name, GroupMetadataValue>,
    counts: LoadCounts,
}

impl Loader {
    /// Takes the next record; a null value is a tombstone.
    ///
    /// # Errors
    /// [`RecordError`] when the record is damaged. It is counted and has changed nothing; the
    /// caller logs it with its offset and goes on.
    pub fn record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), RecordError> {
        self.counts.records += 1;
        let result = self.fold(key, value);
        self.counts.damaged += u64::from(result.is_err());
        result
    }

    fn fold(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), RecordError> {
        let key = key.ok_or(RecordError::Truncated { field: "key" })?;
        match RecordKey::decode(key)? {
            RecordKey::Other { .. } => self.counts.skipped += 1,
            RecordKey::Offset(key) => match value.map(OffsetValue::decode).transpose()? {
                Some(value) => {
                    self.offsets
                        .entry(key.group)
                        .or_default()
                        .set(key.topic, key.partition, value);
                }
                None => {
                    if let Some(offsets) = self.offsets.get_mut(&key.group) {
                        offsets.remove(&key.topic, key.partition);
                        if offsets.is_empty() {
                            self.offsets.remove(&key.group);
                        }
                    }
                }
            },
            RecordKey::Group(key) => match value.map(GroupMetadataValue::decode).transpose()? {
                Some(value) => {
                    self.groups.insert(key.group, value);
                }
                None => {
                    self.groups.remove(&key.group);
                }
            },
        }
        Ok(())
    }

    /// What was met so far.
    pub fn counts(&self) -> LoadCounts {
        self.counts
    }

    /// The shard as of the last record, every session starting now.
    pub fn finish(self, config: GroupConfig, now: Now) -> Shard {
        let mut groups = BTreeMap::new();
        for (id, value) in self.groups {
            groups.insert(id.clone(), restored(id, value, now));
        }
        for (id, offsets) in self.offsets {
            if env::planted!("offsets-not-replayed") {
                break;
            }
            groups
                .entry(id)
                .or_insert_with_key(|id| Group::new(id.clone(), now))
                .offsets = offsets;
        }
        let mut shard = Shard::with_groups(config, groups);
        shard.restart_sessions(now);
        shard
    }
}

fn restored(id: Name, value: GroupMetadataValue, now: Now) -> Group {
    let mut group = Group::new(id, now);
    group.written = true;
    if !env::planted!("generation-not-restored") {
        group.generation = value.generation;
    }
    group.state_since_ms = value.state_since_ms;
    group.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
    let Some(protocol) = value.protocol.filter(|_| !value.members.is_empty()) else {
        return group;
    };
    group.state = GroupState::Stable;
    let protocol_type = group
        .protocol_type
        .clone()
        .unwrap_or_else(|| Name::from(""));
    for member in value.members {
        // Neither id can come twice but in a damaged record.
        let twice = group.members.contains_key(&member.member_id)
            || member
                .instance_id
                .as_ref()
                .is_some_and(|id| group.static_members.contains_key(id));
        if !twice {
            group.insert(restored_member(member, &protocol), &protocol_type);
        }
    }
    if let Some(leader) = value.leader.filter(|id| group.members.contains_key(id)) {
        group.leader = Some(leader);
    }
    group.topics = group.subscribed(&protocol);
    group.protocol = Some(protocol);
    group
}

fn restored_member(value: MemberValue, protocol: &Name) -> Member {
    Member {
        id: value.member_id,
        instance_id: value.instance_id,
        client_id: value.client_id,
        client_host: value.client_host,
        rebalance_timeout_ms: millis(value.rebalance_timeout_ms),
        session_timeout_ms: millis(value.session_timeout_ms),
        protocols: vec![(protocol.clone(), value.subscription)],
        assignment: value.assignment,
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
        session_deadline_ms: 0,
        timer_at_ms: None,
    }
}
