//! What came of it, as a table and as JSON lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::trouble::Trouble;

/// One trouble, and how long writes stood still.
#[derive(Debug, Serialize)]
pub(super) struct Case {
    pub(super) trouble: String,
    /// Nodes that it struck.
    pub(super) nodes: Vec<i32>,
    /// Longest time without an acknowledgement, milliseconds: partitions that these nodes led.
    pub(super) struck_ms: Vec<u64>,
    /// The same as the Java client saw it, which writes every 200 ms.
    pub(super) java_ms: Vec<u64>,
    /// The same of all others.
    pub(super) others_ms: Vec<u64>,
    /// From the trouble until every partition took writes again.
    pub(super) all_ms: u64,
}

/// Everything that a run found.
#[derive(Default)]
pub(super) struct Report {
    cases: BTreeMap<Trouble, Vec<Case>>,
}

// === impl Report ===

impl Report {
    pub(super) fn add(&mut self, trouble: Trouble, case: Case) {
        self.cases.entry(trouble).or_default().push(case);
    }

    pub(super) fn troubles(&self) -> usize {
        self.cases.values().map(Vec::len).sum()
    }

    /// Write gaps by trouble, in milliseconds.
    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "{:<16} {:>5}  {:>23}  {:>23}  {:>23}  {:>12}\n",
            "write gap, ms",
            "times",
            "struck p50/p99/longest",
            "others p50/p99/longest",
            "struck, as Java saw it",
            "all by, ms"
        );
        for (trouble, cases) in &self.cases {
            let all = |of: fn(&Case) -> &Vec<u64>| -> Vec<u64> {
                cases.iter().flat_map(|case| of(case).clone()).collect()
            };
            let longest = cases.iter().map(|case| case.all_ms).max().unwrap_or(0);
            table.push_str(&format!(
                "{:<16} {:>5}  {:>23}  {:>23}  {:>23}  {longest:>12}\n",
                trouble.to_string(),
                cases.len(),
                spread(all(|case| &case.struck_ms)),
                spread(all(|case| &case.others_ms)),
                spread(all(|case| &case.java_ms)),
            ));
        }
        table
    }

    /// Appends each case as a line of JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        for case in self.cases.values().flatten() {
            writeln!(file, "{}", serde_json::to_string(case)?)?;
        }
        Ok(())
    }
}

fn spread(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let Some(longest) = values.last() else {
        return "-".to_owned();
    };
    let at = |share: usize| values[(values.len() - 1) * share / 100];
    format!("{}/{}/{longest}", at(50), at(99))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn a_spread_names_median_p99_and_longest() {
        assert_eq!(spread((1..=101).rev().collect()), "51/100/101");
        assert_eq!(spread(Vec::new()), "-");
    }
}
