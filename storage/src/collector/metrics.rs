//! What the collector counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why an object was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Reason {
    Condemned,
    Orphan,
    Discarded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: Reason,
}

/// Counters of a collector; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct CollectorMetrics {
    deleted: Family<Labels, Counter>,
    refused: Counter,
    failures: Counter,
    last_round: Gauge,
}

impl CollectorMetrics {
    /// Registers all of them, under names that start with `collector_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("collector");
        registry.register(
            "deleted",
            "Objects deleted, by reason",
            self.deleted.clone(),
        );
        registry.register(
            "refused",
            "Keys that were to be deleted and are no data of this cluster; never deleted",
            self.refused.clone(),
        );
        registry.register(
            "failures",
            "Rounds that stopped with an error",
            self.failures.clone(),
        );
        registry.register(
            "last_round_timestamp_seconds",
            "When a round for the whole cluster last succeeded here, Unix time; 0 for never",
            self.last_round.clone(),
        );
    }

    pub(super) fn deleted(&self, reason: Reason, count: u64) {
        self.deleted.get_or_create(&Labels { reason }).inc_by(count);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn succeeded(&self, at_ms: i64) {
        self.last_round.set(at_ms / 1000);
    }

    /// When a round for the whole cluster last succeeded here, seconds since the Unix epoch; 0 for
    /// never.
    pub fn last_round(&self) -> i64 {
        self.last_round.get()
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// Keys refused so far.
    pub fn refusals(&self) -> u64 {
        self.refused.get()
    }

    /// Rounds failed so far.
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }
}
