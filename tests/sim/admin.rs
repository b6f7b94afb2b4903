//! An administrator: topics come, change and go, and records are deleted.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

use broker::client::{Cluster, Error, FetchLimits, TopicInfo};
use env::sim::SimEntropy;
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, FetchRequest, IncrementalAlterConfigsRequest, MetadataRequest,
    StrBytes,
};
use protocol::{BatchBuilder, ErrorCode, Response};
use tests::history::topics::{Change, Changing, TopicHistory};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::clients::{PAUSE, Shared};

const TOPICS: [&str; 3] = ["admin-a", "admin-b", "admin-c"];
const SETTING: &str = "retention.ms";
/// The setting of a new topic; others are larger, so that no record ever grows too old.
const DEFAULT_SETTING: i64 = 604_800_000;
const TOPIC_RESOURCE: i8 = 2;
const MOST_PARTITIONS: i32 = 4;
const TIMEOUT_MS: i32 = 5_000;

/// What is believed of a topic. Only the history judges; this chooses what to do next.
#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    id: Option<Uuid>,
    partitions: i32,
    /// Records that were acknowledged in partition 0.
    end: i64,
}

struct Admin {
    shared: Shared,
    cluster: Cluster,
    random: SimEntropy,
    /// Whether what is seen is as new as it must be. Beside others, a broker that does not reach
    /// the controllers may tell for a while how things were: what it says shows only what to do
    /// next, until all is healed.
    strict: bool,
    topics: BTreeMap<&'static str, Belief>,
    dead: Vec<(&'static str, Uuid)>,
    settings: i64,
}

/// Does and looks until told to stop, and once more at everything at the end.
pub(crate) async fn admin(shared: Shared, seed: u64, number: u32) -> Result<(), String> {
    let random = SimEntropy::new(seed);
    let cluster = shared.cluster(random.below(u64::MAX), number);
    let topics = TOPICS.map(|name| (name, Belief::default()));
    let mut admin = Admin {
        strict: shared.brokers.len() == 1,
        shared,
        cluster,
        random,
        topics: topics.into(),
        dead: Vec::new(),
        settings: DEFAULT_SETTING,
    };
    while !*admin.shared.stop_group.borrow() {
        let name = TOPICS[admin.random.below(TOPICS.len() as u64) as usize];
        if let Err(error) = admin.act(name).await {
            admin.say(&format!("{name}: {error}"));
            sleep(PAUSE).await;
        }
        sleep(Duration::from_millis(20 + admin.random.below(300))).await;
    }
    admin.look_at_all().await
}

// === impl Admin ===

impl Admin {
    fn history(&self) -> MutexGuard<'_, TopicHistory> {
        self.shared.topics.lock().expect("no panic under this lock")
    }

    fn say(&self, what: &str) {
        self.shared.trace.line(&format!("admin: {what}"));
    }

    fn begin(&self) -> u64 {
        self.history().tick()
    }

    fn belief(&mut self, name: &'static str) -> &mut Belief {
        self.topics.get_mut(name).expect("one of ours")
    }

    async fn act(&mut self, name: &'static str) -> Result<(), Error> {
        if self.belief(name).id.is_none() {
            // It may be there all the same.
            if self.describe(name).await?.is_none() && self.random.chance(70) {
                self.create(name).await?;
            }
            return Ok(());
        }
        match self.random.below(14) {
            0 => self.delete(name).await,
            1 => self.add_partitions(name).await,
            2 | 3 => self.alter(name).await,
            4 | 5 => self.look_at_setting(name).await,
            6 => self.look_at_dead().await,
            7 | 8 => self.delete_records(name).await,
            9 | 10 => self.look_at_records(name).await,
            11 | 12 => self.produce(name).await,
            _ => self.describe(name).await.map(|_| ()),
        }
    }

    async fn look_at_all(&mut self) -> Result<(), String> {
        self.strict = true;
        for name in TOPICS {
            let looking = async {
                while let Err(error) = self.look_at(name).await {
                    self.say(&format!("{name}: {error}"));
                    sleep(PAUSE).await;
                }
            };
            let looked = timeout(Duration::from_secs(60), looking).await;
            looked.map_err(|_| format!("topic {name} cannot be looked at"))?;
        }
        Ok(())
    }

    async fn look_at(&mut self, name: &'static str) -> Result<(), Error> {
        if self.describe(name).await?.is_some() {
            self.look_at_setting(name).await?;
            self.look_at_records(name).await?;
        }
        self.look_at_dead().await
    }

    /// The topic, or `None` when there is none of that name.
    async fn describe(&mut self, name: &'static str) -> Result<Option<TopicInfo>, Error> {
        let began = self.begin();
        let found = match self.cluster.topic(name).await {
            Ok(topic) => Some(topic),
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => None,
            Err(error) => return Err(error),
        };
        let seen = found
            .as_ref()
            .map(|topic| (topic.id.0, topic.partitions.len() as i32));
        if self.strict {
            self.history().described(name, seen, began);
        }
        let before = self.belief(name).id;
        let gone = before.filter(|id| seen.is_none_or(|(now, _)| now != *id));
        if let Some(before) = gone.filter(|_| self.strict) {
            // Gone, though nobody said so: the answer to its deletion was lost.
            self.history().died(before);
            self.dead.push((name, before));
        }
        let belief = self.belief(name);
        if before != seen.map(|(id, _)| id) {
            *belief = Belief::default();
        }
        if let Some((id, partitions)) = seen {
            (belief.id, belief.partitions) = (Some(id), partitions);
        }
        Ok(found)
    }

    fn changing(&self, name: &str, changes: &[Change]) -> Vec<Changing> {
        let mut history = self.history();
        let begun = changes.iter().map(|change| history.changing(name, *change));
        begun.collect()
    }

    fn changed(&self, changing: &[Changing]) {
        let mut history = self.history();
        for one in changing {
            history.changed(one);
        }
    }

    async fn create(&mut self, name: &'static str) -> Result<(), Error> {
        let partitions = 1 + self.random.below(2) as i32;
        let topic = CreatableTopic::default()
            .with_name(text(name).into())
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TIMEOUT_MS);
        let changes = [
            Change::There(true),
            Change::Partitions(partitions),
            Change::Setting(DEFAULT_SETTING),
        ];
        let changing = self.changing(name, &changes);
        let Response::CreateTopics(answer) = self.cluster.call(request).await? else {
            panic!("a creation is answered with one");
        };
        Error::check("create", answer.topics[0].error_code, None)?;
        self.changed(&changing);
        let id = answer.topics[0].topic_id;
        self.say(&format!("{name} is {id} with {partitions} partitions"));
        self.history().saw_id(name, id);
        *self.belief(name) = Belief {
            id: Some(id),
            partitions,
            end: 0,
        };
        Ok(())
    }

    async fn delete(&mut self, name: &'static str) -> Result<(), Error> {
        let topic = DeleteTopicState::default().with_name(Some(text(name).into()));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TIMEOUT_MS);
        let changing = self.changing(name, &[Change::There(false)]);
        let Response::DeleteTopics(answer) = self.cluster.call(request).await? else {
            panic!("a deletion is answered with one");
        };
        Error::check("delete", answer.responses[0].error_code, None)?;
        self.changed(&changing);
        self.say(&format!("{name} is deleted"));
        let belief = std::mem::take(self.belief(name));
        if let Some(id) = belief.id {
            self.history().died(id);
            self.dead.push((name, id));
        }
        Ok(())
    }

    async fn add_partitions(&mut self, name: &'static str) -> Result<(), Error> {
        let count = self.belief(name).partitions + 1;
        if count > MOST_PARTITIONS {
            return Ok(());
        }
        let topic = CreatePartitionsTopic::default()
            .with_name(text(name).into())
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(TIMEOUT_MS);
        let changing = self.changing(name, &[Change::Partitions(count)]);
        let Response::CreatePartitions(answer) = self.cluster.call(request).await? else {
            panic!("partitions are answered with partitions");
        };
        Error::check("add partitions", answer.results[0].error_code, None)?;
        self.changed(&changing);
        self.belief(name).partitions = count;
        Ok(())
    }

    async fn alter(&mut self, name: &'static str) -> Result<(), Error> {
        self.settings += 1;
        let value = self.settings;
        let config = AlterableConfig::default()
            .with_name(text(SETTING))
            .with_config_operation(0)
            .with_value(Some(StrBytes::from_string(value.to_string())));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let changing = self.changing(name, &[Change::Setting(value)]);
        let Response::IncrementalAlterConfigs(answer) = self.cluster.call(request).await? else {
            panic!("a setting is answered with one");
        };
        Error::check("alter", answer.responses[0].error_code, None)?;
        self.changed(&changing);
        Ok(())
    }

    async fn look_at_setting(&mut self, name: &'static str) -> Result<(), Error> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(vec![text(SETTING)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let began = self.begin();
        let Response::DescribeConfigs(answer) = self.cluster.call(request).await? else {
            panic!("settings are answered with settings");
        };
        Error::check("describe", answer.results[0].error_code, None)?;
        let value = answer.results[0].configs[0].value.as_deref();
        let value = value.and_then(|value| value.parse().ok());
        let value = value.expect("a number of milliseconds");
        if self.strict {
            self.history().setting(name, value, began);
        }
        Ok(())
    }

    /// Asks for a topic that was deleted, by its id.
    async fn look_at_dead(&mut self) -> Result<(), Error> {
        if self.dead.is_empty() || !self.strict {
            return Ok(());
        }
        let (name, id) = self.dead[self.random.below(self.dead.len() as u64) as usize];
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id)
            .with_name(None);
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let Response::Metadata(answer) = self.cluster.call(request).await? else {
            panic!("metadata is answered with metadata");
        };
        if answer.topics.iter().any(|topic| topic.error_code == 0) {
            self.history().saw_id(name, id);
        }
        let node = answer.brokers.first().map_or(-1, |broker| broker.node_id.0);
        let partition = FetchPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_partition_max_bytes(1000);
        let topic = FetchTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_bytes(1000)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let Response::Fetch(answer) = self.cluster.call_node(node, request, i16::MAX).await? else {
            panic!("a fetch is answered with a fetch");
        };
        let served = |topic: &protocol::messages::fetch_response::FetchableTopicResponse| {
            topic.partitions.iter().any(|one| one.error_code == 0)
        };
        if answer.responses.iter().any(served) {
            self.history().saw_id(name, id);
        }
        Ok(())
    }

    async fn produce(&mut self, name: &'static str) -> Result<(), Error> {
        let Some(topic) = self.describe(name).await? else {
            return Ok(());
        };
        let count = 1 + self.random.below(8) as i64;
        let mut batch = BatchBuilder::new();
        for _ in 0..count {
            batch.append(1_767_225_600_000, None, Some(b"something to delete"), &[]);
        }
        let batch = batch.build().expect("a few small records");
        let partition = topic.partitions[0];
        let offset = self.cluster.produce(name, partition, batch, TIMEOUT_MS);
        let offset = offset.await?;
        self.history().produced(&topic.id.0.to_string(), 0, offset);
        self.belief(name).end = offset + count;
        Ok(())
    }

    async fn delete_records(&mut self, name: &'static str) -> Result<(), Error> {
        let Some(topic) = self.describe(name).await? else {
            return Ok(());
        };
        let end = self.belief(name).end;
        if end == 0 {
            return Ok(());
        }
        let offset = 1 + self.random.below(end as u64) as i64;
        let asked = DeleteRecordsPartition::default()
            .with_partition_index(0)
            .with_offset(offset);
        let asked = DeleteRecordsTopic::default()
            .with_name(text(name).into())
            .with_partitions(vec![asked]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![asked])
            .with_timeout_ms(TIMEOUT_MS);
        let label = topic.id.0.to_string();
        self.history().deleting_records(&label, 0, offset);
        let began = self.begin();
        let leader = topic.partitions[0].leader;
        let answer = self.cluster.call_node(leader, request, i16::MAX).await?;
        let Response::DeleteRecords(answer) = answer else {
            panic!("deleted records are answered with such");
        };
        let result = &answer.topics[0].partitions[0];
        Error::check("delete records", result.error_code, None)?;
        self.history()
            .log_start(&label, 0, result.low_watermark.max(offset), began);
        assert!(result.low_watermark >= offset, "the answer names log start");
        Ok(())
    }

    /// Reads from the very beginning, and from log start.
    async fn look_at_records(&mut self, name: &'static str) -> Result<(), Error> {
        let Some(topic) = self.describe(name).await? else {
            return Ok(());
        };
        let label = topic.id.0.to_string();
        let mut from = 0;
        let limits = FetchLimits {
            max_wait_ms: 0,
            max_bytes: 1 << 20,
        };
        loop {
            let began = self.begin();
            let partition = topic.partitions[0];
            match self.cluster.fetch(name, partition, from, limits).await {
                Ok(fetched) => {
                    let mut offsets = Vec::new();
                    let next = fetched.for_each(from, |record| offsets.push(record.offset));
                    from = next.expect("what is served keeps its promises");
                    let ended = from >= fetched.high_watermark;
                    if self.strict {
                        let mut history = self.history();
                        history.log_start(&label, 0, fetched.log_start, began);
                        for offset in &offsets {
                            history.served(&label, 0, *offset, began);
                        }
                        if ended {
                            history.read_to(&label, 0, from, began);
                        }
                    }
                    if ended {
                        return Ok(());
                    }
                }
                Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                    from = self.earliest(name, &topic).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn earliest(&mut self, name: &str, topic: &TopicInfo) -> Result<i64, Error> {
        use protocol::messages::ListOffsetsRequest;
        use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let asked = ListOffsetsPartition::default()
            .with_partition_index(0)
            .with_current_leader_epoch(-1)
            .with_timestamp(-2);
        let asked = ListOffsetsTopic::default()
            .with_name(StrBytes::from_string(name.to_owned()).into())
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![asked]);
        let began = self.begin();
        let leader = topic.partitions[0].leader;
        let answer = self.cluster.call_node(leader, request, 7).await?;
        let Response::ListOffsets(answer) = answer else {
            panic!("offsets are answered with offsets");
        };
        let result = &answer.topics[0].partitions[0];
        Error::check("earliest", result.error_code, None)?;
        let label = topic.id.0.to_string();
        if self.strict {
            self.history().log_start(&label, 0, result.offset, began);
        }
        Ok(result.offset)
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}
