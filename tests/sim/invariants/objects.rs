//! I7: every object that metadata names exists and matches its checksums, and slices cover a
//! partition without hole or overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{Digest, PartitionState};
use object_store::ObjectStore;
use storage::format::verify_object;

use super::MOST;

/// CRC-32, as objects name it.
const CRC32: u32 = 1;

pub(crate) async fn check(named: &[PartitionState], store: Arc<dyn ObjectStore>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut objects = BTreeMap::new();
    for partition in named {
        problems.extend(tiling(partition));
        for slice in &partition.slices {
            objects.insert(slice.object.key.clone(), Arc::clone(&slice.object));
        }
    }
    for (key, object) in objects {
        let (algorithm, bytes) = match &object.digest {
            Digest::Crc32(bytes) => (CRC32, bytes.to_vec()),
            Digest::Other { algorithm, bytes } => (*algorithm, bytes.to_vec()),
        };
        let expected = storage::ObjectRef {
            key: key.clone(),
            length: object.length,
            digest: storage::Digest { algorithm, bytes },
        };
        match verify_object(&store, &key, Some(&expected)).await {
            Ok(report) => {
                let wrong = report.all_errors();
                problems.extend(wrong.map(|error| format!("I7: object {key}: {error}")));
            }
            Err(error) => problems.push(format!("I7: object {key}: {error}")),
        }
    }
    problems.truncate(MOST);
    problems
}

/// Of the objects `keys`, those that collection and sweeping should have deleted: data that no slice
/// names, and of each log that is not `open` more than its seal.
pub(crate) fn left_over(
    keys: impl Iterator<Item = String>,
    named: &[PartitionState],
    open: &BTreeSet<String>,
) -> Vec<String> {
    let slices = named.iter().flat_map(|partition| &partition.slices);
    let named: BTreeSet<&str> = slices.map(|slice| &*slice.object.key).collect();
    let mut problems = Vec::new();
    let mut logs: BTreeMap<String, usize> = BTreeMap::new();
    for key in keys {
        // Cluster and generation come first.
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            [_, _, "data", ..] if !named.contains(key.as_str()) => {
                problems.push(format!("I7: nothing names {key}, and it stays"));
            }
            [_, _, "wal", _, log, ..] if !open.contains(log) => {
                *logs.entry(log.to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
    for (log, objects) in logs.into_iter().filter(|(_, objects)| *objects > 1) {
        problems.push(format!(
            "I7: {objects} objects of the closed log {log} stay"
        ));
    }
    problems.truncate(MOST);
    problems
}

#[test]
fn what_stays_is_found() {
    let keys = [
        "c/1/data/00/a",
        "c/1/wal/2/closed/0",
        "c/1/wal/2/closed/1",
        "c/1/wal/2/open/0",
    ];
    let keys = || {
        keys.into_iter()
            .chain(["c/1/wal/2/open/1", "c/1/meta/home"])
    };
    let open = BTreeSet::from(["open".to_owned()]);
    let left = left_over(keys().map(str::to_owned), &[], &open);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left_over(["c/1/wal/2/closed/0".to_owned()].into_iter(), &[], &open).is_empty());
}

/// Whether slices and gaps cover what is committed, in order of offsets and epochs.
fn tiling(partition: &PartitionState) -> Option<String> {
    let slices = partition.slices.iter();
    let mut runs: Vec<(i64, i64)> = slices
        .map(|slice| (slice.first_offset, slice.end_offset))
        .chain(partition.gaps.iter().copied())
        .collect();
    runs.sort_unstable();
    let mut at = runs.first().map_or(partition.log_start, |run| run.0);
    let torn = at > partition.log_start || {
        let mut broken = false;
        for (from, to) in &runs {
            broken |= *from != at || to <= from;
            at = *to;
        }
        broken || (at < partition.committed_end && partition.log_start < partition.committed_end)
    };
    let epochs = partition.slices.windows(2);
    let mut epochs = epochs.map(|pair| (pair[0].leader_epoch, pair[1].leader_epoch));
    let back = epochs.any(|(first, second)| second < first);
    (torn || back).then(|| {
        let (tp, end) = (partition.topic_partition, partition.committed_end);
        format!(
            "I7: {tp:?} from {} to {end} is covered by {runs:?}",
            partition.log_start
        )
    })
}
