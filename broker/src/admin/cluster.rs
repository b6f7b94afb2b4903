//! The cluster as one image shows it, for `/v1/cluster`: who is there, where logs stand, and why
//! a partition has no leader.

use std::collections::BTreeMap;

use controller::{Image, PartitionImage, WalBackend, WalImage, WalPhase};
use protocol::BrokerEpoch;
use serde_json::{Value, json};
use wal::WalId;

use crate::limits::SHOWN_PARTITIONS;

/// Everything.
pub(super) fn page(image: &Image) -> Value {
    json!({
        "cluster": image.cluster.map(|id| id.to_string()),
        "generation": image.generation,
        "applied": image.applied,
        "controller": image.controller.map(|node| node.0),
        "features": &*image.features,
        "topics": image.topics.len(),
        "nodes": nodes(image),
        "wals": wals(image),
        "partitions": partitions(image),
    })
}

/// Partitions without a leader.
pub(super) fn offline(image: &Image) -> usize {
    let topics = image.topics.values();
    let of =
        |partitions: &[PartitionImage]| partitions.iter().filter(|p| p.leader.is_none()).count();
    topics.map(|topic| of(&topic.partitions)).sum()
}

fn nodes(image: &Image) -> Value {
    let mut leads: BTreeMap<BrokerEpoch, usize> = BTreeMap::new();
    for topic in image.topics.values() {
        for broker in topic.partitions.iter().filter_map(|one| one.broker) {
            *leads.entry(broker).or_default() += 1;
        }
    }
    let node = |(epoch, broker): (&BrokerEpoch, &controller::BrokerImage)| {
        let listeners = broker.listeners.iter();
        let listeners = listeners.map(|one| format!("{}://{}:{}", one.name, one.host, one.port));
        json!({
            "node": broker.node.0,
            "broker_epoch": epoch.0,
            "state": if broker.fenced { "fenced" } else { "live" },
            "rack": broker.rack,
            "listeners": listeners.collect::<Vec<_>>(),
            "wal": broker.wal.map(|id| id.to_string()),
            "leads": leads.get(epoch).copied().unwrap_or(0),
        })
    };
    image.brokers.iter().map(node).collect()
}

fn wals(image: &Image) -> Value {
    let mut phases = BTreeMap::from(["active", "fenced", "claimed", "quarantined"].map(|p| (p, 0)));
    for wal in image.wals.values() {
        *phases.entry(phase(wal)).or_default() += 1;
    }
    let open = image.wals.iter().map(|(id, wal)| {
        json!({
            "wal": id.to_string(),
            "node": wal.node.0,
            "broker_epoch": wal.broker.0,
            "backend": backend(wal.backend),
            "phase": phase(wal),
            "heir": heir(image, wal),
            "quarantine": wal.quarantine,
        })
    });
    json!({
        "phases": phases,
        "unswept": image.unswept.len(),
        "open": open.collect::<Vec<_>>(),
    })
}

fn backend(backend: WalBackend) -> &'static str {
    match backend {
        WalBackend::Disk => "disk",
        WalBackend::Object => "object",
        WalBackend::Memory => "memory",
    }
}

fn phase(wal: &WalImage) -> &'static str {
    match wal.phase {
        _ if wal.quarantine.is_some() => "quarantined",
        WalPhase::Active => "active",
        WalPhase::Fenced => "fenced",
        WalPhase::Claimed { .. } => "claimed",
        WalPhase::Closed { .. } => "closed",
    }
}

/// The node that recovers it.
fn heir(image: &Image, wal: &WalImage) -> Option<i32> {
    let WalPhase::Claimed { heir, .. } = wal.phase else {
        return None;
    };
    image.brokers.get(&heir).map(|broker| broker.node.0)
}

fn partitions(image: &Image) -> Value {
    let total: usize = image.topics.values().map(|t| t.partitions.len()).sum();
    let offline_count = offline(image);
    let mut shown = Vec::new();
    let (mut pinned, mut pinned_count) = (Vec::new(), 0);
    for topic in image.topics.values() {
        for (partition, index) in topic.partitions.iter().zip(0i32..) {
            if let Some(node) = partition.preferred {
                pinned_count += 1;
                if pinned.len() < SHOWN_PARTITIONS {
                    let (topic, node) = (&*topic.name, node.0);
                    pinned.push(json!({ "topic": topic, "partition": index, "node": node }));
                }
            }
            if partition.leader.is_none() && shown.len() < SHOWN_PARTITIONS {
                shown.push(json!({
                    "topic": &*topic.name,
                    "partition": index,
                    "awaits": partition.awaits.map(|id| id.to_string()),
                    "why": why(image, partition),
                }));
            }
        }
    }
    json!({
        "total": total,
        "offline": offline_count,
        "without_leader": shown,
        // Where an operator placed them: the balancer lets them be there.
        "pinned_total": pinned_count,
        "pinned": pinned,
    })
}

fn why(image: &Image, partition: &PartitionImage) -> String {
    let Some(id) = partition.awaits else {
        return "no broker is there to lead it".to_owned();
    };
    match image.wals.get(&id) {
        Some(wal) => awaits(image, id, wal),
        None => format!("log {id} has just been closed"),
    }
}

fn awaits(image: &Image, id: WalId, wal: &WalImage) -> String {
    let node = wal.node;
    if let Some(reason) = &wal.quarantine {
        return format!("log {id} of node {node} is set aside: {reason}");
    }
    match (wal.phase, wal.backend) {
        (WalPhase::Claimed { .. }, _) => match heir(image, wal) {
            Some(heir) => format!("node {heir} recovers log {id} of node {node}"),
            None => format!("log {id} of node {node} waits for another heir"),
        },
        (WalPhase::Active, _) => format!("log {id} of node {node} is not fenced yet"),
        (WalPhase::Fenced | WalPhase::Closed { .. }, WalBackend::Disk) => format!(
            "log {id} is on the disk of node {node}, which is down: start it, or give up what \
             only that log holds with `headwater wal abandon`"
        ),
        (WalPhase::Fenced | WalPhase::Closed { .. }, WalBackend::Object | WalBackend::Memory) => {
            format!("log {id} of node {node} waits for a broker that recovers it")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use controller::{BrokerImage, TopicImage};
    use protocol::{LeaderEpoch, NodeId, TopicId};
    use uuid::Uuid;

    use super::*;

    const LOG: WalId = WalId(Uuid::from_u128(5));

    fn broker(node: i32, fenced: bool) -> BrokerImage {
        BrokerImage {
            node: NodeId(node),
            fenced,
            ..BrokerImage::default()
        }
    }

    fn image(wal: WalImage, awaits: Option<WalId>) -> Image {
        let mut image = Image::default();
        let brokers = [(7, broker(1, true)), (8, broker(2, false))];
        image.brokers = Arc::new(brokers.map(|(id, one)| (BrokerEpoch(id), one)).into());
        image.wals = Arc::new([(LOG, wal)].into());
        let led = PartitionImage {
            broker: Some(BrokerEpoch(8)),
            leader: Some(NodeId(2)),
            leader_epoch: LeaderEpoch(0),
            ..PartitionImage::default()
        };
        let lost = PartitionImage {
            awaits,
            ..PartitionImage::default()
        };
        let topic = Arc::new(TopicImage {
            name: "t".into(),
            id: TopicId::default(),
            internal: false,
            created_ms: 0,
            configs: BTreeMap::new(),
            partitions: vec![led, lost],
        });
        image.topics = Arc::new([(topic.name.clone(), topic)].into());
        image
    }

    fn log(phase: WalPhase, backend: WalBackend) -> WalImage {
        WalImage {
            broker: BrokerEpoch(7),
            node: NodeId(1),
            backend,
            phase,
            yields: 0,
            deaths: 0,
            quarantine: None,
        }
    }

    #[test]
    fn an_operator_sees_why_a_partition_is_offline() {
        let claimed = WalPhase::Claimed {
            heir: BrokerEpoch(8),
            claim: controller::Claim(1),
        };
        let mut aside = log(WalPhase::Fenced, WalBackend::Object);
        aside.quarantine = Some("group 4 is damaged".to_owned());
        for (wal, awaits, why) in [
            (
                log(WalPhase::Fenced, WalBackend::Disk),
                Some(LOG),
                "disk of node 1",
            ),
            (
                log(WalPhase::Fenced, WalBackend::Object),
                Some(LOG),
                "waits for a broker",
            ),
            (
                log(claimed, WalBackend::Object),
                Some(LOG),
                "node 2 recovers",
            ),
            (aside, Some(LOG), "group 4 is damaged"),
            (
                log(WalPhase::Active, WalBackend::Object),
                None,
                "no broker is there",
            ),
        ] {
            let page = page(&image(wal, awaits));
            let found = &page["partitions"]["without_leader"][0];
            assert!(found["why"].as_str().unwrap().contains(why), "{found}");
            assert_eq!(page["partitions"]["offline"], 1);
            assert_eq!(page["partitions"]["total"], 2);
            assert_eq!(page["nodes"][0]["state"], "fenced");
            assert_eq!(page["nodes"][1]["leads"], 1);
        }
    }
}
