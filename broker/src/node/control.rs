//! This node's way to the controllers: a voter of its own, or none and the others' addresses.

use std::collections::BTreeMap;

use controller::{Client, Controller, ControllerSettings, Observer, ObserverSettings, Tls};
use tokio::sync::watch;

use super::{Bound, Context, NodeError, Sockets, Status};
use crate::config::HostPort;

/// A voter, or an observer of the voters.
pub(super) enum Control {
    /// One of the voters.
    Voter(Controller),
    /// None of them.
    Observer(Observer),
}

// === impl Control ===

impl Control {
    /// Starts what the roles of the node ask for. That takes a quorum of the voters, which is
    /// waited for.
    ///
    /// # Errors
    /// As those of the controller.
    pub(super) async fn start(context: &Context, sockets: &mut Sockets) -> Result<Self, NodeError> {
        if !context.config.roles.controller {
            return Self::observe(context).await;
        }
        let status = context.status.clone();
        let say = |why: &str| {
            let why = format!("the controllers have no quorum: {why}");
            status.send_replace(Status::Starting(why));
        };
        say("looking for the voters");
        let calls = sockets.controller.take();
        let mut settings = settings(context, &sockets.kafka, calls);
        if settings.listener.is_some() {
            settings.tls = tls(context).await?;
        }
        let voter = Controller::start_telling(context.env.clone(), settings, say).await?;
        if let Some(bytes) = context.parts.pace.snapshot_bytes {
            voter.snapshot_after(bytes);
        }
        Ok(Self::Voter(voter))
    }

    async fn observe(context: &Context) -> Result<Self, NodeError> {
        let quorum = &context.config.quorum;
        let addresses: Vec<&HostPort> = match quorum.bootstrap.as_slice() {
            [] => quorum.voters.values().collect(),
            named => named.iter().collect(),
        };
        let controllers: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let why = format!("looking for a controller at {}", controllers.join(", "));
        tracing::info!("{why}");
        context.status.send_replace(Status::Starting(why));
        let settings = ObserverSettings {
            controllers,
            lease: context.config.time("lease.ms").unwrap_or_default(),
            tls: tls(context).await?,
            newest_level: context.parts.pace.newest_level(),
        };
        let observer = Observer::start(context.env.clone(), settings).await?;
        Ok(Self::Observer(observer))
    }

    /// The way to ask and command the controllers.
    pub(super) fn client(&self) -> Client {
        match self {
            Self::Voter(voter) => voter.client(),
            Self::Observer(observer) => observer.client(),
        }
    }

    /// Says when the node cannot go on.
    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Voter(voter) => voter.failure(),
            Self::Observer(observer) => observer.failure(),
        }
    }

    /// Whether this node may lead the controllers.
    pub(super) fn votes(&self) -> bool {
        match self {
            Self::Voter(_) => true,
            Self::Observer(_) => false,
        }
    }

    /// Stops in order.
    ///
    /// # Errors
    /// When the voter's log cannot be closed cleanly; nothing is lost by that.
    pub(super) async fn shutdown(self) -> Result<(), NodeError> {
        match self {
            Self::Voter(voter) => Ok(voter.shutdown().await?),
            Self::Observer(observer) => Ok(observer.shutdown().await?),
        }
    }
}

fn settings(context: &Context, kafka: &[Bound], calls: Option<Bound>) -> ControllerSettings {
    let config = &context.config;
    let voters = config.quorum.voters.iter();
    let mut voters: BTreeMap<_, _> = voters.map(|(id, at)| (*id, at.to_string())).collect();
    if voters.is_empty() {
        let own = calls.as_ref().or(kafka.first());
        let own = own.map(|bound| bound.advertised.to_string());
        voters.insert(config.node_id, own.unwrap_or_default());
    }
    ControllerSettings {
        dir: config.data_dir.join("raft"),
        node: config.node_id,
        voters,
        listener: calls.map(|bound| bound.listener),
        cluster: None,
        generation: 1,
        lease: config.time("lease.ms").unwrap_or_default(),
        tls: None,
        newest_level: context.parts.pace.newest_level(),
    }
}

/// What calls between nodes are secured with, if anything.
async fn tls(context: &Context) -> Result<Option<Tls>, NodeError> {
    match &context.config.quorum.tls {
        Some(files) => Ok(Some(Tls::open(&context.env, files.clone()).await?)),
        None => Ok(None),
    }
}

/// The reason for which it cannot go on, once there is one.
pub(super) async fn failed(failure: &mut watch::Receiver<Option<String>>) -> String {
    loop {
        if let Some(reason) = failure.borrow_and_update().clone() {
            return reason;
        }
        if failure.changed().await.is_err() {
            return "the controller has ended".to_owned();
        }
    }
}
