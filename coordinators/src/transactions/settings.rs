//! What the operator may choose.

use super::types::TransactionVersion;

/// What the operator may choose. Names are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `transaction.max.timeout.ms`: the longest time-out that InitProducerId may ask for.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: how long an id without a transaction is kept.
    pub id_expiration_ms: i64,
    /// The finalized level of the feature `transaction.version`.
    pub version: TransactionVersion,
    /// Whether requests of clients whose transactions share one epoch (TV0, TV1) are refused on
    /// a connection once a later one has acted for the same producer: they were delayed, and
    /// would act on a transaction that they do not mean (`adr/0003`).
    pub bind_connections: bool,
}

impl Settings {
    /// Kafka's defaults.
    pub const KAFKA: Self = Self {
        max_timeout_ms: 15 * 60 * 1_000,
        id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
        version: TransactionVersion::Tv2,
        bind_connections: true,
    };
}
