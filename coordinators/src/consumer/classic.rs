//! Members that still speak the classic protocol, in a group of this one.
//!
//! A join is their heartbeat: it says what they want and own. A sync fetches what they are to
//! have. Their heartbeats only tell them when to join again, which they must within their
//! rebalance time-out, and then sync within another.

use bytes::Bytes;
use protocol::ErrorCode;

use super::embedded::{Subscription, by_id, decode_subscription, encode_assignment};
use super::heartbeat::{Known, check_instance, unknown_instance};
use super::request::check_length;
use super::{
    ClassicMember, ConsumerGroup, JOIN_EPOCH, Member, MemberMetadata, MemberState, Name, Outcome,
    Record, Refusal, Topics,
};

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A JoinGroup (11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicJoin {
    /// Version of the request: from 4 on a dynamic member has to come back with its id.
    pub version: i16,
    /// The member, empty if it has no id.
    pub member_id: Name,
    /// An id to give to a member without one.
    pub fresh_member_id: Name,
    /// Instance id of a static member.
    pub instance_id: Option<Name>,
    /// `client.id` of its connection.
    pub client_id: Name,
    /// Address of its connection.
    pub client_host: Name,
    /// Its session time-out in milliseconds.
    pub session_timeout_ms: i32,
    /// How long it may take to join and to sync, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The protocol type.
    pub protocol_type: Name,
    /// The assignors it supports with its subscription for each, by its preference.
    pub protocols: Vec<(Name, Bytes)>,
}

/// The answer to a [`ClassicJoin`]; no member leads, as nobody but the coordinator assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicJoined {
    /// The member.
    pub member_id: Name,
    /// Its epoch.
    pub generation: i32,
    /// The first assignor it supports.
    pub protocol: Name,
}

/// Who sends a SyncGroup (14), Heartbeat (12) or LeaveGroup (13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicSender {
    /// The member.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Its generation; a leave names none.
    pub generation: i32,
}

fn outcome<A>(records: Vec<Record>, answer: Result<A, Refusal>) -> Outcome<A> {
    Outcome {
        records,
        resolve: Vec::new(),
        answer,
    }
}

fn inconsistent(id: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InconsistentGroupProtocol,
        format!("Member {id}'s protocols are not supported."),
    )
}

impl ConsumerGroup {
    /// A member of the classic protocol joins, or joins again. MEMBER_ID_REQUIRED is answered
    /// with the fresh id.
    pub fn classic_join(
        &mut self,
        now_ms: u64,
        request: &ClassicJoin,
        topics: &dyn Topics,
    ) -> Outcome<ClassicJoined> {
        let mut records = Vec::new();
        let answer = self.join_classic(now_ms, request, topics, &mut records);
        outcome(records, answer)
    }

    fn join_classic(
        &mut self,
        now_ms: u64,
        request: &ClassicJoin,
        topics: &dyn Topics,
        records: &mut Vec<Record>,
    ) -> Result<ClassicJoined, Refusal> {
        let has_id = !request.member_id.is_empty();
        let id = if has_id {
            &request.member_id
        } else {
            &request.fresh_member_id
        };
        check_length(id)?;
        check_length(&self.id)?;
        self.check_size(id)?;
        let subscription = self.check_protocols(id, request)?;
        if request.version >= 4 && request.instance_id.is_none() && !has_id {
            return Err(Refusal::new(
                ErrorCode::MemberIdRequired,
                "The group member needs to have a valid member id before actually entering a \
                 consumer group.",
            ));
        }
        let replaces = self.classic_place(id, has_id, request)?;
        let before = match &replaces {
            Some(old) => self.members[old].clone(),
            None => self.members.get(id).cloned().unwrap_or_default(),
        };
        if before.current.state == MemberState::Unknown && !subscription.owned.is_empty() {
            // A state of a later version: it has to begin again with nothing.
            return Err(self.unknown_member(id));
        }
        if let Some(old) = replaces {
            self.replace(&old, id, &before, records);
        }
        let metadata = classic_metadata(&before.metadata, request, &subscription);
        let known = Known {
            epoch: self
                .members
                .get(id)
                .map_or(JOIN_EPOCH, |one| one.current.epoch),
            owned: Some(&by_id(&subscription.owned, topics)),
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
        self.timers.classic(
            id,
            now_ms.saturating_add(timeout(request.rebalance_timeout_ms)),
        );
        Ok(ClassicJoined {
            member_id: id.clone(),
            generation: self.members[id].current.epoch,
            protocol: request.protocols[0].0.clone(),
        })
    }

    /// One assignor at least must be supported by all members of this protocol.
    fn check_protocols(&self, id: &str, request: &ClassicJoin) -> Result<Subscription, Refusal> {
        let mut others = self
            .members
            .iter()
            .filter(|(other, _)| &***other != id)
            .filter_map(|(_, member)| member.metadata.classic.as_ref());
        let others: Vec<_> = others.by_ref().collect();
        let supports = |one: &ClassicMember, name: &Name| {
            one.protocols.iter().any(|(supported, _)| supported == name)
        };
        let is_common = |name: &Name| others.iter().all(|classic| supports(classic, name));
        let fits = request.protocols.iter().any(|(name, _)| is_common(name));
        match request.protocols.first() {
            Some((_, metadata)) if fits && &*request.protocol_type == CONSUMER_PROTOCOL_TYPE => {
                decode_subscription(metadata).map_err(|_| inconsistent(id))
            }
            _ => Err(inconsistent(id)),
        }
    }

    /// Whom a static member replaces. A dynamic one is taken as it comes.
    fn classic_place(
        &self,
        id: &Name,
        has_id: bool,
        request: &ClassicJoin,
    ) -> Result<Option<Name>, Refusal> {
        let Some(instance) = &request.instance_id else {
            return Ok(None);
        };
        match self.statics.get(instance) {
            Some(owner) if has_id => check_instance(id, instance, owner).map(|()| None),
            Some(owner) => Ok(Some(owner.clone())),
            None if has_id => Err(unknown_instance(instance)),
            None => Ok(None),
        }
    }

    /// The member of this protocol that sends something, by its id or instance id.
    fn classic_member(&self, sender: &ClassicSender) -> Result<(Name, &Member), Refusal> {
        let id = &sender.member_id;
        if let Some(instance) = &sender.instance_id {
            let owner = self.statics.get(instance);
            check_instance(
                id,
                instance,
                owner.ok_or_else(|| unknown_instance(instance))?,
            )?;
        }
        match self.members.get(id) {
            Some(member) if member.metadata.classic.is_some() => Ok((id.clone(), member)),
            _ => Err(self.unknown_member(id)),
        }
    }

    fn check_generation(&self, sender: &ClassicSender) -> Result<(Name, &Member), Refusal> {
        let (id, member) = self.classic_member(sender)?;
        if member.current.epoch == sender.generation {
            return Ok((id, member));
        }
        Err(Refusal::new(
            ErrorCode::IllegalGeneration,
            format!(
                "The request generation id {} is not equal to the member epoch {} of member {id}.",
                sender.generation, member.current.epoch
            ),
        ))
    }

    fn rejoin(&mut self, now_ms: u64, id: &Name) -> Refusal {
        let deadline_ms =
            now_ms.saturating_add(timeout(self.members[id].metadata.rebalance_timeout_ms));
        self.timers.classic_if_absent(id, deadline_ms);
        Refusal::new(
            ErrorCode::RebalanceInProgress,
            format!(
                "A new rebalance is triggered in group {} and member {id} should rejoin to catch \
                 up.",
                self.id
            ),
        )
    }

    /// A sync: the bytes of what the member is to have.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL; and
    /// REBALANCE_IN_PROGRESS if it has to join again.
    pub fn classic_sync(
        &mut self,
        now_ms: u64,
        sender: &ClassicSender,
        protocol_type: Option<&str>,
        protocol: Option<&str>,
        topics: &dyn Topics,
    ) -> Result<Bytes, Refusal> {
        let (id, member) = self.check_generation(sender)?;
        let classic = member.metadata.classic.as_ref();
        let (name, metadata) = classic
            .and_then(|classic| classic.protocols.first())
            .ok_or_else(|| inconsistent(&id))?;
        if protocol_type.is_some_and(|kind| kind != CONSUMER_PROTOCOL_TYPE)
            || protocol.is_some_and(|protocol| protocol != &**name)
        {
            return Err(inconsistent(&id));
        }
        let Member { current, .. } = member;
        // Who gives something up has joined already, and does so again when that is done.
        if self.metadata.epoch > current.epoch && current.state != MemberState::UnrevokedPartitions
        {
            return Err(self.rejoin(now_ms, &id));
        }
        let version = decode_subscription(metadata).map_or(0, |subscription| subscription.version);
        let bytes = encode_assignment(version, &current.assigned, topics);
        self.timers.synced(&id);
        self.begin_session(now_ms, &id);
        Ok(bytes)
    }

    /// A heartbeat of the classic protocol.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION; and REBALANCE_IN_PROGRESS if it
    /// has to join again.
    pub fn classic_heartbeat(
        &mut self,
        now_ms: u64,
        sender: &ClassicSender,
    ) -> Result<(), Refusal> {
        let (id, Member { current, .. }) = self.check_generation(sender)?;
        let behind = current.epoch < self.metadata.epoch;
        let joins_again = match current.state {
            MemberState::Stable => behind,
            MemberState::UnrevokedPartitions | MemberState::Unknown => true,
            MemberState::UnreleasedPartitions => behind || self.has_released(&id),
        };
        self.begin_session(now_ms, &id);
        if joins_again {
            return Err(self.rejoin(now_ms, &id));
        }
        Ok(())
    }

    /// Whether a partition that a member waits for is free.
    fn has_released(&self, id: &Name) -> bool {
        let assigned = &self.members[id].current.assigned;
        self.targets.get(id).is_some_and(|target| {
            (target.without(assigned).iter()).any(|partition| !self.is_owned(partition))
        })
    }

    /// A leave of several members, each with its own answer. An operator may name a static one by
    /// its instance id alone.
    pub fn classic_leave(
        &mut self,
        senders: &[ClassicSender],
        topics: &dyn Topics,
    ) -> Outcome<Vec<Result<Name, Refusal>>> {
        let mut leaving: Vec<Name> = Vec::new();
        let mut answers = Vec::with_capacity(senders.len());
        for sender in senders {
            let mut sender = sender.clone();
            if let Some(instance) = &sender.instance_id
                && sender.member_id.is_empty()
                && let Some(owner) = self.statics.get(instance)
            {
                sender.member_id = owner.clone();
            }
            let answer = match self.classic_member(&sender) {
                Ok((id, _)) if leaving.contains(&id) => Err(self.unknown_member(&id)),
                Ok((id, _)) => Ok(id),
                Err(refusal) => Err(refusal),
            };
            leaving.extend(answer.iter().cloned());
            answers.push(answer);
        }
        let mut records = Vec::new();
        self.fence(&leaving, topics, &mut records);
        outcome(records, Ok(answers))
    }
}

fn timeout(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

fn classic_metadata(
    before: &MemberMetadata,
    request: &ClassicJoin,
    subscription: &Subscription,
) -> MemberMetadata {
    let keep = |new: &Option<Name>, old: &Option<Name>| new.as_ref().or(old.as_ref()).cloned();
    MemberMetadata {
        instance_id: keep(&request.instance_id, &before.instance_id),
        rack_id: keep(&subscription.rack_id, &before.rack_id),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topics: subscription.topics.clone(),
        regex: None,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(ClassicMember {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
    }
}
