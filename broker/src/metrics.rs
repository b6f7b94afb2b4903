//! What the broker counts. Each module has a struct of its own, registered in a passed registry.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use protocol::{ApiKey, api};

use crate::groups::GroupMetrics;

/// Connections and requests.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    /// Open connections.
    pub(crate) open: Gauge,
    /// Connections accepted.
    pub(crate) accepted: Counter,
    /// Connections closed for what they sent.
    pub(crate) refused: Counter,
    /// Bytes of requests.
    pub(crate) bytes_in: Counter,
    /// Bytes of answers.
    pub(crate) bytes_out: Counter,
    /// Per API in order of the table; labels are resolved once.
    requests: Vec<(ApiKey, Histogram)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: ApiName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ApiName(&'static str);

impl EncodeLabelValue for ApiName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// Upper bounds in seconds.
const LATENCIES: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

impl ConnectionMetrics {
    /// Registers everything.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("kafka");
        let open = Gauge::default();
        registry.register("connections", "Open connections", open.clone());
        let accepted = counter(registry, "connections_accepted", "Connections accepted");
        let refused = counter(
            registry,
            "connections_refused",
            "Connections closed for what they sent",
        );
        let bytes_in = counter(registry, "request_bytes", "Bytes of requests");
        let bytes_out = counter(registry, "response_bytes", "Bytes of answers");
        let latency =
            Family::<ApiLabel, Histogram>::new_with_constructor(|| Histogram::new(LATENCIES));
        registry.register(
            "request_seconds",
            "Time from a request's last byte to its answer",
            latency.clone(),
        );
        let handle = |key: ApiKey| {
            latency
                .get_or_create(&ApiLabel {
                    api: ApiName(key.name()),
                })
                .clone()
        };
        let requests = api::all()
            .iter()
            .map(|entry| (entry.key, handle(entry.key)))
            .collect();
        Self {
            open,
            accepted,
            refused,
            bytes_in,
            bytes_out,
            requests,
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, key: ApiKey, took: Duration) {
        if let Ok(at) = self.requests.binary_search_by_key(&key, |(key, _)| *key) {
            self.requests[at].1.observe(took.as_secs_f64());
        }
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// What passes through produce and fetch, and what goes wrong behind the scenes.
#[derive(Debug)]
pub(crate) struct BrokerMetrics {
    /// Record batch bytes taken.
    pub(crate) produced_bytes: Counter,
    /// Records taken.
    pub(crate) produced_records: Counter,
    /// Record batch bytes given.
    pub(crate) fetched_bytes: Counter,
    /// Records given, by their batches' headers.
    pub(crate) fetched_records: Counter,
    /// Background work that failed and is tried again or given up.
    pub(crate) background_failures: Counter,
    /// Times that a consumer was sent to a broker of its zone.
    pub(crate) fetch_sent: Counter,
    /// Record batch bytes given for leaders elsewhere.
    pub(crate) followed_bytes: Counter,
    /// Fetch sessions kept.
    pub(crate) fetch_sessions: Gauge,
    /// Partitions led here.
    pub(crate) partitions: Gauge,
    /// Partitions given away.
    pub(crate) moves: Counter,
    /// Moves that were put off.
    pub(crate) moves_failed: Counter,
    /// Times that the lease lapsed.
    pub(crate) lease_lapses: Counter,
    /// Times that this broker gave up to others, since the store answered them and not it.
    pub(crate) surrenders: Counter,
    /// Bytes that request frames hold.
    pub(crate) frame_bytes: Gauge,
    /// Recovery of dead logs.
    pub(crate) takeover: TakeoverMetrics,
    /// Sweeping closed logs.
    pub(crate) sweeper: SweeperMetrics,
    /// The group coordinator's.
    pub(crate) groups: GroupMetrics,
}

/// Recovery of the logs of dead brokers. Clones share the figures.
#[derive(Clone, Debug)]
pub(crate) struct TakeoverMetrics {
    /// Logs recovered beside serving.
    pub(crate) recovered: Counter,
    /// Recoveries that came to nothing for another reason than waiting.
    pub(crate) failures: Counter,
    /// Tries that came to nothing and were made again: store or controller away, or in motion.
    pub(crate) retries: Counter,
    /// From claim to close, seconds.
    pub(crate) seconds: Histogram,
    /// Logs of dead brokers that are not closed, in the whole cluster.
    pub(crate) dead: Gauge,
    /// Logs that are set aside as damaged, in the whole cluster.
    pub(crate) set_aside: Gauge,
}

/// Sweeping what closed logs left in the object store, when that is this broker's chore.
#[derive(Clone, Debug)]
pub(crate) struct SweeperMetrics {
    /// Logs that could not be swept, each time.
    pub(crate) failures: Counter,
    /// When a round last swept all that there was, seconds since the Unix epoch; 0 before.
    pub(crate) last_round: Gauge,
}

impl SweeperMetrics {
    fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("sweeper");
        let last_round = Gauge::default();
        let help =
            "When closed logs were last swept here without a failure, Unix time; 0 for never";
        registry.register("last_round_timestamp_seconds", help, last_round.clone());
        Self {
            failures: counter(registry, "failures", "Closed logs that were not swept"),
            last_round,
        }
    }
}

impl TakeoverMetrics {
    fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("takeover");
        let seconds = Histogram::new(LATENCIES);
        registry.register(
            "seconds",
            "From claim to close of a dead log",
            seconds.clone(),
        );
        let dead = Gauge::default();
        registry.register("dead_logs", "Logs of dead brokers not closed", dead.clone());
        let set_aside = Gauge::default();
        let help = "Logs set aside as damaged";
        registry.register("quarantined_logs", help, set_aside.clone());
        Self {
            recovered: counter(registry, "recovered", "Logs recovered beside serving"),
            failures: counter(registry, "failures", "Recoveries that came to nothing"),
            retries: counter(registry, "retries", "Tries of recoveries made again"),
            seconds,
            dead,
            set_aside,
        }
    }
}

impl BrokerMetrics {
    /// Registers everything.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("broker");
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            produced_bytes: counter(registry, "produced_bytes", "Record batch bytes taken"),
            produced_records: counter(registry, "produced_records", "Records taken"),
            fetched_bytes: counter(registry, "fetched_bytes", "Record batch bytes given"),
            fetched_records: counter(registry, "fetched_records", "Records given"),
            background_failures: counter(
                registry,
                "background_failures",
                "Background work that failed",
            ),
            fetch_sent: counter(
                registry,
                "fetch_sent_to_zone",
                "Consumers sent to their zone",
            ),
            followed_bytes: counter(
                registry,
                "followed_bytes",
                "Record batch bytes given for leaders elsewhere",
            ),
            fetch_sessions: gauge(registry, "fetch_sessions", "Fetch sessions kept"),
            partitions: gauge(registry, "partitions", "Partitions led here"),
            moves: counter(registry, "moves", "Partitions given away"),
            moves_failed: counter(registry, "moves_failed", "Moves that were put off"),
            lease_lapses: counter(registry, "lease_lapses", "Times that the lease lapsed"),
            surrenders: counter(
                registry,
                "surrenders",
                "Times that this broker gave up to others",
            ),
            frame_bytes: gauge(registry, "frame_bytes", "Bytes that request frames hold"),
            takeover: TakeoverMetrics::new(registry),
            sweeper: SweeperMetrics::new(registry),
            groups: GroupMetrics::new(registry),
        }
    }
}
