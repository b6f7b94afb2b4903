//! `/v1/brokers`: who takes partitions, and who gives them away.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{Client, Command, ErrorKind, Image, MoveCommand};
use protocol::{BrokerEpoch, NodeId};
use serde_json::{Value, json};

use super::Admin;

/// Every node that is registered or drained.
pub(super) fn page(image: &Image) -> Value {
    let mut leads: BTreeMap<BrokerEpoch, usize> = BTreeMap::new();
    for topic in image.topics_by_id.values() {
        for epoch in topic.partitions.iter().filter_map(|p| p.broker) {
            *leads.entry(epoch).or_default() += 1;
        }
    }
    let mut nodes = BTreeMap::new();
    for node in image.draining.iter() {
        nodes.insert(*node, told(*node, "absent", true, 0));
    }
    for (epoch, broker) in image.live_brokers() {
        let state = match (broker.draining, broker.wal) {
            (true, _) => "draining",
            (false, None) => "starting",
            (false, Some(_)) => "live",
        };
        let drained = image.draining.contains(&broker.node);
        let leads = leads.get(&epoch).copied().unwrap_or(0);
        nodes.insert(broker.node, told(broker.node, state, drained, leads));
    }
    nodes.into_values().collect()
}

fn told(node: NodeId, state: &str, drained: bool, leads: usize) -> Value {
    json!({ "node": node.0, "state": state, "drained": drained, "leads": leads })
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
