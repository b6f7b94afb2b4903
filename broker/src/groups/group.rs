//! One classic group: its members, generation, waiters and offsets.
//!
//! **Invariant:** `awaiting_join`, `supported` and `static_members` are sums over `members`; they
//! change only in [`Group::insert`], [`Group::update`], [`Group::take`], [`Group::await_join`]
//! and [`Group::answer_join`], and [`Group::validate`] checks them.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{
    Answer, Effects, GroupRecord, GroupState, JoinMember, JoinReply, JoinRequest, Name, Now, Reply,
    WaiterId,
};
use super::config::GroupConfig;
use super::error::GroupError;
use super::member::Member;
use super::offsets::Offsets;
use super::record::{GroupKey, GroupMetadataValue, MemberValue};
use super::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
use super::timers::{TimerKind, Timers};

/// What a transition may look at and write to besides its group.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupConfig,
    pub(super) effects: &'a mut Effects,
    pub(super) timers: &'a mut Timers,
}

/// The join phase of a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinPhase {
    /// When it ends whoever is missing.
    pub(super) deadline_ms: u64,
    /// Set while an empty group collects its first members.
    pub(super) initial: Option<InitialDelay>,
}

/// The initial delay of an empty group, extended while members go on arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) remaining_ms: u64,
    pub(super) member_added: bool,
}

/// One classic group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Name,
    pub(super) state: GroupState,
    pub(super) state_since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Name>,
    pub(super) protocol: Option<Name>,
    pub(super) leader: Option<Name>,
    pub(super) members: BTreeMap<Name, Member>,
    pub(super) static_members: BTreeMap<Name, Name>,
    /// Member ids given out (KIP-394) and not used yet, with their deadlines.
    pub(super) pending: BTreeMap<Name, u64>,
    /// How many members offer each protocol.
    pub(super) supported: BTreeMap<Name, usize>,
    pub(super) awaiting_join: usize,
    /// Members that were told of the generation and have not synced.
    pub(super) unsynced: BTreeSet<Name>,
    pub(super) join: Option<JoinPhase>,
    pub(super) sync_deadline_ms: Option<u64>,
    /// Topics the members subscribe to; none if that is not known.
    pub(super) topics: Option<BTreeSet<Name>>,
    pub(super) offsets: Offsets,
    /// Whether a metadata record of the group stands in the log.
    pub(super) written: bool,
}

impl Group {
    /// An empty group that nothing is written of.
    pub(super) fn new(id: Name, now: Now) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            supported: BTreeMap::new(),
            awaiting_join: 0,
            unsynced: BTreeSet::new(),
            join: None,
            sync_deadline_ms: None,
            topics: None,
            offsets: Offsets::default(),
            written: false,
        }
    }

    pub(super) fn enter(&mut self, cx: &Context<'_>, state: GroupState) {
        self.state = state;
        self.state_since_ms = cx.now.wall_ms;
    }

    pub(super) fn answer(&self, cx: &mut Context<'_>, waiter: WaiterId, reply: Reply) {
        cx.effects.answers.push(Answer {
            waiter,
            group: Some(self.id.clone()),
            reply,
        });
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Adds a member and counts what it offers; the first one leads.
    pub(super) fn insert(&mut self, member: Member, protocol_type: &Name) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        self.count_protocols(&distinct(&member));
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.leader.get_or_insert_with(|| member.id.clone());
        let previous = self.members.insert(member.id.clone(), member);
        assert!(previous.is_none(), "a member is added once");
    }

    /// Takes over what a later join of a member offers.
    pub(super) fn update(&mut self, member_id: &str, request: &JoinRequest) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let before = distinct(member);
        member.update(request);
        let after = distinct(member);
        self.uncount_protocols(&before);
        self.count_protocols(&after);
    }

    fn count_protocols(&mut self, names: &BTreeSet<Name>) {
        for name in names {
            *self.supported.entry(name.clone()).or_default() += 1;
        }
    }

    fn uncount_protocols(&mut self, names: &BTreeSet<Name>) {
        for name in names {
            let count = self
                .supported
                .get_mut(name)
                .expect("insert counted every protocol");
            *count -= 1;
            if *count == 0 {
                self.supported.remove(name);
            }
        }
    }

    /// Takes a member out, with all that is counted of it; its waiters go along unanswered.
    pub(super) fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.uncount_protocols(&distinct(&member));
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.unsynced.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes a member out and answers whatever it waits for with `error`.
    pub(super) fn remove(&mut self, cx: &mut Context<'_>, member_id: &str, error: GroupError) {
        let Some(mut member) = self.take(member_id) else {
            return;
        };
        if let Some(waiter) = member.awaiting_join.take() {
            self.answer(
                cx,
                waiter,
                Reply::Join(JoinReply::refused(error, member.id.clone())),
            );
        }
        if let Some(waiter) = member.awaiting_sync.take() {
            self.answer(cx, waiter, Reply::Sync(Err(error)));
        }
    }

    /// Lets `waiter` wait for the end of the join phase. A waiter it replaces is the same client's
    /// on a connection it gave up: told to join again.
    pub(super) fn await_join(&mut self, cx: &mut Context<'_>, member_id: &str, waiter: WaiterId) {
        let member = self
            .members
            .get_mut(member_id)
            .expect("the caller has just seen it");
        let replaced = member.awaiting_join.replace(waiter);
        self.awaiting_join += usize::from(replaced.is_none());
        if let Some(replaced) = replaced {
            let refused = JoinReply::refused(GroupError::RebalanceInProgress, member_id.into());
            self.answer(cx, replaced, Reply::Join(refused));
        }
    }

    /// Answers a member that waits for the end of the join phase.
    pub(super) fn answer_join(&mut self, cx: &mut Context<'_>, member_id: &str, reply: JoinReply) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let Some(waiter) = member.awaiting_join.take() else {
            return;
        };
        member.is_new = false;
        self.awaiting_join -= 1;
        self.answer(cx, waiter, Reply::Join(reply));
    }

    /// What a member of the present generation learns from a join.
    pub(super) fn joined(&self, member_id: &Name) -> JoinReply {
        JoinReply {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Name::from("")),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: if self.is_leader(member_id) {
                self.join_members()
            } else {
                Vec::new()
            },
        }
    }

    /// Every member as the leader sees it.
    pub(super) fn join_members(&self) -> Vec<JoinMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinMember {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    /// Starts a member's session anew, to end `timeout_ms` from now.
    pub(super) fn touch(&mut self, cx: &mut Context<'_>, member_id: &str, timeout_ms: u64) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let deadline = cx.now.monotonic_ms.saturating_add(timeout_ms);
        member.session_deadline_ms = deadline;
        if member.timer_at_ms.is_none_or(|at| at > deadline) {
            member.timer_at_ms = Some(deadline);
            cx.timers
                .arm(deadline, &self.id, TimerKind::Session(member.id.clone()));
        }
    }

    /// [`Self::touch`] with the member's own session timeout.
    pub(super) fn touch_session(&mut self, cx: &mut Context<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timeout_ms = member.session_timeout_ms;
            self.touch(cx, member_id, timeout_ms);
        }
    }

    /// Starts every session anew: after loading, and after the process itself stood still.
    pub(super) fn touch_all(&mut self, cx: &mut Context<'_>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.touch_session(cx, &id);
        }
    }

    /// The longest rebalance timeout of the members.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    /// Whether a member with these protocols can be in the group with the others.
    pub(super) fn fits(&self, protocol_type: &str, protocols: &[(Name, bytes::Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.supported.get(name) == Some(&self.members.len()))
    }

    /// The protocol that most members prefer among those that all of them offer. A tie goes to
    /// the one first in the leader's list.
    pub(super) fn select_protocol(&self) -> Option<Name> {
        let common = |name: &Name| self.supported.get(name) == Some(&self.members.len());
        let mut votes = BTreeMap::<&Name, usize>::new();
        for member in self.members.values() {
            let (vote, _) = member.protocols.iter().find(|(name, _)| common(name))?;
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        leader
            .protocols
            .iter()
            .map(|(name, _)| name)
            .find(|name| votes.get(name) == Some(&most))
            .cloned()
    }

    /// The topics the members subscribe to with `protocol`; none if any of them does not say.
    pub(super) fn subscribed(&self, protocol: &str) -> Option<BTreeSet<Name>> {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// Whether a request may speak for this member.
    ///
    /// # Errors
    /// `FencedInstanceId` when the instance id belongs to another member, `UnknownMember` when
    /// there is no such instance or member.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&Name>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMember),
                Some(owner) if &**owner != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// The group's metadata as a record.
    pub(super) fn record(&self) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Name::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self
                .members
                .values()
                .map(|member| member_value(member, protocol))
                .collect(),
        };
        GroupRecord {
            group: self.id.clone(),
            key: GroupKey {
                group: self.id.clone(),
            }
            .encode(),
            value: Some(value.encode()),
        }
    }

    /// Whether nothing would be lost by forgetting the group.
    pub(super) fn is_forgettable(&self) -> bool {
        self.state == GroupState::Dead
            || self.state == GroupState::Empty
                && !self.written
                && self.pending.is_empty()
                && self.offsets.is_empty()
    }

    /// Checks the group against itself.
    pub(super) fn validate(&self) {
        let waiting = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_some())
            .count();
        assert_eq!(self.awaiting_join, waiting);
        let mut supported = BTreeMap::<Name, usize>::new();
        for member in self.members.values() {
            for name in distinct(member) {
                *supported.entry(name).or_default() += 1;
            }
            assert!(
                member
                    .timer_at_ms
                    .is_some_and(|at| at <= member.session_deadline_ms),
                "a session without a timer never ends",
            );
            assert!(member.awaiting_join.is_none() || self.state == GroupState::PreparingRebalance);
            assert!(
                member.awaiting_sync.is_none() || self.state == GroupState::CompletingRebalance
            );
        }
        assert_eq!(self.supported, supported);
        for (instance_id, member_id) in &self.static_members {
            let member = self
                .members
                .get(member_id)
                .expect("a static member is a member");
            assert_eq!(member.instance_id.as_ref(), Some(instance_id));
        }
        assert!(self.unsynced.iter().all(|id| self.members.contains_key(id)));
        assert_eq!(
            self.join.is_some(),
            self.state == GroupState::PreparingRebalance
        );
        match self.state {
            GroupState::Empty | GroupState::Dead => assert!(self.members.is_empty()),
            GroupState::PreparingRebalance => {}
            GroupState::CompletingRebalance | GroupState::Stable => {
                let leader = self.leader.as_ref().expect("a generation has a leader");
                assert!(self.members.contains_key(leader));
                assert!(self.protocol.is_some());
            }
        }
        assert!(self.unsynced.is_empty() || self.sync_deadline_ms.is_some());
    }
}

/// The names a member offers, each once: a client may name one twice.
fn distinct(member: &Member) -> BTreeSet<Name> {
    member
        .protocols
        .iter()
        .map(|(name, _)| name.clone())
        .collect()
}

fn member_value(member: &Member, protocol: &str) -> MemberValue {
    let timeout = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    MemberValue {
        member_id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: timeout(member.rebalance_timeout_ms),
        session_timeout_ms: timeout(member.session_timeout_ms),
        subscription: member.metadata(protocol),
        assignment: member.assignment.clone(),
    }
}
