//! Questions to the state, as they travel: what is large comes in pages.
//!
//! **Invariant:** the pages of a partition are all of one state of it: each carries a mark of the
//! whole, and they are asked for anew when it changes between them.

use prost::Message;
use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use wal::WalId;

use super::wire;
use crate::command::{
    Decoded, ObjectTable, get_id, get_objects, get_partition, get_slice, malformed, put_id,
    put_slice,
};
use crate::limits::QUERY_BYTES;
use crate::state::{Condemned, PartitionState};

pub(crate) use crate::command::put_partition;

/// A partition, while its pages come in.
pub(crate) struct Pages {
    tp: TopicPartition,
    mark: u32,
    state: Option<Box<PartitionState>>,
}

/// What a page led to.
pub(crate) enum Added {
    /// Ask for the next.
    More,
    /// That was the last.
    Done(Option<Box<PartitionState>>),
    /// It is of another state than those before: begin again.
    Changed,
}

// === impl Pages ===

impl Pages {
    pub(crate) fn new(tp: TopicPartition) -> Self {
        Self {
            tp,
            mark: 0,
            state: None,
        }
    }

    /// The question for the next page.
    pub(crate) fn next(&self) -> wire::Query {
        let from = self.state.as_ref().map_or(0, |state| state.slices.len());
        wire::Query {
            partition: Some(wire::AskPartition {
                partition: Some(put_partition(self.tp)),
                from: from as u64,
            }),
            ..Default::default()
        }
    }

    /// Takes the answer.
    pub(crate) fn add(&mut self, reply: wire::Reply) -> Decoded<Added> {
        let Some(page) = reply.partition else {
            return Ok(match self.state {
                None => Added::Done(None),
                Some(_) => Added::Changed,
            });
        };
        if self.state.is_some() && self.mark != page.mark {
            return Ok(Added::Changed);
        }
        let objects = get_objects(page.objects)?;
        let mut slices = Vec::with_capacity(page.slices.len());
        for slice in page.slices {
            slices.push(get_slice(self.tp, slice, &objects)?);
        }
        self.mark = page.mark;
        if slices.is_empty() && page.more {
            return malformed("page: nothing in it, and more to come");
        }
        match &mut self.state {
            Some(state) => state.slices.extend(slices),
            none => {
                *none = Some(Box::new(PartitionState {
                    topic_partition: self.tp,
                    leader: page.leader.map(BrokerEpoch),
                    leader_epoch: LeaderEpoch(page.leader_epoch),
                    awaits: page.awaits.as_deref().map(get_id).transpose()?.map(WalId),
                    log_start: page.log_start,
                    committed_end: page.committed_end,
                    epochs: page
                        .epochs
                        .iter()
                        .map(|range| (LeaderEpoch(range.epoch), range.from))
                        .collect(),
                    slices,
                    gaps: page.gaps.iter().map(|gap| (gap.from, gap.to)).collect(),
                }));
            }
        }
        Ok(match page.more {
            true => Added::More,
            false => Added::Done(self.state.take()),
        })
    }
}

/// The page of `state` that begins with its slice number `from`, of about `QUERY_BYTES`.
pub(crate) fn put_page(state: &PartitionState, from: u64) -> wire::PartitionPage {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let rest = state.slices.get(from..).unwrap_or_default();
    let (mut objects, mut slices, mut bytes) = (ObjectTable::default(), Vec::new(), 0);
    for slice in rest {
        if bytes >= QUERY_BYTES {
            break;
        }
        let put = put_slice(slice, &mut objects);
        bytes +=
            put.encoded_len() + slice.object.key.len() + slice.object.digest.bytes().len() + 32;
        slices.push(put);
    }
    let mut page = wire::PartitionPage {
        leader: state.leader.map(|leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        awaits: state.awaits.map(|wal| put_id(wal.0)),
        log_start: state.log_start,
        committed_end: state.committed_end,
        epochs: state
            .epochs
            .iter()
            .map(|(epoch, from)| wire::Range {
                epoch: epoch.0,
                from: *from,
                to: 0,
            })
            .collect(),
        gaps: state
            .gaps
            .iter()
            .map(|(from, to)| wire::Range {
                epoch: 0,
                from: *from,
                to: *to,
            })
            .collect(),
        ..Default::default()
    };
    page.mark = mark(&page, state);
    page.more = slices.len() < rest.len();
    (page.objects, page.slices) = (objects.list, slices);
    page
}

/// Changes with the state.
fn mark(head: &wire::PartitionPage, state: &PartitionState) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head.encode_to_vec());
    for slice in &state.slices {
        crc.update(&slice.first_offset.to_be_bytes());
        crc.update(&slice.end_offset.to_be_bytes());
        crc.update(slice.object.key.as_bytes());
    }
    crc.finalize()
}

/// The partition that is asked for.
pub(crate) fn get_asked(wire: Option<wire::WirePartition>) -> Decoded<TopicPartition> {
    get_partition(wire)
}

/// As many as fit into an answer.
pub(crate) fn put_condemned(condemned: Vec<Condemned>) -> Vec<wire::CondemnedObject> {
    let mut bytes = 0;
    let put = condemned.into_iter().map(put_object);
    let fits = |object: &wire::CondemnedObject| {
        bytes += object.encoded_len() + 8;
        bytes <= QUERY_BYTES
    };
    put.take_while(fits).collect()
}

pub(crate) fn put_object(object: Condemned) -> wire::CondemnedObject {
    wire::CondemnedObject {
        key: object.key,
        at_ms: object.condemned_at_ms,
    }
}

pub(crate) fn get_condemned(wire: wire::CondemnedObject) -> Condemned {
    Condemned {
        key: wire.key,
        condemned_at_ms: wire.at_ms,
    }
}

#[cfg(test)]
mod tests;
