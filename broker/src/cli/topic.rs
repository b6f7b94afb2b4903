//! `headwater topic`: create, list, describe, alter, delete.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use env::Env;
use protocol::Response;
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use serde_json::json;

use super::output::{Rows, line};
use super::remote::{EARLIEST, LATEST, Remote, key_value, offset_at, text};
use super::topic_move;
use crate::client::{Cluster, Error};

/// Kafka's code for a topic among configuration resources.
const TOPIC_RESOURCE: i8 = 2;
/// Kafka's code for a value set on the topic itself (DescribeConfigs).
const SOURCE_TOPIC: i8 = 1;
/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Make, look at and change topics.
#[derive(Args, Debug)]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Subcommand, Debug)]
enum TopicCommand {
    /// Make a topic.
    Create {
        /// Its name.
        name: String,
        /// Number of partitions; the broker's default without it.
        #[arg(long, short = 'p')]
        partitions: Option<i32>,
        /// Accepted as Kafka's tools send it; durability is the WAL's and the store's.
        #[arg(long, default_value_t = -1)]
        replication_factor: i16,
        /// A config of the topic, as in `retention.ms=86400000` (repeatable).
        #[arg(long = "config", short = 'c', value_parser = key_value)]
        configs: Vec<(String, String)>,
        /// Only check that it could be made.
        #[arg(long)]
        dry_run: bool,
    },
    /// Names and partitions of all topics.
    List {
        /// Kafka's own topics too.
        #[arg(long)]
        internal: bool,
    },
    /// Partitions, offsets and configs of a topic.
    Describe {
        /// Its name.
        name: String,
    },
    /// Add partitions, set and unset configs.
    Alter {
        /// Its name.
        name: String,
        /// New number of partitions; only more than now.
        #[arg(long, short = 'p')]
        partitions: Option<i32>,
        /// Set a config, as in `retention.ms=86400000` (repeatable).
        #[arg(long = "set", short = 's', value_parser = key_value)]
        set: Vec<(String, String)>,
        /// Take a config back to its default (repeatable).
        #[arg(long = "unset", short = 'u')]
        unset: Vec<String>,
    },
    /// Move partitions to a broker: none of their data is copied. They stay there, whatever the
    /// balancer would do, until `--unpin`.
    Move {
        /// The topic's name.
        name: String,
        /// A partition; all of them without it (repeatable).
        #[arg(long, short = 'p')]
        partition: Vec<i32>,
        /// The broker's `node.id`.
        #[arg(long, required_unless_present = "unpin")]
        to: Option<i32>,
        /// Take that word back: moves that have not been made are not made, and the balancer may move
        /// the partitions again.
        #[arg(long, conflicts_with = "to")]
        unpin: bool,
    },
    /// Delete a topic and, after a grace period, its data.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Runs `headwater topic …`.
pub(crate) async fn run(env: &Env, args: TopicArgs) -> Result<()> {
    let remote = args.remote;
    let mut cluster = remote.cluster(env).await?;
    match args.command {
        TopicCommand::Move {
            name,
            partition,
            to,
            // Without `to`.
            unpin: _,
        } => topic_move::run(&mut cluster, &remote, &name, &partition, to).await,
        TopicCommand::Create {
            name,
            partitions,
            replication_factor,
            configs,
            dry_run,
        } => {
            let topic = CreatableTopic::default()
                .with_name(text(&name).into())
                .with_num_partitions(partitions.unwrap_or(-1))
                .with_replication_factor(replication_factor)
                .with_configs(configs.iter().map(|(k, v)| creatable(k, v)).collect());
            create(&mut cluster, &remote, &name, topic, dry_run).await
        }
        TopicCommand::List { internal } => list(&mut cluster, &remote, internal).await,
        TopicCommand::Describe { name } => describe(&mut cluster, &remote, &name).await,
        TopicCommand::Alter {
            name,
            partitions,
            set,
            unset,
        } => {
            if partitions.is_none() && set.is_empty() && unset.is_empty() {
                bail!("nothing to alter: give --partitions, --set or --unset");
            }
            if let Some(count) = partitions {
                add_partitions(&mut cluster, &remote, &name, count).await?;
            }
            if !set.is_empty() || !unset.is_empty() {
                alter_configs(&mut cluster, &name, &set, &unset).await?;
            }
            line(format!("Altered topic {name}."))?;
            Ok(())
        }
        TopicCommand::Delete { name } => delete(&mut cluster, &remote, &name).await,
    }
}

fn creatable(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
}

async fn create(
    cluster: &mut Cluster,
    remote: &Remote,
    name: &str,
    topic: CreatableTopic,
    dry_run: bool,
) -> Result<()> {
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(remote.timeout_ms())
        .with_validate_only(dry_run);
    let Response::CreateTopics(answer) = cluster.call(request).await? else {
        bail!("not an answer to CreateTopics");
    };
    let made = answer
        .topics
        .first()
        .context("CreateTopics answered nothing")?;
    let what = format!("topic {name:?}");
    Error::check(&what, made.error_code, made.error_message.as_deref())?;
    let verb = if dry_run { "Could create" } else { "Created" };
    println!(
        "{verb} topic {name} with {} partitions.",
        made.num_partitions
    );
    Ok(())
}

async fn list(cluster: &mut Cluster, remote: &Remote, internal: bool) -> Result<()> {
    let answer = cluster.metadata(None).await?;
    let mut topics: Vec<_> = answer
        .topics
        .iter()
        .filter(|t| internal || !t.is_internal)
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut rows = Rows::new(&["name", "partitions", "id", "internal"]);
    for topic in topics {
        rows.push(vec![
            json!(topic.name.as_ref().map(|n| n.to_string())),
            json!(topic.partitions.len()),
            json!(topic.topic_id.to_string()),
            json!(topic.is_internal),
        ]);
    }
    rows.print(remote.output)?;
    Ok(())
}

async fn describe(cluster: &mut Cluster, remote: &Remote, name: &str) -> Result<()> {
    let topic = cluster.topic(name).await?;
    let columns = &["partition", "leader", "leader_epoch", "earliest", "latest"];
    let mut partitions = Rows::new(columns);
    for partition in topic.partitions {
        let earliest = offset_at(cluster, name, partition, EARLIEST).await?;
        let latest = offset_at(cluster, name, partition, LATEST).await?;
        partitions.push(vec![
            json!(partition.partition),
            json!(partition.leader),
            json!(partition.leader_epoch),
            json!(earliest),
            json!(latest),
        ]);
    }
    let mut configs = Rows::new(&["config", "value", "set_on_topic"]);
    for (config, value, own) in topic_configs(cluster, name).await? {
        configs.push(vec![json!(config), json!(value), json!(own)]);
    }
    match remote.output {
        super::output::Format::Table => {
            line(format!("Topic {name}, id {}\n", topic.id))?;
            partitions.print(remote.output)?;
            line("")?;
            configs.print(remote.output)?;
        }
        super::output::Format::Json => {
            let parse = |rows: &Rows| -> serde_json::Result<serde_json::Value> {
                serde_json::from_str(&rows.render(remote.output))
            };
            let whole = json!({
                "name": name,
                "id": topic.id.to_string(),
                "partitions": parse(&partitions)?,
                "configs": parse(&configs)?,
            });
            line(format!("{whole:#}"))?;
        }
    }
    Ok(())
}

/// Name, value and whether the topic itself sets it.
async fn topic_configs(
    cluster: &mut Cluster,
    name: &str,
) -> Result<Vec<(String, Option<String>, bool)>> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let Response::DescribeConfigs(answer) = cluster.call(request).await? else {
        bail!("not an answer to DescribeConfigs");
    };
    let result = answer
        .results
        .into_iter()
        .next()
        .context("DescribeConfigs answered nothing")?;
    let what = format!("configs of topic {name:?}");
    Error::check(&what, result.error_code, result.error_message.as_deref())?;
    let entry =
        |c: protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
            let value = c.value.map(|v| v.to_string());
            (c.name.to_string(), value, c.config_source == SOURCE_TOPIC)
        };
    Ok(result.configs.into_iter().map(entry).collect())
}

async fn add_partitions(
    cluster: &mut Cluster,
    remote: &Remote,
    name: &str,
    count: i32,
) -> Result<()> {
    let topic = CreatePartitionsTopic::default()
        .with_name(text(name).into())
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(remote.timeout_ms());
    let Response::CreatePartitions(answer) = cluster.call(request).await? else {
        bail!("not an answer to CreatePartitions");
    };
    let result = answer
        .results
        .first()
        .context("CreatePartitions answered nothing")?;
    let what = format!("partitions of topic {name:?}");
    Ok(Error::check(
        &what,
        result.error_code,
        result.error_message.as_deref(),
    )?)
}

async fn alter_configs(
    cluster: &mut Cluster,
    name: &str,
    set: &[(String, String)],
    unset: &[String],
) -> Result<()> {
    let setting = |(key, value): &(String, String)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(SET)
            .with_value(Some(text(value)))
    };
    let unsetting = |key: &String| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(DELETE)
            .with_value(None)
    };
    let configs = set
        .iter()
        .map(setting)
        .chain(unset.iter().map(unsetting))
        .collect();
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(name))
        .with_configs(configs);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let Response::IncrementalAlterConfigs(answer) = cluster.call(request).await? else {
        bail!("not an answer to IncrementalAlterConfigs");
    };
    let result = answer
        .responses
        .first()
        .context("IncrementalAlterConfigs answered nothing")?;
    let what = format!("configs of topic {name:?}");
    Ok(Error::check(
        &what,
        result.error_code,
        result.error_message.as_deref(),
    )?)
}

async fn delete(cluster: &mut Cluster, remote: &Remote, name: &str) -> Result<()> {
    // Versions up to 5 name topics in one list, later ones in another: both are known here.
    let known = cluster.topic(name).await?;
    let state = DeleteTopicState::default().with_name(Some(text(&known.name).into()));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![state])
        .with_timeout_ms(remote.timeout_ms());
    let Response::DeleteTopics(answer) = cluster.call(request).await? else {
        bail!("not an answer to DeleteTopics");
    };
    let result = answer
        .responses
        .first()
        .context("DeleteTopics answered nothing")?;
    let what = format!("topic {name:?}");
    Error::check(&what, result.error_code, result.error_message.as_deref())?;
    line(format!("Deleted topic {name}."))?;
    Ok(())
}
