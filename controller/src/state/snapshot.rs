//! The whole state to and from its stored form.

use prost::Message;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId};
use wal::WalId;

use super::objects::Object;
use super::snapshot_wire as wire;
use super::{
    Broker, Cluster, Death, LastCommit, ObjectId, Objects, Partition, Slice, State, Topic, Wal,
    WalPhase,
};
use crate::command::wire::Slice as WireSlice;
use crate::command::{
    Decoded, Malformed, decode_answer, get_backend, get_configs, get_digest, get_id, get_int,
    get_load, get_outcomes, get_register, get_resource, malformed, put_backend, put_configs,
    put_digest, put_id, put_load, put_outcomes, put_register, put_resource,
};
use crate::types::{Claim, ClusterId, CommandId};

/// Version of the snapshots that this build writes.
const VERSION: u32 = 1;

// === impl State ===

impl State {
    /// The state's bytes: equal for equal states.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let wire = wire::State {
            version: VERSION,
            applied: self.applied,
            cluster: self.cluster.map(|cluster| put_id(cluster.id.0)),
            home: self.home.map(put_id),
            generation: self.cluster.map_or(0, |cluster| cluster.generation),
            features: numbers(self.features.iter().map(|(name, n)| (name, i64::from(*n)))),
            brokers: self
                .brokers
                .iter()
                .map(|(epoch, b)| put_broker(*epoch, b))
                .collect(),
            last_broker_epoch: self.last_broker_epoch,
            wals: self.wals.values().map(put_wal).collect(),
            wals_closed: self.wals_closed,
            topics: self.topics.iter().map(put_topic).collect(),
            last_object: self.objects.last_id,
            objects: self
                .objects
                .by_id
                .iter()
                .map(|(id, o)| put_object(*id, o))
                .collect(),
            condemned: numbers(self.objects.condemned().map(|(at_ms, key)| (&**key, at_ms))),
            configs: self
                .configs
                .iter()
                .map(|(resource, configs)| wire::ResourceConfigs {
                    resource: Some(put_resource(resource)),
                    configs: put_configs(configs),
                })
                .collect(),
            checkpoints: self.checkpoints.clone(),
            draining: self.draining.iter().map(|node| node.0).collect(),
            next_producer_id: self.next_producer_id,
            probes: numbers(self.probes.iter().map(|(url, at_ms)| (url, *at_ms))),
            recent: self
                .recent
                .iter()
                .map(|(index, id, answer)| wire::Recent {
                    index,
                    id: put_id(id.0),
                    answer: answer.to_vec(),
                })
                .collect(),
        };
        wire.encode_to_vec()
    }

    /// Reads a state back, and checks that it holds together.
    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let wire = wire::State::decode(bytes).map_err(|e| Malformed(format!("state: {e}")))?;
        if wire.version != VERSION {
            return malformed(&format!("state: version {}", wire.version));
        }
        let mut state = Self {
            applied: wire.applied,
            last_broker_epoch: wire.last_broker_epoch,
            wals_closed: wire.wals_closed,
            next_producer_id: wire.next_producer_id,
            checkpoints: wire.checkpoints,
            draining: wire.draining.into_iter().map(NodeId).collect(),
            home: wire.home.as_deref().map(get_id).transpose()?,
            ..Self::default()
        };
        if let Some(id) = wire.cluster {
            let id = ClusterId(get_id(&id)?);
            state.cluster = Some(Cluster {
                id,
                generation: wire.generation,
            });
        }
        for feature in wire.features {
            state
                .features
                .insert(feature.name, get_int(feature.number, "feature level")?);
        }
        for probe in wire.probes {
            state.probes.insert(probe.name, probe.number);
        }
        for broker in wire.brokers {
            state
                .brokers
                .insert(BrokerEpoch(broker.epoch), get_broker(broker)?);
        }
        for wal in wire.wals {
            let wal = get_wal(wal)?;
            state.wals.insert(wal.id, wal);
        }
        state.objects = get_objects(wire.last_object, wire.objects, wire.condemned)?;
        for topic in wire.topics {
            let topic = get_topic(topic, &mut state.objects)?;
            state.topics.insert(topic);
        }
        for entry in wire.configs {
            state
                .configs
                .insert(get_resource(entry.resource)?, get_configs(entry.configs));
        }
        for recent in wire.recent {
            if decode_answer(&recent.answer)?.is_err() {
                return malformed("state: a remembered refusal");
            }
            let id = CommandId(get_id(&recent.id)?);
            state.recent.restore(recent.index, id, recent.answer.into());
        }
        state.validate().map_err(Malformed)?;
        Ok(state)
    }
}

fn numbers<S: ToString>(entries: impl Iterator<Item = (S, i64)>) -> Vec<wire::Number> {
    entries
        .map(|(name, number)| wire::Number {
            name: name.to_string(),
            number,
        })
        .collect()
}

fn put_broker(epoch: BrokerEpoch, broker: &Broker) -> wire::Broker {
    wire::Broker {
        epoch: epoch.0,
        register: Some(put_register(&broker.register)),
        registered_ms: broker.registered_ms,
        fenced: broker.fenced,
        leaving: broker.leaving,
        loads: broker.loads.iter().map(put_load).collect(),
        wal: broker.wal.map(|wal| put_id(wal.0)),
    }
}

fn get_broker(wire: wire::Broker) -> Decoded<Broker> {
    let Some(register) = wire.register else {
        return malformed("broker: no registration");
    };
    Ok(Broker {
        register: get_register(register)?,
        registered_ms: wire.registered_ms,
        fenced: wire.fenced,
        leaving: wire.leaving,
        loads: wire
            .loads
            .into_iter()
            .map(get_load)
            .collect::<Decoded<_>>()?,
        wal: get_wal_id(wire.wal.as_deref())?,
    })
}

fn get_wal_id(wire: Option<&[u8]>) -> Decoded<Option<WalId>> {
    wire.map(|id| get_id(id).map(WalId)).transpose()
}

fn put_wal(wal: &Wal) -> wire::Wal {
    let mut wire = wire::Wal {
        id: put_id(wal.id.0),
        broker: wal.broker.0,
        node: wal.node.0,
        backend: put_backend(wal.backend),
        trim: wal.trim,
        claims: wal.claims,
        quarantine: wal.quarantine.clone(),
        yields: wal.yields,
        deaths: wal.deaths.iter().map(|death| death.node.0).collect(),
        death_epochs: wal.deaths.iter().map(|death| death.epoch.0).collect(),
        closed_ms: wal.closed_ms,
        swept: wal.swept,
        ..wire::Wal::default()
    };
    if let Some(last) = &wal.last_commit {
        wire.last_commit = Some(put_id(last.id.0));
        wire.last_outcomes = put_outcomes(&last.outcomes);
    }
    match wal.phase {
        WalPhase::Active => wire.phase = 1,
        WalPhase::Fenced => wire.phase = 2,
        WalPhase::Claimed { heir, claim } => {
            (wire.phase, wire.heir, wire.claim) = (3, heir.0, claim.0);
        }
        WalPhase::Closed {
            end,
            abandoned,
            number,
        } => {
            wire.phase = if abandoned { 5 } else { 4 };
            (wire.end, wire.number) = (end, number);
        }
    }
    wire
}

fn get_wal(wire: wire::Wal) -> Decoded<Wal> {
    let closed = |abandoned| WalPhase::Closed {
        end: wire.end,
        abandoned,
        number: wire.number,
    };
    let phase = match wire.phase {
        1 => WalPhase::Active,
        2 => WalPhase::Fenced,
        3 => WalPhase::Claimed {
            heir: BrokerEpoch(wire.heir),
            claim: Claim(wire.claim),
        },
        4 => closed(false),
        5 => closed(true),
        other => return malformed(&format!("log phase {other}")),
    };
    let last_commit = match wire.last_commit {
        None => None,
        Some(id) => Some(LastCommit {
            id: CommandId(get_id(&id)?),
            outcomes: get_outcomes(&wire.last_outcomes)?.into(),
        }),
    };
    Ok(Wal {
        id: WalId(get_id(&wire.id)?),
        broker: BrokerEpoch(wire.broker),
        node: NodeId(wire.node),
        backend: get_backend(wire.backend)?,
        phase,
        trim: wire.trim,
        claims: wire.claims,
        last_commit,
        quarantine: wire.quarantine,
        yields: wire.yields,
        deaths: get_deaths(wire.deaths, wire.death_epochs),
        closed_ms: wire.closed_ms,
        swept: wire.swept,
    })
}

/// One without an epoch is nobody's who could still say that it lives.
fn get_deaths(nodes: Vec<i32>, epochs: Vec<u64>) -> Vec<Death> {
    let epochs = epochs.into_iter().chain(std::iter::repeat(0));
    let deaths = nodes.into_iter().zip(epochs);
    let death = |(node, epoch)| Death {
        node: NodeId(node),
        epoch: BrokerEpoch(epoch),
    };
    deaths.map(death).collect()
}

fn put_topic(topic: &Topic) -> wire::Topic {
    wire::Topic {
        id: put_id(topic.id.0),
        name: topic.name.to_string(),
        internal: topic.internal,
        created_ms: topic.created_ms,
        configs: put_configs(&topic.configs),
        partitions: topic.partitions.iter().map(put_partition).collect(),
    }
}

fn get_topic(wire: wire::Topic, objects: &mut Objects) -> Decoded<Topic> {
    let mut partitions = Vec::with_capacity(wire.partitions.len());
    for partition in wire.partitions {
        partitions.push(get_partition(partition, objects)?);
    }
    Ok(Topic {
        id: TopicId(get_id(&wire.id)?),
        name: wire.name.into(),
        internal: wire.internal,
        created_ms: wire.created_ms,
        configs: get_configs(wire.configs),
        partitions,
    })
}

fn put_partition(partition: &Partition) -> wire::Partition {
    wire::Partition {
        leader: partition.leader.map(|leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        awaits: partition.awaits.map(|wal| put_id(wal.0)),
        preferred: partition.preferred.map(|node| node.0),
        last_node: partition.last_node.map(|node| node.0),
        target: partition.target.map(|node| node.0),
        log_start: partition.log_start,
        committed_end: partition.committed_end,
        reported: partition.reported,
        epochs: partition
            .epochs
            .iter()
            .map(|(epoch, start)| wire::Epoch {
                epoch: epoch.0,
                start: *start,
            })
            .collect(),
        slices: partition.slices.iter().map(put_slice).collect(),
        gaps: partition
            .gaps
            .iter()
            .map(|(from, to)| wire::Gap {
                from: *from,
                to: *to,
            })
            .collect(),
    }
}

fn get_partition(wire: wire::Partition, objects: &mut Objects) -> Decoded<Partition> {
    let mut slices = Vec::with_capacity(wire.slices.len());
    for slice in wire.slices {
        slices.push(get_slice(slice, objects)?);
    }
    Ok(Partition {
        leader: wire.leader.map(BrokerEpoch),
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        awaits: get_wal_id(wire.awaits.as_deref())?,
        preferred: wire.preferred.map(NodeId),
        last_node: wire.last_node.map(NodeId),
        target: wire.target.map(NodeId),
        log_start: wire.log_start,
        committed_end: wire.committed_end,
        reported: wire.reported,
        epochs: wire
            .epochs
            .iter()
            .map(|e| (LeaderEpoch(e.epoch), e.start))
            .collect(),
        slices,
        gaps: wire.gaps.iter().map(|gap| (gap.from, gap.to)).collect(),
    })
}

fn put_slice(slice: &Slice) -> WireSlice {
    WireSlice {
        object: slice.object.0,
        leader_epoch: slice.leader_epoch.0,
        first_offset: slice.first_offset,
        span: (slice.end_offset - slice.first_offset).unsigned_abs(),
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.bytes,
        index_position: slice.index_position,
        index_length: slice.index_length,
        index_digest: Some(put_digest(&slice.index_digest)),
        checkpoint: slice.checkpoint,
    }
}

fn get_slice(wire: WireSlice, objects: &mut Objects) -> Decoded<Slice> {
    let object = ObjectId(wire.object);
    let Some(named) = objects.by_id.get_mut(&object) else {
        return malformed("slice: no such object");
    };
    named.references += 1;
    let Some(end_offset) = wire.first_offset.checked_add_unsigned(wire.span) else {
        return malformed("slice: span out of range");
    };
    Ok(Slice {
        object,
        first_offset: wire.first_offset,
        end_offset,
        max_timestamp_ms: wire.max_timestamp_ms,
        bytes: wire.bytes,
        index_position: wire.index_position,
        index_length: wire.index_length,
        index_digest: get_digest(wire.index_digest)?,
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        checkpoint: wire.checkpoint,
    })
}

fn put_object(id: ObjectId, object: &Object) -> wire::Object {
    wire::Object {
        id: id.0,
        key: object.key.to_string(),
        length: object.length,
        digest: Some(put_digest(&object.digest)),
    }
}

/// References are counted anew while the slices are read.
fn get_objects(
    last_id: u64,
    wire: Vec<wire::Object>,
    condemned: Vec<wire::Number>,
) -> Decoded<Objects> {
    let mut objects = Objects::default();
    objects.last_id = last_id;
    for object in wire {
        let digest = get_digest(object.digest)?;
        let (key, length) = (object.key.into(), object.length);
        objects.restore(
            ObjectId(object.id),
            Object {
                key,
                length,
                digest,
                references: 0,
            },
        );
    }
    for entry in condemned {
        objects.condemn(entry.name.into(), entry.number);
    }
    Ok(objects)
}
