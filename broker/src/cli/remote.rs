//! What every command that speaks to a cluster shares.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use env::Env;
use protocol::Response;
use protocol::messages::StrBytes;
use protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::output::Format;
use crate::client::{Cluster, Error, PartitionInfo, Settings};

/// Kafka's timestamps with a meaning, in ListOffsets.
pub(crate) const LATEST: i64 = -1;
/// As [`LATEST`]: the log's start.
pub(crate) const EARLIEST: i64 = -2;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How old what is known of the brokers may become.
const METADATA_AGE: Duration = Duration::from_secs(5);
/// Pause before another try.
const RETRY: Duration = Duration::from_millis(100);

/// Which cluster, and how to print.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Kafka addresses of brokers, HOST:PORT between commas.
    #[arg(
        long,
        short = 'b',
        global = true,
        default_value = "127.0.0.1:9092",
        env = "HEADWATER_BOOTSTRAP"
    )]
    bootstrap: String,
    /// Longest wait for an answer, seconds.
    #[arg(long, global = true, default_value_t = 30)]
    timeout: u64,
    /// Print a table or JSON.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl Remote {
    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }

    /// The same in the unit of Kafka's requests.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout().as_millis()).unwrap_or(i32::MAX)
    }

    /// The cluster behind the bootstrap addresses.
    pub(crate) async fn cluster(&self, env: &Env) -> Result<Cluster> {
        let mut addresses = Vec::new();
        for one in self
            .bootstrap
            .split(',')
            .map(str::trim)
            .filter(|a| !a.is_empty())
        {
            let (host, port) = one
                .rsplit_once(':')
                .with_context(|| format!("--bootstrap {one:?}: expected HOST:PORT"))?;
            let port = port
                .parse()
                .with_context(|| format!("--bootstrap {one:?}: bad port"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found = env.net.resolve(host, port).await;
            addresses
                .extend(found.with_context(|| format!("--bootstrap: cannot resolve {host:?}"))?);
        }
        ensure!(!addresses.is_empty(), "--bootstrap names no address");
        let settings = Settings {
            client_id: "headwater-cli".to_owned(),
            // The broker's own waiting comes on top of the network's.
            timeout: self.timeout() + Duration::from_secs(5),
        };
        Ok(Cluster::new(env.clone(), addresses, settings).connecting_within(CONNECT))
    }
}

/// When to ask who the brokers are: those that were known at the start may all be gone by and by.
pub(crate) struct Brokers {
    asked: Instant,
}

impl Brokers {
    /// They were asked for just now.
    pub(crate) fn asked_now() -> Self {
        Self {
            asked: Instant::now(),
        }
    }

    /// Resolves when they should be asked for again.
    pub(crate) async fn old(&self) {
        sleep_until(self.asked + METADATA_AGE).await;
    }

    /// Asks for them when it is time. What is known stays when nobody answers.
    pub(crate) async fn refresh(&mut self, cluster: &mut Cluster) {
        if self.asked.elapsed() >= METADATA_AGE {
            let _ = cluster.metadata(Some(&[])).await;
            self.asked = Instant::now();
        }
    }
}

/// Whether what failed may succeed at another time, or at another broker.
pub(crate) fn is_passing(error: &Error) -> bool {
    error.code().is_none_or(protocol::ErrorCode::is_retriable)
}

/// The partition as metadata tells it after a moment, or as it was when nobody answers.
pub(crate) async fn look_again(
    cluster: &mut Cluster,
    topic: &str,
    partition: PartitionInfo,
) -> PartitionInfo {
    sleep(RETRY).await;
    let Ok(topic) = cluster.topic(topic).await else {
        return partition;
    };
    let mut found = topic.partitions.into_iter();
    let found = found.find(|one| one.partition == partition.partition);
    found.unwrap_or(partition)
}

/// Text as Kafka's messages hold it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// `KEY=VALUE` as clap reads it.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The offset that `timestamp` (or [`LATEST`], [`EARLIEST`]) stands for in one partition; `None`
/// when no record is as late.
pub(crate) async fn offset_at(
    cluster: &mut Cluster,
    topic: &str,
    partition: PartitionInfo,
    timestamp: i64,
) -> Result<Option<i64>> {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition.partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(text(topic).into())
                .with_partitions(vec![asked]),
        ]);
    let answer = cluster.call_node(partition.leader, request, 10).await?;
    let Response::ListOffsets(answer) = answer else {
        bail!("not an answer to ListOffsets")
    };
    let found = answer.topics.first().and_then(|t| t.partitions.first());
    let found = found.context("ListOffsets answered nothing")?;
    Error::check(
        &format!("{topic}-{}", partition.partition),
        found.error_code,
        None,
    )?;
    Ok((found.offset >= 0).then_some(found.offset))
}
