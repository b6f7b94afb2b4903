//! Questions to the state that the image does not answer.

use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use wal::{Sequence, WalId};

use super::{Slice, State};
use crate::command::Command;
use crate::error::Refusal;
use crate::limits::MAX_KEYS_PER_QUERY;
use crate::types::{ObjectRef, SliceRef};

/// Everything about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Who leads it.
    pub leader: Option<BrokerEpoch>,
    /// Epoch at which it is, or was last, led; −1 before the first leader.
    pub leader_epoch: LeaderEpoch,
    /// The log that must be closed before it may open (R13).
    pub awaits: Option<WalId>,
    /// First offset that may be read.
    pub log_start: i64,
    /// Offset up to which slices are recorded.
    pub committed_end: i64,
    /// Epochs that hold data above the log start, with the first offset of each, ascending.
    pub epochs: Vec<(LeaderEpoch, i64)>,
    /// In order of offsets; with `gaps`, without holes from the log start to the committed end.
    pub slices: Vec<SliceRef>,
    /// Offsets that an abandoned log left empty, `[from, to)`, ascending.
    pub gaps: Vec<(i64, i64)>,
}

/// An object that no slice names any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Key in the store.
    pub key: String,
    /// When, milliseconds since the Unix epoch, by the proposer's clock.
    pub condemned_at_ms: i64,
}

impl State {
    /// One partition, with its slices.
    pub(crate) fn partition_state(&self, tp: TopicPartition) -> Option<PartitionState> {
        let partition = self.topics.partition(tp)?;
        let mut slices: Vec<SliceRef> = Vec::with_capacity(partition.slices.len());
        for slice in &partition.slices {
            // Neighbours often share a bundle.
            let last = slices.last().map(|last| last.object.clone());
            slices.push(self.slice_ref(tp, slice, last));
        }
        Some(PartitionState {
            topic_partition: tp,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            awaits: partition.awaits,
            log_start: partition.log_start,
            committed_end: partition.committed_end,
            epochs: partition.epochs.clone(),
            slices,
            gaps: partition.gaps.clone(),
        })
    }

    fn slice_ref(
        &self,
        tp: TopicPartition,
        slice: &Slice,
        last: Option<Arc<ObjectRef>>,
    ) -> SliceRef {
        let object = self.objects.get(slice.object);
        let same = last.filter(|last| *last.key == *object.key);
        let object = same.unwrap_or_else(|| {
            Arc::new(ObjectRef {
                key: object.key.to_string(),
                length: object.length,
                digest: object.digest.clone(),
            })
        });
        SliceRef {
            topic_partition: tp,
            leader_epoch: slice.leader_epoch,
            first_offset: slice.first_offset,
            end_offset: slice.end_offset,
            max_timestamp_ms: slice.max_timestamp_ms,
            bytes: slice.bytes,
            object,
            index_position: slice.index_position,
            index_length: slice.index_length,
            index_digest: slice.index_digest.clone(),
            checkpoint: slice.checkpoint,
        }
    }

    /// Objects condemned before `before_ms` that come behind `after`, at most `limit`, oldest first,
    /// then by key.
    pub(crate) fn condemned_before(
        &self,
        before_ms: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Vec<Condemned> {
        let after = after.map(|after| (after.condemned_at_ms, after.key.as_str()));
        self.objects
            .condemned_after(after)
            .take_while(|(at_ms, _)| *at_ms < before_ms)
            .take(limit.min(MAX_KEYS_PER_QUERY))
            .map(|(at_ms, key)| Condemned {
                key: key.to_string(),
                condemned_at_ms: at_ms,
            })
            .collect()
    }

    /// Of `keys`, those that nothing names and nothing can ever name: the broker epoch in the key
    /// is closed. A key that is not of the form `…/{node}-{broker epoch}-{nonce}` is none of ours.
    pub(crate) fn orphans(&self, keys: Vec<String>) -> Vec<String> {
        assert!(keys.len() <= MAX_KEYS_PER_QUERY, "cut by the client");
        let orphan = |key: &String| {
            let epoch = broker_epoch_of(key);
            epoch.is_some_and(|epoch| self.epoch_is_closed(epoch)) && !self.objects.knows(key)
        };
        keys.into_iter().filter(orphan).collect()
    }

    /// True for a broker epoch that is not fenced.
    pub(crate) fn is_live(&self, broker: BrokerEpoch) -> bool {
        self.live_broker(broker).is_ok()
    }

    /// Whether `command` would be done, as far as topics, configurations and levels go, by a build
    /// that knows levels up to `newest`.
    pub(crate) fn check(&self, command: &Command, newest: u16) -> Result<(), Refusal> {
        match command {
            Command::CreateTopic(create) => self.check_create_topic(create),
            Command::CreatePartitions {
                topic,
                count,
                assignments,
            } => self.check_create_partitions(*topic, *count, assignments),
            Command::AlterConfigs {
                resource,
                changes,
                replace,
            } => self.changed_configs(resource, changes, *replace).map(drop),
            Command::DeleteTopic { topic } => self.topic(*topic).map(drop),
            Command::FinalizeFeature { name, level } => self.check_finalize(name, *level, newest),
            _ => Ok(()),
        }
    }

    /// The first group of a log that is not committed, unless it is closed.
    pub(crate) fn trim_point(&self, wal: WalId) -> Option<Sequence> {
        let wal = self.wals.get(&wal).filter(|wal| !wal.phase.is_closed());
        wal.map(|wal| wal.trim)
    }

    /// Bytes of all slices of a partition.
    pub(crate) fn partition_bytes(&self, tp: TopicPartition) -> Option<u64> {
        Some(
            self.topics
                .partition(tp)?
                .slices
                .iter()
                .map(|slice| slice.bytes)
                .sum(),
        )
    }
}

/// The broker epoch in `…/data/{hash}/{node}-{broker epoch}-{nonce}`.
fn broker_epoch_of(key: &str) -> Option<BrokerEpoch> {
    let mut parts = key.rsplit('/');
    let name = parts.next()?;
    let (_hash, data) = (parts.next()?, parts.next()?);
    let mut fields = name.splitn(3, '-');
    let node = fields.next()?.parse::<u32>();
    let epoch = fields.next()?.parse().ok()?;
    let nonce = fields.next()?;
    (data == "data" && node.is_ok() && !nonce.is_empty()).then_some(BrokerEpoch(epoch))
}
