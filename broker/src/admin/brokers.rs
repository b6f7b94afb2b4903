//! `/v1/brokers`: who takes partitions, and who gives them away.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{Client, Command, ErrorKind, Image, MoveCommand, WalPhase};
use protocol::{BrokerEpoch, NodeId};
use serde_json::{Value, json};

use super::Admin;

/// Every node that is registered or drained, or whose death left a log open.
pub(super) fn page(image: &Image) -> Value {
    let mut leads: BTreeMap<BrokerEpoch, usize> = BTreeMap::new();
    let mut waits: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in image.topics_by_id.values().flat_map(|t| &t.partitions) {
        if let Some(epoch) = partition.broker {
            *leads.entry(epoch).or_default() += 1;
        }
        if let Some(wal) = partition.awaits.and_then(|id| image.wals.get(&id)) {
            *waits.entry(wal.node).or_default() += 1;
        }
    }
    let mut nodes = BTreeMap::new();
    let absent = |node: NodeId| Told {
        state: "absent",
        drained: image.draining.contains(&node),
        ..Told::default()
    };
    for node in image.draining.iter() {
        nodes.insert(*node, absent(*node));
    }
    for wal in image.wals.values() {
        let dead = nodes.entry(wal.node).or_insert_with(|| absent(wal.node));
        dead.dead_logs += usize::from(wal.phase != WalPhase::Active);
    }
    for (epoch, broker) in image.live_brokers() {
        let told = nodes
            .entry(broker.node)
            .or_insert_with(|| absent(broker.node));
        told.state = match (broker.draining, broker.wal) {
            (true, _) => "draining",
            (false, None) => "starting",
            (false, Some(_)) => "live",
        };
        told.rack = broker.rack.clone();
        told.leads = leads.get(&epoch).copied().unwrap_or(0);
    }
    let shown = nodes.into_iter().map(|(node, told)| {
        let waits = waits.get(&node).copied().unwrap_or(0);
        json!({
            "node": node.0,
            "state": told.state,
            "rack": told.rack,
            "drained": told.drained,
            "leads": told.leads,
            "dead_logs": told.dead_logs,
            "waits": waits,
        })
    });
    shown.collect()
}

/// What is told of a node.
#[derive(Default)]
struct Told {
    state: &'static str,
    rack: Option<String>,
    drained: bool,
    leads: usize,
    /// Logs of its earlier lives that nobody has recovered yet.
    dead_logs: usize,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    match admin.image() {
        Some(image) => Json(page(&image)).into_response(),
        None => starting(),
    }
}

pub(super) async fn drain(State(admin): State<Arc<Admin>>, Path(node): Path<i32>) -> Response {
    set(&admin, NodeId(node), true).await
}

pub(super) async fn resume(State(admin): State<Arc<Admin>>, Path(node): Path<i32>) -> Response {
    set(&admin, NodeId(node), false).await
}

async fn set(admin: &Admin, node: NodeId, on: bool) -> Response {
    let client: Client = match &*admin.cluster.lock() {
        Some((client, _)) => client.clone(),
        None => return starting(),
    };
    let command = Command::Move(MoveCommand::Drain { node, on });
    match client.submit(command).await {
        Ok(_) => {
            tracing::info!(%node, on, "an operator drains or resumes a broker");
            let image = Arc::clone(&client.image().borrow());
            Json(page(&image)).into_response()
        }
        Err(error) => {
            let status = match error.kind() {
                ErrorKind::Invalid => StatusCode::BAD_REQUEST,
                ErrorKind::Retry => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Fenced | ErrorKind::Corrupt | ErrorKind::Internal => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "no cluster yet\n").into_response()
}
