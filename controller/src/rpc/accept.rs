//! Connections of other nodes, with their handshakes behind them.
//!
//! **Invariant:** a handshake holds up no other one: there is room for so many, and beyond them the
//! oldest is given up.

use std::collections::VecDeque;

use env::{BoxStream, Listener};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::tls::{Link, Side, Tls, Why};
use crate::limits::{MAX_TLS_HANDSHAKES, RPC_ACCEPT_PAUSE};

/// A listener whose connections are ready for calls.
pub(super) struct Incoming {
    listener: Box<dyn Listener>,
    tls: Option<Tls>,
    pub(super) why: Why,
    shaking: JoinSet<Option<Link>>,
    oldest_first: VecDeque<AbortHandle>,
}

// === impl Incoming ===

impl Incoming {
    pub(super) fn new(listener: Box<dyn Listener>, tls: Option<Tls>) -> Self {
        Self {
            listener,
            tls,
            why: Why::default(),
            shaking: JoinSet::new(),
            oldest_first: VecDeque::new(),
        }
    }

    /// The next connection.
    pub(super) async fn next(&mut self) -> Link {
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                Some(shaken) = self.shaking.join_next() => match shaken {
                    Ok(Some(link)) => return link,
                    // Refused, and told.
                    Ok(None) => continue,
                    Err(error) => {
                        if error.is_panic() {
                            tracing::error!(%error, "a TLS handshake panicked");
                        }
                        continue;
                    }
                },
                accepted = accept(&*self.listener) => accepted,
            };
            let Some(tls) = self.tls.clone() else {
                return Link::new(stream, None, Side::Callee, peer, self.why.clone());
            };
            self.oldest_first.retain(|handle| !handle.is_finished());
            while self.oldest_first.len() >= MAX_TLS_HANDSHAKES
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                oldest.abort();
            }
            let why = self.why.clone();
            let shaking = async move {
                match tls.accept(stream).await {
                    Ok(stream) => Some(Link::new(stream, Some(tls), Side::Callee, peer, why)),
                    Err(error) => {
                        why.set(Side::Callee, &peer, &error.to_string());
                        None
                    }
                }
            };
            self.oldest_first.push_back(self.shaking.spawn(shaking));
        }
    }
}

async fn accept(listener: &dyn Listener) -> (BoxStream, String) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.to_string()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a node's connection");
                sleep(RPC_ACCEPT_PAUSE).await;
            }
        }
    }
}
