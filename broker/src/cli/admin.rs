//! What every command that asks a node's admin server shares: JSON over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::{Body, to_bytes};
use clap::Args;
use env::Env;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Largest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which node.
#[derive(Args, Clone, Debug)]
pub(crate) struct Admin {
    /// Admin address of any node, HOST:PORT (its `admin.listen`).
    #[arg(
        long,
        global = true,
        default_value = "127.0.0.1:9644",
        env = "HEADWATER_ADMIN"
    )]
    admin: String,
}

impl Admin {
    /// Asks for a page.
    pub(crate) async fn get(&self, env: &Env, path: &str) -> Result<Value> {
        self.ask(env, Method::GET, path).await
    }

    /// Has something done.
    pub(crate) async fn post(&self, env: &Env, path: &str) -> Result<Value> {
        self.ask(env, Method::POST, path).await
    }

    async fn ask(&self, env: &Env, method: Method, path: &str) -> Result<Value> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(env, method, path)).await;
        asked.with_context(|| format!("{} does not answer", self.admin))?
    }

    async fn exchange(&self, env: &Env, method: Method, path: &str) -> Result<Value> {
        let (host, port) = self
            .admin
            .rsplit_once(':')
            .with_context(|| format!("--admin {:?}: expected HOST:PORT", self.admin))?;
        let port = port.parse().context("--admin: bad port")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = env.net.resolve(host, port).await?;
        let address = found.first().copied().context("--admin: no address")?;
        let stream = env.net.connect(address).await;
        let stream = stream.with_context(|| format!("cannot reach {address}"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            // The address, not the name it was found by: a node knows few names of itself.
            .header("host", address.to_string())
            .header("content-type", "application/json")
            .body(Body::empty())?;
        let asking = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let bytes = to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await?;
            if !status.is_success() {
                bail!("{status}: {}", String::from_utf8_lossy(&bytes).trim());
            }
            Ok(serde_json::from_slice(&bytes)?)
        };
        tokio::pin!(asking);
        tokio::select! {
            biased;
            answer = &mut asking => return answer,
            // The connection may end with the answer in hand.
            _ = connection => {}
        }
        asking.await
    }
}
