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
    /// Blocks or indexes whose checksum failed at first.
    pub checksum_retries: Counter,
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
        let gauges = [
            (
                "unuploaded_bytes",
                "Durable bytes not yet in objects",
                &metrics.unuploaded_bytes,
            ),
            (
                "unuploaded_age_ms",
                "Age of the oldest of them",
                &metrics.unuploaded_age_ms,
            ),
            (
                "memory_user_bytes",
                "Un-uploaded memory of users",
                &metrics.memory_user_bytes,
            ),
            (
                "memory_internal_bytes",
                "The same, internal",
                &metrics.memory_internal_bytes,
            ),
            (
                "hot_bytes",
                "Uploaded bytes kept for tail readers",
                &metrics.hot_bytes,
            ),
            (
                "block_cache_bytes",
                "Bytes of cached blocks",
                &metrics.block_cache_bytes,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            (
                "upload_rounds",
                "Upload rounds committed",
                &metrics.upload_rounds,
            ),
            (
                "upload_objects",
                "Objects stored by rounds",
                &metrics.upload_objects,
            ),
            (
                "upload_bytes",
                "Bytes stored by rounds",
                &metrics.upload_bytes,
            ),
            (
                "upload_retries",
                "Failed puts and commits of rounds",
                &metrics.upload_retries,
            ),
            (
                "upload_conflicts",
                "Rounds cut again",
                &metrics.upload_conflicts,
            ),
            (
                "hot_reads",
                "Reads served from the newest data",
                &metrics.hot_reads,
            ),
            (
                "block_hits",
                "Blocks found in the cache",
                &metrics.block_hits,
            ),
            ("block_misses", "Blocks fetched", &metrics.block_misses),
            (
                "read_bytes",
                "Bytes fetched for readers",
                &metrics.read_bytes,
            ),
            (
                "checksum_retries",
                "Checksums that failed at first",
                &metrics.checksum_retries,
            ),
            (
                "damaged",
                "Checksums that failed for good",
                &metrics.damaged,
            ),
            ("lost", "Objects named and not there", &metrics.lost),
            ("replans", "Reads planned anew", &metrics.replans),
            (
                "compaction_read_bytes",
                "Bytes read to compact",
                &metrics.compaction_read_bytes,
            ),
            (
                "compaction_written_bytes",
                "Bytes compacted",
                &metrics.compaction_written_bytes,
            ),
            (
                "compaction_slices",
                "Slices replaced",
                &metrics.compaction_slices,
            ),
            (
                "retention_moves",
                "Log starts moved",
                &metrics.retention_moves,
            ),
            (
                "background_failures",
                "Background failures",
                &metrics.background_failures,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
