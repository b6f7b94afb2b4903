//! Where nothing rots, no node says that something did: no object that is named is missing, nothing
//! that is no data was about to be deleted; and where no answer is damaged either, no checksum fails
//! for good and no log is set aside. And nothing stands in the controllers' log that a build could
//! not read which knows the level that was finalized before it (F20).

use crate::figures::Look;

/// What no node may count, even where a store damages its answers.
pub(crate) const NEVER: [&str; 3] = [
    "storage_lost_total",
    "collector_refused_total",
    "controller_entries_above_level_total",
];
/// And where it does not.
pub(crate) const CHECKSUMS: [&str; 2] = ["storage_damaged_total", "takeover_quarantined_logs"];

pub(crate) fn check(node: i32, look: &Look, nothing: &[&str]) -> Vec<String> {
    let found = nothing.iter().filter_map(|name| {
        let count = look.get(name).unwrap_or(0.0);
        (count > 0.0).then(|| format!("damage: node {node} says {name} {count}"))
    });
    found.collect()
}

#[test]
fn damage_that_is_named_is_found() {
    let look = Look::parse("headwater_storage_lost_total 1\nheadwater_collector_refused_total 0");
    assert_eq!(check(3, &look, &NEVER).len(), 1);
    assert!(check(3, &look, &CHECKSUMS).is_empty());
}
