//! The groups of one partition of `__consumer_offsets`: requests and time in, effects out.

use std::collections::BTreeMap;

use super::api::{
    Answer, CommitRequest, Effects, FetchOffsetsRequest, FetchedOffset, GroupState, Input,
    JoinReply, JoinRequest, Name, Now, Reply, Request, WaiterId,
};
use super::config::GroupConfig;
use super::error::GroupError;
use super::group::{Context, Group};
use super::join::check_join;
use super::limits::MAX_GROUPS;
use super::offsets::fetched;
use super::timers::{Timer, TimerKind, Timers};

/// The groups of one coordinator partition.
#[derive(Debug)]
pub struct Shard {
    config: GroupConfig,
    pub(super) groups: BTreeMap<Name, Group>,
    timers: Timers,
    /// When offsets are next looked through for expired ones; none until the first input.
    next_expiry_ms: Option<u64>,
}

impl Shard {
    /// One without groups.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            next_expiry_ms: None,
        }
    }

    pub(super) fn with_groups(config: GroupConfig, groups: BTreeMap<Name, Group>) -> Self {
        Self {
            groups,
            ..Self::new(config)
        }
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// When [`Input::Tick`] is due, monotonic milliseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers
            .next()
            .into_iter()
            .chain(self.next_expiry_ms)
            .min()
    }

    /// Takes one input at one time and says what is to be done for it.
    ///
    /// Timers that are due ring after the input: a heartbeat that waited in a queue counts.
    pub fn apply(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = Effects::default();
        match input {
            Input::Request { waiter, request } => {
                self.request(now, waiter, request, &mut effects);
            }
            Input::TopicsDeleted(topics) => {
                self.each_group(now, &mut effects, |group, cx| {
                    group.drop_topics(cx, &topics)
                });
            }
            Input::Tick => {}
        }
        self.ring(now, &mut effects);
        effects
    }

    /// Starts every session anew, as after loading: for when the process stood still and its
    /// members could not be heard.
    pub fn restart_sessions(&mut self, now: Now) {
        let mut effects = Effects::default();
        self.each_group(now, &mut effects, |group, cx| group.touch_all(cx));
        assert!(
            effects.records.is_empty() && effects.answers.is_empty(),
            "only timers move"
        );
    }

    /// Checks every group against itself.
    pub fn validate(&self) {
        for (id, group) in &self.groups {
            assert_eq!(id, &group.id);
            assert!(!group.is_forgettable(), "{id} should have been forgotten");
            group.validate();
        }
    }

    fn request(&mut self, now: Now, waiter: WaiterId, request: Request, out: &mut Effects) {
        let group = request.group().cloned();
        let reply = match request {
            // Joins and syncs may wait; the group answers them itself.
            Request::Join(request) => self.join(now, waiter, &request, out),
            Request::Sync(request) => {
                let id = &request.member.group;
                match self.with(now, id, out, |group, cx| group.sync(cx, &request, waiter)) {
                    Some(()) => None,
                    None => Some(Reply::Sync(Err(unknown_group(id)))),
                }
            }
            Request::Heartbeat(request) => Some(Reply::Heartbeat(
                self.with(now, &request.group, out, |group, cx| {
                    group.heartbeat(cx, &request)
                })
                .unwrap_or_else(|| Err(unknown_group(&request.group))),
            )),
            Request::Leave(request) => Some(Reply::Leave(
                self.with(now, &request.group, out, |group, cx| {
                    group.leave(cx, &request)
                })
                .unwrap_or_else(|| Err(unknown_group(&request.group))),
            )),
            Request::Commit(request) => Some(Reply::Commit(self.commit(now, &request, out))),
            Request::FetchOffsets(request) => {
                Some(Reply::FetchOffsets(Ok(self.fetch_offsets(&request))))
            }
            Request::Describe(id) => {
                let found = self.groups.get(&id).map(Group::describe);
                Some(Reply::Describe(found.ok_or(GroupError::GroupIdNotFound)))
            }
            Request::List(request) => Some(Reply::List(Ok(self
                .groups
                .values()
                .filter_map(|g| g.list(&request))
                .collect()))),
            Request::DeleteGroup(id) => Some(Reply::DeleteGroup(self.delete_group(now, &id, out))),
            Request::DeleteOffsets(request) => Some(Reply::DeleteOffsets(
                self.with(now, &request.group, out, |group, cx| {
                    group.delete_offsets(cx, &request)
                })
                .unwrap_or(Err(GroupError::GroupIdNotFound)),
            )),
        };
        if let Some(reply) = reply {
            out.answers.push(Answer {
                waiter,
                group,
                reply,
            });
        }
    }

    /// A join, which makes the group if there is none.
    fn join(
        &mut self,
        now: Now,
        waiter: WaiterId,
        request: &JoinRequest,
        out: &mut Effects,
    ) -> Option<Reply> {
        let refused = |error| {
            Some(Reply::Join(JoinReply::refused(
                error,
                request.member_id.clone(),
            )))
        };
        let cx = Context {
            now,
            config: &self.config,
            effects: out,
            timers: &mut self.timers,
        };
        if let Err(error) = check_join(&cx, request) {
            return refused(error);
        }
        if !self.groups.contains_key(&request.group) {
            if !request.member_id.is_empty() {
                return refused(GroupError::UnknownMember);
            }
            if !self.make_group(now, &request.group) {
                return refused(GroupError::NotAvailable);
            }
        }
        self.with(now, &request.group, out, |group, cx| {
            group.join(cx, request, waiter)
        });
        None
    }

    /// Makes an empty group if there is room for one more.
    fn make_group(&mut self, now: Now, id: &Name) -> bool {
        if self.groups.len() >= MAX_GROUPS {
            return false;
        }
        self.groups.insert(id.clone(), Group::new(id.clone(), now));
        true
    }

    /// A commit; one without a generation makes the (simple) group if there is none.
    fn commit(
        &mut self,
        now: Now,
        request: &CommitRequest,
        out: &mut Effects,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let id = &request.member.group;
        if !self.groups.contains_key(id) {
            if request.member.generation >= 0 {
                return Err(if request.knows_group_id_not_found {
                    GroupError::GroupIdNotFound
                } else {
                    GroupError::IllegalGeneration
                });
            }
            if !self.make_group(now, id) {
                return Err(GroupError::NotAvailable);
            }
        }
        self.with(now, id, out, |group, cx| group.commit(cx, request))
            .unwrap_or(Err(GroupError::NotAvailable))
    }

    fn fetch_offsets(&self, request: &FetchOffsetsRequest) -> Vec<FetchedOffset> {
        match (self.groups.get(&request.group), &request.partitions) {
            (Some(group), _) => group.fetch_offsets(request),
            (None, Some(asked)) => asked.iter().map(|(t, p)| fetched(t, *p, None)).collect(),
            (None, None) => Vec::new(),
        }
    }

    fn delete_group(&mut self, now: Now, id: &Name, out: &mut Effects) -> Result<(), GroupError> {
        self.with(now, id, out, |group, cx| match group.state {
            GroupState::Empty | GroupState::Dead => {
                group.delete(cx);
                Ok(())
            }
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => Err(GroupError::NonEmptyGroup),
        })
        .unwrap_or(Err(GroupError::GroupIdNotFound))
    }

    /// Rings every timer that is due.
    fn ring(&mut self, now: Now, out: &mut Effects) {
        while let Some(Timer { at_ms, group, kind }) = self.timers.pop_due(now.monotonic_ms) {
            self.with(now, &group, out, |group, cx| match kind {
                TimerKind::Join => group.join_timer(cx),
                TimerKind::Sync => group.sync_timer(cx),
                TimerKind::Session(id) => group.session_timer(cx, &id, at_ms),
                TimerKind::Pending(id) => group.pending_timer(cx, &id),
            });
        }
        let interval = self.config.offsets_retention_check_interval_ms;
        let next = now.monotonic_ms.saturating_add(interval);
        if *self.next_expiry_ms.get_or_insert(next) <= now.monotonic_ms {
            self.next_expiry_ms = Some(next);
            self.each_group(now, out, |group, cx| group.expire(cx));
        }
    }

    /// Runs `f` on a group, and forgets the group if nothing of it is left.
    fn with<T>(
        &mut self,
        now: Now,
        id: &Name,
        effects: &mut Effects,
        f: impl FnOnce(&mut Group, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let mut cx = Context {
            now,
            config: &self.config,
            effects,
            timers: &mut self.timers,
        };
        let result = f(group, &mut cx);
        if group.is_forgettable() {
            self.groups.remove(id);
        }
        Some(result)
    }

    fn each_group(
        &mut self,
        now: Now,
        effects: &mut Effects,
        mut f: impl FnMut(&mut Group, &mut Context<'_>),
    ) {
        for group in self.groups.values_mut() {
            let mut cx = Context {
                now,
                config: &self.config,
                effects,
                timers: &mut self.timers,
            };
            f(group, &mut cx);
        }
        self.groups.retain(|_, group| !group.is_forgettable());
    }
}

/// What a request for a group that does not exist is told.
fn unknown_group(id: &str) -> GroupError {
    if id.is_empty() {
        GroupError::InvalidGroupId
    } else {
        GroupError::UnknownMember
    }
}

/// Which of `partitions` coordinator partitions a group belongs to: Java's `String.hashCode` over
/// UTF-16 units, made positive as Kafka's `Utils.abs` does, modulo the count.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}
