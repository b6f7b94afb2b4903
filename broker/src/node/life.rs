//! A node's life after its sockets are bound: one broker epoch after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{Client, Controller, ControllerSettings};
use protocol::BrokerEpoch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::checkpoints::Checkpoints;
use super::epoch::{self, End, Serving};
use super::{Bound, Context, NodeError, Sockets, Status, Store, drain, store};
use crate::broker::{Broker, BrokerParts};
use crate::connection::{ConnectionSettings, Pipeline, ReadSettings, Shared};
use crate::memory::FrameBudget;
use crate::metrics::{BrokerMetrics, ConnectionMetrics};
use crate::router::Router;
use crate::server::Server;

/// Everything that lives as long as the node does.
pub(super) struct Running {
    pub(super) client: Client,
    pub(super) broker: Arc<Broker>,
    pub(super) server: Arc<Server>,
    pub(super) store: Store,
    pub(super) storage_metrics: storage::StorageMetrics,
    pub(super) collector_metrics: storage::CollectorMetrics,
    pub(super) wal_metrics: wal::Metrics,
    pub(super) listeners: Vec<controller::Listener>,
    /// Cancelled when connections are to end after what is in flight.
    pub(super) drain: CancellationToken,
}

/// Runs the node to its end, which the status tells.
pub(super) async fn live(context: Context, sockets: Sockets) {
    let stop = context.stop.clone();
    let Sockets {
        kafka: bound,
        controller: calls,
    } = sockets;
    let starting = start(&context, &bound, calls);
    let started = tokio::select! {
        biased;
        started = starting => started,
        () = stop.cancelled() => {
            context.status.send_replace(Status::Stopped);
            return;
        }
    };
    let result = match started {
        Ok((controller, running)) => serve(&context, controller, running, bound).await,
        Err(error) => Err(error),
    };
    let status = match result {
        Ok(()) => Status::Stopped,
        Err(error) => {
            tracing::error!(%error, "the node has failed");
            Status::Failed(error.to_string())
        }
    };
    context.status.send_replace(status);
}

async fn start(
    context: &Context,
    bound: &[Bound],
    calls: Option<Bound>,
) -> Result<(Controller, Running), NodeError> {
    let store = store::open(context).await?;
    let controller = start_controller(context, bound, calls).await?;
    let client = controller.client();
    store::check(context, &store, &client).await?;
    let running = assemble(context, client, store, bound);
    context
        .admin
        .serve_broker(Arc::clone(&running.broker), running.store.shown.clone());
    Ok((controller, running))
}

/// Starts the voter of this node; with several voters that takes a quorum of them, which is waited
/// for.
async fn start_controller(
    context: &Context,
    bound: &[Bound],
    calls: Option<Bound>,
) -> Result<Controller, NodeError> {
    let config = &context.config;
    let voters = config.quorum.voters.iter();
    let mut voters: BTreeMap<_, _> = voters.map(|(id, at)| (*id, at.to_string())).collect();
    if voters.is_empty() {
        let own = calls.as_ref().or(bound.first());
        let own = own.map(|bound| bound.advertised.to_string());
        voters.insert(config.node_id, own.unwrap_or_default());
    }
    let settings = ControllerSettings {
        dir: config.data_dir.join("raft"),
        node: config.node_id,
        voters,
        listener: calls.map(|bound| bound.listener),
        cluster: None,
        generation: 1,
        lease: config.time("lease.ms").unwrap_or_default(),
    };
    let status = context.status.clone();
    let say = |why: &str| {
        let why = format!("the controllers have no quorum: {why}");
        status.send_replace(Status::Starting(why));
    };
    say("looking for the voters");
    let controller = Controller::start_telling(context.env.clone(), settings, say).await?;
    Ok(controller)
}

/// Puts the parts together that need no epoch.
fn assemble(context: &Context, client: Client, store: Store, bound: &[Bound]) -> Running {
    let config = &context.config;
    let mut registry = context.registry.write();
    let listener = |bound: &Bound| controller::Listener {
        name: bound.name.to_string(),
        host: bound.advertised.host.clone(),
        port: bound.advertised.port,
        protocol: bound.protocol.clone(),
    };
    let listeners: Vec<_> = bound.iter().map(listener).collect();
    let broker = Broker::new(BrokerParts {
        env: context.env.clone(),
        config: Arc::clone(config),
        controller: client.clone(),
        metrics: Arc::new(BrokerMetrics::new(&mut registry)),
        authorizer: Arc::clone(&context.parts.authorizer),
        quota: Arc::clone(&context.parts.quota),
        listeners: listeners.clone(),
    });
    store.metrics.register(&mut registry);
    let collector_metrics = storage::CollectorMetrics::default();
    collector_metrics.register(&mut registry);
    let largest = config.size("socket.request.max.bytes");
    let budget = FrameBudget::new(frame_bytes(config), largest);
    context.admin.watch_frames(Arc::clone(&budget));
    let drain = CancellationToken::new();
    let shared = Shared {
        service: Arc::new(Router::new(Arc::clone(&broker))),
        budget,
        settings: ConnectionSettings {
            read: ReadSettings {
                max_frame: largest,
                receive_timeout: config
                    .time("request.receive.timeout.ms")
                    .unwrap_or_default(),
                idle: config.time("connections.max.idle.ms"),
            },
            pipeline: Pipeline {
                requests: config.size("queued.max.requests"),
                bytes: config.size("queued.max.request.bytes"),
            },
        },
        metrics: Arc::new(ConnectionMetrics::new(&mut registry)),
        drain: drain.clone(),
    };
    let server = Server::new(shared, config.size("max.connections"), context.kill.clone());
    Running {
        client,
        broker,
        server,
        store,
        storage_metrics: storage::StorageMetrics::register(&mut registry),
        collector_metrics,
        wal_metrics: wal::Metrics::registered(&mut registry),
        listeners,
        drain,
    }
}

/// The frames' part of the memory budget: a quarter, but room for two of the largest frames.
fn frame_bytes(config: &crate::config::Config) -> usize {
    let least = config.size("socket.request.max.bytes") * 5 / 4;
    (config.size("memory.budget.bytes") / 4).max(least)
}

/// Storage's part: what frames leave.
pub(super) fn storage_bytes(config: &crate::config::Config) -> usize {
    config
        .size("memory.budget.bytes")
        .saturating_sub(frame_bytes(config))
}

/// One epoch after the other, until the node is told to stop.
async fn serve(
    context: &Context,
    controller: Controller,
    running: Running,
    bound: Vec<Bound>,
) -> Result<(), NodeError> {
    let mut failure = controller.failure();
    let mut accepting = JoinSet::new();
    let period = context
        .config
        .time("controller.checkpoint.interval.ms")
        .unwrap_or_default();
    let root = running.store.keys(&running.client).root().to_owned();
    let store = Arc::clone(&running.store.store);
    let checkpoints = Checkpoints {
        client: running.client.clone(),
        node: context.config.node_id,
        store,
        root,
        period,
    };
    let checkpoints = checkpoints.keep();
    let mut bound = Some(bound);
    let mut pause = super::store::Pause::default();
    loop {
        let beginning = epoch::begin(context, &running);
        let begun = tokio::select! {
            biased;
            reason = failed(&mut failure) => return Err(NodeError::Failed(reason)),
            () = context.stop.cancelled() => {
                return drain::unregistered(controller).await;
            }
            begun = beginning => begun,
        };
        let mut serving = match begun {
            Ok(serving) => serving,
            Err(epoch::BeginError::Again(why)) => {
                running.broker.set_epoch(None);
                super::store::wait(context, &why, &mut pause).await;
                continue;
            }
            Err(epoch::BeginError::Fatal(error)) => return Err(error),
        };
        for bound in bound.take().into_iter().flatten() {
            accepting.spawn(Arc::clone(&running.server).run(bound.listener, bound.name));
        }
        context.status.send_replace(Status::Ready);
        let end = tokio::select! {
            biased;
            reason = failed(&mut failure) => End::Failed(NodeError::Failed(reason)),
            () = context.stop.cancelled() => End::Stop,
            end = serving.run(context, &running) => end,
        };
        match end {
            End::Stop => {
                context.status.send_replace(Status::Draining);
                return drain::in_order(context, &running, controller, checkpoints, serving).await;
            }
            End::Failed(error) => {
                give_up(&running, serving).await;
                return Err(error);
            }
            End::Fenced(why) => {
                tracing::warn!(%why, "registering again");
                context.status.send_replace(Status::Interrupted(why));
                give_up(&running, serving).await;
            }
        }
    }
}

/// Ends an epoch without order: nothing is acknowledged from here on, and what is not committed is
/// recovered from the log.
async fn give_up(running: &Running, serving: Serving) {
    running.broker.set_epoch(None);
    running.server.close_all();
    serving.shutdown().await;
}

async fn failed(failure: &mut tokio::sync::watch::Receiver<Option<String>>) -> String {
    loop {
        if let Some(reason) = failure.borrow_and_update().clone() {
            return reason;
        }
        if failure.changed().await.is_err() {
            return "the controller has ended".to_owned();
        }
    }
}

/// How logs and messages name an epoch.
pub(super) fn shown(epoch: BrokerEpoch) -> String {
    format!("broker epoch {epoch}")
}
