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

use super::output::Format;
use crate::client::{Cluster, Error, PartitionInfo, Settings};

/// Kafka's timestamps with a meaning, in ListOffsets.
pub(crate) const LATEST: i64 = -1;
/// As [`LATEST`]: the log's start.
pub(crate) const EARLIEST: i64 = -2;

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
        Ok(Cluster::new(env.clone(), addresses, settings))
    }
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
