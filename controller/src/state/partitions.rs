//! One partition: its leader, its ends, its slices.

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use wal::WalId;

use super::{Answer, Effects, ObjectId, Objects, State};
use crate::command::{HighWatermark, Response};
use crate::error::Refusal;
use crate::types::{Digest, SliceRef};

/// A partition. Idle, it is a few hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Who leads it: a broker that is not fenced, with an active log.
    pub(crate) leader: Option<BrokerEpoch>,
    /// Raised whenever it is opened anew.
    pub(crate) leader_epoch: LeaderEpoch,
    /// The log that must be closed before it may open (R13).
    pub(crate) awaits: Option<WalId>,
    /// First node of a manual assignment.
    pub(crate) preferred: Option<NodeId>,
    /// Who led it last.
    pub(crate) last_node: Option<NodeId>,
    /// Where it shall go.
    pub(crate) target: Option<NodeId>,
    pub(crate) log_start: i64,
    pub(crate) committed_end: i64,
    /// Highest high watermark that a leader reported.
    pub(crate) reported: i64,
    /// Epochs that hold data above the log start, with the first offset of each.
    pub(crate) epochs: Vec<(LeaderEpoch, i64)>,
    /// In order of offsets.
    pub(crate) slices: Vec<Slice>,
    /// Offsets that an abandoned log left empty, `[from, to)`, in order.
    pub(crate) gaps: Vec<(i64, i64)>,
}

/// A slice as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) object: ObjectId,
    pub(crate) first_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) max_timestamp_ms: i64,
    pub(crate) bytes: u64,
    pub(crate) index_position: u64,
    pub(crate) index_length: u64,
    pub(crate) index_digest: Digest,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) checkpoint: bool,
}

/// A partition as its leader names it.
pub(super) type Led = (BrokerEpoch, TopicPartition, LeaderEpoch);

// === impl Slice ===

impl Slice {
    pub(super) fn new(slice: &SliceRef, object: ObjectId) -> Self {
        Self {
            object,
            first_offset: slice.first_offset,
            end_offset: slice.end_offset,
            max_timestamp_ms: slice.max_timestamp_ms,
            bytes: slice.bytes,
            index_position: slice.index_position,
            index_length: slice.index_length,
            index_digest: slice.index_digest.clone(),
            leader_epoch: slice.leader_epoch,
            checkpoint: slice.checkpoint,
        }
    }
}

// === impl Partition ===

impl Partition {
    pub(super) fn new(preferred: Option<NodeId>) -> Self {
        Self {
            leader: None,
            // The first opening makes it 0, as in Kafka.
            leader_epoch: LeaderEpoch(-1),
            awaits: None,
            preferred,
            last_node: None,
            target: None,
            log_start: 0,
            committed_end: 0,
            reported: 0,
            epochs: Vec::new(),
            slices: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Gives it to a broker, at a higher leader epoch.
    pub(super) fn open(&mut self, leader: BrokerEpoch, node: NodeId) {
        assert!(self.awaits.is_none(), "R13: it waits for a log");
        self.leader = Some(leader);
        if self.leader_epoch.0 < 0 || !env::planted!("epoch-not-raised") {
            self.leader_epoch.0 += 1;
        }
        self.last_node = Some(node);
        if self.target == Some(node) {
            self.target = None;
        }
    }

    /// Adds a slice at the committed end.
    pub(super) fn push(&mut self, slice: Slice) {
        assert_eq!(
            slice.first_offset, self.committed_end,
            "slices leave no hole"
        );
        if self
            .epochs
            .last()
            .is_none_or(|(epoch, _)| *epoch < slice.leader_epoch)
        {
            self.epochs.push((slice.leader_epoch, slice.first_offset));
        }
        self.committed_end = slice.end_offset;
        self.slices.push(slice);
    }

    /// Drops what lies wholly below the log start.
    pub(super) fn drop_below_log_start(&mut self, objects: &mut Objects, now_ms: i64) {
        let log_start = self.log_start;
        let gone = self
            .slices
            .partition_point(|slice| slice.end_offset <= log_start);
        for slice in self.slices.drain(..gone) {
            objects.release(slice.object, now_ms);
        }
        self.gaps.retain(|(_, to)| *to > log_start);
        let mut stale = self
            .epochs
            .iter()
            .skip(1)
            .take_while(|(_, start)| *start <= log_start);
        let stale = stale.by_ref().count();
        self.epochs.drain(..stale);
        if let Some((_, start)) = self.epochs.first_mut() {
            *start = log_start.max(*start);
        }
    }

    /// Skips the offsets that a lost log may have given out.
    pub(super) fn skip_unknown(&mut self, gap: i64) {
        let known = self.committed_end.max(self.log_start).max(self.reported);
        let end = known.saturating_add(gap);
        self.gaps.push((self.committed_end, end));
        self.committed_end = end;
    }
}

// === impl State ===

impl State {
    /// The partition, when `led` is who leads it now.
    pub(super) fn led(&self, (broker, tp, epoch): Led) -> Result<&Partition, Refusal> {
        self.live_broker(broker)?;
        let Some(partition) = self.topics.partition(tp) else {
            return Err(Refusal::UnknownPartition { partition: tp });
        };
        if partition.leader != Some(broker) || partition.leader_epoch != epoch {
            let current = partition.leader_epoch;
            return Err(Refusal::StaleLeader {
                partition: tp,
                given: epoch,
                current,
            });
        }
        Ok(partition)
    }

    pub(super) fn report_high_watermarks(
        &mut self,
        broker: BrokerEpoch,
        marks: &[HighWatermark],
    ) -> Answer {
        self.live_broker(broker)?;
        for mark in marks {
            // A partition that moved on meanwhile is no fault of the renewal.
            if self
                .led((broker, mark.topic_partition, mark.leader_epoch))
                .is_ok()
            {
                let partition = self
                    .topics
                    .partition_mut(mark.topic_partition)
                    .expect("led");
                partition.reported = partition.reported.max(mark.offset);
            }
        }
        Ok(Response::Done)
    }

    pub(super) fn set_log_start(
        &mut self,
        led: Led,
        log_start: i64,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Answer {
        self.led(led)?;
        let partition = self.topics.partition_mut(led.1).expect("led");
        if log_start > partition.log_start || env::planted!("log-start-goes-back") {
            partition.log_start = log_start;
            partition.drop_below_log_start(&mut self.objects, now_ms);
            effects.topics.insert(led.1.topic);
        }
        Ok(Response::LogStart {
            offset: partition.log_start,
        })
    }
}
