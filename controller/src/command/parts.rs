//! Parts of the stored form that commands, answers and snapshots share.

use std::collections::BTreeMap;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use uuid::Uuid;

use super::{ConfigOp, ConfigResource, HighWatermark, Listener, RegisterBroker, WalBackend, wire};
use crate::types::Digest;

/// Stored bytes that are no command, state or answer of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) String);

pub(crate) type Decoded<T> = Result<T, Malformed>;

pub(crate) fn malformed<T>(what: &str) -> Decoded<T> {
    Err(Malformed(what.to_owned()))
}

pub(crate) fn put_id(id: Uuid) -> wire::Id {
    id.as_bytes().to_vec()
}

pub(crate) fn get_id(bytes: &[u8]) -> Decoded<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| Malformed(format!("id of {} bytes", bytes.len())))
}

pub(crate) fn get_int<T, U: TryFrom<T>>(value: T, what: &str) -> Decoded<U> {
    U::try_from(value).map_err(|_| Malformed(format!("{what} out of range")))
}

pub(crate) fn put_partition(tp: TopicPartition) -> wire::Partition {
    wire::Partition {
        topic: put_id(tp.topic.0),
        partition: tp.partition,
    }
}

pub(crate) fn get_partition(wire: Option<wire::Partition>) -> Decoded<TopicPartition> {
    let Some(wire) = wire else {
        return malformed("partition: missing");
    };
    Ok(TopicPartition::new(
        TopicId(get_id(&wire.topic)?),
        wire.partition,
    ))
}

pub(crate) fn put_at(
    tp: TopicPartition,
    leader_epoch: LeaderEpoch,
    offset: i64,
) -> wire::PartitionOffset {
    wire::PartitionOffset {
        partition: Some(put_partition(tp)),
        leader_epoch: leader_epoch.0,
        offset,
    }
}

pub(crate) fn get_mark(wire: wire::PartitionOffset) -> Decoded<HighWatermark> {
    Ok(HighWatermark {
        topic_partition: get_partition(wire.partition)?,
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        offset: wire.offset,
    })
}

pub(super) fn get_mark_of(wire: Option<wire::PartitionOffset>) -> Decoded<HighWatermark> {
    wire.map_or_else(|| malformed("partition offset: missing"), get_mark)
}

pub(crate) fn put_backend(backend: WalBackend) -> u32 {
    match backend {
        WalBackend::Disk => 1,
        WalBackend::Object => 2,
        WalBackend::Memory => 3,
    }
}

pub(crate) fn get_backend(wire: u32) -> Decoded<WalBackend> {
    Ok(match wire {
        1 => WalBackend::Disk,
        2 => WalBackend::Object,
        3 => WalBackend::Memory,
        other => return malformed(&format!("log backend {other}")),
    })
}

pub(crate) fn put_listeners(listeners: &[Listener]) -> Vec<wire::Listener> {
    listeners
        .iter()
        .map(|listener| wire::Listener {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: u32::from(listener.port),
            protocol: listener.protocol.clone(),
        })
        .collect()
}

pub(crate) fn get_listeners(wire: Vec<wire::Listener>) -> Decoded<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(wire.len());
    for listener in wire {
        listeners.push(Listener {
            name: listener.name,
            host: listener.host,
            port: get_int(listener.port, "port")?,
            protocol: listener.protocol,
        });
    }
    Ok(listeners)
}

pub(crate) fn put_register(register: &RegisterBroker) -> wire::RegisterBroker {
    wire::RegisterBroker {
        node: register.node.0,
        incarnation: put_id(register.incarnation),
        listeners: put_listeners(&register.listeners),
        rack: register.rack.clone(),
        directory: match register.directory.is_nil() {
            true => Vec::new(),
            false => put_id(register.directory),
        },
        lived: register.lived.map(|epoch| epoch.0),
    }
}

pub(crate) fn get_register(wire: wire::RegisterBroker) -> Decoded<RegisterBroker> {
    Ok(RegisterBroker {
        node: NodeId(wire.node),
        incarnation: get_id(&wire.incarnation)?,
        listeners: get_listeners(wire.listeners)?,
        rack: wire.rack,
        directory: match wire.directory.is_empty() {
            true => Uuid::nil(),
            false => get_id(&wire.directory)?,
        },
        lived: wire.lived.map(BrokerEpoch),
    })
}

pub(super) fn put_assignments(assignments: &[Vec<NodeId>]) -> Vec<wire::Nodes> {
    assignments
        .iter()
        .map(|nodes| wire::Nodes {
            nodes: nodes.iter().map(|node| node.0).collect(),
        })
        .collect()
}

pub(super) fn get_assignments(wire: Vec<wire::Nodes>) -> Vec<Vec<NodeId>> {
    wire.into_iter()
        .map(|nodes| nodes.nodes.into_iter().map(NodeId).collect())
        .collect()
}

pub(crate) fn put_configs(configs: &BTreeMap<String, String>) -> Vec<wire::Config> {
    configs
        .iter()
        .map(|(name, value)| wire::Config {
            name: name.clone(),
            value: value.clone(),
        })
        .collect()
}

pub(crate) fn get_configs(wire: Vec<wire::Config>) -> BTreeMap<String, String> {
    wire.into_iter()
        .map(|config| (config.name, config.value))
        .collect()
}

pub(crate) fn put_resource(resource: &ConfigResource) -> wire::Resource {
    let mut wire = wire::Resource::default();
    match resource {
        ConfigResource::Topic(name) => (wire.kind, wire.topic) = (1, name.clone()),
        ConfigResource::Broker(node) => (wire.kind, wire.node) = (2, node.0),
        ConfigResource::Cluster => wire.kind = 3,
    }
    wire
}

pub(crate) fn get_resource(wire: Option<wire::Resource>) -> Decoded<ConfigResource> {
    let Some(wire) = wire else {
        return malformed("resource: missing");
    };
    Ok(match wire.kind {
        1 => ConfigResource::Topic(wire.topic),
        2 => ConfigResource::Broker(NodeId(wire.node)),
        3 => ConfigResource::Cluster,
        other => return malformed(&format!("resource kind {other}")),
    })
}

pub(super) fn put_change((name, op): &(String, ConfigOp)) -> wire::ConfigChange {
    let mut wire = wire::ConfigChange {
        name: name.clone(),
        ..wire::ConfigChange::default()
    };
    match op {
        ConfigOp::Set(value) => (wire.op, wire.value) = (1, value.clone()),
        ConfigOp::Delete => wire.op = 2,
        ConfigOp::Append { value, default } => {
            (wire.op, wire.value, wire.default) = (3, value.clone(), default.clone());
        }
        ConfigOp::Subtract { value, default } => {
            (wire.op, wire.value, wire.default) = (4, value.clone(), default.clone());
        }
    }
    wire
}

pub(super) fn get_change(wire: wire::ConfigChange) -> Decoded<(String, ConfigOp)> {
    let op = match wire.op {
        1 => ConfigOp::Set(wire.value),
        2 => ConfigOp::Delete,
        3 => ConfigOp::Append {
            value: wire.value,
            default: wire.default,
        },
        4 => ConfigOp::Subtract {
            value: wire.value,
            default: wire.default,
        },
        other => return malformed(&format!("config operation {other}")),
    };
    Ok((wire.name, op))
}

pub(crate) fn put_digest(digest: &Digest) -> wire::Digest {
    wire::Digest {
        algorithm: digest.algorithm(),
        bytes: digest.bytes().to_vec(),
    }
}

pub(crate) fn get_digest(wire: Option<wire::Digest>) -> Decoded<Digest> {
    let Some(wire) = wire else {
        return malformed("digest: missing");
    };
    Ok(Digest::new(wire.algorithm, &wire.bytes))
}
