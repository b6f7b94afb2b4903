//! Counters of what is asked of an object store.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::format::Part;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Operation {
    Put,
    Get,
    Head,
    List,
    Delete,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Success,
    /// An answer, not a failure: the object is not there.
    NotFound,
    /// An answer, not a failure: the object is there already.
    AlreadyExists,
    Timeout,
    /// The body was shorter or longer than announced.
    WrongLength,
    NoSpace,
    Denied,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: Operation,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum PartLabel {
    Footer,
    Index,
    Directory,
    SliceIndex,
    Block,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: PartLabel,
}

/// Counters of one object store. Cheap to clone: clones count together.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    requests: Family<RequestLabels, Counter>,
    retries: Family<OperationLabels, Counter>,
    hedges: Family<OperationLabels, Counter>,
    seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    sent: Counter,
    received: Counter,
    damaged: Family<PartLabels, Counter>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        // 1 ms to 65 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 17));
        Self {
            requests: Family::default(),
            retries: Family::default(),
            hedges: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            sent: Counter::default(),
            received: Counter::default(),
            damaged: Family::default(),
        }
    }
}

impl StoreMetrics {
    /// Registers all of them, under names that start with `store_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("store");
        registry.register(
            "requests",
            "Requests to the object store by operation and outcome, each attempt counted",
            self.requests.clone(),
        );
        registry.register(
            "retries",
            "Requests that were sent again",
            self.retries.clone(),
        );
        registry.register(
            "hedges",
            "Slow requests that were sent twice",
            self.hedges.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time of one attempt, body included",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit("sent", "Body bytes put", Unit::Bytes, self.sent.clone());
        registry.register_with_unit(
            "received",
            "Body bytes got",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register(
            "damaged_reads",
            "Reads whose bytes did not match their digest or length; never served",
            self.damaged.clone(),
        );
    }

    pub(crate) fn attempt(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.requests
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
        self.seconds
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn retry(&self, operation: Operation) {
        self.retries
            .get_or_create(&OperationLabels { operation })
            .inc();
    }

    pub(crate) fn hedge(&self, operation: Operation) {
        self.hedges
            .get_or_create(&OperationLabels { operation })
            .inc();
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    pub(crate) fn damaged(&self, part: Part) {
        let part = match part {
            Part::Footer => PartLabel::Footer,
            Part::Index => PartLabel::Index,
            Part::Directory => PartLabel::Directory,
            Part::SliceIndex => PartLabel::SliceIndex,
            Part::Block => PartLabel::Block,
        };
        self.damaged.get_or_create(&PartLabels { part }).inc();
    }

    /// Reads whose bytes did not match, over all parts.
    pub fn damaged_reads(&self) -> u64 {
        let parts = [
            PartLabel::Footer,
            PartLabel::Index,
            PartLabel::Directory,
            PartLabel::SliceIndex,
            PartLabel::Block,
        ];
        parts
            .into_iter()
            .map(|part| self.damaged.get_or_create(&PartLabels { part }).get())
            .sum()
    }

    /// Attempts of one kind (`put`, `get`, `head`, `list`, `delete`), whatever became of them.
    pub fn attempts(&self, operation: &str) -> u64 {
        const OPERATIONS: [Operation; 5] = [
            Operation::Put,
            Operation::Get,
            Operation::Head,
            Operation::List,
            Operation::Delete,
        ];
        const OUTCOMES: [Outcome; 8] = [
            Outcome::Success,
            Outcome::NotFound,
            Outcome::AlreadyExists,
            Outcome::Timeout,
            Outcome::WrongLength,
            Outcome::NoSpace,
            Outcome::Denied,
            Outcome::Error,
        ];
        let mut sum = 0;
        for kind in OPERATIONS
            .into_iter()
            .filter(|kind| kind.name() == operation)
        {
            for outcome in OUTCOMES {
                let labels = RequestLabels {
                    operation: kind,
                    outcome,
                };
                sum += self.requests.get_or_create(&labels).get();
            }
        }
        sum
    }
}
