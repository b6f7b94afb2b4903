//! When members are given up: deadlines in milliseconds on the caller's clock.

use std::collections::{BTreeMap, BTreeSet};

use super::Name;

/// Deadlines of one group's members.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    /// Until when a heartbeat must come.
    sessions: BTreeMap<Name, u64>,
    /// Until when a member must have left an epoch.
    rebalances: BTreeMap<Name, (i32, u64)>,
    /// Until when a classic member must have joined again, or synced.
    classics: BTreeMap<Name, u64>,
}

impl Timers {
    pub(super) fn session(&mut self, member: &Name, deadline_ms: u64) {
        self.sessions.insert(member.clone(), deadline_ms);
    }

    pub(super) fn rebalance(&mut self, member: &Name, epoch: i32, deadline_ms: u64) {
        self.rebalances.insert(member.clone(), (epoch, deadline_ms));
    }

    pub(super) fn reconciled(&mut self, member: &Name) {
        self.rebalances.remove(member);
    }

    pub(super) fn classic(&mut self, member: &Name, deadline_ms: u64) {
        self.classics.insert(member.clone(), deadline_ms);
    }

    pub(super) fn classic_if_absent(&mut self, member: &Name, deadline_ms: u64) {
        self.classics.entry(member.clone()).or_insert(deadline_ms);
    }

    pub(super) fn synced(&mut self, member: &Name) {
        self.classics.remove(member);
    }

    pub(super) fn gone(&mut self, member: &Name) {
        self.sessions.remove(member);
        self.rebalances.remove(member);
        self.classics.remove(member);
    }

    pub(super) fn next(&self) -> Option<u64> {
        let rebalances = self.rebalances.values().map(|(_, deadline)| *deadline);
        (self.sessions.values().chain(self.classics.values()))
            .copied()
            .chain(rebalances)
            .min()
    }

    /// Those whose session ran out, and those who did not leave an epoch.
    pub(super) fn due(&self, now_ms: u64) -> (Vec<Name>, Vec<(Name, i32)>) {
        let silent = self
            .sessions
            .iter()
            .chain(&self.classics)
            .filter(|(_, deadline)| **deadline <= now_ms)
            .map(|(member, _)| member.clone());
        let stuck = self
            .rebalances
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now_ms)
            .map(|(member, (epoch, _))| (member.clone(), *epoch));
        let silent: BTreeSet<Name> = silent.collect();
        (silent.into_iter().collect(), stuck.collect())
    }
}
