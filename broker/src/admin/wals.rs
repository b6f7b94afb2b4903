//! What an operator decides about a log that cannot be recovered, while the cluster runs:
//! `POST /v1/wals/{id}/abandon` and `POST /v1/wals/{id}/unquarantine`, on any node.
//!
//! A log is given up only a full lease after its owner was fenced. Who and why stand in this node's log, and for an abandoned one in the controllers' log too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{Client, Command, ErrorKind, Image, WalPhase};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use wal::WalId;

use super::Admin;
use crate::limits::{ABANDON_WAIT, MAX_REASON_BYTES};

/// What is asked.
#[derive(Deserialize)]
struct Asked {
    /// Who decides.
    by: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// Without it an abandonment only tells what would be lost.
    #[serde(default)]
    yes: bool,
}

type Refused = (StatusCode, String);

/// Gives up what only the log holds.
pub(super) async fn abandon(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    answer(match named(&id) {
        Ok(wal) => abandoned(&admin, wal, &body).await,
        Err(refused) => Err(refused),
    })
}

/// Has a log that was set aside recovered once more.
pub(super) async fn unquarantine(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    answer(match named(&id) {
        Ok(wal) => unquarantined(&admin, wal, &body).await,
        Err(refused) => Err(refused),
    })
}

fn named(id: &str) -> Result<WalId, Refused> {
    let id = Uuid::try_parse(id);
    id.map(WalId).map_err(|_| wrong("no id of a log"))
}

async fn abandoned(admin: &Admin, wal: WalId, body: &[u8]) -> Result<Value, Refused> {
    let (client, asked) = begin(admin, body)?;
    if asked.reason.trim().is_empty() {
        return Err(wrong("say why: \"reason\" is empty"));
    }
    let image = Arc::clone(&client.image().borrow());
    let mut told = about(&image, wal)?;
    if let Some(WalPhase::Active) = image.wals.get(&wal).map(|wal| wal.phase) {
        let why = "its broker lives and writes it: stop that first";
        return Err((StatusCode::CONFLICT, why.to_owned()));
    }
    told["done"] = json!(asked.yes);
    if !asked.yes {
        return Ok(told);
    }
    silent(admin.lease).await?;
    let (by, reason) = (&asked.by, &asked.reason);
    tracing::warn!(wal = %wal, by, reason, "an operator gives a log up");
    let reason = format!("{by}: {reason}");
    submit(&client, Command::AbandonWal { wal, reason }).await?;
    admin.controllers.abandoned.inc();
    Ok(told)
}

/// Waits until nobody writes a dead log any more. Fenced a moment ago, its owner may acknowledge
/// for the rest of its lease; from a log that is closed without having been read to its end, none
/// of that would ever be found.
async fn silent(lease: Duration) -> Result<(), Refused> {
    if lease > ABANDON_WAIT {
        let why = format!(
            "lease.ms is longer than {} s: stop this node and give the log up on its directory",
            ABANDON_WAIT.as_secs()
        );
        return Err((StatusCode::CONFLICT, why));
    }
    tokio::time::sleep(lease).await;
    Ok(())
}

async fn unquarantined(admin: &Admin, wal: WalId, body: &[u8]) -> Result<Value, Refused> {
    let (client, asked) = begin(admin, body)?;
    let image = Arc::clone(&client.image().borrow());
    let mut told = about(&image, wal)?;
    if told["quarantine"].is_null() {
        let why = format!("log {wal} is not set aside");
        return Err((StatusCode::CONFLICT, why));
    }
    let (by, reason) = (&asked.by, &asked.reason);
    tracing::warn!(wal = %wal, by, reason, "an operator puts a log back");
    submit(&client, Command::UnquarantineWal { wal }).await?;
    admin.controllers.unquarantined.inc();
    told["done"] = json!(true);
    Ok(told)
}

fn begin(admin: &Admin, body: &[u8]) -> Result<(Client, Asked), Refused> {
    if body.len() > MAX_REASON_BYTES {
        return Err(wrong("that is too long"));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))?;
    if asked.by.trim().is_empty() {
        return Err(wrong("say who decides: \"by\" is empty"));
    }
    let client = admin.client().ok_or_else(|| {
        let why = "this node has not reached the controllers yet";
        (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
    })?;
    Ok((client, asked))
}

/// What a log is, and how many partitions wait for it.
fn about(image: &Image, wal: WalId) -> Result<Value, Refused> {
    let Some(found) = image.wals.get(&wal) else {
        let why = format!("no log {wal} is open");
        return Err((StatusCode::NOT_FOUND, why));
    };
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    let waiting = partitions.filter(|p| p.awaits == Some(wal) || p.broker == Some(found.broker));
    Ok(json!({
        "wal": wal.to_string(),
        "node": found.node.0,
        "phase": format!("{:?}", found.phase),
        "quarantine": found.quarantine,
        "partitions": waiting.count(),
    }))
}

async fn submit(client: &Client, command: Command) -> Result<(), Refused> {
    client.submit(command).await.map(drop).map_err(|error| {
        let code = match error.kind() {
            ErrorKind::Retry if error.refusal().is_none() => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Retry | ErrorKind::Fenced | ErrorKind::Invalid => StatusCode::CONFLICT,
            ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, error.to_string())
    })
}

fn wrong(why: &str) -> Refused {
    (StatusCode::BAD_REQUEST, why.to_owned())
}

fn answer(result: Result<Value, Refused>) -> Response {
    match result {
        Ok(told) => Json(told).into_response(),
        Err((code, why)) => (code, Json(json!({ "error": why }))).into_response(),
    }
}
