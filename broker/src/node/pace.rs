//! Small sizes and short times for simulations and tests: what takes a product an hour and
//! gigabytes comes within seconds and kilobytes.

use std::time::Duration;

use controller::NEWEST_LEVEL;
use storage::{CollectorSettings, StorageSettings};

/// What is other than in a product. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Bytes for un-uploaded data, caches, reads and compaction together.
    pub storage_bytes: Option<usize>,
    /// Slices of a partition that are compacted.
    pub compaction_slices: Option<usize>,
    /// Between two looks for something to compact.
    pub compaction_interval: Option<Duration>,
    /// Between two rounds of the collector.
    pub collector_interval: Option<Duration>,
    /// Of the 256 parts of the data keys, how many are listed for orphans in each round.
    pub collector_parts: Option<u32>,
    /// Between two sweeps of what closed logs left.
    pub sweep_interval: Option<Duration>,
    /// Bytes of the controllers' log after which a snapshot is taken, at least.
    pub snapshot_bytes: Option<u64>,
    /// The newest level of the cluster that the node knows, as if its build were an older one.
    pub newest_level: Option<u16>,
}

// === impl Pace ===

impl Pace {
    /// Settings for `bytes` of memory, where nothing else is asked for.
    pub(super) fn storage(&self, bytes: usize) -> StorageSettings {
        let mut settings = StorageSettings::within(self.storage_bytes.unwrap_or(bytes));
        if let Some(slices) = self.compaction_slices {
            settings.compaction_slices = slices;
        }
        if let Some(interval) = self.compaction_interval {
            settings.compaction_interval = interval;
        }
        settings
    }

    /// The newest level of the cluster that the node knows.
    pub(super) fn newest_level(&self) -> u16 {
        self.newest_level.unwrap_or(NEWEST_LEVEL)
    }

    pub(super) fn collector(&self) -> CollectorSettings {
        let standard = CollectorSettings::standard();
        CollectorSettings {
            interval: self.collector_interval.unwrap_or(standard.interval),
            listed_parts: self.collector_parts.unwrap_or(standard.listed_parts),
            ..standard
        }
    }
}
