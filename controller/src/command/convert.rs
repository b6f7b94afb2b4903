//! Commands to and from their stored form. Whatever does not fit is refused, never guessed.

use prost::Message;
use protocol::{BrokerEpoch, NodeId, TopicId};
use wal::WalId;

use super::moves::{get_move, put_move};
use super::parts::{
    Decoded, Malformed, get_assignments, get_backend, get_change, get_configs, get_id, get_int,
    get_mark, get_mark_of, get_register, get_resource, malformed, put_assignments, put_at,
    put_backend, put_change, put_configs, put_id, put_register, put_resource,
};
use super::slices::{get_commit, get_replace, put_commit, put_replace};
use super::{Command, CreateTopic, Proposal, VERSION, wire};
use crate::types::{Claim, ClusterId, CommandId};

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
        | Command::AllocateProducerIds { .. }
        | Command::RecordHome { .. }
        | Command::RecordCheckpoint { .. }
        | Command::FinalizeFeature { .. } => put_admin(command),
        Command::OpenWal { .. }
        | Command::ClaimWal { .. }
        | Command::CloseWal { .. }
        | Command::AbandonWal { .. }
        | Command::ReportWalCorrupt { .. }
        | Command::UnquarantineWal { .. }
        | Command::YieldWal { .. }
        | Command::RecordSwept { .. } => put_wal(command),
        Command::Move(command) => wire::Command::Move(put_move(command)),
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
        Command::RecordSwept { wal } => wire::Command::RecordSwept(put_id(wal.0)),
        Command::YieldWal { wal, claim, heir } => wire::Command::YieldWal(wire::YieldWal {
            wal: put_id(wal.0),
            claim: claim.0,
            heir: heir.0,
        }),
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
        Command::AllocateProducerIds { broker, count } => {
            wire::Command::AllocateProducerIds(wire::AllocateProducerIds {
                broker: broker.0,
                count: *count,
            })
        }
        Command::RecordHome { mark } => wire::Command::RecordHome(put_id(*mark)),
        Command::RecordCheckpoint { key } => wire::Command::RecordCheckpoint(key.clone()),
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
        wire::Command::Move(command) => Command::Move(get_move(command)?),
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
        other => get_wal(other)?,
    })
}

fn get_wal(command: wire::Command) -> Decoded<Command> {
    Ok(match command {
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
        wire::Command::RecordHome(mark) => Command::RecordHome {
            mark: get_id(&mark)?,
        },
        wire::Command::YieldWal(wire) => Command::YieldWal {
            wal: WalId(get_id(&wire.wal)?),
            claim: Claim(wire.claim),
            heir: BrokerEpoch(wire.heir),
        },
        wire::Command::RecordSwept(wal) => Command::RecordSwept {
            wal: WalId(get_id(&wal)?),
        },
        other => get_admin(other)?,
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
