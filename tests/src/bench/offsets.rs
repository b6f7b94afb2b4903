//! Millions of commits to `__consumer_offsets`: what a restart after kill -9 reads, and that every
//! group's last commit is there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use broker::client::{Connection, Settings as ClientSettings};
use futures::future::try_join_all;
use protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, StrBytes, TopicName,
};
use protocol::{Request, Response};
use serde_json::{Value, json};

use super::core::{MIB, broker, create_topic};
use crate::process::BrokerProcess;

/// Groups that commit side by side, each on a connection of its own.
const GROUPS: i64 = 8;
/// Partitions that one OffsetCommit names.
const PARTITIONS: i32 = 500;
/// What a coordinator partition may read at a restart.
const MOST_READ_BYTES: f64 = 16.0 * MIB;
/// How long a coordinator may take to serve.
const LIMIT: Duration = Duration::from_secs(120);
const TOPIC: &str = "committed";

/// Commits `commits` offsets in all, kills the broker, and looks what is left.
///
/// # Errors
/// When a commit is refused or lost, or the restart reads more than it may.
pub(super) fn run(commits: u64) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    // All in one coordinator partition: the hardest case for it.
    let set = ["--set", "offsets.topic.num.partitions=1"];
    let server = broker(&dir, &set)?;
    create_topic(server.kafka, TOPIC, PARTITIONS)?;
    let rounds = (commits / (GROUPS as u64 * PARTITIONS as u64)).max(1) as i64;
    let begun = Instant::now();
    runtime.block_on(commit_all(&server, rounds))?;
    let committing = begun.elapsed().as_secs_f64();
    let done = rounds * GROUPS * i64::from(PARTITIONS);
    let records = server.metric("headwater_broker_groups_records_total")?;
    ensure!(
        records == done as f64,
        "{records} records of {done} commits"
    );
    let uploaded = server.metric("headwater_storage_upload_bytes_total")?;
    let cpu = server.cpu_seconds()?;
    server.kill_9()?;

    let begun = Instant::now();
    let server = broker(&dir, &set)?;
    runtime.block_on(check_all(&server, rounds - 1))?;
    let serving = begun.elapsed().as_secs_f64();
    let loaded = server.metric("headwater_broker_groups_loaded_bytes_total")?;
    let fetched = server.metric("headwater_storage_read_bytes_total")?;
    ensure!(loaded > 0.0, "the coordinator loads from its log");
    ensure!(
        loaded <= MOST_READ_BYTES,
        "a restart read {loaded} bytes of one partition"
    );
    server.stop(Duration::from_secs(120))?;
    Ok(json!({
        "commits": done,
        "groups": GROUPS,
        "offsets_partitions": 1,
        "commits_per_s": done as f64 / committing,
        "cpu_s": cpu,
        "uploaded_mib": uploaded / MIB,
        "restart_loaded_mib": loaded / MIB,
        "restart_fetched_from_store_mib": fetched / MIB,
        "restart_seconds_to_all_verified": serving,
    }))
}

async fn commit_all(server: &BrokerProcess, rounds: i64) -> Result<()> {
    let committers = (0..GROUPS).map(|group| async move {
        let mut client = Client::open(server, group).await?;
        client.until_served().await?;
        for round in 0..rounds {
            client.commit(round).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(committers).await.map(drop)
}

async fn check_all(server: &BrokerProcess, last: i64) -> Result<()> {
    for group in 0..GROUPS {
        let mut client = Client::open(server, group).await?;
        client.until_served().await?;
        client.check(last).await?;
    }
    Ok(())
}

/// One group's connection.
struct Client {
    connection: Connection,
    group: StrBytes,
}

// === impl Client ===

impl Client {
    async fn open(server: &BrokerProcess, group: i64) -> Result<Self> {
        let settings = ClientSettings {
            client_id: format!("committer-{group}"),
            timeout: LIMIT,
        };
        let connection = Connection::open(&env::real::env(), server.kafka, settings).await?;
        let group = StrBytes::from_string(format!("group-{group}"));
        Ok(Self { connection, group })
    }

    async fn ask(&mut self, request: impl Into<Request>, version: i16) -> Result<Response> {
        Ok(self
            .connection
            .call_version(request.into(), version)
            .await?)
    }

    /// Until the group's coordinator has loaded and answers for it.
    async fn until_served(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let find =
                FindCoordinatorRequest::default().with_coordinator_keys(vec![self.group.clone()]);
            let Response::FindCoordinator(found) = self.ask(find, 4).await? else {
                bail!("not an answer to FindCoordinator");
            };
            let found = found.coordinators.first().context("no coordinator")?;
            if found.error_code == 0 && self.fetch().await?.0 == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("{} is not served within {LIMIT:?}", self.group)
    }

    async fn commit(&mut self, offset: i64) -> Result<()> {
        let partitions = (0..PARTITIONS).map(|index| {
            let mut partition = OffsetCommitRequestPartition::default();
            partition.partition_index = index;
            // Each partition's own, so that none passes for another.
            partition.committed_offset = offset * i64::from(PARTITIONS) + i64::from(index);
            partition.committed_metadata = Some(StrBytes::from_static_str("where I was"));
            partition
        });
        let mut topic = OffsetCommitRequestTopic::default();
        topic.name = TopicName(StrBytes::from_static_str(TOPIC));
        topic.partitions = partitions.collect();
        let mut request = OffsetCommitRequest::default();
        request.group_id = GroupId(self.group.clone());
        request.generation_id_or_member_epoch = -1;
        request.topics = vec![topic];
        let Response::OffsetCommit(answer) = self.ask(request, 9).await? else {
            bail!("not an answer to OffsetCommit");
        };
        let topic = answer.topics.first().context("no topic")?;
        ensure!(
            topic.partitions.len() == PARTITIONS as usize,
            "too few answers"
        );
        let refused = topic.partitions.iter().find(|p| p.error_code != 0);
        ensure!(refused.is_none(), "{refused:?} to a commit");
        Ok(())
    }

    /// The group's code, and (partition, offset) of all that it has committed.
    async fn fetch(&mut self) -> Result<(i16, Vec<(i32, i64)>)> {
        let mut topic = OffsetFetchRequestTopics::default();
        topic.name = TopicName(StrBytes::from_static_str(TOPIC));
        topic.partition_indexes = (0..PARTITIONS).collect();
        let mut asked = OffsetFetchRequestGroup::default();
        asked.group_id = GroupId(self.group.clone());
        asked.topics = Some(vec![topic]);
        let mut request = OffsetFetchRequest::default();
        request.groups = vec![asked];
        let Response::OffsetFetch(answer) = self.ask(request, 9).await? else {
            bail!("not an answer to OffsetFetch");
        };
        let group = answer.groups.first().context("no group")?;
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets = partitions.map(|p| (p.partition_index, p.committed_offset));
        Ok((group.error_code, offsets.collect()))
    }

    async fn check(&mut self, last: i64) -> Result<()> {
        let (code, mut offsets) = self.fetch().await?;
        offsets.sort_unstable();
        let expected: Vec<_> = (0..PARTITIONS)
            .map(|index| (index, last * i64::from(PARTITIONS) + i64::from(index)))
            .collect();
        ensure!(
            code == 0 && offsets == expected,
            "{}: code {code}, commits are lost",
            self.group
        );
        Ok(())
    }
}
