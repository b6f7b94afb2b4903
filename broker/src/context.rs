//! What every handler is told about the request that it serves.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::messages::StrBytes;
use tokio::time::Instant;

use crate::refused::RefusedBatches;
use crate::zones;

/// Who speaks. Everybody is `User:ANONYMOUS` until authentication comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(pub Arc<str>);

impl Principal {
    /// Kafka's name for somebody who has not said who he is.
    pub fn anonymous() -> Self {
        Self(Arc::from("User:ANONYMOUS"))
    }
}

/// What a client says it is (KIP-511).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Software {
    /// Name of the library.
    pub name: StrBytes,
    /// Its version.
    pub version: StrBytes,
}

/// One request's surroundings.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Number of the connection within this process.
    pub connection: u64,
    /// Name of the listener that it came in by.
    pub listener: Arc<str>,
    /// Address of the other side.
    pub peer: SocketAddr,
    /// Who speaks.
    pub principal: Principal,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
    /// What library it says it is.
    pub software: Software,
    /// Version of the request, and of the answer.
    pub version: i16,
    /// When the whole request had arrived: what its time-out counts from.
    pub received: Instant,
    /// Batches that were refused on this connection.
    pub(crate) refused: Arc<Mutex<RefusedBatches>>,
}

// === impl RequestContext ===

impl RequestContext {
    /// The zone that the client id names.
    pub(crate) fn zone(&self) -> Option<Cow<'_, str>> {
        zones::of_client_id(self.client_id.as_ref()?)
    }
}
