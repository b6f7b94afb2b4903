//! `headwater group`: list, describe, reset.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use env::Env;
use protocol::Response;
use protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};
use serde_json::json;

use super::output::{Rows, line};
use super::remote::{EARLIEST, LATEST, Remote, offset_at, text};
use super::time::parse_time_ms;
use crate::client::{Cluster, Error};

/// Consumer groups: who is in them, where they are, and setting them back.
#[derive(Args, Debug)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Subcommand, Debug)]
enum GroupCommand {
    /// All groups and their states.
    List,
    /// Members, committed offsets and lag of a group.
    Describe {
        /// Its name.
        group: String,
    },
    /// Set the committed offsets of an empty group.
    Reset {
        /// Its name.
        group: String,
        /// The topic to reset, all its partitions.
        #[arg(long, short = 't')]
        topic: String,
        /// `earliest`, `latest`, an offset, or a time (RFC 3339, or milliseconds with `@`).
        #[arg(long)]
        to: String,
        /// Show the new offsets, commit nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget an empty group and its offsets.
    Delete {
        /// Its name.
        group: String,
    },
}

/// Runs `headwater group …`.
pub(crate) async fn run(env: &Env, args: GroupArgs) -> Result<()> {
    let remote = args.remote;
    let mut cluster = remote.cluster(env).await?;
    match args.command {
        GroupCommand::List => list(&mut cluster, &remote).await,
        GroupCommand::Describe { group } => describe(&mut cluster, &remote, &group).await,
        GroupCommand::Reset {
            group,
            topic,
            to,
            dry_run,
        } => reset(&mut cluster, &remote, &group, &topic, &to, dry_run).await,
        GroupCommand::Delete { group } => delete(&mut cluster, &group).await,
    }
}

async fn list(cluster: &mut Cluster, remote: &Remote) -> Result<()> {
    let mut rows = Rows::new(&["group", "state", "type", "protocol", "coordinator"]);
    let nodes: Vec<i32> = cluster
        .metadata(Some(&[]))
        .await?
        .brokers
        .iter()
        .map(|b| b.node_id.0)
        .collect();
    let mut found = BTreeMap::new();
    for node in nodes {
        let answer = cluster
            .call_node(node, ListGroupsRequest::default(), i16::MAX)
            .await?;
        let Response::ListGroups(answer) = answer else {
            bail!("not an answer to ListGroups")
        };
        Error::check("groups", answer.error_code, None)?;
        for group in answer.groups {
            found.insert(group.group_id.to_string(), (node, group));
        }
    }
    for (name, (node, group)) in found {
        rows.push(vec![
            json!(name),
            json!(group.group_state.to_string()),
            json!(group.group_type.to_string()),
            json!(group.protocol_type.to_string()),
            json!(node),
        ]);
    }
    rows.print(remote.output)?;
    Ok(())
}

/// Committed offsets by topic and partition.
async fn committed(
    cluster: &mut Cluster,
    node: i32,
    group: &str,
) -> Result<BTreeMap<(String, i32), i64>> {
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(text(group).into())
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    // Version 9 names topics; from 10 on only their ids travel.
    let Response::OffsetFetch(answer) = cluster.call_node(node, request, 9).await? else {
        bail!("not an answer to OffsetFetch");
    };
    let answer = answer
        .groups
        .into_iter()
        .next()
        .context("OffsetFetch answered nothing")?;
    Error::check(
        &format!("offsets of group {group:?}"),
        answer.error_code,
        None,
    )?;
    let mut offsets = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let what = format!("{}-{}", topic.name.as_str(), partition.partition_index);
            Error::check(&what, partition.error_code, None)?;
            if partition.committed_offset >= 0 {
                let key = (topic.name.to_string(), partition.partition_index);
                offsets.insert(key, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

async fn describe(cluster: &mut Cluster, remote: &Remote, group: &str) -> Result<()> {
    let node = cluster.coordinator(group).await?;
    let request = DescribeGroupsRequest::default().with_groups(vec![text(group).into()]);
    let Response::DescribeGroups(answer) = cluster.call_node(node, request, i16::MAX).await? else {
        bail!("not an answer to DescribeGroups");
    };
    let described = answer
        .groups
        .into_iter()
        .next()
        .context("DescribeGroups answered nothing")?;
    let what = format!("group {group:?}");
    Error::check(
        &what,
        described.error_code,
        described.error_message.as_deref(),
    )?;
    let mut members = Rows::new(&["member", "instance", "client", "host"]);
    for member in &described.members {
        members.push(vec![
            json!(member.member_id.to_string()),
            json!(member.group_instance_id.as_ref().map(|i| i.to_string())),
            json!(member.client_id.to_string()),
            json!(member.client_host.to_string()),
        ]);
    }
    let mut offsets = Rows::new(&["topic", "partition", "committed", "latest", "lag"]);
    let mut topics = BTreeMap::new();
    for ((topic, partition), offset) in committed(cluster, node, group).await? {
        if !topics.contains_key(&topic) {
            topics.insert(topic.clone(), cluster.topic(&topic).await.ok());
        }
        let info = topics[&topic].as_ref().and_then(|t| {
            t.partitions
                .iter()
                .find(|p| p.partition == partition)
                .copied()
        });
        let latest = match info {
            Some(info) => offset_at(cluster, &topic, info, LATEST).await?,
            None => None,
        };
        offsets.push(vec![
            json!(topic),
            json!(partition),
            json!(offset),
            json!(latest),
            json!(latest.map(|l| (l - offset).max(0))),
        ]);
    }
    let state = described.group_state.as_str();
    print_group(remote, group, state, &members, &offsets)
}

fn print_group(
    remote: &Remote,
    group: &str,
    state: &str,
    members: &Rows,
    offsets: &Rows,
) -> Result<()> {
    match remote.output {
        super::output::Format::Table => {
            line(format!("Group {group}, state {state}\n"))?;
            members.print(remote.output)?;
            line("")?;
            offsets.print(remote.output)?;
        }
        super::output::Format::Json => {
            let parse = |rows: &Rows| -> serde_json::Result<serde_json::Value> {
                serde_json::from_str(&rows.render(remote.output))
            };
            let whole = json!({
                "group": group,
                "state": state,
                "members": parse(members)?,
                "offsets": parse(offsets)?,
            });
            line(format!("{whole:#}"))?;
        }
    }
    Ok(())
}

async fn reset(
    cluster: &mut Cluster,
    remote: &Remote,
    group: &str,
    topic: &str,
    to: &str,
    dry_run: bool,
) -> Result<()> {
    let node = cluster.coordinator(group).await?;
    let before = committed(cluster, node, group).await?;
    let info = cluster.topic(topic).await?;
    let mut rows = Rows::new(&["topic", "partition", "before", "after"]);
    let mut commits = Vec::new();
    for partition in info.partitions {
        let earliest = offset_at(cluster, topic, partition, EARLIEST)
            .await?
            .unwrap_or(0);
        let latest = offset_at(cluster, topic, partition, LATEST)
            .await?
            .unwrap_or(earliest);
        let after = match to {
            "earliest" => earliest,
            "latest" => latest,
            _ => match to.parse::<i64>() {
                // Beyond the log a consumer would only be sent back by its own reset policy.
                Ok(offset) => offset.clamp(earliest, latest),
                Err(_) => offset_at(cluster, topic, partition, parse_time_ms(to)?)
                    .await?
                    .unwrap_or(latest),
            },
        };
        let old = before.get(&(topic.to_owned(), partition.partition));
        rows.push(vec![
            json!(topic),
            json!(partition.partition),
            json!(old),
            json!(after),
        ]);
        commits.push(
            OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition)
                .with_committed_offset(after)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text(""))),
        );
    }
    if !dry_run {
        commit(cluster, node, group, topic, commits).await?;
    }
    rows.print(remote.output)?;
    Ok(())
}

async fn commit(
    cluster: &mut Cluster,
    node: i32,
    group: &str,
    topic: &str,
    partitions: Vec<OffsetCommitRequestPartition>,
) -> Result<()> {
    let topics = OffsetCommitRequestTopic::default()
        .with_name(text(topic).into())
        .with_partitions(partitions);
    let request = OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topics]);
    let Response::OffsetCommit(answer) = cluster.call_node(node, request, 9).await? else {
        bail!("not an answer to OffsetCommit");
    };
    let mut answered = 0;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what = format!(
                "offset of group {group:?} for {}-{} (the group must have no members)",
                topic.name.as_str(),
                partition.partition_index
            );
            Error::check(&what, partition.error_code, None)?;
            answered += 1;
        }
    }
    ensure!(answered > 0, "OffsetCommit answered nothing");
    Ok(())
}

async fn delete(cluster: &mut Cluster, group: &str) -> Result<()> {
    let node = cluster.coordinator(group).await?;
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text(group).into()]);
    let Response::DeleteGroups(answer) = cluster.call_node(node, request, i16::MAX).await? else {
        bail!("not an answer to DeleteGroups");
    };
    let result = answer
        .results
        .first()
        .context("DeleteGroups answered nothing")?;
    Error::check(&format!("group {group:?}"), result.error_code, None)?;
    line(format!("Deleted group {group}."))?;
    Ok(())
}
