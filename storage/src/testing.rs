//! A catalog in memory with the semantics of the real one, for tests of whoever uses this crate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_trait::async_trait;
use parking_lot::Mutex;
use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use uuid::Uuid;
use wal::{Sequence, WalId};

use crate::{
    Catalog, CatalogError, CommitUpload, Condemned, PartitionView, ReplaceSlices, SliceOutcome,
    SliceRef,
};

/// What the fake does with a call before or after it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused as unavailable; nothing changed.
    Unavailable,
    /// Took effect; the answer was lost.
    LostAnswer,
    /// Likewise, and a repetition is not known as one: judged anew, as the real catalog does with
    /// commits that move no trim point once it has forgotten them.
    Forgotten,
    /// Refused as a conflict; nothing changed.
    Conflict,
    /// A bug: who asks panics, and nothing changed.
    Panic,
}

/// A catalog of honest semantics in memory: one leader per partition, one trim point per log,
/// commands idempotent by their id.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<TopicPartition, PartitionView>,
    /// Per log: who may commit, at which claim, and the trim point.
    logs: BTreeMap<WalId, LogState>,
    done: BTreeMap<Uuid, Vec<SliceOutcome>>,
    replaced: BTreeSet<Uuid>,
    condemned: Vec<Condemned>,
    faults: VecDeque<Fault>,
    fenced: BTreeSet<BrokerEpoch>,
    closed: BTreeSet<BrokerEpoch>,
    commits: Vec<CommitUpload>,
    now_ms: i64,
}

#[derive(Clone, Debug)]
struct LogState {
    owner: BrokerEpoch,
    claim: Option<u32>,
    trim: Sequence,
}

impl MemoryCatalog {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the log of a broker epoch, with its trim point at 0.
    pub fn open_log(&self, wal_id: WalId, owner: BrokerEpoch) {
        self.state.lock().logs.insert(
            wal_id,
            LogState {
                owner,
                claim: None,
                trim: 0,
            },
        );
    }

    /// Makes a partition, led at `leader_epoch`, or raises the epoch of one; its view.
    pub fn lead(&self, tp: TopicPartition, leader_epoch: LeaderEpoch) -> PartitionView {
        let mut state = self.state.lock();
        let view = state.partitions.entry(tp).or_insert_with(|| PartitionView {
            topic_partition: tp,
            leader_epoch,
            log_start: 0,
            committed_end: 0,
            epochs: Vec::new(),
            slices: Vec::new(),
            gaps: Vec::new(),
        });
        assert!(view.leader_epoch <= leader_epoch, "leader epochs only rise");
        view.leader_epoch = leader_epoch;
        view.clone()
    }

    /// Moves a partition's committed end as nobody may: to make catalog and owner disagree.
    pub fn set_committed_end(&self, tp: TopicPartition, committed_end: i64) {
        let mut state = self.state.lock();
        state
            .partitions
            .get_mut(&tp)
            .expect("the partition is known")
            .committed_end = committed_end;
    }

    /// Deletes a partition with its slices.
    pub fn delete(&self, tp: TopicPartition) {
        let mut state = self.state.lock();
        if let Some(view) = state.partitions.remove(&tp) {
            state.condemn(&view.slices);
        }
    }

    /// Fences a broker epoch: nothing of it is accepted any more, except by a claim on its log.
    pub fn fence(&self, epoch: BrokerEpoch) {
        self.state.lock().fenced.insert(epoch);
    }

    /// Claims a fenced broker's log for `heir`; the claim's number and the trim point.
    pub fn claim(&self, wal_id: WalId, heir: BrokerEpoch) -> (u32, Sequence) {
        let mut state = self.state.lock();
        let log = state.logs.get_mut(&wal_id).expect("the log is known");
        let claim = log.claim.map_or(1, |claim| claim + 1);
        log.claim = Some(claim);
        log.owner = heir;
        (claim, log.trim)
    }

    /// Closes a broker epoch: it can never commit again.
    pub fn close(&self, epoch: BrokerEpoch) {
        self.state.lock().closed.insert(epoch);
    }

    /// What the next calls of `commit_upload`, `replace` and `set_log_start` meet, in order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    /// A log's trim point.
    pub fn trim_point(&self, wal_id: WalId) -> Sequence {
        self.state.lock().logs[&wal_id].trim
    }

    /// A partition as the catalog has it.
    pub fn view(&self, tp: TopicPartition) -> Option<PartitionView> {
        self.state.lock().partitions.get(&tp).cloned()
    }

    /// Every commit that took effect, in order.
    pub fn commits(&self) -> Vec<CommitUpload> {
        self.state.lock().commits.clone()
    }

    /// Keys of all objects that slices name.
    pub fn named_objects(&self) -> BTreeSet<String> {
        self.state.lock().named()
    }

    /// Sets the clock that condemns.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.state.lock().now_ms = now_ms;
    }
}

impl State {
    /// Whether the answer is lost, and whether the command is forgotten besides.
    fn fault(&mut self) -> Result<(bool, bool), CatalogError> {
        match self.faults.pop_front() {
            Some(Fault::Unavailable) => Err(CatalogError::Unavailable("injected".to_owned())),
            Some(Fault::Conflict) => Err(CatalogError::Conflict("injected".to_owned())),
            Some(Fault::Panic) => panic!("injected"),
            Some(Fault::LostAnswer) => Ok((true, false)),
            Some(Fault::Forgotten) => Ok((true, true)),
            None => Ok((false, false)),
        }
    }

    fn answer<T>(lost: bool, value: T) -> Result<T, CatalogError> {
        if lost {
            Err(CatalogError::Unavailable("answer lost".to_owned()))
        } else {
            Ok(value)
        }
    }

    fn named(&self) -> BTreeSet<String> {
        let slices = self.partitions.values().flat_map(|view| &view.slices);
        slices.map(|slice| slice.object.key.clone()).collect()
    }

    /// Condemns those objects of `slices` that nothing names any more.
    fn condemn(&mut self, slices: &[SliceRef]) {
        let named = self.named();
        for slice in slices {
            let key = &slice.object.key;
            if !named.contains(key) && !self.condemned.iter().any(|c| c.key == *key) {
                let condemned_at_ms = self.now_ms;
                self.condemned.push(Condemned {
                    key: key.clone(),
                    condemned_at_ms,
                });
            }
        }
    }

    /// R6: what becomes of each slice; refuses a gap or a straddling slice whole.
    fn judge(&self, commit: &CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut outcomes = Vec::new();
        for slice in &commit.slices {
            let tp = slice.topic_partition;
            let Some(view) = self.partitions.get(&tp) else {
                outcomes.push(SliceOutcome::Dropped);
                continue;
            };
            let end = *ends.get(&tp).unwrap_or(&view.committed_end);
            let released = commit.claim.is_none() && slice.leader_epoch < view.leader_epoch;
            if released || slice.end_offset <= end {
                outcomes.push(SliceOutcome::Dropped);
                continue;
            }
            if slice.leader_epoch > view.leader_epoch {
                return Err(CatalogError::Fenced(format!(
                    "{tp} is not led at that epoch"
                )));
            }
            if slice.first_offset != end {
                let (first, last) = (slice.first_offset, slice.end_offset);
                return Err(CatalogError::Conflict(format!(
                    "{tp}: [{first}, {last}) does not follow {end}"
                )));
            }
            let condemned = self.condemned.iter().any(|c| c.key == slice.object.key);
            if condemned {
                return Err(CatalogError::Conflict(format!(
                    "{} is condemned",
                    slice.object.key
                )));
            }
            ends.insert(tp, slice.end_offset);
            outcomes.push(SliceOutcome::Committed);
        }
        Ok(outcomes)
    }

    fn apply(&mut self, commit: &CommitUpload, outcomes: &[SliceOutcome]) {
        for (slice, outcome) in commit.slices.iter().zip(outcomes) {
            if *outcome == SliceOutcome::Dropped {
                continue;
            }
            let view = self
                .partitions
                .get_mut(&slice.topic_partition)
                .expect("judged");
            view.committed_end = slice.end_offset;
            if view
                .epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch < slice.leader_epoch)
            {
                view.epochs.push((slice.leader_epoch, slice.first_offset));
            }
            if slice.end_offset > view.log_start {
                view.slices.push(slice.clone());
            }
        }
        let log = self.logs.get_mut(&commit.wal_id).expect("checked");
        log.trim = commit.to;
        self.done.insert(commit.command_id, outcomes.to_vec());
        self.commits.push(commit.clone());
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn commit_upload(&self, commit: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        let mut state = self.state.lock();
        let (lost, forgotten) = state.fault()?;
        if let Some(outcomes) = state.done.get(&commit.command_id) {
            return Ok(outcomes.clone());
        }
        if state.fenced.contains(&commit.broker_epoch) {
            return Err(CatalogError::Fenced(format!(
                "broker epoch {}",
                commit.broker_epoch
            )));
        }
        let Some(log) = state.logs.get(&commit.wal_id).cloned() else {
            return Err(CatalogError::Fenced("no such log".to_owned()));
        };
        if log.owner != commit.broker_epoch || log.claim != commit.claim {
            return Err(CatalogError::Fenced(
                "not the log's owner or claim".to_owned(),
            ));
        }
        if commit.from != log.trim || commit.to < commit.from {
            return Err(CatalogError::Conflict(format!(
                "[{}, {}) does not follow the trim point {}",
                commit.from, commit.to, log.trim
            )));
        }
        let outcomes = state.judge(&commit)?;
        state.apply(&commit, &outcomes);
        if forgotten && commit.from == commit.to {
            state.done.remove(&commit.command_id);
        }
        State::answer(lost, outcomes)
    }

    async fn replace(&self, replace: ReplaceSlices) -> Result<(), CatalogError> {
        let mut state = self.state.lock();
        let (lost, _) = state.fault()?;
        if state.replaced.contains(&replace.command_id) {
            return Ok(());
        }
        if state.fenced.contains(&replace.broker_epoch) {
            return Err(CatalogError::Fenced(format!(
                "broker epoch {}",
                replace.broker_epoch
            )));
        }
        let mut places = Vec::new();
        for run in &replace.runs {
            let tp = run.topic_partition;
            let Some(view) = state.partitions.get(&tp) else {
                return Err(CatalogError::Conflict(format!("{tp} is gone")));
            };
            if view.leader_epoch != run.leader_epoch {
                return Err(CatalogError::Fenced(format!(
                    "{tp} is not led at that epoch"
                )));
            }
            let covers = |slices: &[SliceRef]| {
                let first = slices.first().map(|s| s.first_offset);
                (first, slices.last().map(|s| s.end_offset))
            };
            if covers(&run.old) != covers(&run.new) {
                return Err(CatalogError::Corrupt(format!(
                    "{tp}: other offsets than replaced"
                )));
            }
            let first = run.old.first();
            let at = view.slices.iter().position(|slice| Some(slice) == first);
            let there = at.filter(|at| view.slices[*at..].starts_with(&run.old));
            places.push(there.ok_or_else(|| CatalogError::Conflict(format!("{tp}: run changed")))?);
        }
        for (run, at) in replace.runs.iter().zip(places) {
            let view = state
                .partitions
                .get_mut(&run.topic_partition)
                .expect("checked");
            view.slices
                .splice(at..at + run.old.len(), run.new.iter().cloned());
        }
        for run in &replace.runs {
            state.condemn(&run.old);
        }
        state.replaced.insert(replace.command_id);
        State::answer(lost, ())
    }

    async fn set_log_start(
        &self,
        broker_epoch: BrokerEpoch,
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log_start: i64,
    ) -> Result<(), CatalogError> {
        let mut state = self.state.lock();
        let (lost, _) = state.fault()?;
        if state.fenced.contains(&broker_epoch) {
            return Err(CatalogError::Fenced(format!("broker epoch {broker_epoch}")));
        }
        let Some(view) = state.partitions.get_mut(&topic_partition) else {
            return Err(CatalogError::Fenced(format!("{topic_partition} is gone")));
        };
        if view.leader_epoch != leader_epoch {
            return Err(CatalogError::Fenced(format!(
                "{topic_partition} is not led at that epoch"
            )));
        }
        view.log_start = view.log_start.max(log_start);
        let below = view
            .slices
            .partition_point(|slice| slice.end_offset <= view.log_start);
        let dropped: Vec<SliceRef> = view.slices.drain(..below).collect();
        state.condemn(&dropped);
        State::answer(lost, ())
    }

    async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionView>, CatalogError> {
        Ok(self.view(tp))
    }

    async fn condemned(
        &self,
        before_ms: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, CatalogError> {
        let state = self.state.lock();
        let mut old: Vec<Condemned> = state
            .condemned
            .iter()
            .filter(|c| c.condemned_at_ms < before_ms)
            .filter(|c| after.is_none_or(|after| c.place() > after.place()))
            .cloned()
            .collect();
        old.sort_by(|a, b| a.place().cmp(&b.place()));
        old.truncate(limit);
        Ok(old)
    }

    async fn forget_condemned(&self, keys: Vec<String>) -> Result<(), CatalogError> {
        self.state
            .lock()
            .condemned
            .retain(|condemned| !keys.contains(&condemned.key));
        Ok(())
    }

    async fn orphans(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError> {
        let state = self.state.lock();
        let named = state.named();
        let orphan = |key: &String| {
            let name = key.rsplit('/').next().unwrap_or_default();
            let epoch = name.split('-').nth(1).and_then(|epoch| epoch.parse().ok());
            let closed = epoch.is_some_and(|epoch| state.closed.contains(&BrokerEpoch(epoch)));
            closed && !named.contains(key) && !state.condemned.iter().any(|c| c.key == *key)
        };
        Ok(keys.into_iter().filter(orphan).collect())
    }
}
