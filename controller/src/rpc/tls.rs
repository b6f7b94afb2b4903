//! Mutual TLS between nodes: both sides show a certificate, and each checks the other's.
//!
//! ```text
//!   stream of env ──▶ Tls::connect, Tls::accept (handshake, with a deadline) ──▶ Link ──▶ HTTP/2
//!                        └── files: certificate, key, authorities; looked at again, at most once a
//!                            second, when a handshake begins
//! ```
//!
//! **Invariants:** TLS 1.3 only, no resumption: every connection is a full handshake with the files
//! as they are now. Whoever has a certificate of the authorities is a node of the cluster: they must
//! be its own. Files that cannot be used never replace those that can.

mod explain;
mod files;
mod link;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use env::{BoxStream, Env};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::error::Error;
use crate::limits::{TLS_ACCEPT, TLS_CONNECT, TLS_EXPIRES_SOON, TLS_FILES_PAUSE};
use files::{Contents, Loaded};
pub(super) use link::{Link, Side, Why};

/// Where a node's certificate, its key and the authorities lie; PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `controller.tls.certificate.path`: its certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// `controller.tls.key.path`: the key of the certificate, not encrypted.
    pub key: PathBuf,
    /// `controller.tls.ca.path`: whose certificates the others must have.
    pub ca: PathBuf,
}

/// Mutual TLS with what is in [`TlsFiles`]. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    env: Env,
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    loaded: Arc<Loaded>,
    /// When the files were looked at last.
    looked: Duration,
    /// What was said of them last.
    said: String,
    /// When it was last said that the certificate expires soon.
    warned: Option<Duration>,
}

// === impl Tls ===

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Tls {
    /// Reads the files and checks that the others would take them.
    ///
    /// # Errors
    /// `Settings`: which of them cannot be used, why, and what to do.
    pub async fn open(env: &Env, files: TlsFiles) -> Result<Self, Error> {
        let contents = Contents::read(env, &files).await;
        let loaded = contents.and_then(|contents| Loaded::new(env, &files, contents));
        let loaded = loaded.map_err(|reason| Error::Settings { reason })?;
        let state = State {
            loaded: Arc::new(loaded),
            looked: env.clock.monotonic(),
            said: String::new(),
            warned: None,
        };
        let tls = Self(Arc::new(Inner {
            env: env.clone(),
            files,
            state: Mutex::new(state),
        }));
        tls.warn_of_the_end(&mut tls.0.state.lock());
        Ok(tls)
    }

    /// Says so when others, who reach this node at `address`, will refuse its certificate: a new
    /// one may be put in its place at any time.
    pub(crate) fn warn_unless_it_serves(&self, address: &str) {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loaded = self.0.state.lock().loaded.clone();
        if let Err(reason) = loaded.check_serves(&self.0.env, &self.0.files, host) {
            tracing::warn!("other nodes will refuse this one at {address}: {reason}");
        }
    }

    /// The client's handshake with `host`.
    pub(crate) async fn connect(&self, stream: BoxStream, host: &str) -> io::Result<BoxStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connecting = async {
            let client = self.current().await.client.clone();
            TlsConnector::from(client).connect(name, stream).await
        };
        match timeout(TLS_CONNECT, connecting).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(self.explained(&error)),
            Err(_) => Err(explain::late(TLS_CONNECT)),
        }
    }

    /// The server's handshake.
    pub(super) async fn accept(&self, stream: BoxStream) -> io::Result<BoxStream> {
        let accepting = async {
            let server = self.current().await.server.clone();
            TlsAcceptor::from(server).accept(stream).await
        };
        match timeout(TLS_ACCEPT, accepting).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(self.explained(&error)),
            Err(_) => Err(explain::late(TLS_ACCEPT)),
        }
    }

    fn explained(&self, error: &io::Error) -> io::Error {
        let text = explain::handshake(error, &self.0.files);
        io::Error::new(error.kind(), text)
    }

    /// What is in the files. One handshake looks at them; others go on with what was there.
    async fn current(&self) -> Arc<Loaded> {
        let inner = &self.0;
        let before = {
            let mut state = inner.state.lock();
            let now = inner.env.clock.monotonic();
            if now.saturating_sub(state.looked) < TLS_FILES_PAUSE {
                return state.loaded.clone();
            }
            state.looked = now;
            state.loaded.clone()
        };
        let read = Contents::read(&inner.env, &inner.files).await;
        let changed = match read {
            Ok(contents) if before.is_of(&contents) => Ok(None),
            Ok(contents) => Loaded::new(&inner.env, &inner.files, contents).map(Some),
            Err(reason) => Err(reason),
        };
        let mut state = inner.state.lock();
        match changed {
            Ok(None) => state.said.clear(),
            Ok(Some(loaded)) => {
                tracing::info!("the certificate for calls between nodes was read anew");
                state.said.clear();
                state.warned = None;
                state.loaded = Arc::new(loaded);
            }
            Err(reason) => {
                if state.said != reason {
                    tracing::warn!("{reason}; the certificate that was read before stays in use");
                    state.said = reason;
                }
            }
        }
        self.warn_of_the_end(&mut state);
        state.loaded.clone()
    }

    /// Once a day, when the certificate's end is near.
    fn warn_of_the_end(&self, state: &mut State) {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let inner = &self.0;
        let now = inner.env.clock.monotonic();
        if state.warned.is_some_and(|at| now.saturating_sub(at) < DAY) {
            return;
        }
        let left = state.loaded.left(&inner.env);
        if left < TLS_EXPIRES_SOON {
            state.warned = Some(now);
            tracing::warn!(
                hours = left.as_secs() / 3600,
                "{} (controller.tls.certificate.path) expires soon: other nodes will refuse it. \
                 Put a new one in its place; it is read without a restart",
                inner.files.certificate.display()
            );
        }
    }
}
