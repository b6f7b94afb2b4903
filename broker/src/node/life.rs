//! A node's life after its sockets are bound: one broker epoch after the other.

use std::sync::Arc;

use controller::{Client, Command};
use parking_lot::Mutex;
use protocol::BrokerEpoch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::checkpoints::Checkpoints;
use super::control::{Control, failed};
use super::epoch::{self, End, Serving};
use super::{Bound, Context, NodeError, Pulse, Sockets, Status, Store, drain, store, voter};
use crate::broker::{Broker, BrokerParts};
use crate::config::HostPort;
use crate::connection::{ConnectionSettings, Pipeline, ReadSettings, Shared};
use crate::limits::STORE_PROBES;
use crate::loads;
use crate::memory::FrameBudget;
use crate::metrics::{BrokerMetrics, ConnectionMetrics};
use crate::router::Router;
use crate::server::Server;
use crate::surrender::until_it_answers;

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
    /// The epoch that this process held last.
    pub(super) lived: Mutex<Option<BrokerEpoch>>,
    /// Cancelled when connections are to end after what is in flight.
    pub(super) drain: CancellationToken,
}

/// Runs the node to its end, which the status tells.
pub(super) async fn live(context: Context, sockets: Sockets) {
    let status = match lead(&context, sockets).await {
        Ok(()) => Status::Stopped,
        Err(error) => {
            tracing::error!(%error, "the node has failed");
            Status::Failed(error.to_string())
        }
    };
    context.status.send_replace(status);
}

/// The way to the controllers first: a voter must not wait for the object store.
async fn lead(context: &Context, mut sockets: Sockets) -> Result<(), NodeError> {
    let url = store::parse(context)?;
    tracing::debug!(%url, "the object store");
    let stop = context.stop.clone();
    let control = tokio::select! {
        biased;
        control = Control::start(context, &mut sockets) => control?,
        () = stop.cancelled() => return Ok(()),
    };
    let pulse = Pulse::new(Arc::clone(&context.env.clock));
    let period = context.config.time("lease.ms").unwrap_or_default() / 3;
    let mut asking = JoinSet::new();
    asking.spawn(Arc::clone(&pulse).ask(control.client(), period));
    context
        .admin
        .watch_cluster(control.client(), Arc::clone(&pulse));
    let balancer = loads::balancer(&context.config).filter(|_| control.votes());
    let own = context.config.node_id;
    let _balancer = balancer.map(|settings| control.client().keep_balanced(own, settings));
    if context.config.roles.broker {
        serve_broker(context, &control, sockets.kafka).await?;
    } else {
        voter::serve(context, &control, &pulse).await?;
    }
    asking.shutdown().await;
    control.shutdown().await
}

async fn serve_broker(
    context: &Context,
    control: &Control,
    bound: Vec<Bound>,
) -> Result<(), NodeError> {
    let mut failure = control.failure();
    let running = tokio::select! {
        biased;
        reason = failed(&mut failure) => return Err(NodeError::Failed(reason)),
        running = start(context, control.client(), &bound) => running?,
        () = context.stop.cancelled() => return Ok(()),
    };
    serve(context, control, running, bound).await
}

async fn start(context: &Context, client: Client, bound: &[Bound]) -> Result<Running, NodeError> {
    let say = |why: &str| {
        context
            .status
            .send_replace(Status::Starting(why.to_owned()));
    };
    let store = store::open(context, &say).await?;
    store::check(context, &store, &client).await?;
    let running = assemble(context, client, store, bound);
    context
        .admin
        .serve_broker(Arc::clone(&running.broker), running.store.clone());
    Ok(running)
}

/// How the others learn of this node's addresses: those of listeners first, then those that clients
/// of one zone are told, each under `NAME@ZONE`.
fn registered(bound: &[Bound]) -> Vec<controller::Listener> {
    let listener = |name: String, bound: &Bound, at: &HostPort| controller::Listener {
        name,
        host: at.host.clone(),
        port: at.port,
        protocol: bound.protocol.clone(),
    };
    let own = bound
        .iter()
        .map(|bound| listener(bound.name.to_string(), bound, &bound.advertised));
    let zones = bound.iter().flat_map(|bound| {
        let zones = bound.zones.iter();
        zones.map(|(zone, at)| listener(format!("{}@{zone}", bound.name), bound, at))
    });
    own.chain(zones).collect()
}

/// Puts the parts together that need no epoch.
fn assemble(context: &Context, client: Client, store: Store, bound: &[Bound]) -> Running {
    let config = &context.config;
    let mut registry = context.registry.write();
    let listeners = registered(bound);
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
        lived: Mutex::default(),
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
    control: &Control,
    running: Running,
    bound: Vec<Bound>,
) -> Result<(), NodeError> {
    let mut failure = control.failure();
    let mut accepting = JoinSet::new();
    let checkpoints = control.votes().then(|| {
        let client = running.client.clone();
        Checkpoints::of(context, client, &running.store).keep()
    });
    let mut bound = Some(bound);
    let mut pause = super::store::Pause::default();
    loop {
        let beginning = epoch::begin(context, &running);
        let begun = tokio::select! {
            biased;
            reason = failed(&mut failure) => return Err(NodeError::Failed(reason)),
            () = context.stop.cancelled() => return Ok(()),
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
                drain::in_order(context, &running, serving).await;
                if let Some(checkpoints) = checkpoints {
                    voter::finish(context, &running.client, checkpoints).await;
                }
                return Ok(());
            }
            End::Failed(error) => {
                give_up(&running, serving).await;
                return Err(error);
            }
            End::Surrendered(why) => {
                context.status.send_replace(Status::Interrupted(why));
                tokio::select! {
                    biased;
                    () = surrender(&running, serving) => {}
                    () = context.stop.cancelled() => return Ok(()),
                }
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

/// How logs and messages name an epoch.
pub(super) fn shown(epoch: BrokerEpoch) -> String {
    format!("broker epoch {epoch}")
}

/// Gives the epoch up to others, and waits until the store answers here again.
async fn surrender(running: &Running, serving: Serving) {
    tracing::error!("surrendering");
    running.broker.metrics.surrenders.inc();
    let broker = serving.epoch.id;
    running.broker.set_epoch(None);
    running.server.close_all();
    // Its renewals end first: what has no lease acknowledges nothing. Who does not get the goodbye
    // through is fenced when the lease runs out.
    serving.shutdown().await;
    if let Err(error) = running.client.submit(Command::Goodbye { broker }).await {
        tracing::warn!(%error, "no goodbye: the lease runs out by itself");
    }
    let root = running.store.keys(&running.client).root().to_owned();
    until_it_answers(&*running.store.store, &root, STORE_PROBES).await;
}
