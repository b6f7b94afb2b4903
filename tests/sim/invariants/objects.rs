//! I7: every object that metadata names exists and matches its checksums, and slices cover a
//! partition without hole or overlap.

use std::collections::BTreeMap;
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
