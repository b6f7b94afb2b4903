//! SyncGroup, Heartbeat, LeaveGroup, and the end of sessions.

use std::collections::BTreeMap;

use super::api::{
    GroupState, LeaveRequest, MemberRequest, Name, Reply, SyncReply, SyncRequest, WaiterId,
};
use super::error::GroupError;
use super::group::{Context, Group};
use super::limits::MAX_GROUP_RECORD_BYTES;
use super::timers::TimerKind;

impl Group {
    /// A sync: followers wait for the leader's, which ends the rebalance.
    pub(super) fn sync(&mut self, cx: &mut Context<'_>, request: &SyncRequest, waiter: WaiterId) {
        if let Err(error) = self.check_sync(request) {
            self.answer(cx, waiter, Reply::Sync(Err(error)));
            return;
        }
        let id = &request.member.member_id;
        self.unsynced.remove(id);
        if self.state == GroupState::Stable {
            self.touch_session(cx, id);
            self.answer_sync(cx, id, waiter);
            return;
        }
        let member = self.members.get_mut(id).expect("check_sync found it");
        if let Some(replaced) = member.awaiting_sync.replace(waiter) {
            // The same client on a connection it gave up.
            self.answer(
                cx,
                replaced,
                Reply::Sync(Err(GroupError::RebalanceInProgress)),
            );
        }
        self.touch_session(cx, id);
        if self.is_leader(id) {
            self.assign(cx, &request.assignments);
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::NotAvailable);
        }
        self.check_generation(&request.member)?;
        let differs = |asked: &Option<Name>, ours: &Option<Name>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// The leader's assignment: a member it does not name gets nothing, one it names that is not
    /// in the group is ignored.
    fn assign(&mut self, cx: &mut Context<'_>, assignments: &[(Name, bytes::Bytes)]) {
        let given = assignments
            .iter()
            .map(|(id, bytes)| (id, bytes))
            .collect::<BTreeMap<_, _>>();
        for member in self.members.values_mut() {
            member.assignment = given
                .get(&member.id)
                .map(|&b| b.clone())
                .unwrap_or_default();
        }
        self.enter(cx, GroupState::Stable);
        let record = self.record();
        if record
            .value
            .as_ref()
            .is_some_and(|value| value.len() > MAX_GROUP_RECORD_BYTES)
        {
            self.fail_syncs(cx, GroupError::RecordTooLarge);
            self.rebalance(cx);
            return;
        }
        self.written = true;
        cx.effects.records.push(record);
        let waiting = self
            .members
            .values_mut()
            .filter_map(|member| Some((member.id.clone(), member.awaiting_sync.take()?)))
            .collect::<Vec<_>>();
        for (id, waiter) in waiting {
            self.touch_session(cx, &id);
            self.answer_sync(cx, &id, waiter);
        }
    }

    fn answer_sync(&self, cx: &mut Context<'_>, id: &str, waiter: WaiterId) {
        let reply = SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(id)
                .map(|m| m.assignment.clone())
                .unwrap_or_default(),
        };
        self.answer(cx, waiter, Reply::Sync(Ok(reply)));
    }

    /// A heartbeat: keeps the session, and tells of a rebalance.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &MemberRequest,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::NotAvailable);
        }
        self.check_generation(request)?;
        self.touch_session(cx, &request.member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Whether the request comes from a member of the present generation.
    ///
    /// # Errors
    /// As [`Group::check_member`], and `IllegalGeneration`.
    pub(super) fn check_generation(&self, request: &MemberRequest) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// A leave: one rebalance for the whole batch.
    ///
    /// # Errors
    /// When the whole request is refused; refusals of single members are inside.
    pub(super) fn leave(
        &mut self,
        cx: &mut Context<'_>,
        request: &LeaveRequest,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::NotAvailable);
        }
        let mut results = Vec::with_capacity(request.members.len());
        for (member_id, instance_id) in &request.members {
            results.push(self.leave_one(cx, member_id, instance_id.as_ref()));
        }
        if results.iter().any(Result::is_ok) {
            self.after_removal(cx);
        }
        Ok(results)
    }

    fn leave_one(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Name,
        instance_id: Option<&Name>,
    ) -> Result<(), GroupError> {
        let id = match instance_id {
            // An administrator removes a static member by its instance id alone.
            Some(instance_id) if member_id.is_empty() => self
                .static_members
                .get(instance_id)
                .cloned()
                .ok_or(GroupError::UnknownMember)?,
            Some(_) => member_id.clone(),
            None if self.pending.remove(member_id).is_some() => return Ok(()),
            None => member_id.clone(),
        };
        self.check_member(&id, instance_id)?;
        self.remove(cx, &id, GroupError::UnknownMember);
        Ok(())
    }

    /// A member's session timer rang.
    pub(super) fn session_timer(&mut self, cx: &mut Context<'_>, id: &Name, at_ms: u64) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.timer_at_ms != Some(at_ms) {
            return;
        }
        member.timer_at_ms = None;
        if member.session_deadline_ms > cx.now.monotonic_ms {
            let deadline = member.session_deadline_ms;
            member.timer_at_ms = Some(deadline);
            cx.timers
                .arm(deadline, &self.id, TimerKind::Session(id.clone()));
            return;
        }
        let waits = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
        if waits && !member.is_new {
            // It cannot send heartbeats while we owe it an answer.
            self.touch_session(cx, id);
            return;
        }
        self.remove(cx, id, GroupError::UnknownMember);
        self.after_removal(cx);
    }

    /// The timer of an unused member id rang.
    pub(super) fn pending_timer(&mut self, cx: &mut Context<'_>, id: &Name) {
        if self
            .pending
            .get(id)
            .is_some_and(|&deadline| deadline <= cx.now.monotonic_ms)
        {
            self.pending.remove(id);
            self.maybe_complete_join(cx);
        }
    }
}
