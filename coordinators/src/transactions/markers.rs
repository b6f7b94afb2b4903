//! Markers of decided transactions: grouped by the brokers that lead, tried until every partition
//! has its own, and then the last record.
//!
//! A decision is never given up: whatever goes wrong is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{ErrorCode, ProducerId};

use super::coordinator::Coordinator;
use super::effect::{BatchId, Effect, Leader, Marker, MarkerBatch};
use super::limits::MAX_MARKERS_PER_BATCH;
use super::marking::Sent;
use super::types::Partition;

/// What a broker answered to a batch of markers: per producer id and partition.
pub type MarkerResults = BTreeMap<(ProducerId, Partition), ErrorCode>;

/// What an answer to one marker means.
enum Fate {
    /// The partition has no need of it any more.
    Done,
    /// Later.
    Again,
    /// A later coordinator has been there.
    Superseded,
}

impl Fate {
    fn of(code: Option<ErrorCode>) -> Self {
        match code {
            Some(ErrorCode::None) => Self::Done,
            Some(ErrorCode::TransactionCoordinatorFenced) => Self::Superseded,
            // Nothing of the transaction can be in such a log; or the partition knows a later
            // epoch, and what was open under this one has ended there.
            Some(
                ErrorCode::UnsupportedForMessageFormat
                | ErrorCode::UnsupportedVersion
                | ErrorCode::InvalidProducerEpoch,
            ) => Self::Done,
            // Moves, full queues, time-outs, an answer without this partition, and whatever else:
            // none of it is a reason to leave a transaction open for ever.
            Some(_) | None => Self::Again,
        }
    }
}

impl Coordinator {
    /// The markers to write now, by broker. `leader` says who leads a partition. What it says
    /// to be deleted needs no marker; the effects are the ends of transactions of which nothing
    /// is left thereby.
    ///
    /// One request per broker at a time is enough: call this again when one is answered, when
    /// [`Effect::MarkersDue`] says so, and at [`markers_due_ms`](Self::markers_due_ms).
    pub fn markers<N: Ord + Clone>(
        &mut self,
        now_ms: i64,
        mut leader: impl FnMut(&Partition) -> Leader<N>,
    ) -> (Vec<MarkerBatch<N>>, Vec<Effect>) {
        let mut batches = Batches::default();
        let mut effects = Vec::new();
        for id in self.marking.clone() {
            let markers = self.markers_of(now_ms, &id, &mut leader);
            for (node, marker) in markers {
                batches.add(self, node, marker);
            }
            if self.is_due(now_ms, &id) {
                effects.extend(self.complete(now_ms, &id));
            }
        }
        (batches.ready, effects)
    }

    fn is_due(&self, now_ms: i64, id: &str) -> bool {
        let marking = self.entries.get(id).and_then(|it| it.marking.as_ref());
        marking.is_some_and(|marking| marking.due_ms <= now_ms)
    }

    /// Takes what waits of one transaction.
    fn markers_of<N: Ord + Clone>(
        &mut self,
        now_ms: i64,
        id: &Arc<str>,
        leader: &mut impl FnMut(&Partition) -> Leader<N>,
    ) -> BTreeMap<N, Marker> {
        let mut markers: BTreeMap<N, Marker> = BTreeMap::new();
        let entry = self.entries.get_mut(id).expect("entries stay while busy");
        let marking = entry.marking.as_mut().expect("it is in the set");
        let current = entry.current.as_ref().expect("it was decided");
        let decision = current.decision().expect("it was decided");
        if marking.due_ms > now_ms {
            return markers;
        }
        let mut unknown = BTreeSet::new();
        for partition in std::mem::take(&mut marking.waiting) {
            let node = match leader(&partition) {
                Leader::Node(node) => node,
                Leader::Deleted => continue,
                Leader::Unknown => {
                    unknown.insert(partition);
                    continue;
                }
            };
            marking.sent.insert(partition.clone());
            let marker = markers.entry(node).or_insert_with(|| Marker {
                transactional_id: id.clone(),
                producer: current.producer,
                decision,
                coordinator_epoch: self.epoch,
                version: current.client,
                partitions: BTreeSet::new(),
            });
            marker.partitions.insert(partition);
        }
        if !unknown.is_empty() {
            marking.waiting = unknown;
            marking.postpone(now_ms);
        }
        markers
    }

    /// Says what a broker answered; none if the request was lost.
    pub fn markers_answered(
        &mut self,
        now_ms: i64,
        batch: BatchId,
        results: Option<&MarkerResults>,
    ) -> Vec<Effect> {
        let Some(batch) = self.batches.remove(&batch) else {
            // From before the machine resigned.
            return Vec::new();
        };
        let mut effects = Vec::new();
        let mut again = false;
        for sent in batch {
            let id = sent.transactional_id;
            let entry = self.entries.get_mut(&id).expect("entries stay while busy");
            let marking = entry.marking.as_mut().expect("not all were answered");
            let mut failed = false;
            for partition in sent.partitions {
                let taken = marking.sent.remove(&partition);
                assert!(taken, "each is in one request at a time");
                let key = (sent.producer.id, partition);
                match Fate::of(results.and_then(|results| results.get(&key).copied())) {
                    Fate::Done => {}
                    Fate::Superseded => return self.resign(),
                    Fate::Again => {
                        failed = true;
                        marking.waiting.insert(key.1);
                    }
                }
            }
            if failed {
                marking.postpone(now_ms);
                again = true;
            }
            effects.extend(self.complete(now_ms, &id));
        }
        if again {
            effects.push(Effect::MarkersDue);
        }
        effects
    }

    /// When [`markers`](Self::markers) next has something to do, milliseconds since the Unix
    /// epoch; none if everything is under way.
    pub fn markers_due_ms(&self) -> Option<i64> {
        self.marking
            .iter()
            .filter_map(|id| {
                let entry = self.entries.get(id)?;
                let marking = entry.marking.as_ref()?;
                let idle = entry.pending.is_none() && marking.is_done();
                (idle || !marking.waiting.is_empty()).then_some(marking.due_ms)
            })
            .min()
    }
}

/// Requests being put together.
struct Batches<N> {
    open: BTreeMap<N, usize>,
    ready: Vec<MarkerBatch<N>>,
}

impl<N> Default for Batches<N> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            ready: Vec::new(),
        }
    }
}

impl<N: Ord + Clone> Batches<N> {
    fn add(&mut self, machine: &mut Coordinator, node: N, marker: Marker) {
        let sent = Sent {
            transactional_id: marker.transactional_id.clone(),
            producer: marker.producer,
            partitions: marker.partitions.clone(),
        };
        let room = self
            .open
            .get(&node)
            .copied()
            .filter(|&at| self.ready[at].markers.len() < MAX_MARKERS_PER_BATCH);
        let at = room.unwrap_or_else(|| {
            machine.last_batch += 1;
            self.ready.push(MarkerBatch {
                batch: BatchId(machine.last_batch),
                node: node.clone(),
                markers: Vec::new(),
            });
            self.open.insert(node, self.ready.len() - 1);
            self.ready.len() - 1
        });
        let batch = &mut self.ready[at];
        batch.markers.push(marker);
        machine.batches.entry(batch.batch).or_default().push(sent);
    }
}
