use std::path::Path;

use env::Env;

use super::{DiskSettings, create, recover, remove_others};
use crate::testing::{Acked, append, durable_or_failed, entry, read_all, wal_id};
use crate::{Ending, Error, Log, LogSettings, Metrics};

const SMALL: DiskSettings = DiskSettings {
    segment_bytes: 64 * 1024,
    first_segment_bytes: 16 * 1024,
    idle_mark_after: std::time::Duration::from_millis(50),
};

async fn start(env: &Env, dir: &Path, acked: &Acked) -> Log {
    let backend = create(env, dir, wal_id(1), SMALL).await.unwrap();
    Log::start(
        env,
        wal_id(1),
        backend,
        LogSettings::standard(Metrics::default()),
        acked.durable(),
    )
}

#[tokio::test]
async fn what_was_appended_comes_back_in_order_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let acked = Acked::default();
    let log = start(&env, dir.path(), &acked).await;
    let entries: Vec<_> = (0..200).map(|n| entry(n, 100 + n as usize * 37)).collect();
    for entry in &entries {
        append(&log, entry.clone()).await;
    }
    assert!(durable_or_failed(&log, 200, &acked).await.is_none());
    assert_eq!(acked.entries(), entries);
    let end = log.close().await.unwrap();

    let mut tail = recover(&env, dir.path(), wal_id(1), 0).await.unwrap();
    let groups = read_all(&mut tail).await.unwrap();
    assert_eq!(groups, acked.groups());
    assert_eq!(tail.end(), end);
    assert_eq!(tail.report().ending, Ending::Closed);
}

#[tokio::test]
async fn a_log_that_lives_is_not_read_and_an_absent_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let log = start(&env, dir.path(), &Acked::default()).await;
    let locked = recover(&env, dir.path(), wal_id(1), 0).await.unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    let missing = recover(&env, dir.path(), wal_id(2), 0).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    assert!(missing.to_string().contains("wal abandon"), "{missing}");
    log.close().await.unwrap();
    let keep = std::collections::BTreeSet::new();
    assert_eq!(
        remove_others(&env, dir.path(), keep).await.unwrap(),
        [wal_id(1)]
    );
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}
