//! What the group coordinator counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the group coordinator.
#[derive(Clone, Debug, Default)]
pub struct GroupMetrics {
    /// Groups that live in coordinators here.
    pub groups: Gauge,
    /// Coordinator partitions that are loaded.
    pub partitions: Gauge,
    /// Coordinator partitions that load or could not.
    pub loading: Gauge,
    /// Offsets committed.
    pub commits: Counter,
    /// Records written.
    pub records: Counter,
    /// Records read while loading.
    pub loaded_records: Counter,
    /// Bytes of batches read while loading.
    pub loaded_bytes: Counter,
    /// Records met while loading that could not be read.
    pub damaged_records: Counter,
    /// Tries at the log that failed.
    pub log_failures: Counter,
}

impl GroupMetrics {
    /// Registers everything.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("groups");
        registry.register("count", "Groups coordinated here", metrics.groups.clone());
        registry.register(
            "partitions",
            "Coordinator partitions that are loaded",
            metrics.partitions.clone(),
        );
        registry.register(
            "partitions_loading",
            "Coordinator partitions that load or could not be loaded",
            metrics.loading.clone(),
        );
        registry.register("commits", "Offsets committed", metrics.commits.clone());
        registry.register("records", "Group records written", metrics.records.clone());
        registry.register(
            "loaded_records",
            "Group records read while loading",
            metrics.loaded_records.clone(),
        );
        registry.register(
            "loaded_bytes",
            "Bytes of group batches read while loading",
            metrics.loaded_bytes.clone(),
        );
        registry.register(
            "damaged_records",
            "Group records that could not be read while loading",
            metrics.damaged_records.clone(),
        );
        registry.register(
            "log_failures",
            "Tries at the group log that failed",
            metrics.log_failures.clone(),
        );
        metrics
    }
}
