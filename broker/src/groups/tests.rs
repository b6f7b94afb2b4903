//! A world around a coordinator: it keeps the time, the log and every answer, and insists that
//! each waiter is answered once.

mod actor;
mod model;
mod offsets;
mod rebalance;
mod statics;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;

/// Number of random steps of the model test: a million optimised, 200,000 otherwise.
const MODEL_STEPS: u64 = if cfg!(debug_assertions) {
    200_000
} else {
    1_000_000
};

fn name(text: &str) -> Name {
    Name::from(text)
}

/// A subscription of the consumer protocol to `topics`.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0, 0, 0, 0]);
    bytes.into()
}

struct World {
    shard: Shard,
    config: GroupConfig,
    now: Now,
    log: Vec<(Bytes, Option<Bytes>)>,
    next_waiter: u64,
    open: BTreeSet<WaiterId>,
    answers: BTreeMap<WaiterId, Reply>,
    nonce: u128,
}

impl World {
    fn new() -> Self {
        Self::with(GroupConfig::kafka_defaults())
    }

    fn with(config: GroupConfig) -> Self {
        Self {
            shard: Shard::new(config.clone()),
            config,
            now: Now {
                monotonic_ms: 1_000,
                wall_ms: 1_700_000_000_000,
            },
            log: Vec::new(),
            next_waiter: 0,
            open: BTreeSet::new(),
            answers: BTreeMap::new(),
            nonce: 0,
        }
    }

    fn take(&mut self, effects: Effects) {
        for record in effects.records {
            self.log.push((record.key, record.value));
        }
        for answer in effects.answers {
            assert!(
                self.open.remove(&answer.waiter),
                "answered twice: {answer:?}"
            );
            self.answers.insert(answer.waiter, answer.reply);
        }
    }

    fn input(&mut self, input: Input) {
        let effects = self.shard.apply(self.now, input);
        self.take(effects);
    }

    fn send(&mut self, request: Request) -> WaiterId {
        self.next_waiter += 1;
        let waiter = WaiterId(self.next_waiter);
        self.open.insert(waiter);
        self.input(Input::Request { waiter, request });
        waiter
    }

    /// Lets time pass, ringing every timer at its own time.
    fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(at) = self.shard.next_deadline().filter(|&at| at <= end) {
            self.pass(at.saturating_sub(self.now.monotonic_ms));
            self.input(Input::Tick);
        }
        self.pass(end - self.now.monotonic_ms);
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += ms as i64;
    }

    fn reply(&mut self, waiter: WaiterId) -> Reply {
        self.answers
            .remove(&waiter)
            .unwrap_or_else(|| panic!("{waiter:?} was not answered"))
    }

    fn joined(&mut self, waiter: WaiterId) -> JoinReply {
        match self.reply(waiter) {
            Reply::Join(reply) => reply,
            other => panic!("not a join: {other:?}"),
        }
    }

    fn synced(&mut self, waiter: WaiterId) -> Result<Bytes, GroupError> {
        match self.reply(waiter) {
            Reply::Sync(reply) => reply.map(|reply| reply.assignment),
            other => panic!("not a sync: {other:?}"),
        }
    }

    /// A dynamic member's join, with its id asked for first if it has none.
    fn join(&mut self, group: &str, member_id: &str) -> WaiterId {
        let mut request = self.join_request(group, member_id);
        if member_id.is_empty() {
            let waiter = self.send(Request::Join(request.clone()));
            let refused = self.joined(waiter);
            assert_eq!(refused.error, Some(GroupError::MemberIdRequired));
            request.member_id = refused.member_id;
        }
        self.send(Request::Join(request))
    }

    fn join_static(&mut self, group: &str, instance: &str, skip: bool) -> WaiterId {
        let mut request = self.join_request(group, "");
        request.instance_id = Some(name(instance));
        request.supports_skip_assignment = skip;
        self.send(Request::Join(request))
    }

    fn join_request(&mut self, group: &str, member_id: &str) -> JoinRequest {
        self.nonce += 1;
        JoinRequest {
            group: name(group),
            member_id: name(member_id),
            instance_id: None,
            client_id: name("client"),
            client_host: name("/127.0.0.1"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: name("consumer"),
            protocols: vec![(name("range"), subscription(&["t"]))],
            requires_member_id: true,
            supports_skip_assignment: true,
            nonce: self.nonce,
        }
    }

    fn sync(&mut self, group: &str, member: &JoinReply, given: &[(&str, &str)]) -> WaiterId {
        self.send(Request::Sync(SyncRequest {
            member: member_request(group, &member.member_id, member.generation),
            protocol_type: member.protocol_type.clone(),
            protocol: member.protocol.clone(),
            assignments: given
                .iter()
                .map(|(id, bytes)| (name(id), Bytes::copy_from_slice(bytes.as_bytes())))
                .collect(),
        }))
    }

    fn heartbeat(&mut self, group: &str, member: &JoinReply) -> Result<(), GroupError> {
        self.heartbeat_as(member_request(group, &member.member_id, member.generation))
    }

    fn heartbeat_as(&mut self, request: MemberRequest) -> Result<(), GroupError> {
        let waiter = self.send(Request::Heartbeat(request));
        match self.reply(waiter) {
            Reply::Heartbeat(result) => result,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    fn leave(
        &mut self,
        group: &str,
        members: &[(&str, Option<&str>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let members = members
            .iter()
            .map(|(id, inst)| (name(id), inst.map(name)))
            .collect();
        let waiter = self.send(Request::Leave(LeaveRequest {
            group: name(group),
            members,
        }));
        match self.reply(waiter) {
            Reply::Leave(result) => result,
            other => panic!("not a leave: {other:?}"),
        }
    }

    fn commit(
        &mut self,
        member: MemberRequest,
        topic: &str,
        offset: i64,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.commit_with(member, topic, offset, "meta", None)
    }

    fn commit_with(
        &mut self,
        member: MemberRequest,
        topic: &str,
        offset: i64,
        metadata: &str,
        retention_ms: Option<i64>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let waiter = self.send(Request::Commit(CommitRequest {
            member,
            knows_group_id_not_found: true,
            retention_ms,
            offsets: vec![CommitOffset {
                topic: name(topic),
                partition: 0,
                offset,
                leader_epoch: 5,
                metadata: name(metadata),
            }],
        }));
        match self.reply(waiter) {
            Reply::Commit(result) => result,
            other => panic!("not a commit: {other:?}"),
        }
    }

    /// All offsets of a group as (topic, offset).
    fn offsets(&mut self, group: &str) -> Vec<(String, i64)> {
        let request = FetchOffsetsRequest {
            group: name(group),
            partitions: None,
        };
        let waiter = self.send(Request::FetchOffsets(request));
        match self.reply(waiter) {
            Reply::FetchOffsets(Ok(offsets)) => offsets
                .into_iter()
                .map(|o| (o.topic.to_string(), o.offset))
                .collect(),
            other => panic!("not offsets: {other:?}"),
        }
    }

    fn describe(&mut self, group: &str) -> Result<Description, GroupError> {
        let waiter = self.send(Request::Describe(name(group)));
        match self.reply(waiter) {
            Reply::Describe(result) => result,
            other => panic!("not a description: {other:?}"),
        }
    }

    fn state(&mut self, group: &str) -> Option<GroupState> {
        self.describe(group)
            .ok()
            .map(|description| description.state)
    }

    fn delete(&mut self, group: &str) -> Result<(), GroupError> {
        let waiter = self.send(Request::DeleteGroup(name(group)));
        match self.reply(waiter) {
            Reply::DeleteGroup(result) => result,
            other => panic!("not a deletion: {other:?}"),
        }
    }

    /// kill -9 and a restart: everything but the log is lost, whoever waited is gone.
    fn restart(&mut self) -> LoadCounts {
        let mut loader = Loader::default();
        for (key, value) in &self.log {
            loader
                .record(Some(key), value.as_deref())
                .expect("we wrote it");
        }
        let counts = loader.counts();
        self.shard = loader.finish(self.config.clone(), self.now);
        self.open.clear();
        counts
    }

    /// A stable group of `count` dynamic members; the replies in the order they joined.
    fn stable(&mut self, group: &str, count: usize) -> Vec<JoinReply> {
        let waiters = (0..count).map(|_| self.join(group, "")).collect::<Vec<_>>();
        self.advance(6_000);
        let members = waiters
            .into_iter()
            .map(|w| self.joined(w))
            .collect::<Vec<_>>();
        self.sync_all(group, &members);
        members
    }

    /// Syncs everybody, the leader last, with an assignment that names its owner.
    fn sync_all(&mut self, group: &str, members: &[JoinReply]) {
        let mut waiters = Vec::new();
        for member in members.iter().filter(|m| m.leader != m.member_id) {
            waiters.push((member, self.sync(group, member, &[])));
        }
        let leader = members
            .iter()
            .find(|m| m.leader == m.member_id)
            .expect("somebody leads");
        let given = members
            .iter()
            .map(|m| (&*m.member_id, &*m.member_id))
            .collect::<Vec<_>>();
        waiters.push((leader, self.sync(group, leader, &given)));
        for (member, waiter) in waiters {
            assert_eq!(
                self.synced(waiter),
                Ok(Bytes::copy_from_slice(member.member_id.as_bytes()))
            );
        }
        assert_eq!(self.state(group), Some(GroupState::Stable));
    }
}

fn member_request(group: &str, member_id: &str, generation: i32) -> MemberRequest {
    MemberRequest {
        group: name(group),
        member_id: name(member_id),
        instance_id: None,
        generation,
    }
}

fn outsider(group: &str) -> MemberRequest {
    member_request(group, "", -1)
}

#[test]
fn groups_map_to_partitions_as_in_java() {
    // String.hashCode and Utils.abs of Kafka 4.3.1, modulo 50.
    for (group, partition) in [
        ("", 0),
        ("a", 47),
        ("my-group", 12),
        ("console-consumer-12345", 6),
        ("grüppe", 12),
        ("😀", 49),
        // Its hash is the one number that has no positive.
        ("polygenelubricants", 0),
    ] {
        assert_eq!(partition_for(group, 50), partition, "{group}");
    }
}
