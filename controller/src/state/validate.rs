//! What must hold of the state after every command.

use std::collections::BTreeMap;

use protocol::TopicPartition;

use super::{Partition, State, WalPhase};

impl State {
    /// Checks every invariant; costs a walk over all of the state. For tests, and for what is read
    /// back from a file.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_objects()?;
        for topic in self.topics.iter() {
            if self.topics.by_name(&topic.name).map(|found| found.id) != Some(topic.id) {
                return Err(format!("topic {} is not found by its name", topic.id));
            }
            for (tp, partition) in topic.iter() {
                validate_partition(tp, partition)?;
                self.validate_leader(tp, partition)?;
            }
        }
        self.validate_wals()
    }

    fn validate_objects(&self) -> Result<(), String> {
        let mut references = BTreeMap::new();
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            for slice in &partition.slices {
                *references.entry(slice.object).or_insert(0u64) += 1;
            }
        }
        let counted: BTreeMap<_, _> = self
            .objects
            .by_id
            .iter()
            .map(|(id, object)| (*id, object.references))
            .collect();
        if counted != references {
            return Err("objects are not counted as slices name them".to_owned());
        }
        for (_, key) in self.objects.condemned() {
            if self.objects.names(key) {
                return Err(format!("{key} is condemned and named"));
            }
        }
        Ok(())
    }

    fn validate_leader(&self, tp: TopicPartition, partition: &Partition) -> Result<(), String> {
        if let Some(leader) = partition.leader {
            let broker = self.brokers.get(&leader).filter(|broker| !broker.fenced);
            let wal = broker.and_then(|broker| self.wals.get(&broker.wal?));
            if wal.is_none_or(|wal| wal.phase != WalPhase::Active) {
                return Err(format!("{tp} is led by {leader}, which cannot lead"));
            }
            if partition.awaits.is_some() {
                return Err(format!("{tp} is led while it waits for a log"));
            }
        }
        if let Some(awaits) = partition.awaits {
            let wal = self.wals.get(&awaits);
            let open =
                |wal: &super::Wal| matches!(wal.phase, WalPhase::Fenced | WalPhase::Claimed { .. });
            if !wal.is_some_and(open) {
                return Err(format!(
                    "{tp} waits for log {awaits}, which nobody will close"
                ));
            }
        }
        Ok(())
    }

    fn validate_wals(&self) -> Result<(), String> {
        for (id, wal) in &self.wals {
            let broker = self.brokers.get(&wal.broker);
            let live = broker.is_some_and(|broker| !broker.fenced && broker.wal == Some(*id));
            match wal.phase {
                WalPhase::Active if !live => return Err(format!("log {id} has no owner")),
                WalPhase::Fenced | WalPhase::Claimed { .. } if broker.is_none_or(|b| !b.fenced) => {
                    return Err(format!(
                        "log {id} is open, its owner forgotten or not fenced"
                    ));
                }
                WalPhase::Closed { end, .. } if end != wal.trim => {
                    return Err(format!(
                        "log {id} is closed at {end}, trimmed to {}",
                        wal.trim
                    ));
                }
                _ => {}
            }
            if wal.broker.0 == 0 || wal.broker.0 > self.last_broker_epoch {
                return Err(format!(
                    "log {id} is of a broker epoch that was never given"
                ));
            }
        }
        Ok(())
    }
}

fn validate_partition(tp: TopicPartition, partition: &Partition) -> Result<(), String> {
    if !partition
        .epochs
        .is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1)
    {
        return Err(format!("{tp}: epochs {:?}", partition.epochs));
    }
    let last = partition.epochs.last().map(|(epoch, _)| *epoch);
    if last.is_some_and(|epoch| epoch > partition.leader_epoch) {
        return Err(format!("{tp}: data of an epoch to come"));
    }
    // Slices and gaps, put together, leave no hole.
    let mut runs: Vec<_> = partition
        .slices
        .iter()
        .map(|slice| (slice.first_offset, slice.end_offset))
        .collect();
    runs.extend(&partition.gaps);
    runs.sort_unstable();
    let mut at = None;
    for (first, end) in runs {
        if at.is_some_and(|at| at != first) || first >= end {
            return Err(format!("{tp}: a hole or overlap at {first}"));
        }
        if at.is_none() && first > partition.log_start {
            return Err(format!("{tp}: nothing from the log start to {first}"));
        }
        if end <= partition.log_start {
            return Err(format!("{tp}: {first}..{end} lies below the log start"));
        }
        at = Some(end);
    }
    match at {
        Some(end) if end != partition.committed_end => Err(format!(
            "{tp}: slices end at {end}, committed {}",
            partition.committed_end
        )),
        None if partition.committed_end > partition.log_start => {
            Err(format!("{tp}: nothing holds what is committed"))
        }
        _ => Ok(()),
    }
}
