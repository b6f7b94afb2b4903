//! Settings of the group coordinator, by their Kafka names.

use crate::config::Config;

/// Settings of the group coordinator; all times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms` (Kafka's default 3000): how long an empty group waits for
    /// more members before its first generation.
    pub initial_rebalance_delay_ms: u32,
    /// `group.min.session.timeout.ms` (6000).
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms` (1800000).
    pub max_session_timeout_ms: i32,
    /// `group.max.size` (unlimited up to [`MAX_GROUP_MEMBERS`](super::MAX_GROUP_MEMBERS)).
    pub max_size: usize,
    /// `offset.metadata.max.bytes` (4096).
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes` (10080), in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms` (600000).
    pub offsets_retention_check_interval_ms: u64,
}

impl GroupConfig {
    /// What the broker is configured to.
    pub(crate) fn of(config: &Config) -> Self {
        let number = |name: &str| config.values.number(name);
        let int = |name: &str| i32::try_from(number(name)).unwrap_or(i32::MAX);
        Self {
            initial_rebalance_delay_ms: u32::try_from(number("group.initial.rebalance.delay.ms"))
                .unwrap_or(0),
            min_session_timeout_ms: int("group.min.session.timeout.ms"),
            max_session_timeout_ms: int("group.max.session.timeout.ms"),
            max_size: config.size("group.max.size"),
            offset_metadata_max_bytes: config.size("offset.metadata.max.bytes"),
            offsets_retention_ms: number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval_ms: u64::try_from(number(
                "offsets.retention.check.interval.ms",
            ))
            .unwrap_or(600_000),
        }
    }

    /// Kafka's defaults.
    pub const fn kafka_defaults() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: super::MAX_GROUP_MEMBERS,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_defaults_are_kafkas() {
        let config = Config::with(&[]).unwrap();
        let max_size = i32::MAX as usize;
        let kafka = GroupConfig {
            max_size,
            ..GroupConfig::kafka_defaults()
        };
        assert_eq!(GroupConfig::of(&config), kafka);
    }
}
