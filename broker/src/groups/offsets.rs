//! Committed offsets of a group: commit, fetch, delete, expire.

use std::collections::BTreeMap;

use super::api::{
    CommitOffset, CommitRequest, DeleteOffsetsRequest, FetchOffsetsRequest, FetchedOffset,
    GroupRecord, GroupState, Name,
};
use super::error::GroupError;
use super::group::{Context, Group};
use super::record::{GroupKey, OffsetKey, OffsetValue};
use super::subscription::CONSUMER_PROTOCOL_TYPE;

/// Committed offsets by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    topics: BTreeMap<Name, BTreeMap<i32, OffsetValue>>,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn set(&mut self, topic: Name, partition: i32, value: OffsetValue) {
        self.topics
            .entry(topic)
            .or_default()
            .insert(partition, value);
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> Option<OffsetValue> {
        let partitions = self.topics.get_mut(topic)?;
        let value = partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        value
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, i32, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(&partition, value)| (topic, partition, value))
        })
    }
}

impl Group {
    /// A commit: one result per offset.
    ///
    /// # Errors
    /// When the whole request is refused.
    pub(super) fn commit(
        &mut self,
        cx: &mut Context<'_>,
        request: &CommitRequest,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.check_commit(request)?;
        if !request.member.member_id.is_empty() {
            self.touch_session(cx, &request.member.member_id);
        }
        let expire_ms = request
            .retention_ms
            .map(|ms| cx.now.wall_ms.saturating_add(ms));
        let results = request.offsets.iter().map(|offset| {
            if offset.metadata.len() > cx.config.offset_metadata_max_bytes {
                return Err(GroupError::OffsetMetadataTooLarge);
            }
            let value = committed(offset, cx.now.wall_ms, expire_ms);
            cx.effects.records.push(GroupRecord {
                group: self.id.clone(),
                key: self.offset_key(&offset.topic, offset.partition).encode(),
                value: Some(value.encode()),
            });
            self.offsets
                .set(offset.topic.clone(), offset.partition, value);
            Ok(())
        });
        Ok(results.collect())
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<(), GroupError> {
        let member = &request.member;
        if self.state == GroupState::Dead {
            return Err(GroupError::NotAvailable);
        }
        if member.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if member.generation < 0 && member.member_id.is_empty() && member.instance_id.is_none() {
            // Somebody from outside, while the group has members.
            return Err(GroupError::UnknownMember);
        }
        if !env::planted!("generation-not-checked") {
            self.check_generation(member)?;
        }
        if self.state == GroupState::CompletingRebalance {
            // It knows the generation but cannot have an assignment in it.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    fn offset_key(&self, topic: &Name, partition: i32) -> OffsetKey {
        OffsetKey {
            group: self.id.clone(),
            topic: topic.clone(),
            partition,
        }
    }

    /// The offsets asked for; a partition without one is -1 and no error.
    pub(super) fn fetch_offsets(&self, request: &FetchOffsetsRequest) -> Vec<FetchedOffset> {
        match &request.partitions {
            None => self
                .offsets
                .iter()
                .map(|(t, p, value)| fetched(t, p, Some(value)))
                .collect(),
            Some(asked) => asked
                .iter()
                .map(|(topic, p)| fetched(topic, *p, self.offsets.get(topic, *p)))
                .collect(),
        }
    }

    /// OffsetDelete: one result per partition.
    ///
    /// # Errors
    /// When the whole request is refused.
    pub(super) fn delete_offsets(
        &mut self,
        cx: &mut Context<'_>,
        request: &DeleteOffsetsRequest,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let has_members = match self.state {
            GroupState::Dead => return Err(GroupError::GroupIdNotFound),
            GroupState::Empty => false,
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => true,
        };
        if has_members && !self.is_consumer() {
            return Err(GroupError::NonEmptyGroup);
        }
        let results = request.partitions.iter().map(|(topic, partition)| {
            if has_members && self.is_subscribed(topic) {
                return Err(GroupError::SubscribedToTopic);
            }
            self.drop_offset(cx, topic, *partition);
            Ok(())
        });
        Ok(results.collect())
    }

    fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member may be reading the topic: yes, if it does not say what it reads.
    fn is_subscribed(&self, topic: &str) -> bool {
        self.topics
            .as_ref()
            .is_none_or(|topics| topics.contains(topic))
    }

    fn drop_offset(&mut self, cx: &mut Context<'_>, topic: &Name, partition: i32) {
        if self.offsets.remove(topic, partition).is_some() {
            let key = self.offset_key(topic, partition).encode();
            cx.effects.records.push(GroupRecord {
                group: self.id.clone(),
                key,
                value: None,
            });
        }
    }

    /// Drops the offsets of topics that were deleted.
    pub(super) fn drop_topics(&mut self, cx: &mut Context<'_>, topics: &[Name]) {
        let gone = self
            .offsets
            .iter()
            .filter(|(topic, _, _)| topics.contains(topic))
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .collect::<Vec<_>>();
        for (topic, partition) in gone {
            self.drop_offset(cx, &topic, partition);
        }
    }

    /// Drops what outlived its retention; a group left with nothing is deleted.
    ///
    /// Offsets of a group with members never expire while it reads their topic; those of an empty
    /// group count from when it became empty, those of a simple group from their commit.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        let stable = self.state == GroupState::Stable && self.is_consumer();
        if self.state != GroupState::Empty && !stable {
            return;
        }
        let empty_since = (self.state == GroupState::Empty && self.protocol_type.is_some())
            .then_some(self.state_since_ms)
            .filter(|&since| since >= 0);
        let gone = self
            .offsets
            .iter()
            .filter(|(topic, _, value)| {
                let since = empty_since.unwrap_or(value.commit_ms).max(value.commit_ms);
                let at = value
                    .expire_ms
                    .unwrap_or_else(|| since.saturating_add(cx.config.offsets_retention_ms));
                cx.now.wall_ms >= at && !(stable && self.is_subscribed(topic))
            })
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .collect::<Vec<_>>();
        for (topic, partition) in gone {
            self.drop_offset(cx, &topic, partition);
        }
        if self.state == GroupState::Empty && self.offsets.is_empty() && self.pending.is_empty() {
            self.delete(cx);
        }
    }

    /// Tombstones for everything the log knows of the group.
    pub(super) fn delete(&mut self, cx: &mut Context<'_>) {
        let offsets = self
            .offsets
            .iter()
            .map(|(t, p, _)| (t.clone(), p))
            .collect::<Vec<_>>();
        for (topic, partition) in offsets {
            self.drop_offset(cx, &topic, partition);
        }
        if std::mem::take(&mut self.written) {
            let key = GroupKey {
                group: self.id.clone(),
            }
            .encode();
            cx.effects.records.push(GroupRecord {
                group: self.id.clone(),
                key,
                value: None,
            });
        }
        self.pending.clear();
        self.enter(cx, GroupState::Dead);
    }
}

fn committed(offset: &CommitOffset, commit_ms: i64, expire_ms: Option<i64>) -> OffsetValue {
    OffsetValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_ms,
        expire_ms,
    }
}

pub(super) fn fetched(topic: &Name, partition: i32, value: Option<&OffsetValue>) -> FetchedOffset {
    FetchedOffset {
        topic: topic.clone(),
        partition,
        offset: value.map_or(-1, |value| value.offset),
        leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: value.map_or_else(|| Name::from(""), |value| value.metadata.clone()),
    }
}
