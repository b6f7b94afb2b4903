//! From one image to a later one, for those who hold no state.
//!
//! What a command did not touch is shared between images, so pointers tell what changed; a
//! partition of a big topic that moves does not send the others again.
//!
//! **Invariant:** the delta from a to b, applied to a, gives b.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId};
use wal::WalId;

use super::wire;
use super::{BrokerImage, Image, PartitionImage, TopicImage, UnsweptWal, WalImage};
use crate::command::{
    Decoded, Malformed, get_backend, get_configs, get_id, get_int, get_listeners, get_resource,
    malformed, put_backend, put_configs, put_id, put_listeners, put_resource,
};
use crate::limits::MAX_PARTITIONS_PER_TOPIC;
use crate::state::WalPhase;
use crate::types::{Claim, ClusterId};

/// What `to` has that `from` has not.
pub(crate) fn between(from: &Image, to: &Image) -> wire::Delta {
    let Image {
        applied,
        cluster,
        generation,
        controller,
        home,
        brokers,
        wals,
        unswept,
        topics: _,
        topics_by_id,
        configs,
        draining,
        features,
        probes,
    } = to;
    let mut delta = wire::Delta {
        applied: *applied,
        cluster: cluster.map(|id| put_id(id.0)),
        generation: *generation,
        controller: controller.map(|node| node.0),
        home: home.map(put_id),
        brokers: changed(&from.brokers, brokers, put_brokers),
        wals: changed(&from.wals, wals, put_wals),
        unswept: changed(&from.unswept, unswept, put_unswept),
        configs: changed(&from.configs, configs, |configs| wire::Configs {
            resources: configs
                .iter()
                .map(|(resource, configs)| wire::ResourceConfigs {
                    resource: Some(put_resource(resource)),
                    configs: put_configs(configs),
                })
                .collect(),
        }),
        draining: changed(&from.draining, draining, |draining| wire::Nodes {
            nodes: draining.iter().map(|node| node.0).collect(),
        }),
        features: changed(&from.features, features, |features| {
            put_numbers(features.iter().map(|(name, n)| (name, i64::from(*n))))
        }),
        probes: changed(&from.probes, probes, |probes| {
            put_numbers(probes.iter().map(|(url, at_ms)| (url, *at_ms)))
        }),
        ..Default::default()
    };
    if !Arc::ptr_eq(&from.topics_by_id, topics_by_id) {
        let gone = |id: &&TopicId| !topics_by_id.contains_key(id);
        let removed = from.topics_by_id.keys().filter(gone);
        delta.removed = removed.map(|id| put_id(id.0)).collect();
        let topics = topics_by_id.iter();
        delta.topics = topics
            .filter_map(|(id, topic)| put_topic(from.topics_by_id.get(id), topic))
            .collect();
    }
    delta
}

fn changed<T: Default + PartialEq, W>(
    from: &Arc<T>,
    to: &Arc<T>,
    put: impl FnOnce(&T) -> W,
) -> Option<W> {
    (!Arc::ptr_eq(from, to) && from != to).then(|| put(to))
}

fn put_brokers(brokers: &BTreeMap<BrokerEpoch, BrokerImage>) -> wire::Brokers {
    let put = |(epoch, broker): (&BrokerEpoch, &BrokerImage)| {
        let BrokerImage {
            node,
            incarnation,
            directory,
            listeners,
            rack,
            fenced,
            wal,
            draining,
        } = broker;
        wire::Broker {
            epoch: epoch.0,
            node: node.0,
            incarnation: put_id(*incarnation),
            listeners: put_listeners(listeners),
            rack: rack.clone(),
            fenced: *fenced,
            wal: wal.map(|wal| put_id(wal.0)),
            directory: put_id(*directory),
            draining: *draining,
        }
    };
    wire::Brokers {
        brokers: brokers.iter().map(put).collect(),
    }
}

fn put_wals(wals: &BTreeMap<WalId, WalImage>) -> wire::Wals {
    let put = |(id, wal): (&WalId, &WalImage)| {
        let WalImage {
            broker,
            node,
            backend,
            phase,
            quarantine,
            yields,
            deaths,
        } = wal;
        let mut put = wire::Wal {
            id: put_id(id.0),
            broker: broker.0,
            node: node.0,
            backend: put_backend(*backend),
            quarantine: quarantine.clone(),
            yields: *yields,
            deaths: *deaths,
            ..Default::default()
        };
        match phase {
            WalPhase::Active => put.phase = 1,
            WalPhase::Fenced => put.phase = 2,
            WalPhase::Claimed { heir, claim } => {
                (put.phase, put.heir, put.claim) = (3, heir.0, claim.0);
            }
            WalPhase::Closed {
                end,
                abandoned,
                number,
            } => {
                put.phase = if *abandoned { 5 } else { 4 };
                (put.end, put.number) = (*end, *number);
            }
        }
        put
    };
    wire::Wals {
        wals: wals.iter().map(put).collect(),
    }
}

fn put_unswept(wals: &BTreeMap<WalId, UnsweptWal>) -> wire::UnsweptWals {
    let put = |(id, wal): (&WalId, &UnsweptWal)| wire::UnsweptWal {
        id: put_id(id.0),
        node: wal.node.0,
        end: wal.end,
        closed_ms: wal.closed_ms,
    };
    wire::UnsweptWals {
        wals: wals.iter().map(put).collect(),
    }
}

fn put_numbers<'a>(numbers: impl Iterator<Item = (&'a String, i64)>) -> wire::Numbers {
    let put = |(name, number): (&String, i64)| wire::Number {
        name: name.clone(),
        number,
    };
    wire::Numbers {
        numbers: numbers.map(put).collect(),
    }
}

/// `None` when nothing of it changed.
fn put_topic(from: Option<&Arc<TopicImage>>, to: &Arc<TopicImage>) -> Option<wire::Topic> {
    if from.is_some_and(|from| Arc::ptr_eq(from, to)) {
        return None;
    }
    let TopicImage {
        name,
        id,
        internal,
        created_ms,
        configs,
        partitions,
    } = &**to;
    let same_head = from.is_some_and(|from| {
        (&from.name, from.internal, from.created_ms) == (name, *internal, *created_ms)
            && from.configs == *configs
    });
    let before = from.map_or(&[][..], |from| &from.partitions);
    let changed = partitions.iter().enumerate().filter(|(at, partition)| {
        let before = before.get(*at);
        before != Some(*partition)
    });
    Some(wire::Topic {
        id: put_id(id.0),
        head: (!same_head).then(|| wire::TopicHead {
            name: name.to_string(),
            internal: *internal,
            created_ms: *created_ms,
            configs: put_configs(configs),
        }),
        count: count(partitions.len()),
        partitions: changed
            .map(|(at, partition)| put_partition(count(at), partition))
            .collect(),
    })
}

/// Partitions are few enough: the state bounds them.
fn count(partitions: usize) -> u32 {
    u32::try_from(partitions).expect("bounded by MAX_PARTITIONS_PER_TOPIC")
}

fn put_partition(index: u32, partition: &PartitionImage) -> wire::Partition {
    let PartitionImage {
        broker,
        leader,
        home,
        leader_epoch,
        log_start,
        awaits,
        target,
        preferred,
    } = partition;
    wire::Partition {
        index,
        broker: broker.map(|broker| broker.0),
        leader: leader.map(|node| node.0),
        home: home.map(|node| node.0),
        leader_epoch: leader_epoch.0,
        log_start: *log_start,
        awaits: awaits.map(|wal| put_id(wal.0)),
        target: target.map(|node| node.0),
        preferred: preferred.map(|node| node.0),
    }
}

// === impl Image ===

impl Image {
    /// The image that `delta` leads to from this one.
    pub(crate) fn with(&self, delta: wire::Delta) -> Decoded<Self> {
        let mut image = self.clone();
        image.applied = delta.applied;
        image.cluster = delta
            .cluster
            .as_deref()
            .map(get_id)
            .transpose()?
            .map(ClusterId);
        image.generation = delta.generation;
        image.controller = delta.controller.map(NodeId);
        image.home = delta.home.as_deref().map(get_id).transpose()?;
        if let Some(brokers) = delta.brokers {
            image.brokers = Arc::new(collect(brokers.brokers, get_broker)?);
        }
        if let Some(wals) = delta.wals {
            image.wals = Arc::new(collect(wals.wals, get_wal)?);
        }
        if let Some(unswept) = delta.unswept {
            image.unswept = Arc::new(collect(unswept.wals, get_unswept)?);
        }
        if let Some(configs) = delta.configs {
            let get = |entry: wire::ResourceConfigs| {
                Ok((get_resource(entry.resource)?, get_configs(entry.configs)))
            };
            image.configs = Arc::new(collect(configs.resources, get)?);
        }
        if let Some(draining) = delta.draining {
            image.draining = Arc::new(draining.nodes.into_iter().map(NodeId).collect());
        }
        if let Some(features) = delta.features {
            let get = |feature: wire::Number| {
                Ok((feature.name, get_int(feature.number, "feature level")?))
            };
            image.features = Arc::new(collect(features.numbers, get)?);
        }
        if let Some(probes) = delta.probes {
            let get = |probe: wire::Number| Ok((probe.name, probe.number));
            image.probes = Arc::new(collect(probes.numbers, get)?);
        }
        if !delta.topics.is_empty() || !delta.removed.is_empty() {
            image.change_topics(delta.topics, &delta.removed)?;
        }
        Ok(image)
    }

    fn change_topics(&mut self, topics: Vec<wire::Topic>, removed: &[Vec<u8>]) -> Decoded<()> {
        let by_name = Arc::make_mut(&mut self.topics);
        let by_id = Arc::make_mut(&mut self.topics_by_id);
        for id in removed {
            if let Some(old) = by_id.remove(&TopicId(get_id(id)?)) {
                by_name.remove(&old.name);
            }
        }
        // A name may go from one topic to another: first all of the old ones, then the new.
        let mut changed = Vec::with_capacity(topics.len());
        for topic in topics {
            let old = by_id.remove(&TopicId(get_id(&topic.id)?));
            if let Some(old) = &old {
                by_name.remove(&old.name);
            }
            changed.push(get_topic(old.as_deref(), topic)?);
        }
        for topic in changed {
            let topic = Arc::new(topic);
            by_name.insert(topic.name.clone(), topic.clone());
            by_id.insert(topic.id, topic);
        }
        if by_name.len() != by_id.len() {
            return malformed("image: a name that two topics have");
        }
        Ok(())
    }
}

fn collect<W, K: Ord, V>(
    wire: Vec<W>,
    get: impl Fn(W) -> Decoded<(K, V)>,
) -> Decoded<BTreeMap<K, V>> {
    wire.into_iter().map(get).collect()
}

fn get_broker(wire: wire::Broker) -> Decoded<(BrokerEpoch, BrokerImage)> {
    let broker = BrokerImage {
        node: NodeId(wire.node),
        incarnation: get_id(&wire.incarnation)?,
        directory: get_id(&wire.directory)?,
        listeners: get_listeners(wire.listeners)?,
        rack: wire.rack,
        fenced: wire.fenced,
        wal: get_wal_id(wire.wal.as_deref())?,
        draining: wire.draining,
    };
    Ok((BrokerEpoch(wire.epoch), broker))
}

fn get_wal_id(wire: Option<&[u8]>) -> Decoded<Option<WalId>> {
    Ok(wire.map(get_id).transpose()?.map(WalId))
}

fn get_wal(wire: wire::Wal) -> Decoded<(WalId, WalImage)> {
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
        other => return malformed(&format!("image: log phase {other}")),
    };
    let wal = WalImage {
        broker: BrokerEpoch(wire.broker),
        node: NodeId(wire.node),
        backend: get_backend(wire.backend)?,
        phase,
        quarantine: wire.quarantine,
        yields: wire.yields,
        deaths: wire.deaths,
    };
    Ok((WalId(get_id(&wire.id)?), wal))
}

fn get_unswept(wire: wire::UnsweptWal) -> Decoded<(WalId, UnsweptWal)> {
    let wal = UnsweptWal {
        node: NodeId(wire.node),
        end: wire.end,
        closed_ms: wire.closed_ms,
    };
    Ok((WalId(get_id(&wire.id)?), wal))
}

fn get_topic(old: Option<&TopicImage>, wire: wire::Topic) -> Decoded<TopicImage> {
    let id = TopicId(get_id(&wire.id)?);
    let count = usize::try_from(wire.count).unwrap_or(usize::MAX);
    if count > MAX_PARTITIONS_PER_TOPIC {
        return malformed("image: a topic's number of partitions");
    }
    let mut topic = match (old, wire.head) {
        (None, None) => return malformed("image: a change of a topic that is not there"),
        (Some(old), None) => old.clone(),
        (old, Some(head)) => TopicImage {
            name: head.name.into(),
            id,
            internal: head.internal,
            created_ms: head.created_ms,
            configs: get_configs(head.configs),
            partitions: old.map(|old| old.partitions.clone()).unwrap_or_default(),
        },
    };
    topic.partitions.truncate(count);
    for wire in wire.partitions {
        let at = usize::try_from(wire.index).unwrap_or(usize::MAX);
        let partition = get_partition(&wire)?;
        match at.cmp(&topic.partitions.len()) {
            std::cmp::Ordering::Less => topic.partitions[at] = partition,
            std::cmp::Ordering::Equal => topic.partitions.push(partition),
            std::cmp::Ordering::Greater => return malformed("image: a partition left out"),
        }
    }
    if topic.partitions.len() != count {
        return Err(Malformed("image: a topic's partitions".to_owned()));
    }
    Ok(topic)
}

fn get_partition(wire: &wire::Partition) -> Decoded<PartitionImage> {
    Ok(PartitionImage {
        broker: wire.broker.map(BrokerEpoch),
        leader: wire.leader.map(NodeId),
        home: wire.home.map(NodeId),
        leader_epoch: LeaderEpoch(wire.leader_epoch),
        log_start: wire.log_start,
        awaits: get_wal_id(wire.awaits.as_deref())?,
        target: wire.target.map(NodeId),
        preferred: wire.preferred.map(NodeId),
    })
}
