//! `headwater topic move`: partitions to a broker, by AlterPartitionReassignments.

use std::time::Duration;

use anyhow::{Result, bail};
use protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use protocol::messages::{AlterPartitionReassignmentsRequest, BrokerId};
use protocol::{ErrorCode, Response};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::output::Rows;
use super::remote::{Remote, text};
use crate::client::{Cluster, Error};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Moves `partitions` (all of them when none is named) of `topic` to the broker `to`, and waits
/// until they are there; without `to`, they are pinned to none.
pub(super) async fn run(
    cluster: &mut Cluster,
    remote: &Remote,
    topic: &str,
    partitions: &[i32],
    to: Option<i32>,
) -> Result<()> {
    let known = cluster.topic(topic).await?;
    let all = known.partitions.iter().map(|p| p.partition);
    let moved: Vec<i32> = all
        .filter(|p| partitions.is_empty() || partitions.contains(p))
        .collect();
    if let Some(unknown) = partitions.iter().find(|p| !moved.contains(p)) {
        bail!("{topic} has no partition {unknown}");
    }
    let pinned = ask(cluster, remote, topic, &moved, to).await?;
    match to {
        Some(to) => until_there(cluster, remote, topic, &moved, to).await,
        None => {
            let mut rows = Rows::new(&["partition", "was_pinned"]);
            for (partition, was) in pinned {
                rows.push(vec![json!(partition), json!(was)]);
            }
            Ok(rows.print(remote.output)?)
        }
    }
}

/// Says where they shall be, or nowhere. Returns whether each was pinned or had to move.
async fn ask(
    cluster: &mut Cluster,
    remote: &Remote,
    topic: &str,
    moved: &[i32],
    to: Option<i32>,
) -> Result<Vec<(i32, bool)>> {
    let asked = moved.iter().map(|index| {
        ReassignablePartition::default()
            .with_partition_index(*index)
            .with_replicas(to.map(|to| vec![BrokerId(to)]))
    });
    let asked = ReassignableTopic::default()
        .with_name(text(topic).into())
        .with_partitions(asked.collect());
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(remote.timeout_ms())
        .with_topics(vec![asked]);
    let Response::AlterPartitionReassignments(answer) = cluster.call(request).await? else {
        bail!("not an answer to AlterPartitionReassignments");
    };
    Error::check("moving", answer.error_code, answer.error_message.as_deref())?;
    let mut pinned = Vec::new();
    for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
        let nothing = partition.error_code == ErrorCode::NoReassignmentInProgress.code();
        pinned.push((partition.partition_index, !nothing));
        if nothing && to.is_none() {
            continue;
        }
        let what = format!("{topic}-{}", partition.partition_index);
        Error::check(
            &what,
            partition.error_code,
            partition.error_message.as_deref(),
        )?;
    }
    Ok(pinned)
}

async fn until_there(
    cluster: &mut Cluster,
    remote: &Remote,
    topic: &str,
    moved: &[i32],
    to: i32,
) -> Result<()> {
    let deadline = Instant::now() + remote.timeout();
    loop {
        let known = cluster.topic(topic).await?;
        let chosen = known
            .partitions
            .iter()
            .filter(|p| moved.contains(&p.partition));
        let waits = chosen.clone().filter(|p| p.leader != to).count();
        if waits == 0 {
            let mut rows = Rows::new(&["partition", "leader", "leader_epoch"]);
            for one in chosen {
                rows.push(vec![
                    json!(one.partition),
                    json!(one.leader),
                    json!(one.leader_epoch),
                ]);
            }
            rows.print(remote.output)?;
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{waits} partitions of {topic} are not at broker {to} yet; they go on moving");
        }
        sleep(LOOK).await;
    }
}
