//! One registration: from the epoch that the controller gives to its fence or the stop.

use std::path::PathBuf;
use std::sync::Arc;

use controller::{
    Command, ErrorKind, LeaseKeeper, LeaseState, Refusal, RegisterBroker, WalBackend as Backend,
};
use protocol::{BrokerEpoch, NodeId};
use storage::{
    Collector, CollectorParts, CollectorSettings, DiskReserve, Storage, StorageParts,
    StorageSettings,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use wal::{Log, LogSettings, WalId};

use super::life::{Running, shown, storage_bytes};
use super::marks::HighWatermarks;
use super::store::Pause;
use super::{Context, NodeError, Status, helpers, home, store};
use crate::assignment;
use crate::broker::Epoch;
use crate::catalog::ControllerCatalog;
use crate::config::{Config, WalBackend};
use crate::groups;
use crate::limits::NODE_IN_USE_PAUSE;
use crate::loads;
use crate::mover;
use crate::surrender::Surrender;
use crate::sweeper::Sweeper;
use crate::takeover::{Takeover, TakeoverError};

/// Before it nobody is told that a process lived.
const LIVED_SINCE_LEVEL: u16 = 2;

/// Why an epoch did not begin.
pub(super) enum BeginError {
    /// Fenced meanwhile, or without an answer: begin again.
    Again(String),
    /// The node cannot go on.
    Fatal(NodeError),
}

impl<E: Into<NodeError>> From<E> for BeginError {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// Why an epoch ended.
pub(super) enum End {
    /// The node is told to stop.
    Stop,
    /// Refused by the controller or a seal: register again.
    Fenced(String),
    /// The object store answers others and not this broker: give up to them.
    Surrendered(String),
    /// The process must end.
    Failed(NodeError),
}

/// An epoch that serves.
pub(super) struct Serving {
    pub(super) epoch: Arc<Epoch>,
    pub(super) log: Log,
    pub(super) wal_id: WalId,
    lease: LeaseKeeper,
    /// What must go on as long as the epoch does.
    tasks: JoinSet<()>,
    /// What may end earlier.
    helpers: JoinSet<()>,
}

/// Registers, recovers what earlier epochs left, and opens a fresh log and the partitions.
pub(super) async fn begin(context: &Context, running: &Running) -> Result<Serving, BeginError> {
    let say = |what: &str| {
        context
            .status
            .send_replace(Status::Starting(what.to_owned()))
    };
    // Before it registers: one that cannot take part must not stand for its node.
    let (client, node) = (&running.client, context.config.node_id);
    let home = home::check(&context.env, client, node, &running.store).await;
    home.map_err(BeginError::Again)?;
    say("registering with the controller");
    let broker = register(context, running).await?;
    tracing::info!(epoch = %broker, "registered");
    let storage = open_storage(context, running, broker);
    let marks = HighWatermarks::new(storage.clone());
    let keeping = running.client.keep_lease(broker, marks);
    let keeper = judged(keeping.await)?;
    say("recovering the logs of earlier epochs");
    let takeover = takeover(context, running, broker, &storage);
    takeover.own().await.map_err(|error| match error {
        TakeoverError::Fenced => BeginError::Again("fenced while recovering".to_owned()),
        TakeoverError::Fatal(error) => BeginError::Fatal(error),
    })?;
    say("opening the log");
    let (wal_id, log) = fresh_log(context, running, broker, &storage).await?;
    storage.attach(log.clone());
    let epoch = Arc::new(Epoch {
        id: broker,
        storage,
        lease: keeper.lease(),
    });
    running.broker.set_epoch(Some(Arc::clone(&epoch)));
    say("opening partitions");
    let mut tasks = open_partitions(running, &epoch).await;
    tasks.spawn(takeover.follow());
    let mut helpers = JoinSet::new();
    let sweeper = Sweeper {
        env: context.env.clone(),
        broker,
        store: Arc::clone(&running.store.store),
        keys: running.store.keys(&running.client),
        client: running.client.clone(),
        metrics: running.broker.metrics.sweeper.clone(),
        interval: context.parts.pace.sweep_interval,
    };
    let failures = &running.broker.metrics.background_failures;
    helpers.spawn(helpers::keep("sweeping", failures.clone(), move |tasks| {
        tasks.spawn(sweeper.clone().run());
    }));
    let parts = collector(context, running, &epoch);
    helpers.spawn(helpers::keep(
        "collecting",
        failures.clone(),
        move |tasks| {
            // It ends with its last handle.
            Collector::spawn(tasks, parts.clone())
        },
    ));
    Ok(Serving {
        epoch,
        log,
        wal_id,
        lease: keeper,
        tasks,
        helpers,
    })
}

/// A log of this epoch's own, recorded with the controller.
async fn fresh_log(
    context: &Context,
    running: &Running,
    broker: BrokerEpoch,
    storage: &Storage,
) -> Result<(WalId, Log), BeginError> {
    let wal_id = WalId(context.env.entropy.uuid());
    let log = open_log(context, running, storage, wal_id).await;
    let log = log.map_err(|error| match &error {
        // A full disk, or no file handles: what passes by itself ends no process.
        NodeError::Wal(log) if log.kind() == wal::ErrorKind::Retry => {
            BeginError::Again(error.to_string())
        }
        _ => BeginError::Fatal(error),
    })?;
    let backend = match context.config.wal {
        WalBackend::Disk => Backend::Disk,
        WalBackend::Object => Backend::Object,
        WalBackend::Memory => Backend::Memory,
    };
    let open = Command::OpenWal {
        broker,
        wal: wal_id,
        backend,
    };
    judged(running.client.submit(open).await)?;
    Ok((wal_id, log))
}

fn takeover(
    context: &Context,
    running: &Running,
    broker: BrokerEpoch,
    storage: &Storage,
) -> Takeover {
    Takeover {
        env: context.env.clone(),
        config: Arc::clone(&context.config),
        client: running.client.clone(),
        store: running.store.clone(),
        storage: storage.clone(),
        broker,
        metrics: running.wal_metrics.clone(),
        counts: running.broker.metrics.takeover.clone(),
    }
}

/// Starts to follow assignments, and waits until those of this moment are open.
async fn open_partitions(running: &Running, epoch: &Arc<Epoch>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (first, opened) = tokio::sync::oneshot::channel();
    let broker = &running.broker;
    tasks.spawn(assignment::follow(
        Arc::clone(broker),
        Arc::clone(epoch),
        first,
    ));
    tasks.spawn(groups::follow(Arc::clone(broker)));
    tasks.spawn(mover::follow(Arc::clone(broker), Arc::clone(epoch)));
    tasks.spawn(loads::report(Arc::clone(broker), Arc::clone(epoch)));
    // A task that is gone has panicked: the supervisor says so.
    let _ = opened.await;
    tasks
}

/// What an answer of the controller means for an epoch that is beginning. One that does not come is
/// no end: registering again is safe.
fn judged<T>(result: Result<T, controller::Error>) -> Result<T, BeginError> {
    result.map_err(|error| match error.kind() {
        ErrorKind::Fenced | ErrorKind::Retry => BeginError::Again(error.to_string()),
        ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal => {
            BeginError::Fatal(error.into())
        }
    })
}

/// Asks for an epoch. The directory's lock proves that no earlier process that registered from here
/// lives; one elsewhere with the same id is waited for.
async fn register(context: &Context, running: &Running) -> Result<BrokerEpoch, NodeError> {
    let rack = context.config.values.text("broker.rack");
    let mut pause = Pause::default();
    loop {
        let register = RegisterBroker {
            node: context.config.node_id,
            incarnation: context.env.entropy.uuid(),
            listeners: running.listeners.clone(),
            rack: (!rack.is_empty()).then(|| rack.to_owned()),
            directory: context.directory,
            lived: lived(running),
        };
        match running.client.register(register, true).await {
            Ok(broker) => {
                *running.lived.lock() = Some(broker);
                return Ok(broker);
            }
            Err(error) if error.kind() == ErrorKind::Retry => {
                if let Some(Refusal::NodeInUse { .. }) = error.refusal() {
                    pause.at_most(NODE_IN_USE_PAUSE);
                }
                store::wait(context, &format!("cannot register: {error}"), &mut pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What this process held before, once every controller understands that.
fn lived(running: &Running) -> Option<BrokerEpoch> {
    let level = running.client.image().borrow().level();
    let held = *running.lived.lock();
    held.filter(|_| level >= LIVED_SINCE_LEVEL)
}

fn open_storage(context: &Context, running: &Running, broker_epoch: BrokerEpoch) -> Storage {
    Storage::new(StorageParts {
        env: context.env.clone(),
        store: Arc::clone(&running.store.store),
        keys: running.store.keys(&running.client),
        node: context.config.node_id,
        catalog: Arc::new(ControllerCatalog::new(running.client.clone())),
        broker_epoch,
        settings: storage_settings(context, running.store.directory.clone()),
        metrics: running.storage_metrics.clone(),
        store_metrics: running.store.metrics.clone(),
        hooks: context.parts.hooks.clone(),
    })
}

/// What the one door through which objects are deleted works with.
fn collector(context: &Context, running: &Running, epoch: &Epoch) -> CollectorParts {
    let standard = context.parts.pace.collector();
    let grace = context
        .config
        .time("collector.grace.ms")
        .unwrap_or(standard.grace);
    CollectorParts {
        env: context.env.clone(),
        store: Arc::clone(&running.store.store),
        keys: running.store.keys(&running.client),
        catalog: Arc::new(ControllerCatalog::new(running.client.clone())),
        writer: (context.config.node_id, epoch.id),
        given_up: epoch.storage.given_up(),
        duty: chores(running, epoch.id),
        settings: CollectorSettings { grace, ..standard },
        metrics: running.collector_metrics.clone(),
    }
}

/// Whether the chores of the cluster are this broker's.
fn chores(running: &Running, broker: BrokerEpoch) -> storage::Duty {
    let image = running.client.image();
    Arc::new(move || image.borrow().housekeeper() == Some(broker))
}

fn storage_settings(context: &Context, objects: Option<PathBuf>) -> StorageSettings {
    let config = &context.config;
    let mut settings = context.parts.pace.storage(storage_bytes(config));
    let asked = config.size("upload.bytes") as u64;
    settings.upload_bytes = asked.min(settings.unuploaded_bytes as u64 / 3);
    if let Some(age) = config.time("upload.age.ms") {
        settings.upload_age = age;
    }
    if let Some(interval) = config.time("log.retention.check.interval.ms") {
        settings.retention_interval = interval;
    }
    settings.unreported_offsets = controller::limits::ABANDON_OFFSET_GAP;
    settings.producer_expiration_ms = config.values.number("producer.id.expiration.ms");
    settings.disk_reserve = objects.map(|path| DiskReserve {
        path,
        bytes: 2 * settings.upload_bytes,
        interval: std::time::Duration::from_secs(1),
    });
    settings
}

/// Where disk logs of a node lie.
pub(crate) fn wal_dir(config: &Config) -> PathBuf {
    config.data_dir.join("wal")
}

/// Prefix of the logs of one node in the object store.
pub(crate) fn wal_prefix(keys: &storage::KeySpace, node: NodeId) -> String {
    format!("{}/wal/{node}", keys.root())
}

async fn open_log(
    context: &Context,
    running: &Running,
    storage: &Storage,
    wal_id: WalId,
) -> Result<Log, NodeError> {
    let (env, config) = (&context.env, &context.config);
    let backend = match config.wal {
        WalBackend::Disk => {
            let full = config.size("wal.segment.bytes") as u64 / 4096 * 4096;
            let standard = wal::disk::DiskSettings::STANDARD;
            let settings = wal::disk::DiskSettings {
                segment_bytes: full,
                ..standard
            };
            wal::disk::create(env, &wal_dir(config), wal_id, settings).await?
        }
        WalBackend::Object => {
            let pace = config.values.number("wal.object.puts.per.second");
            let settings = wal::object::ObjectSettings {
                puts_per_second: u32::try_from(pace).unwrap_or(u32::MAX).max(1),
                ..wal::object::ObjectSettings::STANDARD
            };
            let prefix = wal_prefix(&running.store.keys(&running.client), config.node_id);
            let store = Arc::clone(&running.store.store);
            wal::object::create(env, store, prefix, wal_id, settings)
        }
        WalBackend::Memory => {
            tracing::warn!("the log is in memory: nothing is durable before it is uploaded");
            wal::memory::create()
        }
    };
    let standard = LogSettings::standard(running.wal_metrics.clone());
    let settings = LogSettings {
        queue_bytes: config.size("wal.queue.bytes"),
        ..standard
    };
    Ok(Log::start(
        env,
        wal_id,
        backend,
        settings,
        storage.on_durable(),
    ))
}

impl Serving {
    /// Until the epoch ends. Clients lose their connections while the lease has lapsed.
    pub(super) async fn run(&mut self, context: &Context, running: &Running) -> End {
        let mut lease = self.lease.lease().state();
        // A fence that came while the epoch began counts too, and nothing else comes after it.
        lease.mark_changed();
        let mut lapses = self.lease.lease().lapses();
        let mut storage = self.epoch.storage.failure();
        let mut log = self.log.failure();
        let mut giving_up = std::pin::pin!(self.giving_up(context, running));
        loop {
            tokio::select! {
                biased;
                failure = some(&mut log) => return log_end(&failure),
                failure = some(&mut storage) => return storage_end(&failure),
                Some(ended) = self.tasks.join_next() => match ended {
                    // One of them was refused as fenced before the lease's keeper was.
                    Ok(()) => return End::Fenced("a part of this epoch has ended".to_owned()),
                    Err(error) => {
                        let what = format!("a part of this epoch has failed: {error}");
                        return End::Failed(NodeError::Failed(what));
                    }
                },
                Some(ended) = self.helpers.join_next() => {
                    if let Err(error) = ended {
                        running.broker.metrics.background_failures.inc();
                        tracing::error!(%error, "a helper has failed for good");
                    }
                }
                why = &mut giving_up => return End::Surrendered(why),
                // A fence shows in the lease's state first.
                why = self.lease.ended(), if *lease.borrow() != LeaseState::Fenced => {
                    if *lease.borrow() != LeaseState::Fenced {
                        running.broker.metrics.background_failures.inc();
                        tracing::error!(%why, "the lease is no longer kept");
                    }
                    return End::Fenced(why);
                }
                changed = lease.changed() => {
                    if changed.is_err() {
                        return End::Fenced("the lease is no longer kept".to_owned());
                    }
                    let state = *lease.borrow_and_update();
                    let now = self.lease.lease().lapses();
                    if now > lapses {
                        tracing::warn!("the lease has lapsed: clients are disconnected");
                        running.broker.metrics.lease_lapses.inc_by(now - lapses);
                        running.server.close_all();
                        lapses = now;
                    }
                    match state {
                        LeaseState::Fenced => {
                            return End::Fenced(format!("{} is fenced", shown(self.epoch.id)));
                        }
                        LeaseState::Lapsed => {
                            let why = "the lease has lapsed".to_owned();
                            context.status.send_replace(Status::Interrupted(why));
                        }
                        LeaseState::Held => {
                            context.status.send_replace(Status::Ready);
                        }
                    }
                }
            }
        }
    }

    /// Ends when this broker should give up to others, with the reason; never without the object
    /// store as its log.
    fn giving_up(
        &self,
        context: &Context,
        running: &Running,
    ) -> impl Future<Output = String> + use<> {
        let surrender = (context.config.wal == WalBackend::Object).then(|| Surrender {
            log: self.log.clone(),
            lease: self.lease.lease(),
            store: Arc::clone(&running.store.store),
            root: running.store.keys(&running.client).root().to_owned(),
        });
        async move {
            match surrender {
                Some(surrender) => surrender.wanted().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ends everything of the epoch at once.
    pub(super) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
        drop(self.lease);
        self.epoch.storage.shutdown().await;
        drop(self.log);
    }

    /// Ends following assignments: no partition opens or closes any more.
    pub(super) async fn settle(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn some<E: Clone>(failure: &mut watch::Receiver<Option<E>>) -> E {
    loop {
        if let Some(error) = failure.borrow_and_update().clone() {
            return error;
        }
        if failure.changed().await.is_err() {
            // Gone without a failure: closed in order, by whoever awaits elsewhere.
            std::future::pending::<()>().await;
        }
    }
}

fn log_end(error: &wal::Error) -> End {
    match error.kind() {
        wal::ErrorKind::Fenced => End::Fenced(error.to_string()),
        wal::ErrorKind::Retry
        | wal::ErrorKind::Invalid
        | wal::ErrorKind::Corrupt
        | wal::ErrorKind::Internal => End::Failed(error.clone().into()),
    }
}

fn storage_end(error: &storage::Error) -> End {
    match error.kind() {
        storage::ErrorKind::Fenced => End::Fenced(error.to_string()),
        storage::ErrorKind::Retry
        | storage::ErrorKind::Invalid
        | storage::ErrorKind::Corrupt
        | storage::ErrorKind::Internal => End::Failed(error.clone().into()),
    }
}
