//! What the tests of this crate share.

mod store;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;

pub(crate) use store::{Fault, FaultStore, Op};

use crate::{Durable, Entry, Error, Group, Log, Tail, WalId};

pub(crate) fn wal_id(n: u128) -> WalId {
    WalId(Uuid::from_u128(0x1000 + n))
}

/// An entry whose bytes are determined by `n` and `bytes`.
pub(crate) fn entry(n: i64, bytes: usize) -> Entry {
    let pattern: Vec<u8> = (0..bytes)
        .map(|i| (n as usize * 31 + i * 7) as u8)
        .collect();
    Entry {
        topic_partition: TopicPartition::new(TopicId(Uuid::from_u128(7)), (n % 3) as i32),
        leader_epoch: LeaderEpoch(5),
        base_offset: n * 10,
        last_offset: n * 10 + 9,
        appended_at_ms: 1_700_000_000_000 + n,
        batches: Bytes::from(pattern),
    }
}

/// Groups as they were acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Acked(Arc<Mutex<Vec<Group>>>);

impl Acked {
    pub(crate) fn durable(&self) -> Durable {
        let acked = self.0.clone();
        Box::new(move |group| acked.lock().push(group))
    }

    pub(crate) fn groups(&self) -> Vec<Group> {
        self.0.lock().clone()
    }

    /// Number of entries.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().iter().map(|group| group.entries.len()).sum()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.groups()
            .into_iter()
            .flat_map(|group| group.entries)
            .collect()
    }
}

/// Queues one entry.
pub(crate) async fn append(log: &Log, entry: Entry) {
    let permit = log
        .reserve(entry.batches.len())
        .await
        .expect("the log lives");
    log.append(permit, entry);
}

/// Waits until `end` groups are durable or the log has failed.
pub(crate) async fn durable_or_failed(log: &Log, entries: usize, acked: &Acked) -> Option<Error> {
    let failure = log.failure();
    loop {
        if acked.count() >= entries {
            return None;
        }
        if let Some(error) = failure.borrow().clone() {
            return Some(error);
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

pub(crate) async fn read_all(tail: &mut Tail) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    while let Some(group) = tail.next().await? {
        groups.push(group);
    }
    Ok(groups)
}

/// Runs `test` on one thread, on paused time: the same each time.
pub(crate) fn run_paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}
