//! `headwater cluster status|add-voter|remove-voter` (KIP-595, KIP-853).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use controller::identify;
use env::Env;
use protocol::Response;
use protocol::messages::describe_quorum_response::{PartitionData, ReplicaState};
use protocol::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest, TopicName,
};
use protocol::messages::{add_raft_voter_request, describe_quorum_request};
use serde_json::json;

use crate::cli::output::{Rows, line};
use crate::cli::remote::{Remote, text};
use crate::cli::tls::TlsArgs;
use crate::client::{Cluster, Error};
use crate::config::HostPort;

/// Kafka's name for the log of the controllers.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// How long a voter may take to say who it is.
const ASKED: Duration = Duration::from_secs(5);

struct Quorum {
    partition: PartitionData,
    addresses: BTreeMap<i32, String>,
}

async fn quorum(cluster: &mut Cluster) -> Result<Quorum> {
    let partition = describe_quorum_request::PartitionData::default().with_partition_index(0);
    let topic = describe_quorum_request::TopicData::default()
        .with_topic_name(TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let Response::DescribeQuorum(answer) = cluster.call(request).await? else {
        bail!("not an answer to DescribeQuorum")
    };
    let message = answer.error_message.as_deref();
    Error::check("the controllers", answer.error_code, message)?;
    let nodes = answer.nodes.into_iter().filter_map(|node| {
        let listener = node.listeners.first()?;
        let address = HostPort {
            host: listener.host.to_string(),
            port: listener.port,
        };
        Some((node.node_id.0, address.to_string()))
    });
    let addresses = nodes.collect();
    let topic = answer.topics.into_iter().next();
    let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
    let partition = partition.context("DescribeQuorum answered nothing")?;
    Error::check("the controllers", partition.error_code, None)?;
    Ok(Quorum {
        partition,
        addresses,
    })
}

pub(super) async fn status(env: &Env, remote: &Remote) -> Result<()> {
    let mut cluster = remote.cluster(env).await?;
    let Quorum {
        partition,
        addresses,
    } = quorum(&mut cluster).await?;
    let mut rows = Rows::new(&[
        "node",
        "role",
        "address",
        "directory",
        "term",
        "log_end",
        "lag",
        "heard_ms_ago",
    ]);
    let leader = partition.leader_id.0;
    let now_ms = env.clock.wall_ms();
    let end = |state: &ReplicaState| state.log_end_offset;
    let own = partition.current_voters.iter();
    let own = own.filter(|one| one.replica_id.0 == leader).map(end).max();
    let furthest = own.unwrap_or(partition.high_watermark);
    let mut push = |state: &ReplicaState, role: &str| {
        let node = state.replica_id.0;
        let known = state.log_end_offset >= 0;
        let heard = state.last_fetch_timestamp;
        rows.push(vec![
            json!(node),
            json!(if node == leader && role == "voter" {
                "leader"
            } else {
                role
            }),
            json!(addresses.get(&node)),
            json!(
                (!state.replica_directory_id.is_nil())
                    .then(|| state.replica_directory_id.to_string())
            ),
            json!(partition.leader_epoch),
            json!(known.then_some(state.log_end_offset)),
            json!(known.then(|| (furthest - state.log_end_offset).max(0))),
            json!((heard >= 0).then(|| (now_ms - heard).max(0))),
        ]);
    };
    for state in &partition.current_voters {
        push(state, "voter");
    }
    for state in &partition.observers {
        push(state, "observer");
    }
    rows.print(remote.output)?;
    Ok(())
}

pub(super) async fn add(env: &Env, remote: &Remote, address: &str, tls: &TlsArgs) -> Result<()> {
    let at = HostPort::parse(address).map_err(|why| anyhow::anyhow!(why))?;
    let tls = tls.open(env, None).await?;
    let found = identify(env, &at.to_string(), tls.as_ref(), ASKED).await?;
    let listener = add_raft_voter_request::Listener::default()
        .with_name(text("CONTROLLER"))
        .with_host(text(&at.host))
        .with_port(at.port);
    let request = AddRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_timeout_ms(remote.timeout_ms())
        .with_voter_id(found.node.0)
        .with_voter_directory_id(found.directory)
        .with_listeners(vec![listener]);
    let mut cluster = remote.cluster(env).await?;
    let Response::AddRaftVoter(answer) = cluster.call(request).await? else {
        bail!("not an answer to AddRaftVoter")
    };
    let what = format!("voter {}", found.node);
    Error::check(&what, answer.error_code, answer.error_message.as_deref())?;
    line(format!("Node {} votes now.", found.node))?;
    Ok(())
}

pub(super) async fn remove(env: &Env, remote: &Remote, node: i32) -> Result<()> {
    let mut cluster = remote.cluster(env).await?;
    let standing = quorum(&mut cluster).await?.partition.current_voters;
    let voter = standing.iter().find(|one| one.replica_id.0 == node);
    let voter = voter.with_context(|| format!("node {node} is no voter"))?;
    let request = RemoveRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_voter_id(node)
        .with_voter_directory_id(voter.replica_directory_id);
    let Response::RemoveRaftVoter(answer) = cluster.call(request).await? else {
        bail!("not an answer to RemoveRaftVoter")
    };
    let what = format!("voter {node}");
    Error::check(&what, answer.error_code, answer.error_message.as_deref())?;
    line(format!("Node {node} votes no more."))?;
    Ok(())
}
