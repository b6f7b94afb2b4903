//! An administrator who moves partitions from broker to broker.

use std::time::Duration;

use broker::client::{Cluster, Error};
use env::sim::SimEntropy;
use protocol::Response;
use protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use protocol::messages::{AlterPartitionReassignmentsRequest, StrBytes};
use tokio::time::sleep;

use crate::clients::{PAUSE, Shared, TOPIC};

/// Its number among the clients.
pub(crate) const MOVER: u32 = 9;
const INTERNAL: &str = "__consumer_offsets";
const INTERNAL_PARTITIONS: u64 = 3;

/// Moves one partition after the other to any of `nodes`, until told to stop.
pub(crate) async fn mover(shared: Shared, seed: u64, nodes: Vec<i32>) {
    let random = SimEntropy::new(seed);
    let mut cluster = shared.cluster(random.below(u64::MAX), MOVER);
    while !shared.stopped() {
        sleep(Duration::from_millis(100 + random.below(3000))).await;
        let internal = random.chance(20);
        let (topic, partitions) = match internal {
            true => (INTERNAL, INTERNAL_PARTITIONS),
            false => (TOPIC, shared.partitions as u64),
        };
        let index = random.below(partitions) as i32;
        let node = nodes[random.below(nodes.len() as u64) as usize];
        let what = format!("move {topic}-{index} to node {node}");
        match move_one(&mut cluster, topic, index, node).await {
            Ok(()) => shared.trace.line(&what),
            Err(error) => {
                shared.trace.line(&format!("{what}: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

pub(crate) async fn move_one(
    cluster: &mut Cluster,
    topic: &'static str,
    index: i32,
    node: i32,
) -> Result<(), Error> {
    let partition = ReassignablePartition::default()
        .with_partition_index(index)
        .with_replicas(Some(vec![node.into()]));
    let topic = ReassignableTopic::default()
        .with_name(StrBytes::from_static_str(topic).into())
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(5000)
        .with_topics(vec![topic]);
    let Response::AlterPartitionReassignments(answer) = cluster.call(request).await? else {
        panic!("reassignments are answered with such");
    };
    Error::check("reassignment", answer.error_code, None)?;
    let results = answer.responses.iter().flat_map(|topic| &topic.partitions);
    for result in results {
        Error::check("move", result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}
