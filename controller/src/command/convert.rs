//! Commands to and from their stored form. Whatever does not fit is refused, never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::{
    Command, CommitUpload, ConfigOp, ConfigResource, CreateTopic, HighWatermark, Listener,
    OldSlice, Proposal, RegisterBroker, ReplaceRun, ReplaceSlices, VERSION, WalBackend, wire,
};
use crate::types::{Claim, ClusterId, CommandId, Digest, ObjectRef, SliceRef};

/// Stored bytes that are no command, state or answer of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) String);

pub(crate) type Decoded<T> = Result<T, Malformed>;

pub(crate) fn malformed<T>(what: &str) -> Decoded<T> {
    Err(Malformed(what.to_owned()))
}

// === impl Proposal ===

impl Proposal {
    /// The log entry's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let wire = wire::Proposal {
            version: VERSION,
            id: put_id(self.id.0),
            now_ms: self.now_ms,
            command: Some(put_command(&self.command)),
        };
        wire.encode_to_vec()
    }

    /// Reads a log entry back.
    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let wire = wire::Proposal::decode(bytes).map_err(|e| Malformed(format!("entry: {e}")))?;
        if wire.version != VERSION {
            return malformed(&format!("entry: version {}", wire.version));
        }
        let Some(command) = wire.command else {
            return malformed("entry: unknown command");
        };
        Ok(Self {
            id: CommandId(get_id(&wire.id)?),
            now_ms: wire.now_ms,
            command: get_command(command)?,
        })
    }
}

fn put_command(command: &Command) -> wire::Command {
    match command {
        Command::InitCluster {
            cluster,
            generation,
        } => wire::Command::InitCluster(wire::InitCluster {
            cluster: put_id(cluster.0),
            generation: *generation,
        }),
        Command::RegisterBroker(register) => wire::Command::RegisterBroker(put_register(register)),
        Command::Goodbye { broker } => wire::Command::Goodbye(broker.0),
        Command::FenceBroker { broker } => wire::Command::FenceBroker(broker.0),
        Command::ReportHighWatermarks { broker, marks } => {
            let marks = marks
                .iter()
                .map(|mark| put_at(mark.topic_partition, mark.leader_epoch, mark.offset))
                .collect();
            wire::Command::ReportHighWatermarks(wire::ReportHighWatermarks {
                broker: broker.0,
                marks,
            })
        }
        Command::CreateTopic(_)
        | Command::CreatePartitions { .. }
        | Command::DeleteTopic { .. }
        | Command::AlterConfigs { .. }
        | Command::RecordProbe { .. }
        | Command::FinalizeFeature { .. } => put_admin(command),
        Command::OpenWal { .. }
        | Command::ClaimWal { .. }
        | Command::CloseWal { .. }
        | Command::AbandonWal { .. }
        | Command::ReportWalCorrupt { .. }
        | Command::UnquarantineWal { .. } => put_wal(command),
        Command::CommitUpload(commit) => wire::Command::CommitUpload(put_commit(commit)),
        Command::ReplaceSlices(replace) => wire::Command::ReplaceSlices(put_replace(replace)),
        Command::SetLogStart {
            broker,
            topic_partition,
            leader_epoch,
            log_start,
        } => wire::Command::SetLogStart(wire::SetLogStart {
            broker: broker.0,
            at: Some(put_at(*topic_partition, *leader_epoch, *log_start)),
        }),
        Command::Release {
            broker,
            topic_partition,
            leader_epoch,
            end,
            to,
        } => wire::Command::Release(wire::Release {
            broker: broker.0,
            at: Some(put_at(*topic_partition, *leader_epoch, *end)),
            to: to.map(|node| node.0),
        }),
        Command::AllocateProducerIds { broker, count } => {
            wire::Command::AllocateProducerIds(wire::AllocateProducerIds {
                broker: broker.0,
                count: *count,
            })
        }
        Command::RecordCheckpoint { key } => wire::Command::RecordCheckpoint(key.clone()),
        Command::ForgetCondemned { keys } => {
            wire::Command::ForgetCondemned(wire::ForgetCondemned { keys: keys.clone() })
        }
    }
}

fn put_wal(command: &Command) -> wire::Command {
    match command {
        Command::OpenWal {
            broker,
            wal,
            backend,
        } => wire::Command::OpenWal(wire::OpenWal {
            broker: broker.0,
            wal: put_id(wal.0),
            backend: put_backend(*backend),
        }),
        Command::ClaimWal { wal, heir } => wire::Command::ClaimWal(wire::ClaimWal {
            wal: put_id(wal.0),
            heir: heir.0,
        }),
        Command::CloseWal {
            wal,
            claim,
            broker,
            end,
        } => wire::Command::CloseWal(wire::CloseWal {
            wal: put_id(wal.0),
            claim: claim.map(|claim| claim.0),
            broker: broker.0,
            end: *end,
        }),
        Command::AbandonWal { wal, reason } => wire::Command::AbandonWal(wire::WalReason {
            wal: put_id(wal.0),
            claim: None,
            heir: None,
            reason: reason.clone(),
        }),
        Command::ReportWalCorrupt {
            wal,
            claim,
            heir,
            reason,
        } => wire::Command::ReportWalCorrupt(wire::WalReason {
            wal: put_id(wal.0),
            claim: Some(claim.0),
            heir: Some(heir.0),
            reason: reason.clone(),
        }),
        Command::UnquarantineWal { wal } => wire::Command::UnquarantineWal(put_id(wal.0)),
        other => unreachable!("{other:?} is no command about logs"),
    }
}

fn put_admin(command: &Command) -> wire::Command {
    match command {
        Command::CreateTopic(create) => wire::Command::CreateTopic(wire::CreateTopic {
            name: create.name.clone(),
            id: put_id(create.id.0),
            internal: create.internal,
            partitions: create.partitions,
            replication_factor: i32::from(create.replication_factor),
            assignments: put_assignments(&create.assignments),
            configs: put_configs(&create.configs),
        }),
        Command::CreatePartitions {
            topic,
            count,
            assignments,
        } => wire::Command::CreatePartitions(wire::CreatePartitions {
            topic: put_id(topic.0),
            count: *count,
            assignments: put_assignments(assignments),
        }),
        Command::DeleteTopic { topic } => wire::Command::DeleteTopic(put_id(topic.0)),
        Command::AlterConfigs {
            resource,
            changes,
            replace,
        } => wire::Command::AlterConfigs(wire::AlterConfigs {
            resource: Some(put_resource(resource)),
            changes: changes.iter().map(put_change).collect(),
            replace: *replace,
        }),
        Command::RecordProbe { store_url, at_ms } => {
            wire::Command::RecordProbe(wire::RecordProbe {
                store_url: store_url.clone(),
                at_ms: *at_ms,
            })
        }
        Command::FinalizeFeature { name, level } => {
            wire::Command::FinalizeFeature(wire::FinalizeFeature {
                name: name.clone(),
                level: u32::from(*level),
            })
        }
        other => unreachable!("{other:?} is no administrative command"),
    }
}

fn get_command(command: wire::Command) -> Decoded<Command> {
    Ok(match command {
        wire::Command::InitCluster(init) => Command::InitCluster {
            cluster: ClusterId(get_id(&init.cluster)?),
            generation: init.generation,
        },
        wire::Command::RegisterBroker(register) => Command::RegisterBroker(get_register(register)?),
        wire::Command::Goodbye(broker) => Command::Goodbye {
            broker: BrokerEpoch(broker),
        },
        wire::Command::FenceBroker(broker) => Command::FenceBroker {
            broker: BrokerEpoch(broker),
        },
        wire::Command::ReportHighWatermarks(report) => Command::ReportHighWatermarks {
            broker: BrokerEpoch(report.broker),
            marks: report
                .marks
                .into_iter()
                .map(get_mark)
                .collect::<Decoded<_>>()?,
        },
        wire::Command::OpenWal(open) => Command::OpenWal {
            broker: BrokerEpoch(open.broker),
            wal: WalId(get_id(&open.wal)?),
            backend: get_backend(open.backend)?,
        },
        wire::Command::ClaimWal(claim) => Command::ClaimWal {
            wal: WalId(get_id(&claim.wal)?),
            heir: BrokerEpoch(claim.heir),
        },
        wire::Command::CloseWal(close) => Command::CloseWal {
            wal: WalId(get_id(&close.wal)?),
            claim: close.claim.map(Claim),
            broker: BrokerEpoch(close.broker),
            end: close.end,
        },
        wire::Command::AbandonWal(abandon) => Command::AbandonWal {
            wal: WalId(get_id(&abandon.wal)?),
            reason: abandon.reason,
        },
        wire::Command::ReportWalCorrupt(report) => {
            let (Some(claim), Some(heir)) = (report.claim, report.heir) else {
                return malformed("report: no claim");
            };
            Command::ReportWalCorrupt {
                wal: WalId(get_id(&report.wal)?),
                claim: Claim(claim),
                heir: BrokerEpoch(heir),
                reason: report.reason,
            }
        }
        wire::Command::UnquarantineWal(wal) => Command::UnquarantineWal {
            wal: WalId(get_id(&wal)?),
        },
        wire::Command::CommitUpload(commit) => Command::CommitUpload(get_commit(commit)?),
        wire::Command::ReplaceSlices(replace) => Command::ReplaceSlices(get_replace(replace)?),
        wire::Command::SetLogStart(set) => {
            let mark = get_mark_of(set.at)?;
            Command::SetLogStart {
                broker: BrokerEpoch(set.broker),
                topic_partition: mark.topic_partition,
                leader_epoch: mark.leader_epoch,
                log_start: mark.offset,
            }
        }
        wire::Command::Release(release) => {
            let mark = get_mark_of(release.at)?;
            Command::Release {
                broker: BrokerEpoch(release.broker),
                topic_partition: mark.topic_partition,
                leader_epoch: mark.leader_epoch,
                end: mark.offset,
                to: release.to.map(NodeId),
            }
        }
        wire::Command::AllocateProducerIds(allocate) => Command::AllocateProducerIds {
            broker: BrokerEpoch(allocate.broker),
            count: allocate.count,
        },
        wire::Command::RecordCheckpoint(key) => Command::RecordCheckpoint { key },
        wire::Command::ForgetCondemned(forget) => Command::ForgetCondemned { keys: forget.keys },
        admin => get_admin(admin)?,
    })
}

fn get_admin(command: wire::Command) -> Decoded<Command> {
    Ok(match command {
        wire::Command::CreateTopic(create) => Command::CreateTopic(CreateTopic {
            name: create.name,
            id: TopicId(get_id(&create.id)?),
            internal: create.internal,
            partitions: create.partitions,
            replication_factor: get_int(create.replication_factor, "replication factor")?,
            assignments: get_assignments(create.assignments),
            configs: get_configs(create.configs),
        }),
        wire::Command::CreatePartitions(create) => Command::CreatePartitions {
            topic: TopicId(get_id(&create.topic)?),
            count: create.count,
            assignments: get_assignments(create.assignments),
        },
        wire::Command::DeleteTopic(topic) => Command::DeleteTopic {
            topic: TopicId(get_id(&topic)?),
        },
        wire::Command::AlterConfigs(alter) => Command::AlterConfigs {
            resource: get_resource(alter.resource)?,
            changes: alter
                .changes
                .into_iter()
                .map(get_change)
                .collect::<Decoded<_>>()?,
            replace: alter.replace,
        },
        wire::Command::RecordProbe(probe) => Command::RecordProbe {
            store_url: probe.store_url,
            at_ms: probe.at_ms,
        },
        wire::Command::FinalizeFeature(feature) => Command::FinalizeFeature {
            name: feature.name,
            level: get_int(feature.level, "feature level")?,
        },
        _ => return malformed("entry: unknown command"),
    })
}

// === Parts that snapshots and answers use too ===

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

fn get_mark_of(wire: Option<wire::PartitionOffset>) -> Decoded<HighWatermark> {
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

pub(crate) fn put_register(register: &RegisterBroker) -> wire::RegisterBroker {
    let listeners = register
        .listeners
        .iter()
        .map(|listener| wire::Listener {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: u32::from(listener.port),
            protocol: listener.protocol.clone(),
        })
        .collect();
    wire::RegisterBroker {
        node: register.node.0,
        incarnation: put_id(register.incarnation),
        listeners,
        rack: register.rack.clone(),
    }
}

pub(crate) fn get_register(wire: wire::RegisterBroker) -> Decoded<RegisterBroker> {
    let mut listeners = Vec::with_capacity(wire.listeners.len());
    for listener in wire.listeners {
        listeners.push(Listener {
            name: listener.name,
            host: listener.host,
            port: get_int(listener.port, "port")?,
            protocol: listener.protocol,
        });
    }
    Ok(RegisterBroker {
        node: NodeId(wire.node),
        incarnation: get_id(&wire.incarnation)?,
        listeners,
        rack: wire.rack,
    })
}

fn put_assignments(assignments: &[Vec<NodeId>]) -> Vec<wire::Nodes> {
    assignments
        .iter()
        .map(|nodes| wire::Nodes {
            nodes: nodes.iter().map(|node| node.0).collect(),
        })
        .collect()
}

fn get_assignments(wire: Vec<wire::Nodes>) -> Vec<Vec<NodeId>> {
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

fn put_change((name, op): &(String, ConfigOp)) -> wire::ConfigChange {
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

fn get_change(wire: wire::ConfigChange) -> Decoded<(String, ConfigOp)> {
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

// === Slices ===

/// Objects named by a command, each once.
#[derive(Default)]
struct Objects {
    list: Vec<wire::Object>,
    index: BTreeMap<String, u64>,
}

impl Objects {
    fn put(&mut self, object: &ObjectRef) -> u64 {
        let next = self.list.len() as u64;
        let list = &mut self.list;
        *self.index.entry(object.key.clone()).or_insert_with(|| {
            list.push(wire::Object {
                key: object.key.clone(),
                length: object.length,
                digest: Some(put_digest(&object.digest)),
            });
            next
        })
    }
}

fn get_objects(wire: Vec<wire::Object>) -> Decoded<Vec<Arc<ObjectRef>>> {
    wire.into_iter()
        .map(|object| {
            let digest = get_digest(object.digest)?;
            Ok(Arc::new(ObjectRef {
                key: object.key,
                length: object.length,
                digest,
            }))
        })
        .collect()
}

fn put_slice(slice: &SliceRef, objects: &mut Objects) -> wire::Slice {
    wire::Slice {
        object: objects.put(&slice.object),
        leader_epoch: slice.leader_epoch.0,
        first_offset: slice.first_offset,
        span: slice
            .end_offset
            .saturating_sub(slice.first_offset)
            .max(0)
            .unsigned_abs(),
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.bytes,
        index_position: slice.index_position,
        index_length: slice.index_length,
        index_digest: Some(put_digest(&slice.index_digest)),
        checkpoint: slice.checkpoint,
    }
}

fn get_slice(
    tp: TopicPartition,
    wire: wire::Slice,
    objects: &[Arc<ObjectRef>],
) -> Decoded<SliceRef> {
    let object = usize::try_from(wire.object)
        .ok()
        .and_then(|at| objects.get(at));
    let Some(object) = object else {
        return malformed("slice: no such object");
    };
    let Some(end_offset) = wire.first_offset.checked_add_unsigned(wire.span) else {
        return malformed("slice: span out of range");
    };
    Ok(SliceRef {
        topic_partition: tp,
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        first_offset: wire.first_offset,
        end_offset,
        max_timestamp_ms: wire.max_timestamp_ms,
        bytes: wire.bytes,
        object: object.clone(),
        index_position: wire.index_position,
        index_length: wire.index_length,
        index_digest: get_digest(wire.index_digest)?,
        checkpoint: wire.checkpoint,
    })
}

fn put_commit(commit: &CommitUpload) -> wire::CommitUpload {
    let mut objects = Objects::default();
    let partitions = commit
        .slices
        .chunk_by(|a, b| a.topic_partition == b.topic_partition)
        .map(|run| wire::PartitionSlices {
            partition: Some(put_partition(run[0].topic_partition)),
            slices: run
                .iter()
                .map(|slice| put_slice(slice, &mut objects))
                .collect(),
        })
        .collect();
    wire::CommitUpload {
        broker_epoch: commit.broker_epoch.0,
        wal: put_id(commit.wal.0),
        claim: commit.claim.map(|claim| claim.0),
        from: commit.from,
        to: commit.to,
        objects: objects.list,
        partitions,
    }
}

fn get_commit(wire: wire::CommitUpload) -> Decoded<CommitUpload> {
    let objects = get_objects(wire.objects)?;
    let mut slices = Vec::new();
    for run in wire.partitions {
        let tp = get_partition(run.partition)?;
        for slice in run.slices {
            slices.push(get_slice(tp, slice, &objects)?);
        }
    }
    Ok(CommitUpload {
        broker_epoch: BrokerEpoch(wire.broker_epoch),
        wal: WalId(get_id(&wire.wal)?),
        claim: wire.claim.map(Claim),
        from: wire.from,
        to: wire.to,
        slices,
    })
}

fn put_replace(replace: &ReplaceSlices) -> wire::ReplaceSlices {
    let mut objects = Objects::default();
    let runs = replace
        .runs
        .iter()
        .map(|run| wire::ReplaceRun {
            partition: Some(put_partition(run.topic_partition)),
            leader_epoch: run.leader_epoch.0,
            old: run
                .old
                .iter()
                .map(|old| wire::OldSlice {
                    first_offset: old.first_offset,
                    end_offset: old.end_offset,
                    key: old.key.clone(),
                })
                .collect(),
            new: run
                .new
                .iter()
                .map(|slice| put_slice(slice, &mut objects))
                .collect(),
        })
        .collect();
    wire::ReplaceSlices {
        broker_epoch: replace.broker_epoch.0,
        objects: objects.list,
        runs,
    }
}

fn get_replace(wire: wire::ReplaceSlices) -> Decoded<ReplaceSlices> {
    let objects = get_objects(wire.objects)?;
    let mut runs = Vec::with_capacity(wire.runs.len());
    for run in wire.runs {
        let tp = get_partition(run.partition)?;
        let old = run
            .old
            .into_iter()
            .map(|old| OldSlice {
                first_offset: old.first_offset,
                end_offset: old.end_offset,
                key: old.key,
            })
            .collect();
        let new = run
            .new
            .into_iter()
            .map(|slice| get_slice(tp, slice, &objects))
            .collect::<Decoded<_>>()?;
        let leader_epoch = LeaderEpoch(run.leader_epoch);
        runs.push(ReplaceRun {
            topic_partition: tp,
            leader_epoch,
            old,
            new,
        });
    }
    Ok(ReplaceSlices {
        broker_epoch: BrokerEpoch(wire.broker_epoch),
        runs,
    })
}
