//! ConsumerGroupHeartbeat (68): joins, beats, leaves; and members that are given up.

use protocol::ErrorCode;

use super::reconcile::Step;
use super::{
    Assignment, ConsumerGroup, CurrentAssignment, Heartbeat, HeartbeatAnswer, JOIN_EPOCH,
    LEAVE_EPOCH, Member, MemberMetadata, MemberState, Name, Outcome, Pattern, Record, Refusal,
    STATIC_LEAVE_EPOCH, Topics,
};

/// What a member showed that it knows.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The epoch it named.
    pub(super) epoch: i32,
    /// What it says it owns; `None` if it did not say.
    pub(super) owned: Option<&'a Assignment>,
}

impl ConsumerGroup {
    /// A heartbeat.
    pub fn heartbeat(
        &mut self,
        now_ms: u64,
        request: &Heartbeat,
        topics: &dyn Topics,
    ) -> Outcome<HeartbeatAnswer> {
        let mut records = Vec::new();
        let mut resolve = Vec::new();
        let answer = request
            .validate(self)
            .and_then(|()| match request.member_epoch {
                LEAVE_EPOCH | STATIC_LEAVE_EPOCH => self.leave(request, topics, &mut records),
                _ => {
                    let answer = self.beat(now_ms, request, topics, &mut records)?;
                    resolve = self.regexes_to_resolve(now_ms);
                    Ok(answer)
                }
            });
        Outcome {
            records,
            resolve,
            answer,
        }
    }

    fn beat(
        &mut self,
        now_ms: u64,
        request: &Heartbeat,
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) -> Result<HeartbeatAnswer, Refusal> {
        let id = if request.member_id.is_empty() {
            &request.fresh_member_id
        } else {
            &request.member_id
        };
        // Whatever may be refused is refused before anything changes.
        let replaces = self.admit(id, request)?;
        let before = match &replaces {
            Some(old) => self.members[old].clone(),
            None => self.members.get(id).cloned().unwrap_or_default(),
        };
        let metadata = self.updated(&before.metadata, request)?;
        self.check_rejoin(&before, request)?;

        if let Some(old) = replaces {
            self.replace(&old, id, &before, records);
        }
        let had = before.current.assigned.clone();
        let known = Known {
            epoch: request.member_epoch,
            owned: request.owned.as_ref(),
        };
        self.advance(
            now_ms,
            id,
            &before.metadata,
            metadata,
            known,
            topics,
            records,
        );

        self.timers.synced(id);
        let current = &self.members[id].current;
        let changed = current.assigned != had;
        Ok(HeartbeatAnswer {
            member_id: id.clone(),
            member_epoch: current.epoch,
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
            assignment: (request.is_full() || changed).then(|| current.assigned.clone()),
        })
    }

    /// Takes over what a member said, makes what follows from it, and brings it a step further.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of many parts, for two protocols"
    )]
    pub(super) fn advance(
        &mut self,
        now_ms: u64,
        id: &Name,
        before: &MemberMetadata,
        metadata: MemberMetadata,
        known: Known<'_>,
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) {
        let must = self.subscribe(id, before, metadata, records);
        self.raise_epoch(must || self.metadata.epoch == 0, topics, records);
        self.make_targets(topics, records);
        self.reconcile(now_ms, id, known, records);
        self.begin_session(now_ms, id);
    }

    pub(super) fn check_size(&self, id: &Name) -> Result<(), Refusal> {
        if self.members.len() < self.config.max_size || self.members.contains_key(id) {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorCode::GroupMaxSizeReached,
            format!(
                "The consumer group has reached its maximum capacity of {} members.",
                self.config.max_size
            ),
        ))
    }

    /// Whether a member may send this heartbeat, and whom it replaces.
    fn admit(&self, id: &Name, request: &Heartbeat) -> Result<Option<Name>, Refusal> {
        let joins = request.member_epoch == JOIN_EPOCH;
        if !joins && self.members.is_empty() && self.metadata.epoch == 0 {
            return Err(Refusal::new(
                ErrorCode::GroupIdNotFound,
                format!("Group {} not found.", self.id),
            ));
        }
        self.check_size(id)?;
        let Some(instance) = &request.instance_id else {
            match self.members.get(id) {
                Some(member) => check_epoch(member, request)?,
                None if joins => {}
                None => return Err(self.unknown_member(id)),
            }
            return Ok(None);
        };
        match self.statics.get(instance) {
            None if joins => Ok(None),
            None => Err(unknown_instance(instance)),
            // Its own join once more: the answer was lost.
            Some(owner) if joins && owner != id => {
                let member = &self.members[owner];
                if member.current.epoch != STATIC_LEAVE_EPOCH && member.metadata.classic.is_none() {
                    return Err(Refusal::new(
                        ErrorCode::UnreleasedInstanceId,
                        format!(
                            "Static member {id} with instance id {instance} cannot join the \
                             group because the instance id is owned by {owner} member."
                        ),
                    ));
                }
                Ok(Some(owner.clone()))
            }
            Some(owner) => {
                check_instance(id, instance, owner)?;
                check_epoch(&self.members[owner], request)?;
                Ok(None)
            }
        }
    }

    /// What is known of the member after this heartbeat.
    fn updated(
        &self,
        before: &MemberMetadata,
        request: &Heartbeat,
    ) -> Result<MemberMetadata, Refusal> {
        let mut metadata = before.clone();
        let keep = |new: &Option<Name>, old: &Option<Name>| new.as_ref().or(old.as_ref()).cloned();
        metadata.instance_id = keep(&request.instance_id, &before.instance_id);
        metadata.rack_id = keep(&request.rack_id, &before.rack_id);
        metadata.regex = keep(&request.regex, &before.regex);
        metadata.assignor = keep(&request.assignor, &before.assignor);
        if let Some(topics) = &request.topics {
            metadata.topics.clone_from(topics);
        }
        if request.rebalance_timeout_ms != -1 {
            metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        metadata.client_id = request.client_id.clone();
        metadata.client_host = request.client_host.clone();
        metadata.classic = None;
        if let Some(pattern) = metadata.pattern()
            && before.pattern() != Some(pattern)
            && !self.regexes.contains_key(pattern)
        {
            Pattern::new(pattern).map_err(|error| {
                Refusal::new(ErrorCode::InvalidRegularExpression, error.to_string())
            })?;
        }
        Ok(metadata)
    }

    /// A member of a state that is not known has to say that it has nothing.
    fn check_rejoin(&self, before: &Member, request: &Heartbeat) -> Result<(), Refusal> {
        let owns = request.owned.as_ref().is_none_or(|owned| !owned.is_empty());
        if before.current.state == MemberState::Unknown && owns {
            return Err(fenced(
                "The consumer group member is in a unknown state. The member must abandon all \
                 its partitions and rejoin."
                    .into(),
            ));
        }
        Ok(())
    }

    /// A static member is back under another id: it takes the place of the old one.
    pub(super) fn replace(
        &mut self,
        old: &Name,
        new: &Name,
        before: &Member,
        records: &mut Vec<Record>,
    ) {
        let target = self.targets.get(old).cloned().unwrap_or_default();
        self.remove(old, records);
        let mut current = before.current.clone();
        current.epoch = JOIN_EPOCH;
        current.previous_epoch = JOIN_EPOCH;
        // What the old one was to give up went with it.
        current.state = MemberState::Stable;
        current.revoking = Assignment::new();
        self.commit(
            Record::Member(new.clone(), Some(before.metadata.clone())),
            records,
        );
        self.commit(Record::Target(new.clone(), Some(target)), records);
        self.commit(Record::Current(new.clone(), Some(current)), records);
    }

    /// Takes over what a member said; true if that asks for new targets.
    fn subscribe(
        &mut self,
        id: &Name,
        before: &MemberMetadata,
        metadata: MemberMetadata,
        records: &mut Vec<Record>,
    ) -> bool {
        let is_new = !self.members.contains_key(id);
        if !is_new && *before == metadata {
            return false;
        }
        let must = before.topics != metadata.topics
            || (before.pattern() != metadata.pattern()
                && metadata
                    .pattern()
                    .is_none_or(|pattern| self.regexes.contains_key(pattern)));
        self.commit(Record::Member(id.clone(), Some(metadata)), records);
        if before.pattern().is_some() {
            self.drop_unused_regexes(records);
        }
        must
    }

    /// One step of a member towards its target.
    fn reconcile(&mut self, now_ms: u64, id: &Name, known: Known<'_>, records: &mut Vec<Record>) {
        let current = &self.members[id].current;
        if current.is_reconciled(self.target_epoch) {
            return;
        }
        let nothing = Assignment::new();
        let step = Step {
            known_epoch: known.epoch,
            target_epoch: self.target_epoch,
            target: self.targets.get(id).unwrap_or(&nothing),
            owned: known.owned,
            is_owned: &|partition| self.is_owned(partition),
        };
        let next = step.take(current).expect("refused before");
        assert!(
            next.epoch <= self.target_epoch
                && (next.epoch >= current.epoch || current.state == MemberState::Unknown),
            "{id} goes from {} to {} of {}",
            current.epoch,
            next.epoch,
            self.target_epoch
        );
        if next != *current {
            self.commit(Record::Current(id.clone(), Some(next)), records);
            self.watch_rebalance(now_ms, id);
        }
    }

    pub(super) fn begin_session(&mut self, now_ms: u64, id: &Name) {
        let timeout_ms = match &self.members[id].metadata.classic {
            Some(classic) => u64::try_from(classic.session_timeout_ms).unwrap_or(0),
            None => self.config.session_timeout_ms.into(),
        };
        self.timers.session(id, now_ms.saturating_add(timeout_ms));
    }

    pub(super) fn watch_rebalance(&mut self, now_ms: u64, id: &Name) {
        let Member { metadata, current } = &self.members[id];
        // A classic member has its own time to join again.
        if current.state == MemberState::UnrevokedPartitions && metadata.classic.is_none() {
            let timeout_ms = u64::try_from(metadata.rebalance_timeout_ms).unwrap_or(0);
            let deadline_ms = now_ms.saturating_add(timeout_ms);
            self.timers.rebalance(id, current.epoch, deadline_ms);
        } else {
            self.timers.reconciled(id);
        }
    }

    fn leave(
        &mut self,
        request: &Heartbeat,
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) -> Result<HeartbeatAnswer, Refusal> {
        let id = &request.member_id;
        if let Some(instance) = &request.instance_id {
            let owner = self.statics.get(instance);
            check_instance(
                id,
                instance,
                owner.ok_or_else(|| unknown_instance(instance))?,
            )?;
        } else if !self.members.contains_key(id) {
            return Err(self.unknown_member(id));
        }
        if request.member_epoch == STATIC_LEAVE_EPOCH {
            let left = CurrentAssignment {
                epoch: STATIC_LEAVE_EPOCH,
                state: MemberState::Stable,
                revoking: Assignment::new(),
                ..self.members[id].current.clone()
            };
            self.commit(Record::Current(id.clone(), Some(left)), records);
            self.timers.reconciled(id);
        } else {
            self.fence(std::slice::from_ref(id), topics, records);
        }
        Ok(HeartbeatAnswer {
            member_id: id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Takes members out, and raises the epoch once for all of them.
    pub(super) fn fence(
        &mut self,
        members: &[Name],
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) {
        if members.is_empty() {
            return;
        }
        for id in members {
            self.remove(id, records);
        }
        self.drop_unused_regexes(records);
        self.raise_epoch(true, topics, records);
    }

    pub(super) fn remove(&mut self, id: &Name, records: &mut Vec<Record>) {
        self.commit(Record::Current(id.clone(), None), records);
        self.commit(Record::Target(id.clone(), None), records);
        self.commit(Record::Member(id.clone(), None), records);
        self.timers.gone(id);
    }

    /// When [`Self::expire`] has something to do, in milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Fences the members whose session ran out, or who did not give partitions up in time.
    pub fn expire(&mut self, now_ms: u64, topics: &dyn Topics) -> Outcome<Vec<Name>> {
        let (mut gone, stuck) = self.timers.due(now_ms);
        for (id, epoch) in stuck {
            // It may have left the epoch, or the group, meanwhile.
            let still = self.members.get(&id);
            if still.is_some_and(|member| member.current.epoch == epoch) && !gone.contains(&id) {
                gone.push(id);
            } else if !gone.contains(&id) {
                self.timers.reconciled(&id);
            }
        }
        let mut records = Vec::new();
        self.fence(&gone, topics, &mut records);
        Outcome {
            records,
            resolve: Vec::new(),
            answer: Ok(gone),
        }
    }

    /// Topics were made, deleted, or given more partitions: the next heartbeat looks at them.
    pub fn topics_changed(&mut self) {
        self.is_stale = true;
        self.are_regexes_stale = true;
    }

    pub(super) fn unknown_member(&self, id: &str) -> Refusal {
        Refusal::new(
            ErrorCode::UnknownMemberId,
            format!("Member {id} is not a member of group {}.", self.id),
        )
    }
}

fn fenced(message: String) -> Refusal {
    Refusal::new(ErrorCode::FencedMemberEpoch, message)
}

pub(super) fn unknown_instance(instance: &str) -> Refusal {
    Refusal::new(
        ErrorCode::UnknownMemberId,
        format!("Instance id {instance} is unknown."),
    )
}

pub(super) fn check_instance(id: &Name, instance: &Name, owner: &Name) -> Result<(), Refusal> {
    if id == owner {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FencedInstanceId,
        format!("Static member {id} with instance id {instance} was fenced by member {owner}."),
    ))
}

/// The epoch must be the member's, or the one before if the answer that told the new one may have
/// been lost: then the client has nothing that
/// is not its own by the new one, be it to give up.
fn check_epoch(member: &Member, request: &Heartbeat) -> Result<(), Refusal> {
    let Member { current, .. } = member;
    let epoch = request.member_epoch;
    let knows_no_better = epoch == current.previous_epoch
        && request.owned.as_ref().is_some_and(|owned| {
            owned
                .without(&current.assigned)
                .is_within(&current.revoking)
        });
    if epoch == current.epoch || (epoch < current.epoch && knows_no_better) {
        return Ok(());
    }
    let relation = if epoch > current.epoch {
        "greater"
    } else {
        "smaller"
    };
    Err(fenced(format!(
        "The consumer group member has a {relation} member epoch ({epoch}) than the one known by \
         the group coordinator ({}). The member must abandon all its partitions and rejoin.",
        current.epoch
    )))
}
