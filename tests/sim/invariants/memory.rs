//! I10: memory stays within its budget: every store of bytes that a node accounts for stays below
//! its bound at each look, all together below theirs, and what nothing needs is given back.

use crate::figures::Look;

/// Gauges that are bounded.
pub(crate) const NAMES: [&str; 7] = [USER, INTERNAL, HOT, BLOCKS, FRAMES, QUEUED, CONNECTIONS];
pub(crate) const USER: &str = "storage_memory_user_bytes";
pub(crate) const UNUPLOADED: &str = "storage_unuploaded_bytes";
const INTERNAL: &str = "storage_memory_internal_bytes";
const HOT: &str = "storage_hot_bytes";
const BLOCKS: &str = "storage_block_cache_bytes";
const FRAMES: &str = "broker_frame_bytes";
const QUEUED: &str = "wal_queued_bytes";
const CONNECTIONS: &str = "kafka_connections";

/// What a node may hold.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Of user data that is not uploaded, and of internal data.
    pub(crate) user: usize,
    pub(crate) internal: usize,
    pub(crate) hot: usize,
    pub(crate) blocks: u64,
    pub(crate) frames: usize,
    pub(crate) connections: usize,
}

/// What is too much.
pub(crate) fn check(node: i32, look: &Look, bounds: &Bounds) -> Vec<String> {
    let unuploaded = bounds.user + bounds.internal;
    let bounded = [
        (USER, bounds.user as f64),
        (INTERNAL, bounds.internal as f64),
        (HOT, bounds.hot as f64),
        (BLOCKS, bounds.blocks as f64),
        (FRAMES, bounds.frames as f64),
        (QUEUED, unuploaded as f64),
        (UNUPLOADED, unuploaded as f64),
        (CONNECTIONS, bounds.connections as f64),
    ];
    let mut problems = Vec::new();
    for (name, bound) in bounded {
        let held = look.get(name).unwrap_or(0.0);
        // Less than nothing is what was given back twice.
        if held > bound || held < 0.0 {
            problems.push(format!(
                "I10: node {node}: {name} is {held}, the bound {bound}"
            ));
        }
    }
    problems
}

/// Bytes of user data that a node holds though everything is uploaded.
pub(crate) fn idle(look: &Look) -> Option<f64> {
    let (held, unuploaded) = (look.get(USER)?, look.get(UNUPLOADED)?);
    (unuploaded == 0.0).then_some(held)
}

#[test]
fn what_is_too_much_is_found() {
    let bounds = Bounds {
        user: 100,
        internal: 10,
        hot: 50,
        blocks: 50,
        frames: 70,
        connections: 3,
    };
    let within =
        Look::parse("headwater_storage_memory_user_bytes 100\nheadwater_wal_queued_bytes 9");
    assert!(check(1, &within, &bounds).is_empty());
    for wrong in [
        "headwater_storage_memory_user_bytes 101",
        "headwater_storage_memory_internal_bytes 11",
        "headwater_broker_frame_bytes 71",
        "headwater_kafka_connections -1",
    ] {
        assert_eq!(check(1, &Look::parse(wrong), &bounds).len(), 1, "{wrong}");
    }
    assert_eq!(idle(&within), None);
    let left = format!("headwater_{USER} 7\nheadwater_{UNUPLOADED} 0");
    assert_eq!(idle(&Look::parse(&left)), Some(7.0));
}
