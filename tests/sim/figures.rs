//! What nodes count of themselves: looked at again and again while they live, as an operator's
//! monitoring would.

use std::collections::BTreeMap;

use crate::invariants::{damage, memory};

/// Counters whose sums tell whether a seed put pressure on what they count.
const TOLD: [&str; 19] = [
    "broker_lease_lapses_total",
    "broker_moves_failed_total",
    "broker_moves_total",
    "broker_surrenders_total",
    "collector_deleted_total",
    "collector_failures_total",
    "storage_background_failures_total",
    "storage_block_misses_total",
    "storage_compaction_slices_total",
    "storage_damaged_total",
    "storage_replans_total",
    "storage_upload_conflicts_total",
    "storage_upload_retries_total",
    "storage_upload_rounds_total",
    "takeover_failures_total",
    "takeover_recovered_total",
    "wal_hedges_total",
    "wal_rereads_total",
    "wal_retries_total",
];
/// Before names whose highest value is told, not a sum.
pub(crate) const HIGHEST: &str = "highest ";
/// What every name begins with.
const PREFIX: &str = "headwater_";

/// One look at a node: figures by name; those with labels are summed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Look(BTreeMap<String, f64>);

/// All looks at the nodes of one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    node: i32,
    last: Look,
    /// Of processes that have ended.
    before: BTreeMap<String, f64>,
    /// Largest values of gauges that have a bound.
    highest: BTreeMap<String, f64>,
    pub(crate) memory: Vec<String>,
    pub(crate) damage: Vec<String>,
    /// What is wrong only where no bytes are changed, on disks or on their way.
    pub(crate) checksums: Vec<String>,
    looks: u64,
}

// === impl Look ===

impl Look {
    /// Reads a page in the format of OpenMetrics.
    pub(crate) fn parse(page: &str) -> Self {
        let mut figures = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = name.split('{').next().unwrap_or(name);
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            if let Ok(value) = value.parse::<f64>() {
                *figures.entry(name.to_owned()).or_default() += value;
            }
        }
        Self(figures)
    }

    /// A figure; `None` where the node has none of this name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

// === impl Figures ===

impl Figures {
    pub(crate) fn of(node: i32) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    pub(crate) fn look(&mut self, page: &str, bounds: &memory::Bounds) {
        let look = Look::parse(page);
        self.looks += 1;
        let node = self.node;
        self.memory.extend(memory::check(node, &look, bounds));
        self.damage
            .extend(damage::check(node, &look, &damage::NEVER));
        self.checksums
            .extend(damage::check(node, &look, &damage::CHECKSUMS));
        for name in memory::NAMES {
            let seen = look.get(name).unwrap_or(0.0);
            let highest = self.highest.entry(name.to_owned()).or_default();
            *highest = highest.max(seen);
        }
        self.last = look;
    }

    /// The process has ended; the next one counts from nothing.
    pub(crate) fn ended(&mut self) {
        let last = std::mem::take(&mut self.last);
        for name in TOLD {
            if let Some(count) = last.get(name) {
                *self.before.entry(name.to_owned()).or_default() += count;
            }
        }
    }

    /// The newest look at the process that runs.
    pub(crate) fn last(&self) -> &Look {
        &self.last
    }

    /// What was counted over all processes, and the highest of what is bounded.
    pub(crate) fn told(&self) -> BTreeMap<String, u64> {
        let mut told = BTreeMap::new();
        for name in TOLD {
            let before = self.before.get(name).copied().unwrap_or(0.0);
            let now = self.last.get(name).unwrap_or(0.0);
            told.insert(name.to_owned(), (before + now) as u64);
        }
        told.insert("looks".to_owned(), self.looks);
        for (name, highest) in &self.highest {
            told.insert(format!("{HIGHEST}{name}"), *highest as u64);
        }
        told.retain(|_, count| *count > 0);
        told
    }
}

#[test]
fn a_page_is_read() {
    let page = "# HELP x\nheadwater_a_total{b=\"1 2\"} 3\nheadwater_a_total{b=\"c\"} 4\n\
                headwater_d 5.5\n# EOF\n";
    let look = Look::parse(page);
    assert_eq!(look.get("a_total"), Some(7.0));
    assert_eq!(look.get("d"), Some(5.5));
    assert_eq!(look.get("e"), None);
}
