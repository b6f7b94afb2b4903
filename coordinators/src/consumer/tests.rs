//! What the tests share: a cluster's topics, a log, and clients that do what clients do.

mod classic;
mod crash;
mod model;
mod rules;
mod storm;

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{TopicId, TopicPartition};
use uuid::Uuid;

use super::assignors::Assignor;
use super::*;

pub(super) fn topic_id(topic: u128) -> TopicId {
    TopicId(Uuid::from_u128(topic))
}

pub(super) fn partitions(topic: u128, partitions: &[i32]) -> Assignment {
    partitions
        .iter()
        .map(|partition| TopicPartition::new(topic_id(topic), *partition))
        .collect()
}

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        max_size: 1_000,
        session_timeout_ms: 45_000,
        heartbeat_interval_ms: 5_000,
        assignors: vec![Assignor::Uniform, Assignor::Range],
        regex_refresh_interval_ms: 600_000,
        migration: MigrationPolicy::Bidirectional,
    }
}

/// The topics of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster(BTreeMap<Name, Topic>);

impl Cluster {
    pub(super) fn of(topics: &[(&str, u128, i32)]) -> Self {
        let mut cluster = Self::default();
        for (name, id, partitions) in topics {
            cluster.set(name, *id, *partitions);
        }
        cluster
    }

    fn set(&mut self, name: &str, id: u128, partitions: i32) {
        let id = topic_id(id);
        self.0.insert(name.into(), Topic { id, partitions });
    }

    fn all(&self) -> Assignment {
        let each = self.0.values().flat_map(|topic| {
            (0..topic.partitions).map(|partition| TopicPartition::new(topic.id, partition))
        });
        each.collect()
    }
}

impl Topics for Cluster {
    fn topic(&self, name: &str) -> Option<Topic> {
        self.0.get(name).copied()
    }

    fn name(&self, id: TopicId) -> Option<Name> {
        let found = self.0.iter().find(|(_, topic)| topic.id == id);
        found.map(|(name, _)| name.clone())
    }
}

/// The records of one group, as bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Vec<(Bytes, Option<Bytes>)>);

impl Log {
    fn append(&mut self, records: &[Record]) {
        for record in records {
            self.0.push((record.encode_key("g"), record.encode_value()));
        }
    }

    /// What compaction leaves.
    fn compact(&mut self) {
        let mut last = BTreeMap::new();
        for (at, (key, _)) in self.0.iter().enumerate() {
            last.insert(key.clone(), at);
        }
        let mut at = 0..;
        self.0
            .retain(|(key, value)| at.next() == last.get(key).copied() && value.is_some());
    }

    fn fold(&self) -> ConsumerGroup {
        let mut group = ConsumerGroup::new("g".into(), config());
        for (key, value) in &self.0 {
            let (name, record) = Record::decode(key, value.as_deref()).unwrap().unwrap();
            assert_eq!(&*name, "g");
            group.replay(&record);
        }
        group
    }
}

/// What must be the same before and after a fold.
fn durable(group: &ConsumerGroup) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        group.metadata,
        group.target_epoch,
        group.members.clone(),
        group.statics.clone(),
        group.targets.clone(),
        group.regexes.clone(),
    )
}

/// What holds of every group at any time.
fn check(group: &ConsumerGroup) {
    assert!(group.target_epoch() <= group.epoch());
    let mut owners = BTreeMap::new();
    for (id, member) in group.members() {
        let current = &member.current;
        assert!(current.epoch <= group.target_epoch(), "{id} is ahead");
        for partition in current.assigned.iter().chain(current.revoking.iter()) {
            let other = owners.insert(partition, id);
            assert_eq!(other, None, "{partition} has two owners");
            let (owner, epoch) = group.partition_epoch(partition).unwrap();
            assert_eq!((owner, epoch), (id, current.epoch));
        }
    }
}

/// A consumer, as slow as one may be: it takes at once what it is given, and gives up late.
#[derive(Clone, Debug, Default)]
struct Client {
    id: Name,
    instance: Option<Name>,
    topics: Vec<Name>,
    epoch: i32,
    /// What it reads from.
    held: Assignment,
    /// What it was told to have last.
    wanted: Assignment,
    /// It does not know what became of its last heartbeat.
    is_unsure: bool,
}

impl Client {
    fn new(id: &str, topics: &[&str]) -> Self {
        Self {
            id: id.into(),
            topics: topics.iter().map(|topic| Name::from(*topic)).collect(),
            ..Self::default()
        }
    }

    fn request(&self) -> Heartbeat {
        Heartbeat {
            version: 1,
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: 60_000,
            topics: Some(self.topics.iter().cloned().collect()),
            owned: Some(self.held.clone()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            ..Heartbeat::default()
        }
    }

    /// Only what changed.
    fn delta(&self) -> Heartbeat {
        Heartbeat {
            rebalance_timeout_ms: -1,
            topics: None,
            owned: None,
            ..self.request()
        }
    }

    fn leaves(&self, epoch: i32) -> Heartbeat {
        Heartbeat {
            member_epoch: epoch,
            ..self.delta()
        }
    }

    fn hears(&mut self, answer: &HeartbeatAnswer) {
        assert_eq!(answer.member_id, self.id);
        assert!(answer.member_epoch >= self.epoch, "{} goes back", self.id);
        self.epoch = answer.member_epoch;
        self.is_unsure = false;
        if let Some(assignment) = &answer.assignment {
            self.wanted = assignment.clone();
            self.held.extend(assignment.iter());
        }
    }

    /// It has revoked what it is not to have any more.
    fn revokes(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        self.held = held.common(&self.wanted);
        self.held != held
    }

    fn is_fenced(&mut self) {
        self.epoch = JOIN_EPOCH;
        self.held = Assignment::new();
        self.wanted = Assignment::new();
        self.is_unsure = false;
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

/// A group with its log and its clients.
struct Bench {
    group: ConsumerGroup,
    cluster: Cluster,
    log: Log,
    now_ms: u64,
    heartbeats: usize,
}

impl Bench {
    fn new(topics: &[(&str, u128, i32)]) -> Self {
        Self {
            group: ConsumerGroup::new("g".into(), config()),
            cluster: Cluster::of(topics),
            log: Log::default(),
            now_ms: 0,
            heartbeats: 0,
        }
    }

    fn send(&mut self, request: &Heartbeat) -> Result<HeartbeatAnswer, Refusal> {
        self.heartbeats += 1;
        let outcome = self.group.heartbeat(self.now_ms, request, &self.cluster);
        assert!(outcome.answer.is_ok() || outcome.records.is_empty());
        self.log.append(&outcome.records);
        outcome.answer
    }

    fn beat(&mut self, client: &mut Client) {
        let answer = self.send(&client.request()).unwrap();
        client.hears(&answer);
        client.revokes();
    }

    /// Heartbeats of all, until nothing changes.
    fn settle(&mut self, clients: &mut [Client]) -> usize {
        for round in 1..100 {
            let before = self.log.0.len();
            for client in clients.iter_mut() {
                self.beat(client);
            }
            if self.log.0.len() == before {
                return round;
            }
        }
        panic!("it does not come to rest");
    }
}
