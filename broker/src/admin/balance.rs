//! `/v1/balance`: what the balancer would do, and why; posted to, it does it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{BalanceMove, Client, Image};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Admin;
use crate::limits::BALANCE_PAGE_AGE;

/// The last page, and when it was made: it weighs every partition, and anybody may ask for it.
pub(super) type Cached = Mutex<Option<(Instant, Option<Value>)>>;

pub(super) async fn look(State(admin): State<Arc<Admin>>) -> Response {
    let Some(client) = client(&admin) else {
        return not_here();
    };
    // One at a time makes it, the others wait for that one.
    let mut cached = admin.balance.lock().await;
    let page = match &*cached {
        Some((at, page)) if at.elapsed() < BALANCE_PAGE_AGE => page.clone(),
        _ => {
            let moves = client.balance(admin.balancer);
            let page = moves.map(|moves| page(&client, &moves));
            *cached = Some((Instant::now(), page.clone()));
            page
        }
    };
    drop(cached);
    page.map_or_else(not_here, |page| Json(page).into_response())
}

pub(super) async fn run(State(admin): State<Arc<Admin>>) -> Response {
    let Some(client) = client(&admin) else {
        return not_here();
    };
    match client.balance_now(admin.balancer).await {
        Ok(Some(moves)) => Json(page(&client, &moves)).into_response(),
        Ok(None) => not_here(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

fn client(admin: &Admin) -> Option<Client> {
    let cluster = admin.cluster.lock();
    cluster.as_ref().map(|(client, _)| client.clone())
}

fn page(client: &Client, moves: &[BalanceMove]) -> Value {
    let image = Arc::clone(&client.image().borrow());
    moves.iter().map(|one| told(&image, one)).collect()
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
