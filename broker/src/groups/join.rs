//! JoinGroup: who gets in, under which id, and whether that starts a rebalance.
//!
//! KIP-394 (member ids of ours for dynamic members), KIP-345 (static members), KIP-814 (a static
//! leader that comes back skips the assignment).

use uuid::Uuid;

use super::api::{GroupState, JoinReply, JoinRequest, Name, Reply, WaiterId};
use super::error::GroupError;
use super::group::{Context, Group};
use super::limits::{
    MAX_GROUP_MEMBERS, MAX_GROUP_RECORD_BYTES, MAX_MEMBER_METADATA_BYTES, MAX_MEMBER_PROTOCOLS,
    MAX_PENDING_MEMBERS, NEW_MEMBER_JOIN_TIMEOUT_MS,
};
use super::member::{Member, millis};
use super::timers::TimerKind;

/// What can be said about a join without looking at the group.
///
/// # Errors
/// The refusal.
pub(super) fn check_join(cx: &Context<'_>, request: &JoinRequest) -> Result<(), GroupError> {
    if request.group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let bounds = cx.config.min_session_timeout_ms..=cx.config.max_session_timeout_ms;
    if !bounds.contains(&request.session_timeout_ms) {
        return Err(GroupError::InvalidSessionTimeout);
    }
    let metadata = request
        .protocols
        .iter()
        .map(|(_, bytes)| bytes.len())
        .sum::<usize>();
    if request.protocols.len() > MAX_MEMBER_PROTOCOLS || metadata > MAX_MEMBER_METADATA_BYTES {
        return Err(GroupError::InvalidRequest);
    }
    Ok(())
}

impl Group {
    /// A join that passed [`check_join`].
    pub(super) fn join(&mut self, cx: &mut Context<'_>, request: &JoinRequest, waiter: WaiterId) {
        let refusal = if self.state == GroupState::Dead {
            Some((GroupError::NotAvailable, request.member_id.clone()))
        } else if !self.has_room(cx, &request.member_id) {
            self.pending.remove(&request.member_id);
            self.remove(cx, &request.member_id, GroupError::GroupMaxSizeReached);
            self.maybe_complete_join(cx);
            Some((GroupError::GroupMaxSizeReached, Name::from("")))
        } else if !self.fits(&request.protocol_type, &request.protocols) {
            Some((GroupError::InconsistentProtocol, request.member_id.clone()))
        } else if request.member_id.is_empty() {
            self.join_first(cx, request, waiter).err()
        } else {
            self.join_again(cx, request, waiter)
                .err()
                .map(|error| (error, request.member_id.clone()))
        };
        if let Some((error, member_id)) = refusal {
            self.answer(
                cx,
                waiter,
                Reply::Join(JoinReply::refused(error, member_id)),
            );
        }
    }

    /// `group.max.size`: members in place may stay, and while a rebalance runs whoever joins first.
    fn has_room(&self, cx: &Context<'_>, member_id: &str) -> bool {
        let max = cx.config.max_size.min(MAX_GROUP_MEMBERS);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                self.members
                    .get(member_id)
                    .is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max
            }
        }
    }

    /// A join without a member id: a new dynamic member, or a static one after a restart.
    fn join_first(
        &mut self,
        cx: &mut Context<'_>,
        request: &JoinRequest,
        waiter: WaiterId,
    ) -> Result<(), (GroupError, Name)> {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let id = Name::from(format!("{prefix}-{}", Uuid::from_u128(request.nonce)));
        if let Some(instance_id) = &request.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(cx, &old_id, id, request, waiter),
                None => self.add(cx, id, request, waiter),
            }
            return Ok(());
        }
        if !request.requires_member_id {
            self.add(cx, id, request, waiter);
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING_MEMBERS {
            return Err((GroupError::GroupMaxSizeReached, Name::from("")));
        }
        let deadline = cx
            .now
            .monotonic_ms
            .saturating_add(millis(request.session_timeout_ms));
        self.pending.insert(id.clone(), deadline);
        cx.timers
            .arm(deadline, &self.id, TimerKind::Pending(id.clone()));
        Err((GroupError::MemberIdRequired, id))
    }

    /// A join with a member id.
    fn join_again(
        &mut self,
        cx: &mut Context<'_>,
        request: &JoinRequest,
        waiter: WaiterId,
    ) -> Result<(), GroupError> {
        let id = &request.member_id;
        if request.instance_id.is_none() && self.pending.remove(id).is_some() {
            self.add(cx, id.clone(), request, waiter);
            return Ok(());
        }
        self.check_member(id, request.instance_id.as_ref())?;
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        let same = member.offers(&request.protocols);
        let rejoin = match self.state {
            GroupState::PreparingRebalance => false,
            // The answer to its join got lost, most likely: tell it again.
            GroupState::CompletingRebalance => same,
            // A leader that joins again wants a rebalance, whatever it says of itself.
            GroupState::Stable => same && !self.is_leader(id),
            GroupState::Empty | GroupState::Dead => return Err(GroupError::UnknownMember),
        };
        if rejoin {
            self.touch_session(cx, id);
            let reply = self.joined(id);
            self.answer(cx, waiter, Reply::Join(reply));
            return Ok(());
        }
        self.update(id, request);
        self.start_waiting(cx, id, waiter);
        Ok(())
    }

    /// Adds a member that was not in the group.
    fn add(&mut self, cx: &mut Context<'_>, id: Name, request: &JoinRequest, waiter: WaiterId) {
        self.insert(Member::new(id.clone(), request), &request.protocol_type);
        if let Some(initial) = self.join.as_mut().and_then(|join| join.initial.as_mut()) {
            initial.member_added = true;
        }
        self.start_waiting(cx, &id, waiter);
    }

    /// Lets a member wait for the next generation, and starts the rebalance if none runs.
    fn start_waiting(&mut self, cx: &mut Context<'_>, id: &Name, waiter: WaiterId) {
        if self.state == GroupState::PreparingRebalance {
            self.await_join(cx, id, waiter);
            self.touch_join(cx, id);
            self.maybe_complete_join(cx);
        } else {
            self.begin_rebalance(cx);
            self.await_join(cx, id, waiter);
            self.touch_join(cx, id);
            self.settle_rebalance(cx);
        }
    }

    fn touch_join(&mut self, cx: &mut Context<'_>, id: &Name) {
        let is_new = self.members.get(id).is_some_and(|member| member.is_new);
        if is_new {
            self.touch(cx, id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        } else {
            self.touch_session(cx, id);
        }
    }

    /// A static member comes back without its id: it gets a new one, whoever speaks with the old
    /// one is fenced, and the group rebalances only if what was agreed on changes by it.
    fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        old_id: &Name,
        new_id: Name,
        request: &JoinRequest,
        waiter: WaiterId,
    ) {
        let led = self.is_leader(old_id);
        let unsynced = self.unsynced.contains(old_id);
        let mut member = self
            .take(old_id)
            .expect("static_members names members only");
        if let Some(waiter) = member.awaiting_join.take() {
            let fenced = JoinReply::refused(GroupError::FencedInstanceId, old_id.clone());
            self.answer(cx, waiter, Reply::Join(fenced));
        }
        if let Some(waiter) = member.awaiting_sync.take() {
            self.answer(cx, waiter, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        member.id = new_id.clone();
        member.timer_at_ms = None;
        member.update(request);
        self.insert(member, &request.protocol_type);
        if led {
            self.leader = Some(new_id.clone());
        }
        if unsynced {
            self.unsynced.insert(new_id.clone());
        }
        self.touch_session(cx, &new_id);
        let record = self.record();
        // Ids and metadata may have grown beyond what a record may be: the sync then says so.
        let too_large = record
            .value
            .as_ref()
            .is_some_and(|value| value.len() > MAX_GROUP_RECORD_BYTES);
        if self.state != GroupState::Stable || self.next_differs() || too_large {
            self.start_waiting(cx, &new_id, waiter);
            return;
        }
        cx.effects.records.push(record);
        let mut reply = self.joined(&new_id);
        if led && request.supports_skip_assignment {
            reply.skip_assignment = true;
        } else if led {
            // An older client that read its own id here would assign anew without the group
            // having rebalanced: it is named a leader that no longer exists.
            reply.leader = old_id.clone();
            reply.members = Vec::new();
        }
        self.answer(cx, waiter, Reply::Join(reply));
    }

    /// Whether a generation made now would agree on another protocol or on other topics.
    fn next_differs(&self) -> bool {
        let next = self.select_protocol();
        next != self.protocol
            || next.is_some_and(|protocol| self.subscribed(&protocol) != self.topics)
    }
}
