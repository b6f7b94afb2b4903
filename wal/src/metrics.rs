//! What the log counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Figures of a log. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From handing a group to the backend until it was durable, seconds.
    pub store_seconds: Histogram,
    /// Bytes of a group.
    pub group_bytes: Histogram,
    /// Entries of a group.
    pub group_entries: Histogram,
    /// Puts tried again, syncs delayed by a full disk, and the like.
    pub retries: Counter,
    /// Second puts of slow first ones.
    pub hedges: Counter,
    /// Bytes of torn tails found by recovery.
    pub torn_bytes: Counter,
    /// Logs that were read once more, since the first reading met damage.
    pub rereads: Counter,
    /// Bytes that wait or are in flight.
    pub queued_bytes: Gauge<i64, std::sync::atomic::AtomicI64>,
    /// Segment files made new, and reused.
    pub segments_created: Counter<u64, AtomicU64>,
    /// The same file with a new generation.
    pub segments_recycled: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            store_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 20)),
            group_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 10)),
            group_entries: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            retries: Counter::default(),
            hedges: Counter::default(),
            torn_bytes: Counter::default(),
            rereads: Counter::default(),
            queued_bytes: Gauge::default(),
            segments_created: Counter::default(),
            segments_recycled: Counter::default(),
        }
    }
}

impl Metrics {
    /// Metrics registered under `wal_…`.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("wal");
        let Self {
            store_seconds,
            group_bytes,
            group_entries,
            retries,
            hedges,
            torn_bytes,
            rereads,
            queued_bytes,
            segments_created,
            segments_recycled,
        } = metrics.clone();
        registry.register(
            "store_seconds",
            "Time to make a group durable",
            store_seconds,
        );
        registry.register("group_bytes", "Bytes of a group", group_bytes);
        registry.register("group_entries", "Entries of a group", group_entries);
        registry.register("retries", "Writes or puts tried again", retries);
        registry.register("hedges", "Second puts of slow first ones", hedges);
        registry.register(
            "torn_bytes",
            "Bytes of torn tails found by recovery",
            torn_bytes,
        );
        registry.register(
            "rereads",
            "Logs read once more, since the first reading met damage",
            rereads,
        );
        registry.register(
            "queued_bytes",
            "Bytes that wait or are in flight",
            queued_bytes,
        );
        registry.register("segments_created", "Segment files made", segments_created);
        registry.register(
            "segments_recycled",
            "Segment files reused",
            segments_recycled,
        );
        metrics
    }

    pub(crate) fn stored(&self, took: Duration, bytes: usize, entries: usize) {
        self.store_seconds.observe(took.as_secs_f64());
        self.group_bytes.observe(bytes as f64);
        self.group_entries.observe(entries as f64);
    }
}

/// What a backend tells the log besides results: whether it is stalled, and figures.
#[derive(Clone, Debug)]
pub struct Status {
    stalled: Arc<tokio::sync::watch::Sender<Option<crate::Error>>>,
    pub(crate) metrics: Metrics,
}

impl Status {
    /// A status without a stall.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            stalled: Arc::new(tokio::sync::watch::Sender::new(None)),
            metrics,
        }
    }

    /// Work waits for `error` to pass; nothing is lost.
    pub(crate) fn stall(&self, error: crate::Error) {
        self.stalled.send_if_modified(|stalled| {
            let news = stalled.is_none();
            if news {
                tracing::warn!(%error, "the log waits");
                *stalled = Some(error);
            }
            news
        });
    }

    pub(crate) fn unstall(&self) {
        self.stalled.send_if_modified(|stalled| {
            let news = stalled.take().is_some();
            if news {
                tracing::info!("the log goes on");
            }
            news
        });
    }

    pub(crate) fn watch(&self) -> tokio::sync::watch::Receiver<Option<crate::Error>> {
        self.stalled.subscribe()
    }
}
