//! The admin HTTP server: `/healthz`, `/readyz`, `/metrics`, `/status`, and JSON under `/v1`.
//! What is posted is JSON, and comes from no web page ([`guard`]).

mod balance;
mod brokers;
mod cluster;
mod guard;
mod wals;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use controller::{BalancerSettings, Client, Image};
use env::Listener;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use protocol::NodeId;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::config::Config;
use crate::limits::{ACCEPT_PAUSE, ADMIN_CONNECTION, ADMIN_CONNECTIONS};
use crate::loads;
use crate::memory::FrameBudget;
use crate::node::{Pulse, Status, Store};

/// What the pages are made from.
pub(crate) struct Admin {
    registry: Arc<RwLock<Registry>>,
    status: watch::Receiver<Status>,
    node: NodeId,
    about: Value,
    serving: Mutex<Option<Serving>>,
    frames: Mutex<Option<Arc<FrameBudget>>>,
    /// The way to the controllers, once there is one.
    cluster: Mutex<Option<(Client, Arc<Pulse>)>>,
    controllers: ControllerMetrics,
    balancer: BalancerSettings,
    /// What the balancer would do, and when it was asked last.
    balance: balance::Cached,
    names: Arc<guard::Names>,
}

/// What this node knows of the controllers and the cluster, as of the last scrape.
#[derive(Default)]
struct ControllerMetrics {
    leader: Gauge,
    leads: Gauge,
    applied: Gauge,
    offline: Gauge,
    live: Gauge,
    quorum_age: Gauge,
    term: Gauge,
    leaders: Counter,
    above_level: Counter,
    lease: Gauge,
    /// Logs that an operator gave up here.
    abandoned: Counter,
    /// Logs that an operator put back here.
    unquarantined: Counter,
}

/// Raises `counter` to what was counted elsewhere.
fn count_up(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

// === impl ControllerMetrics ===

impl ControllerMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // Also before the first image: a node that has found nobody yet shows it.
        metrics.leader.set(-1);
        let registry = registry.sub_registry_with_prefix("controller");
        let mut gauge = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        let help = "Node that leads the controllers, -1 while none is known";
        gauge("leader", help, &metrics.leader);
        let help = "1 where the leader of the controllers is";
        gauge("is_leader", help, &metrics.leads);
        let help = "Last log entry of the controllers that this node has applied";
        gauge("applied_index", help, &metrics.applied);
        let help = "Partitions of the cluster without a leader";
        gauge("offline_partitions", help, &metrics.offline);
        let help = "Brokers of the cluster that are not fenced";
        gauge("live_brokers", help, &metrics.live);
        let help = "Time since a quorum of the controllers answered this node, milliseconds";
        gauge("quorum_age_ms", help, &metrics.quorum_age);
        let help = "Term of the controllers, 0 where no voter is: it rises with each election";
        gauge("term", help, &metrics.term);
        let help = "How long a lease of this broker lasts, as the controllers' leader and lease.ms say, milliseconds";
        gauge("lease_ms", help, &metrics.lease);
        let mut counter = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        let help = "Times that another voter came to lead the controllers, as this voter saw";
        counter("leader_changes", help, &metrics.leaders);
        let help = "Entries that need a level which was not finalized before them: never any";
        counter("entries_above_level", help, &metrics.above_level);
        let help = "Logs that an operator gave up through this node";
        counter("wals_abandoned", help, &metrics.abandoned);
        let help = "Logs that an operator put back through this node";
        counter("wals_unquarantined", help, &metrics.unquarantined);
        metrics
    }

    fn set(&self, own: NodeId, image: &Image) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.leader
            .set(image.controller.map_or(-1, |node| i64::from(node.0)));
        self.leads.set(i64::from(image.controller == Some(own)));
        self.applied
            .set(i64::try_from(image.applied).unwrap_or(i64::MAX));
        self.offline.set(count(cluster::offline(image)));
        self.live.set(count(image.live_brokers().count()));
    }
}

#[derive(Clone)]
struct Serving {
    broker: Arc<Broker>,
    store: Store,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({})", self.about)
    }
}

impl Admin {
    /// Pages of a node that is only starting.
    pub(crate) fn new(
        registry: Arc<RwLock<Registry>>,
        status: watch::Receiver<Status>,
        config: &Config,
    ) -> Self {
        let about = json!({
            "node_id": config.node_id.0,
            "version": env!("CARGO_PKG_VERSION"),
            "data_dir": config.data_dir.display().to_string(),
            "wal": config.values.text("wal.backend"),
        });
        let (serving, frames) = (Mutex::new(None), Mutex::new(None));
        let controllers = ControllerMetrics::registered(&mut registry.write());
        Self {
            registry,
            status,
            node: config.node_id,
            about,
            serving,
            frames,
            cluster: Mutex::new(None),
            controllers,
            balancer: loads::settings(config),
            balance: balance::Cached::default(),
            names: Arc::new(guard::Names::of(config)),
        }
    }

    /// The way to the controllers, once there is one.
    fn client(&self) -> Option<Client> {
        let cluster = self.cluster.lock();
        cluster.as_ref().map(|(client, _)| client.clone())
    }

    /// From here on there is a cluster to tell of.
    pub(crate) fn watch_cluster(&self, client: Client, pulse: Arc<Pulse>) {
        *self.cluster.lock() = Some((client, pulse));
    }

    /// The newest image, once there is one.
    fn image(&self) -> Option<Arc<Image>> {
        let cluster = self.cluster.lock();
        let image = cluster.as_ref()?.0.image();
        let image = Arc::clone(&image.borrow());
        Some(image)
    }

    /// From here on there is a broker to tell of.
    pub(crate) fn serve_broker(&self, broker: Arc<Broker>, store: Store) {
        *self.serving.lock() = Some(Serving { broker, store });
    }

    /// From here on frames have a budget.
    pub(crate) fn watch_frames(&self, frames: Arc<FrameBudget>) {
        *self.frames.lock() = Some(frames);
    }

    /// Who leads the controllers, as far as is known.
    pub(crate) fn controllers_leader(&self) -> Option<NodeId> {
        self.image()?.controller
    }

    /// Gauges that nobody sets when they move.
    fn refresh(&self) {
        if let Some(image) = self.image() {
            self.controllers.set(self.node, &image);
        }
        if let Some((client, pulse)) = &*self.cluster.lock() {
            if let Some((term, leaders)) = client.elections() {
                let term = i64::try_from(term).unwrap_or(i64::MAX);
                self.controllers.term.set(term);
                count_up(&self.controllers.leaders, leaders);
            }
            count_up(&self.controllers.above_level, client.entries_above_level());
            let age = pulse.age().as_millis();
            let age = i64::try_from(age).unwrap_or(i64::MAX);
            self.controllers.quorum_age.set(age);
        }
        let Some(serving) = self.serving.lock().clone() else {
            return;
        };
        if let Some(epoch) = serving.broker.epoch() {
            let lease = epoch.lease.duration().as_millis();
            let lease = i64::try_from(lease).unwrap_or(i64::MAX);
            self.controllers.lease.set(lease);
            epoch.storage.metrics();
        }
        if let Some(frames) = &*self.frames.lock() {
            serving.broker.metrics.frame_bytes.set(frames.held() as i64);
        }
    }

    /// All figures as of now.
    pub(crate) fn figures(&self) -> Result<String, std::fmt::Error> {
        self.refresh();
        let mut text = String::new();
        encode(&mut text, &self.registry.read())?;
        Ok(text)
    }

    fn status_page(&self) -> Value {
        let (state, why) = describe(&self.status.borrow());
        let mut page = json!({ "node": self.about, "state": state, "why": why });
        let Some(image) = self.image() else {
            return page;
        };
        page["cluster"] = json!({
            "id": image.cluster.map(|id| id.to_string()),
            "generation": image.generation,
            "applied": image.applied,
            "controller": image.controller.map(|node| node.0),
            "topics": image.topics.len(),
            "brokers": image.live_brokers().count(),
        });
        let quarantined = image.wals.iter().filter_map(|(id, wal)| {
            wal.quarantine
                .as_ref()
                .map(|reason| json!({ "wal": id.to_string(), "reason": reason }))
        });
        page["quarantined"] = quarantined.collect();
        let Some(Serving { broker, store }) = self.serving.lock().clone() else {
            return page;
        };
        page["object_store"] = json!(store.shown);
        if let Some(epoch) = broker.epoch() {
            let (bytes, age) = epoch.storage.unuploaded();
            page["broker"] = json!({
                "epoch": epoch.id.0,
                "lease_ms": epoch.lease.remaining().as_millis() as u64,
                "partitions": epoch.storage.partitions().len(),
                "unuploaded_bytes": bytes,
                "unuploaded_age_ms": age.as_millis() as u64,
                "background_failures": broker.metrics.background_failures.get(),
            });
        }
        page
    }
}

fn describe(status: &Status) -> (&'static str, String) {
    match status {
        Status::Starting(why) => ("starting", why.clone()),
        Status::Ready => ("ready", String::new()),
        Status::Interrupted(why) => ("interrupted", why.clone()),
        Status::Draining => ("draining", String::new()),
        Status::Stopped => ("stopped", String::new()),
        Status::Failed(why) => ("failed", why.clone()),
    }
}

fn pages(admin: Arc<Admin>) -> Router {
    let names = Arc::clone(&admin.names);
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/v1/cluster", get(cluster_page))
        .route("/v1/balance", get(balance::look).post(balance::run))
        .route("/v1/brokers", get(brokers::list))
        .route("/v1/brokers/{node}/drain", post(brokers::drain))
        .route("/v1/brokers/{node}/resume", post(brokers::resume))
        .route("/v1/wals/{id}/abandon", post(wals::abandon))
        .route("/v1/wals/{id}/unquarantine", post(wals::unquarantine))
        .layer(middleware::from_fn_with_state(names, guard::guard))
        .with_state(admin)
}

/// Alive: 200 while the process can answer and has not failed for good.
async fn healthz(State(admin): State<Arc<Admin>>) -> Response {
    match &*admin.status.borrow() {
        Status::Failed(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
        }
        Status::Starting(_)
        | Status::Ready
        | Status::Interrupted(_)
        | Status::Draining
        | Status::Stopped => "ok\n".into_response(),
    }
}

/// Ready: 200, or 503 and why.
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let (state, why) = describe(&admin.status.borrow());
    match state {
        "ready" => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{state}: {why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match admin.figures() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The cluster as this node knows it, which may be behind.
async fn cluster_page(State(admin): State<Arc<Admin>>) -> Response {
    match admin.image() {
        Some(image) => Json(cluster::page(&image)).into_response(),
        None => {
            let (state, why) = describe(&admin.status.borrow());
            (StatusCode::SERVICE_UNAVAILABLE, format!("{state}: {why}\n")).into_response()
        }
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(admin.status_page())
}

/// Serves the pages until aborted. Its connections are its own and end with it.
pub(crate) async fn serve(admin: Arc<Admin>, listener: Box<dyn Listener>) {
    let pages = pages(admin);
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(pages.clone());
        connections.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            let serving = http
                .keep_alive(true)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off, or stays too long, is its own affair.
            let _ = tokio::time::timeout(ADMIN_CONNECTION, serving).await;
            drop(permit);
        });
    }
}
