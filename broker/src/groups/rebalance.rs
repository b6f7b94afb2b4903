//! The two phases of a rebalance: everyone joins, then the leader assigns.

use super::api::{GroupState, Name, Reply};
use super::error::GroupError;
use super::group::{Context, Group, InitialDelay, JoinPhase};
use super::timers::TimerKind;

impl Group {
    /// Starts a join phase and settles it: what follows when a member went away.
    pub(super) fn rebalance(&mut self, cx: &mut Context<'_>) {
        self.begin_rebalance(cx);
        self.settle_rebalance(cx);
    }

    /// Ends the present generation. The caller adds its waiter, then calls
    /// [`Self::settle_rebalance`].
    pub(super) fn begin_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(cx, GroupError::RebalanceInProgress);
        }
        self.unsynced.clear();
        self.sync_deadline_ms = None;
        let delay = u64::from(cx.config.initial_rebalance_delay_ms);
        let (wait_ms, initial) = if self.state == GroupState::Empty && delay > 0 {
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay);
            (
                delay,
                Some(InitialDelay {
                    remaining_ms,
                    member_added: false,
                }),
            )
        } else {
            (self.rebalance_timeout_ms(), None)
        };
        self.enter(cx, GroupState::PreparingRebalance);
        self.start_join_phase(cx, wait_ms, initial);
    }

    /// Ends the join phase just begun if nobody is missing.
    pub(super) fn settle_rebalance(&mut self, cx: &mut Context<'_>) {
        self.maybe_complete_join(cx);
    }

    fn start_join_phase(
        &mut self,
        cx: &mut Context<'_>,
        wait_ms: u64,
        initial: Option<InitialDelay>,
    ) {
        let deadline_ms = cx.now.monotonic_ms.saturating_add(wait_ms);
        self.join = Some(JoinPhase {
            deadline_ms,
            initial,
        });
        cx.timers.arm(deadline_ms, &self.id, TimerKind::Join);
    }

    /// Ends the join phase if every member has joined and no id that was given out is missing.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        let Some(JoinPhase { initial: None, .. }) = self.join else {
            return;
        };
        if self.awaiting_join == self.members.len() && self.pending.is_empty() {
            self.complete_join(cx);
        }
    }

    /// The join phase's timer rang.
    pub(super) fn join_timer(&mut self, cx: &mut Context<'_>) {
        let Some(join) = self.join else { return };
        if join.deadline_ms > cx.now.monotonic_ms {
            return;
        }
        match join.initial {
            Some(InitialDelay {
                remaining_ms,
                member_added: true,
            }) if remaining_ms > 0 => {
                let delay = u64::from(cx.config.initial_rebalance_delay_ms);
                let wait_ms = delay.min(remaining_ms);
                let initial = InitialDelay {
                    remaining_ms: remaining_ms.saturating_sub(delay),
                    member_added: false,
                };
                self.start_join_phase(cx, wait_ms, Some(initial));
            }
            Some(_) | None => self.complete_join(cx),
        }
    }

    /// Ends the join phase: whoever did not join is out, except static members, whose sessions
    /// decide. If only absent static members are left, it goes on.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        let gone = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none());
        for id in gone.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(cx, &id, GroupError::UnknownMember);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            let wait_ms = self.rebalance_timeout_ms().max(1);
            self.start_join_phase(cx, wait_ms, None);
            return;
        }
        self.join = None;
        // Wraps to 1 after 2^31 rebalances rather than to a negative number.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.topics = None;
            self.enter(cx, GroupState::Empty);
            self.written = true;
            let record = self.record();
            cx.effects.records.push(record);
        } else {
            self.protocol = self.select_protocol();
            assert!(
                self.protocol.is_some(),
                "fits() keeps one protocol common to all"
            );
            self.topics = self
                .protocol
                .clone()
                .and_then(|protocol| self.subscribed(&protocol));
            self.enter(cx, GroupState::CompletingRebalance);
            self.tell_joined(cx);
        }
    }

    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &Name| {
            self.members
                .get(id)
                .is_some_and(|member| member.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let heir = self
            .members
            .values()
            .find(|member| member.awaiting_join.is_some());
        match heir.map(|member| member.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Answers every join of the new generation; each of them has a rebalance timeout to sync.
    fn tell_joined(&mut self, cx: &mut Context<'_>) {
        let joined = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_some());
        for id in joined.map(|member| member.id.clone()).collect::<Vec<_>>() {
            let reply = self.joined(&id);
            self.answer_join(cx, &id, reply);
            self.touch_session(cx, &id);
            self.unsynced.insert(id);
        }
        let wait_ms = self.rebalance_timeout_ms();
        let deadline = cx.now.monotonic_ms.saturating_add(wait_ms);
        self.sync_deadline_ms = Some(deadline);
        cx.timers.arm(deadline, &self.id, TimerKind::Sync);
    }

    /// The sync timer rang: whoever has not synced by now is out.
    pub(super) fn sync_timer(&mut self, cx: &mut Context<'_>) {
        if self
            .sync_deadline_ms
            .is_none_or(|at| at > cx.now.monotonic_ms)
        {
            return;
        }
        self.sync_deadline_ms = None;
        if self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove(cx, &id, GroupError::UnknownMember);
        }
        self.rebalance(cx);
    }

    /// Refuses every waiting sync; nobody keeps an assignment that was never handed out.
    pub(super) fn fail_syncs(&mut self, cx: &mut Context<'_>, error: GroupError) {
        let waiters = self
            .members
            .values_mut()
            .filter_map(|member| {
                member.assignment = bytes::Bytes::new();
                Some((member.id.clone(), member.awaiting_sync.take()?))
            })
            .collect::<Vec<_>>();
        for (id, waiter) in waiters {
            // It could not send heartbeats while it waited.
            self.touch_session(cx, &id);
            self.answer(cx, waiter, Reply::Sync(Err(error)));
        }
    }

    /// A member left or its session ended: the others rebalance, or the phase that waited for it
    /// may be over.
    pub(super) fn after_removal(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(cx),
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::Empty | GroupState::Dead => {}
        }
    }
}
