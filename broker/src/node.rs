//! A whole node: controller, broker or both in one process, started and stopped in order.
//!
//! ```text
//!  data dir, lock ─▶ sockets ─▶ voter ─▶ store, probe ─▶ register ─▶ recover earlier logs
//!       ─▶ fresh log ─▶ partitions open ─▶ Kafka listeners accept ─▶ … ─▶ drain ─▶ voter stops
//! ```
//!
//! **Invariants:** no partition opens before the logs of earlier epochs are closed (R13); nothing
//! is global, so that a simulation runs many nodes in one process; a dropped node stops at once, as
//! a killed process would.

mod checkpoints;
mod control;
mod directory;
mod drain;
mod epoch;
mod helpers;
pub(crate) mod home;
mod life;
mod marks;
mod pace;
mod pulse;
mod store;
mod voter;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use env::{DirLock, Env, Listener};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use protocol::NodeId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::auth::{AllowAll, Authorizer};
use crate::config::{Config, HostPort, ListenerConfig};
use crate::quotas::{Quota, Unlimited};

pub(crate) use epoch::{wal_dir, wal_prefix};
pub use pace::Pace;
pub(crate) use pulse::Pulse;
pub(crate) use store::{Pause, Store};

/// What a node is made of beside its configuration.
pub struct NodeParts {
    /// The object store and the prefix of its keys, instead of the one that the configuration
    /// names: for simulations and tests.
    pub store: Option<(Arc<dyn object_store::ObjectStore>, String)>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who is slowed down.
    pub quota: Arc<dyn Quota>,
    /// Who watches appends; usually nobody.
    pub hooks: Option<Arc<dyn storage::Hooks>>,
    /// Small sizes and short times.
    pub pace: Pace,
}

impl Default for NodeParts {
    fn default() -> Self {
        Self {
            store: None,
            authorizer: Arc::new(AllowAll),
            quota: Arc::new(Unlimited),
            hooks: None,
            pace: Pace::default(),
        }
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not ready yet; what it does or waits for.
    Starting(String),
    /// Serves.
    Ready,
    /// Registered anew or without a lease: serves as soon as it may.
    Interrupted(String),
    /// Stops in order.
    Draining,
    /// Has stopped in order.
    Stopped,
    /// Has failed for good; why, and what to do.
    Failed(String),
}

/// Why a node does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another process has the data directory.
    #[error("{} is in use by another process: stop that one, or give this one a --data-dir of its own", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A socket cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The controller does not start or has failed.
    #[error("controller: {0}")]
    Controller(#[from] controller::Error),
    /// Storage or the object store cannot be used.
    #[error("{0}")]
    Storage(#[from] storage::Error),
    /// A write-ahead log cannot be used.
    #[error("{0}")]
    Wal(#[from] wal::Error),
    /// A background part has failed for good.
    #[error("{0}")]
    Failed(String),
}

/// A running node. Dropped, it stops at once.
#[derive(Debug)]
pub struct Node {
    kafka: Vec<(String, SocketAddr)>,
    admin: SocketAddr,
    controller: Option<SocketAddr>,
    view: Arc<Admin>,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    kill: CancellationToken,
    // Aborts what it owns when dropped.
    tasks: JoinSet<()>,
}

/// A bound Kafka listener.
pub(crate) struct Bound {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: String,
    pub(crate) advertised: HostPort,
    /// What clients of one zone are told instead.
    pub(crate) zones: BTreeMap<String, HostPort>,
    pub(crate) listener: Box<dyn Listener>,
}

/// Every bound socket but the admin server's.
pub(crate) struct Sockets {
    pub(crate) kafka: Vec<Bound>,
    /// Where other nodes call this controller.
    pub(crate) controller: Option<Bound>,
}

/// What the parts of a node's life share.
pub(crate) struct Context {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) parts: NodeParts,
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) admin: Arc<Admin>,
    /// Cancelled for an ordered stop.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the node is dropped.
    pub(crate) kill: CancellationToken,
    pub(crate) _lock: Box<dyn DirLock>,
    /// Id of the data directory.
    pub(crate) directory: uuid::Uuid,
}

impl Node {
    /// Takes the data directory, binds the sockets, and starts everything else in the background:
    /// see [`Node::status`].
    ///
    /// # Errors
    /// When directory or sockets cannot be had.
    pub async fn start(env: Env, config: Config, parts: NodeParts) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let lock = take_directory(&env, &config).await?;
        let directory = directory::id(&env, &config.data_dir).await;
        let directory = directory.map_err(|source| NodeError::Directory {
            path: config.data_dir.clone(),
            source,
        })?;
        let (sockets, kafka) = bind_listeners(&env, &config).await?;
        let controller = match &sockets.controller {
            Some(bound) => Some(address_of(bound.listener.as_ref(), &bound.advertised)?),
            None => None,
        };
        let admin_listener = bind(&env, &config.admin).await?;
        let admin_address = address_of(admin_listener.as_ref(), &config.admin)?;
        let registry = Arc::new(RwLock::new(Registry::with_prefix("headwater")));
        let (status, watched) = watch::channel(Status::Starting("opening".to_owned()));
        let admin = Arc::new(Admin::new(Arc::clone(&registry), watched.clone(), &config));
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let context = Context {
            env,
            config,
            parts,
            registry,
            status,
            admin: Arc::clone(&admin),
            stop: stop.clone(),
            kill: kill.clone(),
            _lock: lock,
            directory,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(admin::serve(Arc::clone(&admin), admin_listener));
        tasks.spawn(life::live(context, sockets));
        Ok(Self {
            kafka,
            admin: admin_address,
            controller,
            view: admin,
            status: watched,
            stop,
            kill,
            tasks,
        })
    }

    /// Where Kafka clients connect: listener's name and bound address.
    pub fn kafka(&self) -> &[(String, SocketAddr)] {
        &self.kafka
    }

    /// Where the admin server listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where other nodes call this controller, if anywhere.
    pub fn controller(&self) -> Option<SocketAddr> {
        self.controller
    }

    /// Who leads the controllers, as far as this node knows.
    pub fn controllers_leader(&self) -> Option<NodeId> {
        self.view.controllers_leader()
    }

    /// All its figures, in the format of its page `/metrics`.
    pub fn metrics(&self) -> String {
        // Writing to a text fails only where a metric cannot be shown, and then none is.
        self.view.figures().unwrap_or_default()
    }

    /// How it is, to be followed.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// Why it never will.
    pub async fn ready(&self) -> Result<(), NodeError> {
        let mut status = self.status.clone();
        let settled =
            |status: &Status| matches!(status, Status::Ready | Status::Failed(_) | Status::Stopped);
        let reached = status.wait_for(settled).await.map(|status| status.clone());
        match reached {
            Ok(Status::Ready) => Ok(()),
            Ok(Status::Failed(why)) => Err(NodeError::Failed(why)),
            _ => Err(NodeError::Failed("the node has stopped".to_owned())),
        }
    }

    /// Waits until it has failed for good or has stopped.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn ended(&self) -> Result<(), NodeError> {
        let mut status = self.status.clone();
        let ended = |status: &Status| matches!(status, Status::Failed(_) | Status::Stopped);
        match status.wait_for(ended).await.map(|status| status.clone()) {
            Ok(Status::Failed(why)) => Err(NodeError::Failed(why)),
            _ => Ok(()),
        }
    }

    /// Stops in order: accepts nothing, answers what is in flight, uploads, commits, says goodbye;
    /// all within `shutdown.timeout.ms`.
    ///
    /// # Errors
    /// Why it failed before or while stopping.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        self.stop.cancel();
        let ended = self.ended().await;
        self.tasks.shutdown().await;
        ended
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

/// Makes the data directory, and takes its lock.
async fn take_directory(env: &Env, config: &Config) -> Result<Box<dyn DirLock>, NodeError> {
    let (disk, path) = (Arc::clone(&env.disk), config.data_dir.clone());
    let taken = env.threads.pool().run(move || {
        disk.create_dir_all(&path)?;
        disk.lock_dir(&path)
    });
    taken.await.map_err(|source| {
        let path = config.data_dir.clone();
        match source.kind() {
            std::io::ErrorKind::WouldBlock => NodeError::DirectoryInUse { path },
            _ => NodeError::Directory { path, source },
        }
    })
}

async fn bind_listeners(
    env: &Env,
    config: &Config,
) -> Result<(Sockets, Vec<(String, SocketAddr)>), NodeError> {
    let (mut kafka, mut addresses) = (Vec::new(), Vec::new());
    for wanted in &config.listeners {
        let (bound, address) = bind_listener(env, wanted).await?;
        addresses.push((wanted.name.clone(), address));
        kafka.push(bound);
    }
    let controller = match &config.quorum.listener {
        Some(wanted) => Some(bind_listener(env, wanted).await?.0),
        None => None,
    };
    Ok((Sockets { kafka, controller }, addresses))
}

async fn bind_listener(
    env: &Env,
    wanted: &ListenerConfig,
) -> Result<(Bound, SocketAddr), NodeError> {
    let listener = bind(env, &wanted.bind).await?;
    let address = address_of(listener.as_ref(), &wanted.bind)?;
    let advertised = wanted.advertised.clone().unwrap_or_else(|| HostPort {
        host: advertised_host(&wanted.bind, address),
        port: address.port(),
    });
    let bound = Bound {
        name: Arc::from(wanted.name.as_str()),
        protocol: wanted.protocol.clone(),
        advertised,
        zones: wanted.zones.clone(),
        listener,
    };
    Ok((bound, address))
}

/// What clients are told when nobody says: the name that was bound, or this machine itself.
fn advertised_host(bind: &HostPort, address: SocketAddr) -> String {
    if !address.ip().is_unspecified() && !bind.host.is_empty() {
        return bind.host.clone();
    }
    "127.0.0.1".to_owned()
}

async fn bind(env: &Env, at: &HostPort) -> Result<Box<dyn Listener>, NodeError> {
    let failed = |source| NodeError::Bind {
        address: at.to_string(),
        source,
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in env
        .net
        .resolve(at.bind_host(), at.port)
        .await
        .map_err(failed)?
    {
        match env.net.bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn address_of(listener: &dyn Listener, at: &HostPort) -> Result<SocketAddr, NodeError> {
    let failed = |source| NodeError::Bind {
        address: at.to_string(),
        source,
    };
    listener.local_addr().map_err(failed)
}
