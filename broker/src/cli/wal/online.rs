//! The same decisions while the cluster runs, through the admin listener of any node.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use env::Env;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The controllers may be electing, and a lease is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// Gives a log up; without `yes` only tells what would be lost.
pub(super) async fn abandon(
    env: &Env,
    at: &str,
    wal: uuid::Uuid,
    (by, reason): (&str, &str),
    yes: bool,
) -> Result<()> {
    let body = json!({ "by": by, "reason": reason, "yes": yes });
    let told = post(env, at, &format!("/v1/wals/{wal}/abandon"), &body).await?;
    eprintln!(
        "log {wal} of node {}: {}; {} partitions have their newest records in it",
        told["node"], told["phase"], told["partitions"],
    );
    if !yes {
        bail!(
            "nothing is done: acknowledged records that are only in this log will be lost. If it \
             cannot be brought back, say --yes"
        );
    }
    eprintln!("given up: its partitions open, at least 1,000,000 offsets further on");
    Ok(())
}

/// Has a log that was set aside recovered once more.
pub(super) async fn unquarantine(env: &Env, at: &str, wal: uuid::Uuid, by: &str) -> Result<()> {
    let body = json!({ "by": by });
    post(env, at, &format!("/v1/wals/{wal}/unquarantine"), &body).await?;
    eprintln!("log {wal} is recovered by its heir, or by its own node at the next start");
    Ok(())
}

async fn post(env: &Env, at: &str, path: &str, body: &Value) -> Result<Value> {
    let asked = timeout(PATIENCE, exchange(env, at, path, body)).await;
    let (status, answer) = asked
        .with_context(|| format!("no answer from {at}"))?
        .with_context(|| format!("cannot ask {at}: is it the admin address of a broker?"))?;
    let answer: Value = serde_json::from_slice(&answer)
        .with_context(|| format!("{at} answers {status}, and not in JSON"))?;
    match status {
        StatusCode::OK => Ok(answer),
        _ => Err(anyhow!("{}", answer["error"].as_str().unwrap_or("refused"))),
    }
}

async fn exchange(
    env: &Env,
    at: &str,
    path: &str,
    body: &Value,
) -> Result<(StatusCode, axum::body::Bytes)> {
    let (host, port) = at.rsplit_once(':').context("an address is HOST:PORT")?;
    let addresses = env.net.resolve(host, port.parse()?).await?;
    let address = *addresses.first().context("no address")?;
    let stream = env.net.connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", at)
        .header("content-type", "application/json")
        .body(body.to_string())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await?;
    driving.abort();
    Ok((status, answer))
}
