//! The suite that every backend passes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use env::Env;
use parking_lot::Mutex;
use protocol::{LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;

use crate::{Backend, Entry, Error, Group, Log, LogSettings, Metrics, Sequence, Tail, WalId};

/// A backend under test, on one machine.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The world of the current process.
    fn env(&self) -> Env;

    /// A fresh log.
    ///
    /// # Errors
    /// The backend's.
    async fn create(&self, wal_id: WalId) -> Result<Box<dyn Backend>, Error>;

    /// The tail of a log whose writer is gone; `None` for a backend that keeps nothing.
    ///
    /// # Errors
    /// The backend's.
    async fn recover(&self, wal_id: WalId, trim: Sequence) -> Result<Option<Tail>, Error>;

    /// Ends the process: what it had not made durable may be lost.
    fn kill(&self);
}

/// Runs the whole suite.
///
/// # Panics
/// When the backend breaks a promise.
pub async fn run(subject: &dyn Subject) {
    keeps_order_and_contents(subject).await;
    recovers_from_any_trim_point(subject).await;
    bounds_what_waits(subject).await;
    survives_being_killed(subject).await;
    takes_entries_of_any_size(subject).await;
}

/// Groups that were acknowledged, in order.
type Acked = Arc<Mutex<Vec<Group>>>;

fn id(subject: &dyn Subject) -> WalId {
    WalId(subject.env().entropy.uuid())
}

fn entry(n: usize, bytes: usize) -> Entry {
    let contents: Vec<u8> = (0..bytes).map(|i| (i * 13 + n * 7) as u8).collect();
    Entry {
        topic_partition: TopicPartition::new(TopicId(Uuid::from_u128(1)), (n % 5) as i32),
        leader_epoch: LeaderEpoch(n as i32),
        base_offset: n as i64,
        last_offset: n as i64,
        appended_at_ms: 1000 + n as i64,
        batches: Bytes::from(contents),
    }
}

async fn start(subject: &dyn Subject, wal_id: WalId, settings: LogSettings) -> (Log, Acked) {
    let backend = subject.create(wal_id).await.expect("a fresh log is made");
    let acked = Acked::default();
    let seen = acked.clone();
    let durable = Box::new(move |group| seen.lock().push(group));
    (
        Log::start(&subject.env(), wal_id, backend, settings, durable),
        acked,
    )
}

fn standard() -> LogSettings {
    LogSettings::standard(Metrics::default())
}

async fn append(log: &Log, entry: Entry) {
    let permit = log
        .reserve(entry.batches.len())
        .await
        .expect("the log lives");
    log.append(permit, entry);
}

fn entries_of(groups: &[Group]) -> Vec<Entry> {
    groups
        .iter()
        .flat_map(|group| group.entries.clone())
        .collect()
}

async fn read(subject: &dyn Subject, wal_id: WalId, trim: Sequence) -> Option<Vec<Group>> {
    let mut tail = subject
        .recover(wal_id, trim)
        .await
        .expect("the log can be read")?;
    let mut groups = Vec::new();
    while let Some(group) = tail.next().await.expect("the log is sound") {
        groups.push(group);
    }
    assert_eq!(
        tail.end(),
        trim + groups.len() as u64,
        "no holes up to the end"
    );
    Some(groups)
}

async fn keeps_order_and_contents(subject: &dyn Subject) {
    let wal_id = id(subject);
    let (log, acked) = start(subject, wal_id, standard()).await;
    let sent: Vec<_> = (0..100).map(|n| entry(n, n * 61)).collect();
    for entry in &sent {
        append(&log, entry.clone()).await;
    }
    let end = log.clone().close().await.expect("a clean stop");
    let acked = acked.lock().clone();
    assert_eq!(entries_of(&acked), sent);
    for (index, group) in acked.iter().enumerate() {
        assert_eq!(group.sequence, index as u64, "numbers have no holes");
        assert!(!group.entries.is_empty());
    }
    assert_eq!(end, acked.len() as u64);
    assert_eq!(log.durable_end(), end);
    drop(log);
    if let Some(groups) = read(subject, wal_id, 0).await {
        assert_eq!(groups, acked);
        assert_eq!(
            read(subject, wal_id, 0).await,
            Some(acked),
            "reading changes nothing"
        );
    }
}

async fn recovers_from_any_trim_point(subject: &dyn Subject) {
    let wal_id = id(subject);
    let (log, acked) = start(subject, wal_id, standard()).await;
    for n in 0..30 {
        append(&log, entry(n, 2000)).await;
        wait_for(&acked, n + 1).await;
    }
    log.trim(12);
    let end = log.close().await.expect("a clean stop");
    let acked = acked.lock().clone();
    for trim in [12, 13, 20, end - 1, end] {
        if let Some(groups) = read(subject, wal_id, trim).await {
            assert_eq!(groups, acked[trim as usize..], "from {trim}");
        }
    }
}

async fn bounds_what_waits(subject: &dyn Subject) {
    let wal_id = id(subject);
    let settings = LogSettings {
        queue_entries: 2,
        queue_bytes: 1000,
        internal_queue_entries: 1,
        ..standard()
    };
    let (log, acked) = start(subject, wal_id, settings).await;
    let first = log.reserve(900).await.expect("there is room");
    let short = Duration::from_millis(20);
    let full = tokio::time::timeout(short, log.reserve(200)).await;
    assert!(full.is_err(), "bytes are bounded");
    let internal = log.reserve_internal(200).await.expect("places of its own");
    log.append(internal, entry(0, 200));
    log.append(first, entry(1, 900));
    wait_for(&acked, 2).await;
    // Larger than the queue: waits for all of it, then goes.
    append(&log, entry(2, 5000)).await;
    let _one = log.reserve(0).await.expect("a slot");
    let _two = log.reserve(0).await.expect("a slot");
    assert!(
        tokio::time::timeout(short, log.reserve(0)).await.is_err(),
        "slots are bounded"
    );
    log.close().await.expect("a clean stop");
    assert_eq!(
        entries_of(&acked.lock()),
        [entry(0, 200), entry(1, 900), entry(2, 5000)]
    );
}

async fn survives_being_killed(subject: &dyn Subject) {
    let wal_id = id(subject);
    let (log, acked) = start(subject, wal_id, standard()).await;
    let sent: Vec<_> = (0..200).map(|n| entry(n, 500)).collect();
    for (n, entry) in sent.iter().enumerate() {
        append(&log, entry.clone()).await;
        if n == 50 {
            wait_for(&acked, 40).await;
        }
    }
    subject.kill();
    drop(log);
    let acked = acked.lock().clone();
    assert!(entries_of(&acked).len() >= 40);
    if let Some(groups) = read(subject, wal_id, 0).await {
        assert!(groups.len() >= acked.len(), "nothing acknowledged is lost");
        assert_eq!(groups[..acked.len()], acked);
        let read = entries_of(&groups);
        assert_eq!(read, sent[..read.len()], "nothing is made up");
    }
}

async fn takes_entries_of_any_size(subject: &dyn Subject) {
    let wal_id = id(subject);
    let (log, acked) = start(subject, wal_id, standard()).await;
    let near = 4096 - 32 - 104 - 64;
    let sizes = [
        0,
        1,
        near - 1,
        near,
        near + 1,
        4096,
        100_000,
        crate::limits::GROUP_BYTES + 1,
    ];
    let sent: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, bytes)| entry(n, *bytes))
        .collect();
    for (n, entry) in sent.iter().enumerate() {
        append(&log, entry.clone()).await;
        wait_for(&acked, n + 1).await;
    }
    let too_large = log
        .reserve(usize::MAX)
        .await
        .expect_err("no group holds it");
    assert!(matches!(too_large, Error::TooLarge { .. }));
    log.close().await.expect("a clean stop");
    assert_eq!(entries_of(&acked.lock()), sent);
    if let Some(groups) = read(subject, wal_id, 0).await {
        assert_eq!(entries_of(&groups), sent);
    }
}

async fn wait_for(acked: &Acked, entries: usize) {
    while entries_of(&acked.lock()).len() < entries {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
