//! One member of a classic group.

use bytes::Bytes;

use super::api::{JoinRequest, Name, WaiterId};

/// One member of a classic group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: Name,
    pub(super) instance_id: Option<Name>,
    pub(super) client_id: Name,
    pub(super) client_host: Name,
    pub(super) rebalance_timeout_ms: u64,
    pub(super) session_timeout_ms: u64,
    /// Offered protocols, best first.
    pub(super) protocols: Vec<(Name, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<WaiterId>,
    pub(super) awaiting_sync: Option<WaiterId>,
    /// Never completed a join: its session may end even while its join waits.
    pub(super) is_new: bool,
    /// When the session ends, monotonic milliseconds.
    pub(super) session_deadline_ms: u64,
    /// For when its session timer is armed; never later than the deadline.
    pub(super) timer_at_ms: Option<u64>,
}

impl Member {
    /// A member from its first join.
    pub(super) fn new(id: Name, request: &JoinRequest) -> Self {
        let mut member = Self {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
            session_deadline_ms: 0,
            timer_at_ms: None,
        };
        member.update(request);
        member
    }

    /// Takes over what a later join says.
    pub(super) fn update(&mut self, request: &JoinRequest) {
        self.client_id = request.client_id.clone();
        self.client_host = request.client_host.clone();
        self.rebalance_timeout_ms = millis(request.rebalance_timeout_ms);
        self.session_timeout_ms = millis(request.session_timeout_ms);
        self.protocols = request.protocols.clone();
    }

    /// Whether a join offers exactly what the member offered before.
    pub(super) fn offers(&self, protocols: &[(Name, Bytes)]) -> bool {
        self.protocols == protocols
    }

    /// The metadata for `protocol`; empty if it was never offered.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| &**name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

/// A timeout off the wire; negative ones are none.
pub(super) fn millis(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}
