//! Which partitions of a decided transaction still lack their marker.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::limits::{MAX_RETRY_MS, RETRY_MS};
use super::types::{Partition, Producer};

/// The partitions of a decided transaction that still lack their marker.
#[derive(Debug)]
pub(super) struct Marking {
    /// Not under way.
    pub(super) waiting: BTreeSet<Partition>,
    /// In a request that is not answered.
    pub(super) sent: BTreeSet<Partition>,
    /// When what waits is tried, milliseconds since the Unix epoch.
    pub(super) due_ms: i64,
    failures: u32,
}

/// Part of a request: the markers of one transaction.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) transactional_id: Arc<str>,
    pub(super) producer: Producer,
    pub(super) partitions: BTreeSet<Partition>,
}

impl Marking {
    /// All of them, at once.
    pub(super) fn new(partitions: BTreeSet<Partition>) -> Self {
        Self {
            waiting: partitions,
            sent: BTreeSet::new(),
            due_ms: i64::MIN,
            failures: 0,
        }
    }

    /// Whether every partition has its marker.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// Something did not work: what waits goes on doing so.
    pub(super) fn postpone(&mut self, now_ms: i64) {
        let wait_ms = RETRY_MS << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.due_ms = now_ms.saturating_add(wait_ms.min(MAX_RETRY_MS));
    }
}
