//! Every I/O operation of append, roll, trim, mark and close is a crash point.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env::sim::{DiskSpeed, SimHost};

use super::{DiskSettings, create, recover};
use crate::testing::{Acked, append, durable_or_failed, entry, read_all, run_paused, wal_id};
use crate::{Ending, Entry, Error, Group, Log, LogSettings, Metrics};

const TINY: DiskSettings = DiskSettings {
    segment_bytes: 32 * 1024,
    first_segment_bytes: 16 * 1024,
    idle_mark_after: Duration::from_millis(50),
};
const DIR: &str = "/data/wal";

/// What the world outside the process knows.
#[derive(Clone, Default)]
struct Oracle {
    acked: Acked,
    /// The controller's trim point.
    trim: Arc<AtomicU64>,
}

fn entries() -> Vec<Entry> {
    (0..96)
        .map(|n| entry(n, [10, 3000, 4096, 200, 9000, 4000][n as usize % 6]))
        .collect()
}

/// Appends in bursts, trims, idles, and closes. Gives up when the process has crashed.
async fn scenario(host: &SimHost, oracle: &Oracle) -> Result<(), Error> {
    let env = host.env();
    let backend = create(&env, Path::new(DIR), wal_id(1), TINY).await?;
    let settings = LogSettings::standard(Metrics::default());
    let log = Log::start(&env, wal_id(1), backend, settings, oracle.acked.durable());
    let mut sent = 0;
    for (burst, chunk) in entries().chunks(2).enumerate() {
        for entry in chunk {
            match log.reserve(entry.batches.len()).await {
                Ok(permit) => log.append(permit, entry.clone()),
                Err(error) => {
                    assert!(host.disk.crashed(), "{error}");
                    return Ok(());
                }
            }
        }
        sent += chunk.len();
        let failure = log.failure();
        while oracle.acked.count() < sent {
            if host.disk.crashed() || failure.borrow().is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        if burst % 3 == 1 {
            // The commit stands in the controller before the log may delete.
            let to = log.durable_end() - 1;
            oracle.trim.store(to, Ordering::SeqCst);
            log.trim(to);
        }
        if burst % 4 == 2 {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    let closed = tokio::time::timeout(Duration::from_secs(60), log.close()).await;
    assert!(host.disk.crashed() || closed.is_ok_and(|end| end.is_ok()));
    Ok(())
}

fn host(seed: u64) -> SimHost {
    let host = SimHost::alone(seed);
    host.threads.set_speed(DiskSpeed {
        least: Duration::from_micros(50),
        most: Duration::from_micros(400),
    });
    host
}

/// Nothing acknowledged is missing, nothing stands beyond a hole, nothing was made up.
fn check(oracle: &Oracle, trim: u64, recovered: &[Group], what: &str) {
    let acked = oracle.acked.groups();
    for (index, group) in recovered.iter().enumerate() {
        assert_eq!(group.sequence, trim + index as u64, "{what}: no holes");
    }
    for group in acked.iter().filter(|group| group.sequence >= trim) {
        let found = recovered.get((group.sequence - trim) as usize);
        assert_eq!(
            found,
            Some(group),
            "{what}: acknowledged group {} lost",
            group.sequence
        );
    }
    let before: usize = acked
        .iter()
        .filter(|group| group.sequence < trim)
        .map(|g| g.entries.len())
        .sum();
    let recovered: Vec<_> = recovered.iter().flat_map(|g| g.entries.clone()).collect();
    let sent = entries();
    let expected = &sent[before..(before + recovered.len()).min(sent.len())];
    assert_eq!(recovered, expected, "{what}: a phantom entry");
}

async fn recover_and_check(host: &SimHost, oracle: &Oracle, what: &str) -> Ending {
    let trim = oracle.trim.load(Ordering::SeqCst);
    let mut tail = recover(&host.env(), Path::new(DIR), wal_id(1), trim)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let groups = read_all(&mut tail)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    check(oracle, trim, &groups, what);
    assert_eq!(tail.end(), trim + groups.len() as u64);
    tail.report().ending
}

fn clean_run(seed: u64) -> u64 {
    run_paused(async move {
        let (host, oracle) = (host(seed), Oracle::default());
        scenario(&host, &oracle).await.unwrap();
        assert_eq!(oracle.acked.entries(), entries());
        let ops = host.disk.ops();
        host.disk.power_loss();
        assert_eq!(
            recover_and_check(&host, &oracle, "clean").await,
            Ending::Closed
        );
        ops
    })
}

#[test]
fn no_crash_point_loses_or_makes_up_an_entry() {
    let ops = clean_run(1);
    assert!(
        ops > 150,
        "the scenario rolls, trims and marks: {ops} operations"
    );
    let mut torn = 0;
    for op in 0..ops {
        for loss in [true, false] {
            torn += usize::from(crash_at(op, loss));
        }
    }
    assert!(torn > 0, "some crash tears a group");
}

/// True when a torn group was found.
fn crash_at(op: u64, power_loss: bool) -> bool {
    run_paused(async move {
        // The faults of the crash differ, the way to it does not.
        let (host, oracle) = (host(1), Oracle::default());
        host.disk.crash_at(op);
        let hour = Duration::from_secs(3600);
        let created = tokio::time::timeout(hour, scenario(&host, &oracle)).await;
        let created = created.unwrap_or_else(|_| panic!("crash at {op}: the scenario hangs"));
        assert!(host.disk.crashed(), "operation {op} is reached");
        if power_loss {
            host.disk.power_loss();
        } else {
            host.disk.kill();
        }
        if created.is_err() {
            // Not registered with the controller yet: nobody will ask for it.
            assert!(oracle.acked.groups().is_empty());
            return false;
        }
        let what = format!("crash at {op}, power loss {power_loss}");
        // Recovery only reads: crash it at each of its own steps, then let it finish.
        if op.is_multiple_of(32) {
            crash_recovery(&host, &oracle).await;
        }
        matches!(
            recover_and_check(&host, &oracle, &what).await,
            Ending::Torn { .. }
        )
    })
}

async fn crash_recovery(host: &SimHost, oracle: &Oracle) {
    let trim = oracle.trim.load(Ordering::SeqCst);
    for step in 0.. {
        host.disk.crash_at(host.disk.ops() + step);
        let tail = recover(&host.env(), Path::new(DIR), wal_id(1), trim).await;
        let result = match tail {
            Ok(mut tail) => read_all(&mut tail).await.map(drop),
            Err(error) => Err(error),
        };
        let crashed = host.disk.crashed();
        host.disk.power_loss();
        if let Err(error) = result {
            assert!(crashed, "{error}");
        }
        if !crashed {
            return;
        }
    }
}

#[test]
fn the_oracle_sees_a_disk_that_ignores_syncs() {
    let ops = clean_run(1);
    let caught = (0..ops).step_by(7).any(|op| {
        let crash = || {
            run_paused(async move {
                let (host, oracle) = (host(1), Oracle::default());
                host.disk.ignore_syncs();
                host.disk.crash_at(op);
                let created = scenario(&host, &oracle).await;
                host.disk.power_loss();
                if created.is_ok() {
                    recover_and_check(&host, &oracle, "ignored syncs").await;
                }
            });
        };
        std::panic::catch_unwind(crash).is_err()
    });
    assert!(caught, "a lost group must not go unseen");
}

#[test]
fn a_failed_sync_ends_the_log_and_nothing_later_is_acknowledged() {
    run_paused(async {
        let (host, oracle) = (host(3), Oracle::default());
        let env = host.env();
        let backend = create(&env, Path::new(DIR), wal_id(1), TINY).await.unwrap();
        let settings = LogSettings::standard(Metrics::default());
        let log = Log::start(&env, wal_id(1), backend, settings, oracle.acked.durable());
        // Let the next segment be made first: the sync to fail is the group's.
        tokio::time::sleep(Duration::from_millis(20)).await;
        host.disk.fail_next_sync();
        append(&log, entry(0, 100)).await;
        let mut failure = log.failure();
        let error = failure
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap();
        assert!(matches!(error, Error::SyncFailed { .. }), "{error}");
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
        assert!(error.to_string().contains("must end"), "{error}");
        assert!(log.reserve(10).await.is_err());
        assert!(oracle.acked.groups().is_empty());
        assert_eq!(log.durable_end(), 0);
    });
}

#[test]
fn a_full_disk_is_waited_out_and_nothing_is_lost() {
    run_paused(async {
        let (host, oracle) = (host(4), Oracle::default());
        let env = host.env();
        let backend = create(&env, Path::new(DIR), wal_id(1), TINY).await.unwrap();
        host.disk.set_capacity(Some(host.disk.used() + 1000));
        let settings = LogSettings::standard(Metrics::default());
        let log = Log::start(&env, wal_id(1), backend, settings, oracle.acked.durable());
        let sent: Vec<_> = (0..10).map(|n| entry(n, 4000)).collect();
        for entry in &sent {
            let permit = log.reserve(4000).await;
            match permit {
                Ok(permit) => log.append(permit, entry.clone()),
                Err(error) => panic!("{error}"),
            }
        }
        let mut stalled = log.stalled();
        stalled.wait_for(Option::is_some).await.unwrap();
        let refused = log.reserve(10).await.unwrap_err();
        assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
        assert_eq!(refused.kind(), crate::ErrorKind::Retry);
        assert!(oracle.acked.count() < 10);
        assert!(
            log.failure().borrow().is_none(),
            "a full disk is no failure"
        );

        host.disk.set_capacity(None);
        stalled.wait_for(Option::is_none).await.unwrap();
        let end = log.close().await.unwrap();
        assert_eq!(oracle.acked.entries(), sent);
        assert_eq!(end, oracle.acked.groups().len() as u64);
        host.disk.power_loss();
        recover_and_check_groups(&host, &oracle).await;
    });
}

#[test]
fn a_stall_without_a_waiting_group_ends_once_there_is_space() {
    run_paused(async {
        let (host, oracle) = (host(5), Oracle::default());
        let env = host.env();
        let backend = create(&env, Path::new(DIR), wal_id(1), TINY).await.unwrap();
        host.disk.set_capacity(Some(host.disk.used()));
        let settings = LogSettings::standard(Metrics::default());
        let log = Log::start(&env, wal_id(1), backend, settings, oracle.acked.durable());
        // The groups fill the first segment to its last block; the idle mark has none left, and
        // nothing but the mark wants the next segment.
        let mut sent = 0;
        while log.stalled().borrow().is_none() {
            append(&log, entry(sent, 100)).await;
            sent += 1;
            assert!(
                durable_or_failed(&log, sent as usize, &oracle.acked)
                    .await
                    .is_none()
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(matches!(log.reserve(10).await, Err(Error::DiskFull { .. })));
        host.disk.set_capacity(None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        append(&log, entry(sent, 100)).await;
        assert!(
            durable_or_failed(&log, sent as usize + 1, &oracle.acked)
                .await
                .is_none()
        );
        log.close().await.unwrap();
        host.disk.power_loss();
        recover_and_check_groups(&host, &oracle).await;
    });
}

async fn recover_and_check_groups(host: &SimHost, oracle: &Oracle) {
    let mut tail = recover(&host.env(), Path::new(DIR), wal_id(1), 0)
        .await
        .unwrap();
    assert_eq!(read_all(&mut tail).await.unwrap(), oracle.acked.groups());
}
