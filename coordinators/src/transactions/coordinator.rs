//! The machine: ids, records on their way to the log, and what is done when they are durable.
//!
//! A request either is answered at once, or proposes a transition: `propose` puts the metadata as
//! it is to be beside the metadata as it is, and gives the effect that appends its record. Until
//! [`Coordinator::appended`] says what became of it, the id is busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;

use super::TransactionState;
use super::effect::{
    Answer, AppendId, Appended, BatchId, ConnectionId, Effect, Refusal, RequestId,
};
use super::marking::{Marking, Sent};
use super::metadata::Metadata;
use super::producer_ids::ProducerIds;
use super::record::RecordKey;
use super::settings::Settings;
use super::types::Producer;

/// What a decision needs of the world.
#[derive(Debug)]
pub struct World<'a> {
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Producer ids that nobody has yet.
    pub ids: &'a mut ProducerIds,
}

/// The coordinator of the transactional ids of one partition of `__transaction_state`.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) settings: Settings,
    /// The leader epoch of the partition: later coordinators have higher ones.
    pub(super) epoch: i32,
    phase: Phase,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    appends: BTreeMap<AppendId, Arc<str>>,
    last_append: u64,
    pub(super) batches: BTreeMap<BatchId, Vec<Sent>>,
    pub(super) last_batch: u64,
    /// The ids whose markers are being written, or whose end is.
    pub(super) marking: BTreeSet<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Active,
    Resigned,
}

/// One transactional id.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What the log says; none while the first record is on its way.
    pub(super) current: Option<Metadata>,
    /// What it will say.
    pub(super) pending: Option<Pending>,
    /// While the outcome is decided and not complete.
    pub(super) marking: Option<Marking>,
    /// The latest connection that has acted, and for which producer.
    speaker: Option<(Producer, ConnectionId)>,
}

#[derive(Debug)]
pub(super) struct Pending {
    append: AppendId,
    /// None is a tombstone.
    pub(super) next: Option<Metadata>,
    then: Then,
}

/// What a transition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// InitProducerId gives out a producer.
    Init(RequestId),
    /// A transaction is aborted under a new epoch: for an InitProducerId, or in time.
    Fence(Option<RequestId>),
    /// Partitions join.
    Add(RequestId),
    /// EndTxn decides.
    End(RequestId),
    /// All markers are written.
    Complete,
    /// The id expires.
    Expire,
}

impl Then {
    fn answer(self, outcome: Result<Producer, ErrorCode>) -> Option<Effect> {
        let (request, answer) = match self {
            Self::Init(request) => (request, Answer::InitProducerId(outcome)),
            Self::Fence(Some(request)) => {
                // Come back when the abort is done: then the epoch is raised once more.
                let later = outcome.and(Err(ErrorCode::ConcurrentTransactions));
                (request, Answer::InitProducerId(later))
            }
            Self::Add(request) => (request, Answer::AddPartitions(outcome.map(|_| ()))),
            Self::End(request) => (request, Answer::EndTxn(outcome)),
            Self::Fence(None) | Self::Complete | Self::Expire => return None,
        };
        Some(Effect::Answer { request, answer })
    }
}

impl Entry {
    /// Whether a record is on its way, or the outcome is decided and not complete. Nobody can
    /// act on the id until then.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some() || self.marking.is_some()
    }

    /// Whether a request came on an earlier connection than one that has acted for the producer
    /// since. If not, its connection is the latest now.
    pub(super) fn is_outdated(
        &mut self,
        producer: Producer,
        connection: Option<ConnectionId>,
    ) -> bool {
        let Some(connection) = connection else {
            return false;
        };
        match self.speaker {
            Some((spoke, latest)) if spoke == producer && latest > connection => true,
            _ => {
                self.speaker = Some((producer, connection));
                false
            }
        }
    }
}

impl Coordinator {
    /// A machine that has read nothing of its partition yet. `epoch` is the partition's leader
    /// epoch.
    pub fn new(settings: Settings, epoch: i32) -> Self {
        Self {
            settings,
            epoch,
            phase: Phase::Loading,
            entries: BTreeMap::new(),
            appends: BTreeMap::new(),
            last_append: 0,
            batches: BTreeMap::new(),
            last_batch: 0,
            marking: BTreeSet::new(),
        }
    }

    /// The coordinator epoch, which markers carry.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// How many ids are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no id is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Settings that are valid from now on.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(super) fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    pub(super) fn activate(&mut self) {
        assert_eq!(self.phase, Phase::Loading, "loaded once");
        self.phase = Phase::Active;
    }

    /// Whether requests are served.
    pub(super) fn serving(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Active => Ok(()),
            Phase::Resigned => Err(ErrorCode::NotCoordinator),
        }
    }

    /// The entry of an id that should be there.
    pub(super) fn known(&mut self, transactional_id: &str) -> Result<&mut Entry, ErrorCode> {
        if transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.serving()?;
        self.entries
            .get_mut(transactional_id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// Begins a transition. The id must not have one.
    pub(super) fn propose(
        &mut self,
        transactional_id: &Arc<str>,
        next: Option<Metadata>,
        then: Then,
    ) -> Effect {
        self.last_append += 1;
        let append = AppendId(self.last_append);
        let key = RecordKey::encode(transactional_id);
        let value = next.as_ref().map(|next| next.encode(self.settings.version));
        let entry = self.entries.entry(transactional_id.clone()).or_default();
        assert!(entry.pending.is_none(), "one transition at a time");
        entry.pending = Some(Pending { append, next, then });
        self.appends.insert(append, transactional_id.clone());
        Effect::Append { append, key, value }
    }

    /// Says what became of a record. Numbers that are not awaited mean nothing: the machine has
    /// resigned since.
    pub fn appended(&mut self, now_ms: i64, append: AppendId, outcome: Appended) -> Vec<Effect> {
        if outcome == Appended::Lost {
            return self.resign();
        }
        let Some(id) = self.appends.remove(&append) else {
            return Vec::new();
        };
        let entry = self.entries.get_mut(&id).expect("entries stay while busy");
        let pending = entry.pending.take().expect("it was awaited");
        assert_eq!(pending.append, append, "one transition at a time");
        match outcome {
            Appended::Written => self.written(now_ms, &id, pending),
            Appended::Refused(refusal) => self.refused(now_ms, &id, &pending, refusal),
            Appended::Lost => unreachable!("handled above"),
        }
    }

    fn written(&mut self, now_ms: i64, id: &Arc<str>, pending: Pending) -> Vec<Effect> {
        let Some(next) = pending.next else {
            self.entries.remove(id);
            return Vec::new();
        };
        let mut effects: Vec<Effect> = pending
            .then
            .answer(Ok(next.successor()))
            .into_iter()
            .collect();
        let entry = self.entries.get_mut(id).expect("it was pending");
        if let Some(current) = &entry.current {
            assert!(
                next.state.may_follow(current.state),
                "checked when proposed"
            );
        }
        entry.current = Some(next);
        effects.extend(self.resume(now_ms, id));
        effects
    }

    fn refused(
        &mut self,
        now_ms: i64,
        id: &Arc<str>,
        pending: &Pending,
        refusal: Refusal,
    ) -> Vec<Effect> {
        let entry = self.entries.get_mut(id).expect("it was pending");
        if entry.current.is_none() {
            self.entries.remove(id);
        } else if let Some(marking) = &mut entry.marking {
            // What is decided is carried out: the last record is tried again.
            marking.postpone(now_ms);
        }
        pending
            .then
            .answer(Err(refusal.code()))
            .into_iter()
            .collect()
    }

    /// Goes on with what the state of an id demands: markers of a decision, or none.
    pub(super) fn resume(&mut self, now_ms: i64, id: &Arc<str>) -> Option<Effect> {
        let entry = self.entries.get_mut(id)?;
        let current = entry.current.as_ref()?;
        if !current.state.is_prepared() {
            entry.marking = None;
            self.marking.remove(id);
            return None;
        }
        entry.marking = Some(Marking::new(current.partitions.clone()));
        self.marking.insert(id.clone());
        if current.partitions.is_empty() {
            self.complete(now_ms, id)
        } else {
            Some(Effect::MarkersDue)
        }
    }

    /// Writes the last record of a transaction whose markers are written.
    pub(super) fn complete(&mut self, now_ms: i64, id: &Arc<str>) -> Option<Effect> {
        let entry = self.entries.get(id)?;
        let done = entry.marking.as_ref().is_some_and(Marking::is_done);
        if !done || entry.pending.is_some() {
            return None;
        }
        let next = entry.current.as_ref()?.completed(now_ms);
        Some(self.propose(id, Some(next), Then::Complete))
    }

    /// Ends the machine: the partition is led elsewhere. Everybody who waits is answered
    /// NOT_COORDINATOR, and so is every request from now on.
    pub fn resign(&mut self) -> Vec<Effect> {
        if self.phase == Phase::Resigned {
            return Vec::new();
        }
        self.phase = Phase::Resigned;
        self.appends.clear();
        self.batches.clear();
        self.marking.clear();
        let mut effects: Vec<Effect> = std::mem::take(&mut self.entries)
            .into_values()
            .filter_map(|entry| entry.pending?.then.answer(Err(ErrorCode::NotCoordinator)))
            .collect();
        effects.push(Effect::Resigned);
        effects
    }

    /// The producer under which an open transaction is aborted without its producer's doing: the
    /// next epoch, and with epochs of their own the next producer id when they are used up.
    pub(super) fn fencing(
        &self,
        current: &Metadata,
        world: &mut World<'_>,
    ) -> Result<Metadata, ErrorCode> {
        assert_eq!(current.state, TransactionState::Ongoing, "nothing to abort");
        let version = self.settings.version;
        if !version.bumps_epochs() {
            return Ok(current.fenced(world.now_ms));
        }
        let next_id = next_id(current, world)?;
        let abort = super::Decision::Abort;
        Ok(current.decided(abort, version, next_id, world.now_ms))
    }
}

/// A producer id to go on with, if this one's epochs are used up.
pub(super) fn next_id(
    current: &Metadata,
    world: &mut World<'_>,
) -> Result<Option<protocol::ProducerId>, ErrorCode> {
    if !current.producer.is_exhausted() {
        return Ok(None);
    }
    // Kafka's answer while the next block of ids is on its way.
    let fresh = world.ids.take();
    fresh.map(Some).ok_or(ErrorCode::CoordinatorLoadInProgress)
}
