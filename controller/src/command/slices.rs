//! Slices and objects to and from their stored form: each object once, by its place in a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use wal::WalId;

use super::parts::{
    Decoded, get_digest, get_id, get_partition, malformed, put_digest, put_id, put_partition,
};
use super::{CommitUpload, OldSlice, ReplaceRun, ReplaceSlices, wire};
use crate::types::{Claim, ObjectRef, SliceRef};

/// Objects named by a command or an answer, each once.
#[derive(Default)]
pub(crate) struct ObjectTable {
    pub(crate) list: Vec<wire::Object>,
    index: BTreeMap<String, u64>,
}

impl ObjectTable {
    fn put(&mut self, object: &ObjectRef) -> u64 {
        let next = self.list.len() as u64;
        let list = &mut self.list;
        *self.index.entry(object.key.clone()).or_insert_with(|| {
            list.push(wire::Object {
                key: object.key.clone(),
                length: object.length,
                digest: Some(put_digest(&object.digest)),
            });
            next
        })
    }
}

pub(crate) fn get_objects(wire: Vec<wire::Object>) -> Decoded<Vec<Arc<ObjectRef>>> {
    wire.into_iter()
        .map(|object| {
            let digest = get_digest(object.digest)?;
            Ok(Arc::new(ObjectRef {
                key: object.key,
                length: object.length,
                digest,
            }))
        })
        .collect()
}

pub(crate) fn put_slice(slice: &SliceRef, objects: &mut ObjectTable) -> wire::Slice {
    wire::Slice {
        object: objects.put(&slice.object),
        leader_epoch: slice.leader_epoch.0,
        first_offset: slice.first_offset,
        span: slice
            .end_offset
            .saturating_sub(slice.first_offset)
            .max(0)
            .unsigned_abs(),
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.bytes,
        index_position: slice.index_position,
        index_length: slice.index_length,
        index_digest: Some(put_digest(&slice.index_digest)),
        checkpoint: slice.checkpoint,
    }
}

pub(crate) fn get_slice(
    tp: TopicPartition,
    wire: wire::Slice,
    objects: &[Arc<ObjectRef>],
) -> Decoded<SliceRef> {
    let object = usize::try_from(wire.object)
        .ok()
        .and_then(|at| objects.get(at));
    let Some(object) = object else {
        return malformed("slice: no such object");
    };
    let Some(end_offset) = wire.first_offset.checked_add_unsigned(wire.span) else {
        return malformed("slice: span out of range");
    };
    Ok(SliceRef {
        topic_partition: tp,
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        first_offset: wire.first_offset,
        end_offset,
        max_timestamp_ms: wire.max_timestamp_ms,
        bytes: wire.bytes,
        object: object.clone(),
        index_position: wire.index_position,
        index_length: wire.index_length,
        index_digest: get_digest(wire.index_digest)?,
        checkpoint: wire.checkpoint,
    })
}

pub(super) fn put_commit(commit: &CommitUpload) -> wire::CommitUpload {
    let mut objects = ObjectTable::default();
    let partitions = commit
        .slices
        .chunk_by(|a, b| a.topic_partition == b.topic_partition)
        .map(|run| wire::PartitionSlices {
            partition: Some(put_partition(run[0].topic_partition)),
            slices: run
                .iter()
                .map(|slice| put_slice(slice, &mut objects))
                .collect(),
        })
        .collect();
    wire::CommitUpload {
        broker_epoch: commit.broker_epoch.0,
        wal: put_id(commit.wal.0),
        claim: commit.claim.map(|claim| claim.0),
        from: commit.from,
        to: commit.to,
        objects: objects.list,
        partitions,
    }
}

pub(super) fn get_commit(wire: wire::CommitUpload) -> Decoded<CommitUpload> {
    let objects = get_objects(wire.objects)?;
    let mut slices = Vec::new();
    for run in wire.partitions {
        let tp = get_partition(run.partition)?;
        for slice in run.slices {
            slices.push(get_slice(tp, slice, &objects)?);
        }
    }
    Ok(CommitUpload {
        broker_epoch: BrokerEpoch(wire.broker_epoch),
        wal: WalId(get_id(&wire.wal)?),
        claim: wire.claim.map(Claim),
        from: wire.from,
        to: wire.to,
        slices,
    })
}

pub(super) fn put_replace(replace: &ReplaceSlices) -> wire::ReplaceSlices {
    let mut objects = ObjectTable::default();
    let runs = replace
        .runs
        .iter()
        .map(|run| wire::ReplaceRun {
            partition: Some(put_partition(run.topic_partition)),
            leader_epoch: run.leader_epoch.0,
            old: run
                .old
                .iter()
                .map(|old| wire::OldSlice {
                    first_offset: old.first_offset,
                    end_offset: old.end_offset,
                    key: old.key.clone(),
                })
                .collect(),
            new: run
                .new
                .iter()
                .map(|slice| put_slice(slice, &mut objects))
                .collect(),
        })
        .collect();
    wire::ReplaceSlices {
        broker_epoch: replace.broker_epoch.0,
        objects: objects.list,
        runs,
    }
}

pub(super) fn get_replace(wire: wire::ReplaceSlices) -> Decoded<ReplaceSlices> {
    let objects = get_objects(wire.objects)?;
    let mut runs = Vec::with_capacity(wire.runs.len());
    for run in wire.runs {
        let tp = get_partition(run.partition)?;
        let old = run
            .old
            .into_iter()
            .map(|old| OldSlice {
                first_offset: old.first_offset,
                end_offset: old.end_offset,
                key: old.key,
            })
            .collect();
        let new = run
            .new
            .into_iter()
            .map(|slice| get_slice(tp, slice, &objects))
            .collect::<Decoded<_>>()?;
        let leader_epoch = LeaderEpoch(run.leader_epoch);
        runs.push(ReplaceRun {
            topic_partition: tp,
            leader_epoch,
            old,
            new,
        });
    }
    Ok(ReplaceSlices {
        broker_epoch: BrokerEpoch(wire.broker_epoch),
        runs,
    })
}
