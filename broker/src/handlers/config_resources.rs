//! Configuration resources, as DescribeConfigs and both AlterConfigs name them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{Command, ConfigOp, ConfigResource, Image, TopicImage};
use protocol::ErrorCode;
use protocol::messages::StrBytes;
use tokio::time::Instant;

use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::config::{Kind, keys, topics};
use crate::context::RequestContext;
use crate::error::controller_code;
use crate::topics::overlays;

/// Kafka's numbers of resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Why a resource is refused, for the answer.
pub(super) type Refused = (ErrorCode, String);

/// Whose configuration.
pub(super) enum Named {
    /// A topic that exists.
    Topic(Arc<TopicImage>),
    /// This broker.
    Broker,
    /// Every broker.
    Cluster,
}

impl Named {
    /// Finds the resource of `kind` and `name` and checks that the principal may do `operation`.
    pub(super) fn find(
        broker: &Broker,
        context: &RequestContext,
        image: &Image,
        (kind, name): (i8, &str),
        operation: Operation,
    ) -> Result<Self, Refused> {
        let may = |resource| broker.allows(context, operation, resource);
        match kind {
            TOPIC if !may(Resource::Topic(name)) => Err((
                ErrorCode::TopicAuthorizationFailed,
                "not authorized".to_owned(),
            )),
            TOPIC => match image.topic(name) {
                Some(topic) => Ok(Self::Topic(Arc::clone(topic))),
                None => {
                    let message = format!("the topic '{name}' does not exist");
                    Err((ErrorCode::UnknownTopicOrPartition, message))
                }
            },
            BROKER if !may(Resource::Cluster) => Err((
                ErrorCode::ClusterAuthorizationFailed,
                "not authorized".to_owned(),
            )),
            BROKER if name.is_empty() => Ok(Self::Cluster),
            BROKER => {
                let own = broker.config.node_id.0;
                match name.parse::<i32>() {
                    Ok(node) if node == own => Ok(Self::Broker),
                    Ok(node) => {
                        let message =
                            format!("unexpected broker id, expected {own} but got {node}");
                        Err((ErrorCode::InvalidRequest, message))
                    }
                    Err(_) => {
                        let message = format!("broker id must be an integer, but got '{name}'");
                        Err((ErrorCode::InvalidRequest, message))
                    }
                }
            }
            other => {
                let message = format!("configuration resources of type {other} are not supported");
                Err((ErrorCode::InvalidRequest, message))
            }
        }
    }

    fn resource(&self, broker: &Broker) -> ConfigResource {
        match self {
            Self::Topic(topic) => ConfigResource::Topic(topic.name.to_string()),
            Self::Broker => ConfigResource::Broker(broker.config.node_id),
            Self::Cluster => ConfigResource::Cluster,
        }
    }

    fn kind_of(&self, name: &str) -> Option<Kind> {
        match self {
            Self::Topic(_) => topics::find(name).map(|key| key.kind),
            Self::Broker | Self::Cluster => keys::find(name).map(|key| key.kind),
        }
    }

    /// Checks one value and gives it as it is kept.
    fn check(&self, name: &str, value: &str) -> Result<String, Refused> {
        let checked = match self {
            Self::Topic(_) => topics::check(name, value),
            Self::Broker | Self::Cluster => match keys::find(name) {
                None => Err(format!("Unknown broker config name: {name}")),
                Some(key) => key.kind.check(value).map_err(|why| {
                    format!("Invalid value {value} for configuration {name}: {why}")
                }),
            },
        };
        checked.map_err(|message| (ErrorCode::InvalidConfig, message))
    }

    /// A broker's names are changed while it runs only where the table says so.
    fn check_dynamic(&self, name: &str) -> Result<(), Refused> {
        let fixed = match self {
            Self::Topic(_) => false,
            Self::Broker | Self::Cluster => keys::find(name).is_some_and(|key| !key.dynamic),
        };
        if fixed {
            let message = format!("cannot update these configs dynamically: {name}");
            return Err((ErrorCode::InvalidRequest, message));
        }
        Ok(())
    }

    /// What the list `name` is while this resource does not set it.
    fn default_of(&self, broker: &Broker, image: &Image, name: &str) -> String {
        match self {
            Self::Topic(_) => {
                let nothing = BTreeMap::new();
                overlays(&broker.config, image, &nothing).value(name)
            }
            Self::Broker | Self::Cluster => broker.setting(image, name),
        }
    }
}

/// One wanted change, before it is checked: Kafka's operation, name, value.
pub(super) struct Change {
    pub(super) operation: i8,
    pub(super) name: StrBytes,
    pub(super) value: Option<StrBytes>,
}

/// Kafka's operations of IncrementalAlterConfigs (KIP-339).
pub(super) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// One resource's changes, and how they are meant.
pub(super) struct Alteration {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) changes: Vec<Change>,
    /// Entries that are not named go back to their defaults.
    pub(super) replace: bool,
}

/// Checks all changes of a resource and makes them, all or none.
async fn alter(
    broker: &Broker,
    context: &RequestContext,
    alteration: &Alteration,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), Refused> {
    let image = broker.image();
    let resource = (alteration.kind, alteration.name.as_str());
    let named = Named::find(broker, context, &image, resource, Operation::AlterConfigs)?;
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(alteration.changes.len());
    for change in &alteration.changes {
        if !seen.insert(change.name.as_str()) {
            let message = format!(
                "error due to duplicate config keys: {}",
                change.name.as_str()
            );
            return Err((ErrorCode::InvalidRequest, message));
        }
        let op = operation(broker, &image, &named, change)?;
        changes.push((change.name.to_string(), op));
    }
    if validate_only {
        return Ok(());
    }
    let command = Command::AlterConfigs {
        resource: named.resource(broker),
        changes,
        replace: alteration.replace,
    };
    let submitted = broker.controller.submit(command);
    match tokio::time::timeout_at(deadline, submitted).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err((controller_code(&error), error.to_string())),
        Err(_) => return Err((ErrorCode::RequestTimedOut, "still being changed".to_owned())),
    }
    // The image holds the change by now; the partitions led here take it from there.
    let applied = broker.image().applied;
    if broker
        .wait_for(deadline, |image| image.applied >= applied)
        .await
    {
        Ok(())
    } else {
        Err((
            ErrorCode::RequestTimedOut,
            "changed, and not in force everywhere yet".to_owned(),
        ))
    }
}

fn operation(
    broker: &Broker,
    image: &Image,
    named: &Named,
    change: &Change,
) -> Result<ConfigOp, Refused> {
    let name = change.name.as_str();
    if name.is_empty() {
        return Err((
            ErrorCode::InvalidRequest,
            "a config name is empty".to_owned(),
        ));
    }
    named.check_dynamic(name)?;
    if change.operation == DELETE {
        return match named.kind_of(name) {
            Some(_) => Ok(ConfigOp::Delete),
            None => Err((
                ErrorCode::InvalidConfig,
                format!("Unknown config name: {name}"),
            )),
        };
    }
    let Some(value) = &change.value else {
        let message = format!("null value not supported for: {name}");
        return Err((ErrorCode::InvalidRequest, message));
    };
    let value = named.check(name, value)?;
    match change.operation {
        SET => Ok(ConfigOp::Set(value)),
        APPEND | SUBTRACT => {
            let list = matches!(named.kind_of(name), Some(Kind::List | Kind::Choices(_)));
            if !list {
                let verb = if change.operation == APPEND {
                    "append"
                } else {
                    "subtract"
                };
                let message = format!("config value {verb} is not allowed for config key: {name}");
                return Err((ErrorCode::InvalidConfig, message));
            }
            let default = named.default_of(broker, image, name);
            Ok(if change.operation == APPEND {
                ConfigOp::Append { value, default }
            } else {
                ConfigOp::Subtract { value, default }
            })
        }
        other => Err((
            ErrorCode::InvalidRequest,
            format!("unknown operation {other} for {name}"),
        )),
    }
}

/// Makes each resource's changes, one resource after the other; one that is named twice is refused.
/// The results are in order.
pub(super) async fn alter_all(
    broker: &Broker,
    context: &RequestContext,
    alterations: &[Alteration],
    validate_only: bool,
) -> Vec<Result<(), Refused>> {
    let deadline = broker.deadline(context, -1);
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for one in alterations {
        if !seen.insert((one.kind, one.name.as_str())) {
            twice.insert((one.kind, one.name.as_str()));
        }
    }
    let mut results = Vec::with_capacity(alterations.len());
    for one in alterations {
        results.push(if twice.contains(&(one.kind, one.name.as_str())) {
            let message = "each resource must appear at most once".to_owned();
            Err((ErrorCode::InvalidRequest, message))
        } else {
            alter(broker, context, one, validate_only, deadline).await
        });
    }
    results
}
