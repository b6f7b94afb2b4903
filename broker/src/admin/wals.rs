//! What an operator decides about a log that cannot be recovered, while the cluster runs:
//! `POST /v1/wals/{id}/abandon` and `POST /v1/wals/{id}/unquarantine`, on any node.
//!
//! A log is given up only a full lease after its owner was fenced, and one in the object store only
//! once a seal ends it: what its owner puts from there on is refused, and acknowledged to nobody.
//! Who and why stand in this node's log, and for an abandoned one in the controllers' log too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use controller::{Client, Command, ErrorKind, Image, WalBackend, WalPhase};
use protocol::NodeId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;
use wal::{Sequence, WalId};

use super::{Admin, Serving};
use crate::limits::{ABANDON_WAIT, MAX_REASON_BYTES, SEAL_PATIENCE};
use crate::node::{home, wal_prefix};

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
    let found = image.wals.get(&wal);
    if found.is_some_and(|wal| wal.phase == WalPhase::Active) {
        return Err(conflict("its broker lives and writes it: stop that first"));
    }
    told["done"] = json!(asked.yes);
    if !asked.yes {
        return Ok(told);
    }
    silent(client.longest_lease()).await?;
    if let Some(found) = found.filter(|wal| wal.backend == WalBackend::Object) {
        told["sealed_at"] = json!(sealed(admin, &client, wal, found.node).await?);
    }
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
        return Err(conflict(&format!(
            "a lease lasts {} s here or at a controller, longer than {} s: stop this node and give \
             the log up on its directory",
            lease.as_secs(),
            ABANDON_WAIT.as_secs()
        )));
    }
    tokio::time::sleep(lease).await;
    Ok(())
}

/// Ends a log of `node` in the object store where its owner has come to. An owner without a lease
/// acknowledges nothing anyhow: this does not hang on how long anybody believes that one to be.
async fn sealed(
    admin: &Admin,
    client: &Client,
    wal: WalId,
    node: NodeId,
) -> Result<Sequence, Refused> {
    let Some(Serving { broker, store }) = admin.serving.lock().clone() else {
        return Err(conflict("no object store is used here: ask a broker"));
    };
    let away = |why: &str| {
        let why = format!("the log is not sealed, and so not given up: {why}");
        (StatusCode::SERVICE_UNAVAILABLE, why)
    };
    // In another store than the cluster's, a seal would stop nobody.
    let own = broker.config.node_id;
    let checked = home::check(&broker.env, client, own, &store).await;
    checked.map_err(|why| away(&why))?;
    let trim = client.trim_point(wal).await.map_err(refused)?;
    let Some(trim) = trim else {
        return Err(conflict(
            "the log is closed, or the controllers are of an older build",
        ));
    };
    let prefix = wal_prefix(&store.keys(client), node);
    let settings = wal::object::ObjectSettings::STANDARD;
    let sealing = wal::object::seal(
        &broker.env,
        Arc::clone(&store.store),
        prefix,
        wal,
        trim,
        settings,
    );
    match timeout(SEAL_PATIENCE, sealing).await {
        Ok(Ok(end)) => Ok(end),
        Ok(Err(error)) => Err(away(&error.to_string())),
        Err(_) => Err(away("the object store takes too long")),
    }
}

async fn unquarantined(admin: &Admin, wal: WalId, body: &[u8]) -> Result<Value, Refused> {
    let (client, asked) = begin(admin, body)?;
    let image = Arc::clone(&client.image().borrow());
    let mut told = about(&image, wal)?;
    if told["quarantine"].is_null() {
        return Err(conflict(&format!("log {wal} is not set aside")));
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
    client.submit(command).await.map(drop).map_err(refused)
}

fn refused(error: controller::Error) -> Refused {
    let code = match error.kind() {
        ErrorKind::Retry if error.refusal().is_none() => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Retry | ErrorKind::Fenced | ErrorKind::Invalid => StatusCode::CONFLICT,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, error.to_string())
}

fn conflict(why: &str) -> Refused {
    (StatusCode::CONFLICT, why.to_owned())
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
