use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use env::Env;
use env::sim::{DiskSpeed, SimHost};

use super::{DiskSettings, create, recover, remove_others};
use crate::testing::{Acked, append, durable_or_failed, entry, read_all, run_paused, wal_id};
use crate::{Ending, Error, ErrorKind, Group, Log, LogSettings, Metrics};

const SIM: &str = "/data/wal";

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
    assert_eq!(
        remove_others(&env, dir.path(), BTreeSet::new())
            .await
            .unwrap(),
        [wal_id(1)]
    );
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn a_closed_log_touches_its_directory_no_more() {
    run_paused(async {
        // Whatever the preparer was doing at the time: each step takes 1 to 5 ms here.
        for after_ms in 0..60 {
            let host = SimHost::alone(after_ms);
            host.threads.set_speed(DiskSpeed {
                least: Duration::from_millis(1),
                most: Duration::from_millis(5),
            });
            let (env, dir, acked) = (host.env(), Path::new(SIM), Acked::default());
            let log = start(&env, dir, &acked).await;
            append(&log, entry(0, 9000)).await;
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            log.close().await.unwrap();
            let files = host.disk.files();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(host.disk.files(), files, "closed after {after_ms} ms");
            let removed = remove_others(&env, dir, BTreeSet::new()).await.unwrap();
            assert_eq!(removed, [wal_id(1)]);
        }
    });
}

#[test]
fn a_failure_is_told_while_another_request_to_the_disk_hangs() {
    run_paused(async {
        let host = SimHost::alone(1);
        let (env, dir, acked) = (host.env(), Path::new(SIM), Acked::default());
        let backend = create(&env, dir, wal_id(1), SMALL).await.unwrap();
        let hangs = Duration::from_secs(3600);
        host.threads.set_speed(DiskSpeed {
            least: hangs,
            most: hangs,
        });
        let settings = LogSettings::standard(Metrics::default());
        let log = Log::start(&env, wal_id(1), backend, settings, acked.durable());
        // The next segment is on its way, and stays there.
        tokio::time::sleep(Duration::from_millis(1)).await;
        host.threads.set_speed(DiskSpeed::INSTANT);
        host.disk.fail_next_sync();
        let began = tokio::time::Instant::now();
        append(&log, entry(0, 100)).await;
        let error = durable_or_failed(&log, 1, &acked).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(began.elapsed() < Duration::from_millis(100));
        let closed = log.close().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Internal, "{closed}");
        // It is not for others yet: what hangs may still touch it.
        let locked = recover(&env, dir, wal_id(1), 0).await.unwrap_err();
        assert!(matches!(locked, Error::Locked { .. }), "{locked}");
        tokio::time::sleep(2 * hangs).await;
        assert!(recover(&env, dir, wal_id(1), 0).await.is_ok());
    });
}

/// A small log on a simulated disk; returns its groups. `clean` or killed after 100 ms of idleness.
async fn small_log(host: &SimHost, clean: bool, trim: u64) -> Vec<Group> {
    let (env, acked) = (host.env(), Acked::default());
    let log = start(&env, Path::new(SIM), &acked).await;
    for n in 0..40 {
        append(&log, entry(n, [100, 5000, 3000][n as usize % 3])).await;
        assert!(
            durable_or_failed(&log, n as usize + 1, &acked)
                .await
                .is_none()
        );
        if n % 10 == 4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    log.trim(trim);
    if clean {
        log.close().await.unwrap();
    } else {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    host.disk.kill();
    acked.groups()
}

async fn read_from(host: &SimHost, trim: u64) -> Result<(Vec<Group>, Ending), Error> {
    let mut tail = recover(&host.env(), Path::new(SIM), wal_id(1), trim).await?;
    let groups = read_all(&mut tail).await?;
    let report = tail.report();
    Ok((groups, report.ending))
}

#[test]
fn every_flipped_block_is_corruption_after_a_clean_stop_or_an_idle_moment() {
    run_paused(async {
        for (clean, ending) in [(true, Ending::Closed), (false, Ending::Idle)] {
            let host = SimHost::alone(1);
            let groups = small_log(&host, clean, 0).await;
            assert_eq!(read_from(&host, 0).await.unwrap(), (groups.clone(), ending));
            let mut flips = 0;
            for path in host.disk.files() {
                let stored = host.disk.contents(&path).unwrap();
                for block in 0..stored.len() / 4096 {
                    let bytes = &stored[block * 4096..][..4096];
                    if path.extension().is_none_or(|e| e != "wal") || bytes.iter().all(|b| *b == 0)
                    {
                        continue;
                    }
                    for at in [0, 60, 103, 1500, 4095] {
                        host.disk.flip(&path, (block * 4096 + at) as u64, 1);
                        let place = format!("{} block {block} byte {at}", path.display());
                        match read_from(&host, 0).await {
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}"),
                            // Of the last block, the mark itself: no data, and reported all the same.
                            Ok((found, Ending::Torn { bytes: 4096 })) => assert_eq!(found, groups),
                            Ok((_, ending)) => panic!("{place}: undetected, {ending:?}"),
                        }
                        host.disk.flip(&path, (block * 4096 + at) as u64, 1);
                        flips += 1;
                    }
                }
            }
            assert!(flips > 250, "{flips}");
        }
    });
}

#[test]
fn r10_a_log_that_lost_its_front_middle_or_end_is_corrupt() {
    run_paused(async {
        let host = SimHost::alone(2);
        let groups = small_log(&host, true, 0).await;
        let segments: Vec<_> = host
            .disk
            .files()
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "wal"))
            .collect();
        assert!(segments.len() > 3);
        let env = host.env();
        for lost in [0, 1] {
            let kept = host.disk.contents(&segments[lost]).unwrap();
            env.disk.remove_file(&segments[lost]).unwrap();
            let error = read_from(&host, 0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            host.disk.replace(&segments[lost], kept);
        }
        // The controller says that more was committed than the log holds.
        let error = read_from(&host, groups.len() as u64 + 5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        // An old copy of a segment put back.
        let kept = host.disk.contents(&segments[1]).unwrap();
        host.disk
            .replace(&segments[1], host.disk.contents(&segments[0]).unwrap());
        assert_eq!(
            read_from(&host, 0).await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        host.disk.replace(&segments[1], kept);
        assert_eq!(read_from(&host, 0).await.unwrap().0, groups);
    });
}

#[test]
fn r4_files_are_reused_only_behind_the_trim_point() {
    run_paused(async {
        let host = SimHost::alone(3);
        let (env, acked) = (host.env(), Acked::default());
        let log = start(&env, Path::new(SIM), &acked).await;
        for n in 0..400 {
            append(&log, entry(n, 3000)).await;
            assert!(
                durable_or_failed(&log, n as usize + 1, &acked)
                    .await
                    .is_none()
            );
            if n % 10 == 9 && n > 20 {
                log.trim(log.durable_end() - 12);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let trim = log.durable_end() - 12;
        assert!(
            log.metrics().segments_recycled.get() > 3,
            "files are reused"
        );
        assert!(
            host.disk.used() < 10 * SMALL.segment_bytes,
            "{}",
            host.disk.used()
        );
        drop(log);
        host.disk.power_loss();
        let (groups, _) = read_from(&host, trim).await.unwrap();
        assert_eq!(groups, acked.groups()[trim as usize..]);
        // Below the trim point groups are gone, and that is said, never papered over.
        assert_eq!(
            read_from(&host, 0).await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    });
}

#[test]
fn r4_nothing_at_or_above_the_trim_point_goes_however_many_segments_lie_there() {
    run_paused(async {
        let host = SimHost::alone(5);
        let (env, acked) = (host.env(), Acked::default());
        let log = start(&env, Path::new(SIM), &acked).await;
        for n in 0..100 {
            append(&log, entry(n, 3000)).await;
            let failed = durable_or_failed(&log, n as usize + 1, &acked).await;
            assert!(failed.is_none());
        }
        let used = host.disk.used();
        assert!(used > 5 * SMALL.segment_bytes, "{used} bytes");
        for trim in [1, 20, 50] {
            log.trim(trim);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(log);
        host.disk.power_loss();
        let (groups, _) = read_from(&host, 50).await.unwrap();
        assert_eq!(groups, acked.groups()[50..]);
    });
}

#[test]
fn an_empty_or_foreign_volume_is_refused() {
    run_paused(async {
        let host = SimHost::alone(4);
        small_log(&host, true, 0).await;
        let dir = Path::new(SIM).join(wal_id(1).to_string());
        let foreign = Path::new(SIM).join(wal_id(2).to_string());
        let env = host.env();
        env.disk.create_dir_all(&foreign).unwrap();
        let empty = recover(&env, Path::new(SIM), wal_id(2), 0)
            .await
            .unwrap_err();
        assert!(matches!(empty, Error::Missing { .. }), "{empty}");
        for path in env.disk.read_dir(&dir).unwrap() {
            let bytes = host.disk.contents(&path).unwrap();
            host.disk
                .replace(&foreign.join(path.file_name().unwrap()), bytes);
        }
        let error = recover(&env, Path::new(SIM), wal_id(2), 0)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}
