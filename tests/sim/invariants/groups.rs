//! I6: committed offsets never go back by themselves; no partition has two owners in one
//! generation; what was acknowledged is delivered.

use std::collections::{BTreeMap, BTreeSet};

use tests::history::groups::GroupHistory;

use super::MOST;

pub(crate) fn check(
    group: &GroupHistory,
    acknowledged: &BTreeMap<i32, BTreeSet<i64>>,
) -> Vec<String> {
    let wrong = group.anomalies(acknowledged);
    let told = wrong.iter().map(|anomaly| format!("I6: {anomaly:?}"));
    told.take(MOST).collect()
}
