//! DescribeLogDirs, key 35, versions 1 to 4.
//!
//! One directory, this broker's `data.dir`; a partition's size is what its log holds from log start
//! on, wherever it lies. 4+: bytes that may still be written (KIP-827); the total is not known of
//! an object store, and so -1.

use std::collections::BTreeMap;

use protocol::ErrorCode;
use protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let denied = !broker.allows(context, Operation::Describe, Resource::Cluster);
    if denied {
        let code = ErrorCode::ClusterAuthorizationFailed.code();
        return DescribeLogDirsResponse::default().with_error_code(code);
    }
    let asked = request.topics.map(|topics| {
        let topics = topics
            .into_iter()
            .map(|topic| (topic.topic.to_string(), topic.partitions));
        topics.collect::<BTreeMap<_, _>>()
    });
    let wanted = |topic: &str, partition: i32| match &asked {
        None => true,
        Some(topics) => topics.get(topic).is_some_and(|p| p.contains(&partition)),
    };
    let image = broker.image();
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let led = broker
        .epoch()
        .map(|epoch| epoch.storage.partitions())
        .unwrap_or_default();
    for partition in led {
        let tp = partition.topic_partition();
        let Some(topic) = image.topic_by_id(tp.topic) else {
            continue;
        };
        if wanted(&topic.name, tp.partition) {
            let size = i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX);
            let entry = DescribeLogDirsPartition::default()
                .with_partition_index(tp.partition)
                .with_partition_size(size);
            topics
                .entry(topic.name.to_string())
                .or_default()
                .push(entry);
        }
    }
    let (disk, dir) = (broker.env.disk.clone(), broker.config.data_dir.clone());
    let pool = broker.env.threads.pool();
    let usable = pool.run(move || disk.available_bytes(&dir)).await;
    let usable = usable
        .ok()
        .and_then(|bytes| i64::try_from(bytes).ok())
        .unwrap_or(-1);
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions)
    });
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(broker.config.data_dir.to_string_lossy()))
        .with_topics(topics.collect())
        .with_total_bytes(-1)
        .with_usable_bytes(usable);
    DescribeLogDirsResponse::default().with_results(vec![result])
}
