//! `/v1/balance`: what the balancer would do, and why; posted to, it does it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{BalanceMove, Client, Image};
use serde_json::{Value, json};

use super::Admin;

pub(super) async fn look(State(admin): State<Arc<Admin>>) -> Response {
    let Some(client) = client(&admin) else {
        return not_here();
    };
    match client.balance(admin.balancer) {
        Some(moves) => page(&client, &moves).into_response(),
        None => not_here(),
    }
}

pub(super) async fn run(State(admin): State<Arc<Admin>>) -> Response {
    let Some(client) = client(&admin) else {
        return not_here();
    };
    match client.balance_now(admin.balancer).await {
        Ok(Some(moves)) => page(&client, &moves).into_response(),
        Ok(None) => not_here(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

fn client(admin: &Admin) -> Option<Client> {
    let cluster = admin.cluster.lock();
    cluster.as_ref().map(|(client, _)| client.clone())
}

fn page(client: &Client, moves: &[BalanceMove]) -> Json<Value> {
    let image = Arc::clone(&client.image().borrow());
    Json(moves.iter().map(|one| told(&image, one)).collect())
}

fn told(image: &Image, one: &BalanceMove) -> Value {
    let tp = one.topic_partition;
    json!({
        "topic": image.topic_by_id(tp.topic).map(|topic| topic.name.to_string()),
        "partition": tp.partition,
        "from": one.from.0,
        "to": one.to.0,
        "reason": one.reason,
    })
}

fn not_here() -> Response {
    let text = "the balancer looks at the state of a controller: ask one that has it\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
