//! A process without a voter: it asks the controllers elsewhere, and follows the image of one.
//!
//! ```text
//!   Client ──▶ Remote ──ask──▶ the leader (found by asking any controller, remembered)
//!     ▲          │ told: how far the leader is
//!     │          ▼
//!   Image ◀── follow ◀──pieces── any voter; another one when it fails, falls silent or behind
//! ```
//!
//! **Invariants:** the image's `applied` never goes back; an image is swapped in when it is
//! complete; it is of one cluster for the process's life.

mod follow;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Client, Way};
use crate::error::Error;
use crate::image::Image;
use crate::limits::MAX_CONTROLLERS;
use crate::rpc::Channels;
use crate::rpc::tls::Tls;
use follow::Follow;
pub(crate) use remote::Remote;

/// What an observer is started with.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// Where controllers are found, `host:port` each: any of them will do to begin with.
    pub controllers: Vec<String>,
    /// How long a broker may be silent: the same as the controllers' own.
    pub lease: Duration,
    /// Mutual TLS, if the controllers have it.
    pub tls: Option<Tls>,
    /// The newest level that this process knows: [`NEWEST_LEVEL`](crate::NEWEST_LEVEL), less only
    /// where a simulation stands in for an older build.
    pub newest_level: u16,
}

/// A process without a voter.
pub struct Observer {
    client: Client,
    failure: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

// === impl Observer ===

impl Observer {
    /// Waits, for as long as it takes, until it has the image of a cluster.
    ///
    /// # Errors
    /// `Settings`; `Stopped` when it cannot follow (a newer build is needed).
    pub async fn start(env: Env, settings: ObserverSettings) -> Result<Self, Error> {
        Self::start_telling(env, settings, |_| {}).await
    }

    /// As [`start`](Self::start); `waits` is told what is waited for, whenever that changes.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_telling(
        env: Env,
        settings: ObserverSettings,
        waits: impl Fn(&str),
    ) -> Result<Self, Error> {
        check_addresses(&settings.controllers)?;
        let (publish, image) = watch::channel(Arc::new(Image::default()));
        let channels = Channels::new(env.net.clone(), settings.tls);
        let remote = Remote::new(
            channels,
            settings.controllers,
            image.clone(),
            settings.newest_level,
        );
        let remote = Arc::new(remote);
        let (failed, mut failure) = watch::channel(None);
        let (says, mut said) = watch::channel(String::new());
        let follow = Follow::new(env.clone(), remote.clone(), publish, failed, says);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow.run());
        let client = Client::new(env, settings.lease, Way::Remote(remote));
        let mut first = image;
        loop {
            tokio::select! {
                biased;
                found = first.wait_for(|image| image.cluster.is_some()) => {
                    found.map_err(|_| stopped("nobody follows the controllers"))?;
                    break;
                }
                failed = failure.wait_for(Option::is_some) => {
                    let reason = failed.ok().and_then(|failed| failed.clone());
                    return Err(stopped(&reason.unwrap_or_default()));
                }
                changed = said.changed() => {
                    changed.map_err(|_| stopped("nobody follows the controllers"))?;
                    waits(&said.borrow_and_update());
                }
            }
        }
        Ok(Self {
            client,
            failure,
            tasks,
        })
    }

    /// The way to ask and command the controllers.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Says when this process can follow the controllers no more, and why: it must end.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Stops following.
    ///
    /// # Errors
    /// None: as a controller's.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.tasks.shutdown().await;
        Ok(())
    }
}

fn check_addresses(controllers: &[String]) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Settings { reason });
    if controllers.is_empty() || controllers.len() > MAX_CONTROLLERS {
        return invalid(format!(
            "{} addresses of controllers: 1 to {MAX_CONTROLLERS} are needed",
            controllers.len()
        ));
    }
    for address in controllers {
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return invalid(format!("controller address {address:?} is not host:port"));
        }
    }
    Ok(())
}

fn stopped(reason: &str) -> Error {
    Error::Stopped {
        reason: reason.to_owned(),
    }
}
