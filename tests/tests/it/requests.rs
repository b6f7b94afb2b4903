//! What clients are answered when they do wrong, and when they ask for offsets and epochs.

use std::time::{Duration, Instant};

use broker::client::{Connection, Settings};
use bytes::Bytes;
use protocol::messages::*;
use protocol::{
    BATCH_HEADER_BYTES, BatchBuilder, Compression, ErrorCode, Records, Request, Response, crc32c,
};
use tests::process::BrokerProcess;

const LIMIT: Duration = Duration::from_secs(60);

struct Client {
    connection: Connection,
    _broker: BrokerProcess,
    _dir: tempfile::TempDir,
}

macro_rules! ask {
    ($client:expr, $version:expr, $api:ident($request:expr)) => {
        match $client
            .connection
            .call_version(Request::$api($request), $version)
            .await
            .unwrap()
        {
            Response::$api(response) => response,
            other => panic!("another API's answer: {other:?}"),
        }
    };
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn batch(keys: &[Option<&str>], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new().compression(Compression::None);
    for key in keys {
        builder.append(timestamp, key.map(str::as_bytes), Some(b"value"), &[]);
    }
    builder.build().unwrap()
}

impl Client {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let broker = BrokerProcess::start(&data, "127.0.0.1:0", "127.0.0.1:0", &[]).unwrap();
        let settings = Settings {
            client_id: "protocol".to_owned(),
            timeout: LIMIT,
        };
        let connection = Connection::open(&env::real::env(), broker.kafka, settings)
            .await
            .unwrap();
        Self {
            connection,
            _broker: broker,
            _dir: dir,
        }
    }

    async fn create(&mut self, name: &str, configs: &[(&str, &str)]) -> uuid::Uuid {
        let configs = configs.iter().map(|(name, value)| {
            create_topics_request::CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(2)
            .with_replication_factor(3)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let response = ask!(self, 7, CreateTopics(request));
        let topic = &response.topics[0];
        assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
        assert_eq!((topic.num_partitions, topic.replication_factor), (2, 3));
        assert!(topic.configs.as_ref().unwrap().len() >= 37);
        topic.topic_id
    }

    async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        records: Bytes,
    ) -> produce_response::PartitionProduceResponse {
        let data = produce_request::PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(records));
        let topic = produce_request::TopicProduceData::default()
            .with_name(TopicName(text(topic)))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let mut response = ask!(self, 9, Produce(request));
        response.responses.remove(0).partition_responses.remove(0)
    }

    async fn refused(&mut self, topic: &str, partition: i32, records: Bytes) -> ErrorCode {
        let answer = self.produce(topic, partition, -1, records).await;
        ErrorCode::from_code(answer.error_code).unwrap()
    }

    async fn offset(&mut self, version: i16, timestamp: i64) -> (i16, i64, i64) {
        let partition = list_offsets_request::ListOffsetsPartition::default()
            .with_partition_index(0)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(TopicName(text("log")))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let response = ask!(self, version, ListOffsets(request));
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    }

    async fn fetch(
        &mut self,
        version: i16,
        id: uuid::Uuid,
        offset: i64,
        wait_ms: i32,
    ) -> fetch_response::PartitionData {
        let partition = fetch_request::FetchPartition::default()
            .with_partition(0)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
        let topic = if version >= 13 {
            topic.with_topic_id(id)
        } else {
            topic.with_topic(TopicName(text("log")))
        };
        let request = FetchRequest::default()
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let mut response = ask!(self, version, Fetch(request));
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }
}

fn now_ms() -> i64 {
    env::real::env().clock.wall_ms()
}

#[tokio::test]
async fn a_wrong_produce_is_answered_with_the_reason() {
    let mut client = Client::new().await;
    client.create("log", &[("max.message.bytes", "500")]).await;
    client
        .create("compacted", &[("cleanup.policy", "compact")])
        .await;
    let good = batch(&[Some("k")], now_ms());
    let mut flipped = good.to_vec();
    flipped[70] ^= 1;
    let mut magic = good.to_vec();
    magic[16] = 1;
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let large = batch(&[Some(&"k".repeat(600))], now_ms());
    let future = batch(&[Some("k")], now_ms() + 7_200_000);
    for (topic, partition, records, expected) in [
        (
            "nothing",
            0,
            good.clone(),
            ErrorCode::UnknownTopicOrPartition,
        ),
        ("log", 2, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("log", -1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("log", 0, Bytes::from(flipped), ErrorCode::CorruptMessage),
        ("log", 0, Bytes::from(magic), ErrorCode::InvalidRecord),
        ("log", 0, twice, ErrorCode::InvalidRecord),
        ("log", 0, Bytes::new(), ErrorCode::InvalidRecord),
        ("log", 0, large, ErrorCode::MessageTooLarge),
        ("log", 0, future, ErrorCode::InvalidTimestamp),
        (
            "compacted",
            0,
            batch(&[None], now_ms()),
            ErrorCode::InvalidRecord,
        ),
        ("log", 0, good.clone(), ErrorCode::None),
        ("compacted", 0, good.clone(), ErrorCode::None),
    ] {
        assert_eq!(
            client.refused(topic, partition, records).await,
            expected,
            "{topic}"
        );
    }
    let acks = client.produce("log", 0, 2, good.clone()).await;
    assert_eq!(acks.error_code, ErrorCode::InvalidRequiredAcks.code());
    let keyless = client
        .produce("compacted", 1, -1, batch(&[Some("k"), None], now_ms()))
        .await;
    assert_eq!(keyless.record_errors[0].batch_index, 1);
    // Nothing of all that was kept.
    assert_eq!(client.offset(7, -1).await, (0, 1, -1));
}

/// `batch` with other bytes for records; the checksum is right, as of a client that errs.
fn around(batch: &[u8], payload: &[u8]) -> Bytes {
    let mut bytes = [&batch[..BATCH_HEADER_BYTES], payload].concat();
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    checksummed(bytes)
}

fn checksummed(mut batch: Vec<u8>) -> Bytes {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn noisy(codec: Compression, times: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new().compression(codec);
    let mut state = 1u32;
    for time in times {
        let value: Vec<u8> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        builder.append(*time, Some(b"k"), Some(&value), &[]);
    }
    builder.build().unwrap()
}

#[tokio::test]
async fn records_that_no_consumer_could_read_are_refused_and_good_ones_stay() {
    let mut client = Client::new().await;
    client
        .create("log", &[("message.timestamp.before.max.ms", "3600000")])
        .await;
    let (now, mut kept) = (now_ms(), 0);
    for codec in Compression::ALL {
        // Small ones are judged at once, those of 60 KB on the pool.
        for times in [&[now][..], &[now, now - 1, now - 2]] {
            let good = noisy(codec, times);
            let payload = &good[BATCH_HEADER_BYTES..];
            let cut = around(&good, &payload[..payload.len() - 2000]);
            let more = around(&good, &[payload, &[0; 30]].concat());
            let mut counted = good.to_vec();
            counted[26] += 1;
            counted[60] += 1;
            let mut other = good.to_vec();
            other[22] = (other[22] + 1) % 5;
            for bad in [cut, more, checksummed(counted), checksummed(other)] {
                let refused = client.produce("log", 0, -1, bad).await;
                let code = ErrorCode::from_code(refused.error_code).unwrap();
                assert_eq!(code, ErrorCode::InvalidRecord, "{}", codec.name());
                assert_eq!(refused.base_offset, -1);
                assert!(refused.error_message.is_some());
            }
            let taken = client.produce("log", 0, -1, good).await;
            assert_eq!((taken.error_code, taken.base_offset), (0, kept));
            kept += times.len() as i64;
        }
    }
    let old = noisy(Compression::Lz4, &[now, now - 7_200_000, now]);
    let refused = client.produce("log", 0, -1, old).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp.code());
    let named: Vec<i32> = refused
        .record_errors
        .iter()
        .map(|e| e.batch_index)
        .collect();
    assert_eq!(named, [1]);
    assert_eq!(client.offset(7, -1).await, (0, kept, -1));
}

#[tokio::test]
async fn a_header_that_lies_about_its_times_is_set_right() {
    let mut client = Client::new().await;
    let id = client.create("log", &[]).await;
    let now = now_ms();
    let honest = noisy(Compression::Zstd, &[now - 50, now - 10, now - 30]);
    let mut lying = honest.to_vec();
    lying[35..43].copy_from_slice(&(now + 1000).to_be_bytes());
    let taken = client.produce("log", 0, -1, checksummed(lying)).await;
    assert_eq!(taken.error_code, 0);
    // The record of the highest timestamp, and none at a time that only the header had.
    assert_eq!(client.offset(7, -3).await, (0, 1, now - 10));
    assert_eq!(client.offset(7, now - 5).await, (0, -1, -1));
    let fetched = client.fetch(12, id, 0, 1000).await;
    let records = fetched.records.unwrap().to_bytes();
    // But for the leader epoch it is what an honest client would have sent.
    assert_eq!(records[16..], honest[16..]);
}

#[tokio::test]
async fn a_client_of_another_cluster_is_told_to_bootstrap_again() {
    let mut client = Client::new().await;
    let metadata = ask!(client, 12, Metadata(MetadataRequest::default()));
    let cluster = metadata.cluster_id.unwrap();
    let node = metadata.brokers[0].node_id.0;
    for (cluster, node, expected) in [
        (Some(cluster.clone()), node, ErrorCode::None),
        (None, -1, ErrorCode::None),
        (
            Some(cluster.clone()),
            node + 1,
            ErrorCode::RebootstrapRequired,
        ),
        (Some(text("another")), node, ErrorCode::RebootstrapRequired),
        (Some(cluster), -1, ErrorCode::InvalidRequest),
    ] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("tests"))
            .with_client_software_version(text("1"))
            .with_cluster_id(cluster)
            .with_node_id(node);
        let answer = ask!(client, 5, ApiVersions(request));
        assert_eq!(answer.error_code, expected.code(), "{expected:?}");
        assert_eq!(answer.api_keys.is_empty(), expected != ErrorCode::None);
    }
}

#[tokio::test]
async fn wrong_topics_are_refused_one_by_one() {
    let mut client = Client::new().await;
    client.create("a.b", &[]).await;
    let topic = |name: &str, partitions: i32, replicas: i16| {
        create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    let config = create_topics_request::CreatableTopicConfig::default()
        .with_name(text("retention.mss"))
        .with_value(Some(text("1")));
    let topics = vec![
        topic("good", -1, -1),
        topic("a.b", 1, 1),
        topic("a_b", 1, 1),
        topic("bad name", 1, 1),
        topic("none", 0, 1),
        topic("zero", 1, 0),
        topic("config", 1, 1).with_configs(vec![config]),
    ];
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(30_000);
    let response = ask!(client, 7, CreateTopics(request));
    let codes: Vec<ErrorCode> = response
        .topics
        .iter()
        .map(|topic| ErrorCode::from_code(topic.error_code).unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::TopicAlreadyExists,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::InvalidConfig,
        ]
    );
}

#[tokio::test]
async fn offsets_epochs_and_ids_are_told_in_every_version() {
    let mut client = Client::new().await;
    let id = client.create("log", &[]).await;
    let start = now_ms();
    for at in 0..5 {
        let answer = client
            .produce("log", 0, -1, batch(&[None, None], start + at))
            .await;
        assert_eq!((answer.error_code, answer.base_offset), (0, 2 * at));
    }
    for version in 1..=10 {
        assert_eq!(client.offset(version, -1).await, (0, 10, -1), "v{version}");
        assert_eq!(client.offset(version, -2).await, (0, 0, -1), "v{version}");
        assert_eq!(
            client.offset(version, start + 2).await,
            (0, 4, start + 2),
            "v{version}"
        );
        assert_eq!(
            client.offset(version, start + 9).await,
            (0, -1, -1),
            "v{version}"
        );
        let (code, offset, _) = client.offset(version, -3).await;
        let expected = if version >= 7 {
            (0, 8)
        } else {
            (ErrorCode::UnsupportedVersion.code(), -1)
        };
        assert_eq!((code, offset), expected, "v{version}");
    }
    for version in 4..=17 {
        // In the middle of a batch: the whole batch.
        let data = client.fetch(version, id, 3, 0).await;
        assert_eq!(
            (data.error_code, data.high_watermark),
            (0, 10),
            "v{version}"
        );
        let records = data
            .records
            .map(|records: Records| records.to_bytes())
            .unwrap();
        let first = protocol::BatchView::split_first(&records).unwrap().0;
        assert_eq!(first.base_offset(), 2, "v{version}");
        let beyond = client.fetch(version, id, 11, 0).await;
        assert_eq!(
            beyond.error_code,
            ErrorCode::OffsetOutOfRange.code(),
            "v{version}"
        );
    }
    let unknown = client.fetch(13, uuid::Uuid::from_u128(7), 0, 0).await;
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicId.code());
    for version in 0..=13 {
        let topic = metadata_request::MetadataRequestTopic::default()
            .with_name(Some(TopicName(text("log"))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response = ask!(client, version, Metadata(request));
        let topic = &response.topics[0];
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (0, 2),
            "v{version}"
        );
        assert_eq!(topic.partitions[0].leader_id, BrokerId(1), "v{version}");
    }
}

#[tokio::test]
async fn a_long_poll_waits_and_deleted_records_are_gone() {
    let mut client = Client::new().await;
    let id = client.create("log", &[]).await;
    let begun = Instant::now();
    let empty = client.fetch(12, id, 0, 300).await;
    assert!(empty.records.is_none_or(|records| records.is_empty()));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    client
        .produce("log", 0, -1, batch(&[None, None, None], now_ms()))
        .await;
    let partition = delete_records_request::DeleteRecordsPartition::default()
        .with_partition_index(0)
        .with_offset(2);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(TopicName(text("log")))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = ask!(client, 2, DeleteRecords(request));
    let deleted = &response.topics[0].partitions[0];
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 2));
    assert_eq!(client.offset(7, -2).await, (0, 2, -1));
    assert_eq!(
        client.fetch(12, id, 1, 0).await.error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    let topic = delete_topics_request::DeleteTopicState::default().with_topic_id(id);
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = ask!(client, 6, DeleteTopics(request));
    assert_eq!(response.responses[0].error_code, 0);
    assert_eq!(
        client.fetch(13, id, 0, 0).await.error_code,
        ErrorCode::UnknownTopicId.code()
    );
}
