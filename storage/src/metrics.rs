//! What this crate counts, for `/metrics`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of one [`Storage`](crate::Storage); clones share their values.
#[derive(Clone, Debug, Default)]
pub struct StorageMetrics {
    /// Bytes durable in the log and not yet committed as objects.
    pub unuploaded_bytes: Gauge,
    /// Age of the oldest of them, milliseconds.
    pub unuploaded_age_ms: Gauge,
    /// Un-uploaded memory taken by user data, bytes.
    pub memory_user_bytes: Gauge,
    /// Un-uploaded memory taken by internal data, bytes.
    pub memory_internal_bytes: Gauge,
    /// Memory taken by what is read of dead brokers' logs, bytes.
    pub memory_recovery_bytes: Gauge,
    /// Memory taken by partitions that are led elsewhere and read here, about, bytes.
    pub followed_bytes: Gauge,
    /// Uploaded bytes kept for tail readers.
    pub hot_bytes: Gauge,
    /// Bytes of blocks in the cache.
    pub block_cache_bytes: Gauge,
    /// Rounds committed.
    pub upload_rounds: Counter,
    /// Objects that rounds stored.
    pub upload_objects: Counter,
    /// Bytes that rounds stored.
    pub upload_bytes: Counter,
    /// Puts and commits of rounds that failed and were tried again.
    pub upload_retries: Counter,
    /// Rounds that were cut again because the catalog had moved.
    pub upload_conflicts: Counter,
    /// Reads served from memory that holds the newest data.
    pub hot_reads: Counter,
    /// Blocks found in the cache.
    pub block_hits: Counter,
    /// Blocks fetched from the store.
    pub block_misses: Counter,
    /// Bytes fetched from the store for readers.
    pub read_bytes: Counter,
    /// Blocks or indexes whose checksum failed for good. Alarm.
    pub damaged: Counter,
    /// Objects that the catalog names and the store has not. Alarm.
    pub lost: Counter,
    /// Reads that planned anew because their source moved.
    pub replans: Counter,
    /// Bytes that compaction read.
    pub compaction_read_bytes: Counter,
    /// Bytes that compaction wrote.
    pub compaction_written_bytes: Counter,
    /// Slices that compaction replaced.
    pub compaction_slices: Counter,
    /// Log-start moves by retention.
    pub retention_moves: Counter,
    /// Failures of background work (upload, compaction, retention), each logged.
    pub background_failures: Counter,
}

impl StorageMetrics {
    /// Names them all in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("storage");
        metrics.register_gauges(registry);
        metrics.register_writes(registry);
        metrics.register_reads(registry);
        metrics
    }

    fn register_gauges(&self, registry: &mut Registry) {
        let mut add = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add(
            "unuploaded_bytes",
            "Bytes not yet in objects",
            &self.unuploaded_bytes,
        );
        add(
            "unuploaded_age_ms",
            "Age of the oldest of them",
            &self.unuploaded_age_ms,
        );
        add(
            "memory_user_bytes",
            "Un-uploaded, of users",
            &self.memory_user_bytes,
        );
        add(
            "memory_internal_bytes",
            "Un-uploaded, internal",
            &self.memory_internal_bytes,
        );
        add(
            "memory_recovery_bytes",
            "Read of dead brokers' logs",
            &self.memory_recovery_bytes,
        );
        add(
            "memory_followed_bytes",
            "Partitions led elsewhere that are read here",
            &self.followed_bytes,
        );
        add(
            "hot_bytes",
            "Uploaded, kept for tail readers",
            &self.hot_bytes,
        );
        add(
            "block_cache_bytes",
            "Cached blocks",
            &self.block_cache_bytes,
        );
    }

    fn register_writes(&self, registry: &mut Registry) {
        let mut add =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        add(
            "upload_rounds",
            "Upload rounds committed",
            &self.upload_rounds,
        );
        add(
            "upload_objects",
            "Objects stored by rounds",
            &self.upload_objects,
        );
        add("upload_bytes", "Bytes stored by rounds", &self.upload_bytes);
        add(
            "upload_retries",
            "Failed puts and commits of rounds",
            &self.upload_retries,
        );
        add(
            "upload_conflicts",
            "Rounds cut again",
            &self.upload_conflicts,
        );
        add(
            "compaction_read_bytes",
            "Bytes read",
            &self.compaction_read_bytes,
        );
        add(
            "compaction_written_bytes",
            "Bytes written",
            &self.compaction_written_bytes,
        );
        add(
            "compaction_slices",
            "Slices replaced",
            &self.compaction_slices,
        );
        add("retention_moves", "Log starts moved", &self.retention_moves);
        add(
            "background_failures",
            "Background failures",
            &self.background_failures,
        );
    }

    fn register_reads(&self, registry: &mut Registry) {
        let mut add =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        add(
            "hot_reads",
            "Reads served from the newest data",
            &self.hot_reads,
        );
        add("block_hits", "Blocks found in the cache", &self.block_hits);
        add("block_misses", "Blocks fetched", &self.block_misses);
        add("read_bytes", "Bytes fetched for readers", &self.read_bytes);
        add("damaged", "Checksums that failed for good", &self.damaged);
        add("lost", "Objects named and not there", &self.lost);
        add("replans", "Reads planned anew", &self.replans);
    }
}
