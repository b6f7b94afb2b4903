//! Consumer groups of a real broker: every version by hand, and librdkafka across kill -9.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use broker::client::{Connection, Settings};
use bytes::Bytes;
use protocol::messages::*;
use protocol::{ApiKey, Request, Response};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tests::process::BrokerProcess;

const LIMIT: Duration = Duration::from_secs(60);

fn start(dir: &Path, kafka: &str) -> BrokerProcess {
    let more = ["--set", "group.initial.rebalance.delay.ms=0"].map(str::to_owned);
    BrokerProcess::start(&dir.join("data"), kafka, "127.0.0.1:0", &more).unwrap()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// One connection that speaks the versions it is told to.
struct Raw(Connection);

macro_rules! ask {
    ($raw:expr, $version:expr, $api:ident($request:expr)) => {
        match $raw.call(Request::$api($request), $version).await {
            Response::$api(response) => response,
            other => panic!("another API's answer: {other:?}"),
        }
    };
}

impl Raw {
    async fn open(broker: &BrokerProcess) -> Self {
        let settings = Settings {
            client_id: "raw".to_owned(),
            timeout: LIMIT,
        };
        Self(
            Connection::open(&env::real::env(), broker.kafka, settings)
                .await
                .unwrap(),
        )
    }

    async fn call(&mut self, request: Request, version: i16) -> Response {
        let api = request.key();
        let answer = self.0.call_version(request, version).await;
        answer.unwrap_or_else(|error| panic!("{api:?} v{version}: {error}"))
    }

    async fn create_topic(&mut self, name: &str, partitions: i32) -> uuid::Uuid {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let response = ask!(self, 7, CreateTopics(request));
        assert_eq!(
            response.topics[0].error_code, 0,
            "{:?}",
            response.topics[0].error_message
        );
        response.topics[0].topic_id
    }

    /// Waits until the coordinator of `group` serves.
    async fn find(&mut self, group: &str, version: i16) {
        let begun = Instant::now();
        loop {
            let request = FindCoordinatorRequest::default();
            let request = if version >= 4 {
                request.with_coordinator_keys(vec![text(group)])
            } else {
                request.with_key(text(group))
            };
            let response = ask!(self, version, FindCoordinator(request));
            let (code, port) = match response.coordinators.first() {
                Some(only) if version >= 4 => (only.error_code, only.port),
                _ => (response.error_code, response.port),
            };
            let describe = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
            let described = ask!(self, 5, DescribeGroups(describe));
            if (code, described.groups[0].error_code) == (0, 0) {
                assert_eq!(port, i32::from(self.0.address().port()));
                return;
            }
            // Loading, or being made: anything else is wrong.
            assert!(
                [0, 15].contains(&code),
                "FindCoordinator v{version}: {code}"
            );
            assert!([0, 14, 16].contains(&described.groups[0].error_code));
            assert!(begun.elapsed() < LIMIT, "the coordinator never comes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn join(&mut self, group: &str, version: i16) -> JoinGroupResponse {
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group_id(group))
            .with_session_timeout_ms(30_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            request.rebalance_timeout_ms = 30_000;
        }
        let response = ask!(self, version, JoinGroup(request.clone()));
        if version < 4 {
            return response;
        }
        assert_eq!(response.error_code, 79, "MEMBER_ID_REQUIRED in v{version}");
        request.member_id = response.member_id;
        ask!(self, version, JoinGroup(request))
    }

    async fn sync(&mut self, group: &str, member: &StrBytes, version: i16) -> SyncGroupResponse {
        let given = sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(member.clone())
            .with_assignment(Bytes::from_static(b"mine"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id(1)
            .with_member_id(member.clone())
            .with_assignments(vec![given]);
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        ask!(self, version, SyncGroup(request))
    }

    /// Commits `offset` for partitions 0 to `partitions` − 1 of `t`, and gives the codes.
    async fn commit(&mut self, commit: Commit<'_>, version: i16) -> Vec<i16> {
        let partitions = (0..commit.partitions).map(|index| {
            let mut partition = offset_commit_request::OffsetCommitRequestPartition::default();
            partition.partition_index = index;
            partition.committed_offset = commit.offset;
            partition.committed_metadata = Some(text("where I was"));
            if version >= 6 {
                partition.committed_leader_epoch = 3;
            }
            partition
        });
        let mut topic = offset_commit_request::OffsetCommitRequestTopic::default();
        topic.partitions = partitions.collect();
        if version >= 10 {
            topic.topic_id = commit.topic_id;
        } else {
            topic.name = TopicName(text("t"));
        }
        let mut request = OffsetCommitRequest::default();
        request.group_id = group_id(commit.group);
        request.generation_id_or_member_epoch = commit.generation;
        request.member_id = commit.member.clone();
        request.topics = vec![topic];
        let response = ask!(self, version, OffsetCommit(request));
        response.topics[0]
            .partitions
            .iter()
            .map(|p| p.error_code)
            .collect()
    }

    /// (partition, offset, leader epoch, code) of partitions 0 and 1 of `t`.
    async fn fetch(
        &mut self,
        group: &str,
        topic_id: uuid::Uuid,
        version: i16,
    ) -> Vec<(i32, i64, i32, i16)> {
        let mut request = OffsetFetchRequest::default();
        if version < 8 {
            let mut topic = offset_fetch_request::OffsetFetchRequestTopic::default();
            topic.name = TopicName(text("t"));
            topic.partition_indexes = vec![0, 1];
            request.group_id = group_id(group);
            request.topics = Some(vec![topic]);
            let response = ask!(self, version, OffsetFetch(request));
            let told = response.topics[0].partitions.iter().map(|p| {
                (
                    p.partition_index,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.error_code,
                )
            });
            return told.collect();
        }
        let mut topic = offset_fetch_request::OffsetFetchRequestTopics::default();
        topic.partition_indexes = vec![0, 1];
        if version >= 10 {
            topic.topic_id = topic_id;
        } else {
            topic.name = TopicName(text("t"));
        }
        let mut asked = offset_fetch_request::OffsetFetchRequestGroup::default();
        asked.group_id = group_id(group);
        asked.topics = Some(vec![topic]);
        request.groups = vec![asked];
        let response = ask!(self, version, OffsetFetch(request));
        let told = response.groups[0].topics[0].partitions.iter().map(|p| {
            (
                p.partition_index,
                p.committed_offset,
                p.committed_leader_epoch,
                p.error_code,
            )
        });
        told.collect()
    }
}

struct Commit<'a> {
    group: &'a str,
    member: &'a StrBytes,
    generation: i32,
    topic_id: uuid::Uuid,
    partitions: i32,
    offset: i64,
}

#[tokio::test]
async fn every_version_of_every_group_api_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0");
    let mut raw = Raw::open(&broker).await;
    let topic_id = raw.create_topic("t", 2).await;
    for version in ApiKey::JoinGroup.entry().versions() {
        let group = format!("g{version}");
        let within = |api: ApiKey| {
            let versions = api.entry().versions();
            version.clamp(*versions.start(), *versions.end())
        };
        raw.find(&group, within(ApiKey::FindCoordinator)).await;
        let joined = raw.join(&group, version).await;
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (0, 1),
            "v{version}"
        );
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.is_some(), version >= 7);
        let member = joined.member_id.clone();
        let commit = |generation, offset| Commit {
            group: &group,
            member: &member,
            generation,
            topic_id,
            partitions: 1,
            offset,
        };
        let early = raw.commit(commit(1, 7), within(ApiKey::OffsetCommit)).await;
        assert_eq!(early, [27], "no assignment yet: REBALANCE_IN_PROGRESS");
        let synced = raw.sync(&group, &member, within(ApiKey::SyncGroup)).await;
        assert_eq!((synced.error_code, &*synced.assignment), (0, &b"mine"[..]));
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id(1)
            .with_member_id(member.clone());
        let beat = ask!(raw, within(ApiKey::Heartbeat), Heartbeat(heartbeat));
        assert_eq!(beat.error_code, 0);
        let at = within(ApiKey::OffsetCommit);
        assert_eq!(
            raw.commit(commit(1, 40 + i64::from(version)), at).await,
            [0]
        );
        assert_eq!(
            raw.commit(commit(9, 1), at).await,
            [22],
            "ILLEGAL_GENERATION"
        );
        let at = within(ApiKey::OffsetFetch);
        let epoch = if within(ApiKey::OffsetCommit) >= 6 && at >= 5 {
            3
        } else {
            -1
        };
        let fetched = raw.fetch(&group, topic_id, at).await;
        assert_eq!(
            fetched,
            [(0, 40 + i64::from(version), epoch, 0), (1, -1, -1, 0)],
            "v{at}"
        );
        let at = within(ApiKey::DescribeGroups);
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(&group)]);
        let described = ask!(raw, at, DescribeGroups(request));
        let shown = &described.groups[0];
        assert_eq!(
            (shown.error_code, &*shown.group_state),
            (0, "Stable"),
            "v{at}"
        );
        assert_eq!(&*shown.members[0].member_assignment, b"mine");
        assert_eq!(shown.members[0].client_host.as_str(), "/127.0.0.1");
        let at = within(ApiKey::ListGroups);
        let listed = ask!(raw, at, ListGroups(ListGroupsRequest::default()));
        assert_eq!(listed.error_code, 0);
        let found = listed
            .groups
            .iter()
            .find(|g| *g.group_id == *group)
            .unwrap();
        assert_eq!(
            found.group_state.as_str(),
            if at >= 4 { "Stable" } else { "" }
        );
        assert_eq!(
            found.group_type.as_str(),
            if at >= 5 { "classic" } else { "" }
        );
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(&group)]);
        let at = within(ApiKey::DeleteGroups);
        let deleted = ask!(raw, at, DeleteGroups(request.clone()));
        assert_eq!(deleted.results[0].error_code, 68, "NON_EMPTY_GROUP");
        assert_eq!(deleted.results[0].error_message.is_some(), at >= 3);
        leave(&mut raw, &group, &member, within(ApiKey::LeaveGroup)).await;
        let deleted = ask!(raw, at, DeleteGroups(request));
        assert_eq!(deleted.results[0].error_code, 0);
    }
    // Those that have more versions than JoinGroup.
    let nobody = text("");
    let outside = Commit {
        group: "x",
        member: &nobody,
        generation: -1,
        topic_id,
        partitions: 2,
        offset: 5,
    };
    raw.find("x", 6).await;
    assert_eq!(raw.commit(outside, 10).await, [0, 0]);
    assert_eq!(
        raw.fetch("x", topic_id, 10).await,
        [(0, 5, 3, 0), (1, 5, 3, 0)]
    );
    let unknown = raw.fetch("x", uuid::Uuid::from_u128(9), 10).await;
    assert_eq!(
        unknown,
        [(0, -1, -1, 100), (1, -1, -1, 100)],
        "UNKNOWN_TOPIC_ID"
    );
    offsets_are_deleted(&mut raw, topic_id).await;
    broker.stop(LIMIT).unwrap();
}

async fn leave(raw: &mut Raw, group: &str, member: &StrBytes, version: i16) {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    let request = if version >= 3 {
        let unknown = leave_group_request::MemberIdentity::default().with_member_id(text("who"));
        let one = leave_group_request::MemberIdentity::default().with_member_id(member.clone());
        request.with_members(vec![unknown, one])
    } else {
        request.with_member_id(member.clone())
    };
    let left = ask!(raw, version, LeaveGroup(request));
    assert_eq!(left.error_code, 0, "v{version}");
    if version >= 3 {
        let codes = left
            .members
            .iter()
            .map(|m| m.error_code)
            .collect::<Vec<_>>();
        assert_eq!(
            codes,
            [25, 0],
            "UNKNOWN_MEMBER_ID for one, the other leaves"
        );
    }
}

async fn offsets_are_deleted(raw: &mut Raw, topic_id: uuid::Uuid) {
    let partition = |index| {
        offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(index)
    };
    let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition(0), partition(7)]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id("x"))
        .with_topics(vec![topic]);
    let deleted = ask!(raw, 0, OffsetDelete(request.clone()));
    assert_eq!(deleted.error_code, 0);
    let codes = deleted.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect::<Vec<_>>();
    assert_eq!(
        codes,
        [0, 3],
        "UNKNOWN_TOPIC_OR_PARTITION for the one that is not there"
    );
    assert_eq!(
        raw.fetch("x", topic_id, 9).await,
        [(0, -1, -1, 0), (1, 5, 3, 0)]
    );
    let deleted = ask!(
        raw,
        0,
        OffsetDelete(request.with_group_id(group_id("none")))
    );
    assert_eq!(deleted.error_code, 69, "GROUP_ID_NOT_FOUND");
    for (version, code) in [(5, 0), (6, 69)] {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id("none")]);
        let described = ask!(raw, version, DescribeGroups(request));
        let shown = &described.groups[0];
        assert_eq!(
            (shown.error_code, shown.group_state.as_str()),
            (code, "Dead")
        );
    }
}

fn client(broker: &BrokerProcess) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.kafka.to_string());
    config
}

fn produce(broker: &BrokerProcess, from: u32, to: u32) {
    let producer: BaseProducer = client(broker).set("linger.ms", "5").create().unwrap();
    for i in from..to {
        let value = i.to_string();
        let record = BaseRecord::<(), _>::to("t")
            .partition((i % 4) as i32)
            .payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LIMIT).unwrap();
}

fn consumer(broker: &BrokerProcess) -> BaseConsumer {
    let consumer: BaseConsumer = client(broker)
        .set("group.id", "workers")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "20000")
        .set("heartbeat.interval.ms", "500")
        .create()
        .unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

/// Polls both until `count` values came, each once, and gives them.
fn consume(consumers: &[&BaseConsumer], count: usize) -> BTreeSet<u32> {
    let begun = Instant::now();
    let mut values = BTreeSet::new();
    while values.len() < count {
        assert!(
            begun.elapsed() < LIMIT,
            "only {} of {count} records",
            values.len()
        );
        for consumer in consumers {
            // Errors are a broker that was killed: the client reconnects.
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
                values.insert(value.parse::<u32>().unwrap());
            }
        }
    }
    values
}

fn committed(consumer: &BaseConsumer) -> KafkaResult<BTreeMap<i32, Offset>> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..4 {
        asked.add_partition("t", partition);
    }
    let list = consumer.committed_offsets(asked, Duration::from_secs(10))?;
    Ok(list
        .elements()
        .iter()
        .map(|e| (e.partition(), e.offset()))
        .collect())
}

#[tokio::test]
async fn a_group_of_two_shares_work_and_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0");
    let address = broker.kafka.to_string();
    Raw::open(&broker).await.create_topic("t", 4).await;
    produce(&broker, 0, 400);
    let first = consumer(&broker);
    assert_eq!(consume(&[&first], 400).len(), 400);
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    // A second one takes half of it.
    let second = consumer(&broker);
    let begun = Instant::now();
    let shares = || [&first, &second].map(|c| c.assignment().unwrap().count());
    while shares() != [2, 2] {
        assert!(begun.elapsed() < LIMIT, "the work is shared {:?}", shares());
        let _ = first.poll(Duration::from_millis(20));
        let _ = second.poll(Duration::from_millis(20));
    }
    produce(&broker, 400, 800);
    assert_eq!(consume(&[&first, &second], 400), (400..800).collect());
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    second.commit_consumer_state(CommitMode::Sync).unwrap();
    let before = committed(&first).unwrap();
    assert_eq!(before, (0..4).map(|p| (p, Offset::Offset(200))).collect());

    broker.kill_9().unwrap();
    let broker = start(dir.path(), &address);
    let begun = Instant::now();
    let after = loop {
        match committed(&first) {
            Ok(list) => break list,
            // The client is still finding its way back.
            Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
        }
    };
    assert_eq!(after, before, "every acknowledged commit is there");
    // The same two members go on where they were, without anything seen twice.
    produce(&broker, 800, 1_200);
    assert_eq!(consume(&[&first, &second], 400), (800..1_200).collect());
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    second.commit_consumer_state(CommitMode::Sync).unwrap();
    assert_eq!(
        committed(&second).unwrap(),
        (0..4).map(|p| (p, Offset::Offset(300))).collect()
    );
    drop((first, second));
    broker.stop(LIMIT).unwrap();
}

/// A counter of the admin page.
fn metric(broker: &BrokerProcess, name: &str) -> u64 {
    let page = broker.get("/metrics").unwrap();
    let line = page
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.rsplit(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("no {name}"))
}

#[tokio::test]
async fn many_commits_are_compacted_and_the_last_of_each_is_kept() {
    const PARTITIONS: i32 = 100;
    const ROUNDS: i64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0");
    let address = broker.kafka.to_string();
    let mut raw = Raw::open(&broker).await;
    let topic_id = raw.create_topic("t", PARTITIONS).await;
    raw.find("busy", 4).await;
    let nobody = text("");
    let commit = |offset| Commit {
        group: "busy",
        member: &nobody,
        generation: -1,
        topic_id,
        partitions: PARTITIONS,
        offset,
    };
    for round in 0..ROUNDS {
        let codes = raw.commit(commit(round), 9).await;
        assert!(codes.iter().all(|&code| code == 0), "{codes:?}");
    }
    let written = metric(&broker, "headwater_broker_groups_records_total");
    assert_eq!(written, ROUNDS as u64 * PARTITIONS as u64);
    // A stop uploads everything; the next life compacts what is dirty.
    broker.stop(LIMIT).unwrap();
    let broker = start(dir.path(), &address);
    let mut raw = Raw::open(&broker).await;
    raw.find("busy", 4).await;
    let last = ROUNDS - 1;
    assert_eq!(
        raw.fetch("busy", topic_id, 9).await,
        [(0, last, 3, 0), (1, last, 3, 0)]
    );
    let loaded = metric(&broker, "headwater_broker_groups_loaded_bytes_total");
    assert!(loaded <= 16 << 20, "a restart read {loaded} bytes");
    broker.stop(LIMIT).unwrap();
}
