//! What must hold in every world.

use std::collections::BTreeSet;

use super::world::{Process, Slot, World, partition};
use crate::limits::HEIR_DEATHS;
use crate::state::Partition;

impl World {
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.state.validate()?;
        let committed = self.committed();
        let partition = self.state.topics.partition(partition()).expect("it stands");
        for (offset, value) in &self.acked {
            match committed.get(offset) {
                Some(stands) if stands == value => {}
                Some(stands) => {
                    return Err(format!(
                        "offset {offset} was acknowledged as {value}, and shows {stands}"
                    ));
                }
                None if self.is_in_a_log(partition, *offset, *value) => {}
                None => {
                    return Err(format!(
                        "acknowledged record {value} at {offset} is nowhere"
                    ));
                }
            }
        }
        self.check_deaths()
    }

    /// A log is held against those who died at it, and against nobody who said that it lived.
    fn check_deaths(&self) -> Result<(), String> {
        for (id, wal) in &self.state.wals {
            let mut nodes = BTreeSet::new();
            for death in &wal.deaths {
                let epoch = death.epoch.0;
                if !self.taken_for_dead.contains(&epoch) || self.bounds.level < 2 {
                    return Err(format!("{epoch} is said to have died at log {id}"));
                }
                if self.lived.contains(&epoch) {
                    return Err(format!("{epoch} lives, and is dead to log {id}"));
                }
                nodes.insert(death.node);
            }
            let deadly = wal.deaths.len() >= HEIR_DEATHS && nodes.len() > 1;
            if deadly != wal.quarantine.is_some() {
                return Err(format!(
                    "log {id} is set aside: {:?}, after {:?}",
                    wal.quarantine, wal.deaths
                ));
            }
        }
        Ok(())
    }

    /// Whether the log that the partition lives in, or waits for, holds the record.
    fn is_in_a_log(&self, partition: &Partition, offset: i64, value: u8) -> bool {
        let lives_in = |process: &Process| {
            partition.leader == Some(process.broker()) || partition.awaits == Some(process.wal_id())
        };
        let holds = |process: &Process| {
            let wal = self.state.wals.get(&process.wal_id());
            let Some(wal) = wal.filter(|wal| !wal.phase.is_closed()) else {
                return false;
            };
            // What lies behind a hole is not read by an heir.
            let from = usize::try_from(wal.trim).expect("small");
            let whole = process
                .store
                .iter()
                .skip(from)
                .map_while(|slot| match slot {
                    Some(Slot::Data(group)) => Some(group),
                    Some(Slot::Seal) | None => None,
                });
            let mut found = whole.filter(|group| group.epoch == partition.leader_epoch.0);
            found.any(|group| (group.offset, group.value) == (offset, value))
        };
        self.processes.iter().any(|p| lives_in(p) && holds(p))
    }
}
