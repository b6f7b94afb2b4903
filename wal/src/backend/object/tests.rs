use std::sync::Arc;
use std::time::Duration;

use env::Env;
use env::sim::SimHost;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::{ObjectSettings, create, recover, seal, sweep};
use crate::record::{Encoded, GroupKind, GroupMeta};
use crate::testing::{
    Acked, Fault, FaultStore, Op, append, durable_or_failed, entry, read_all, run_paused, wal_id,
};
use crate::{Entry, Error, ErrorKind, Group, Log, LogSettings, Metrics, Sequence};

const PREFIX: &str = "p/cluster/00000001/wal/1";
const FAST: ObjectSettings = ObjectSettings {
    puts_per_second: 1000,
    ..ObjectSettings::STANDARD
};

struct Case {
    env: Env,
    store: FaultStore,
    acked: Acked,
    metrics: Metrics,
}

impl Case {
    fn new() -> Self {
        let (store, acked) = (FaultStore::default(), Acked::default());
        Self {
            env: SimHost::alone(1).env(),
            store,
            acked,
            metrics: Metrics::default(),
        }
    }

    fn log(&self) -> Log {
        let store = Arc::new(self.store.clone());
        let backend = create(&self.env, store, PREFIX.into(), wal_id(1), FAST);
        let settings = LogSettings::standard(self.metrics.clone());
        Log::start(
            &self.env,
            wal_id(1),
            backend,
            settings,
            self.acked.durable(),
        )
    }

    /// Appends `count` entries, each in a group of its own, without waiting for them.
    async fn append_groups(&self, log: &Log, from: i64, count: i64) {
        for n in from..from + count {
            append(log, entry(n, 100)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn recover(&self, trim: Sequence) -> Result<(Vec<Group>, Sequence), Error> {
        let store = Arc::new(self.store.clone());
        let mut tail = recover(&self.env, store, PREFIX.into(), wal_id(1), trim, FAST).await?;
        let groups = read_all(&mut tail).await?;
        Ok((groups, tail.end()))
    }

    async fn seal(&self, trim: Sequence) -> Result<Sequence, Error> {
        let store = Arc::new(self.store.clone());
        seal(&self.env, store, PREFIX.into(), wal_id(1), trim, FAST).await
    }

    fn path(sequence: Sequence) -> Path {
        Path::from(format!("{PREFIX}/{}/{sequence:020}", wal_id(1)))
    }

    /// Puts a group as some writer would have.
    async fn plant(&self, sequence: Sequence, acked_to: Sequence) {
        let meta = GroupMeta {
            kind: GroupKind::Entries,
            wal_id: wal_id(1),
            sequence,
            nonce: 99,
            acked_to,
            window: 8,
            generation: 0,
        };
        let parts = Encoded::new(&meta, &[], &[entry(sequence as i64, 50)]).parts();
        let payload: PutPayload = parts.into_iter().collect();
        self.store
            .inner()
            .put(&Self::path(sequence), payload)
            .await
            .unwrap();
    }
}

fn sent(from: i64, count: i64) -> Vec<Entry> {
    (from..from + count).map(|n| entry(n, 100)).collect()
}

#[test]
fn groups_come_back_and_the_end_is_sealed_once() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 20).await;
        assert!(durable_or_failed(&log, 20, &case.acked).await.is_none());
        let end = log.close().await.unwrap();
        let (groups, found) = case.recover(0).await.unwrap();
        assert_eq!((groups, found), (case.acked.groups(), end));
        let keys = case.store.keys().await;
        assert_eq!(
            keys.len() as u64,
            end + 1,
            "one object per group and a seal"
        );
        assert_eq!(keys[0], format!("{PREFIX}/{}/{:020}", wal_id(1), 0));
        // A second heir finds the first one's seal.
        let (again, found) = case.recover(3).await.unwrap();
        assert_eq!((again, found), (case.acked.groups()[3..].to_vec(), end));
        assert_eq!(case.store.keys().await, keys);
    });
}

#[test]
fn r3_nothing_is_acknowledged_before_all_that_is_before_it() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        for _ in 0..100 {
            case.store.fail_put(0, Fault::Unavailable);
        }
        case.append_groups(&log, 0, 20).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(case.acked.groups().is_empty());
        assert_eq!(log.durable_end(), 0);
        assert_eq!(case.metrics.queued_bytes.get(), 2000);
        assert_eq!(
            case.store.sequences().await,
            [1, 2, 3, 4, 5, 6, 7],
            "a window of 8 and no more"
        );
        assert!(durable_or_failed(&log, 20, &case.acked).await.is_none());
        assert_eq!(case.acked.entries(), sent(0, 20));
        assert_eq!(case.metrics.queued_bytes.get(), 0);
    });
}

#[test]
fn r8_a_lost_answer_is_recognised_by_our_own_bytes() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.store.fail_put(0, Fault::AnswerLost);
        append(&log, entry(0, 100)).await;
        // What gathers meanwhile must not slip into the second attempt.
        append(&log, entry(1, 100)).await;
        assert!(durable_or_failed(&log, 2, &case.acked).await.is_none());
        let attempts = case.store.attempts(0);
        assert!(attempts.len() >= 2);
        assert!(
            attempts.iter().all(|body| *body == attempts[0]),
            "the bytes are frozen"
        );
        assert_eq!(case.recover(0).await.unwrap().0, case.acked.groups());
    });
}

#[test]
fn r8_a_conflict_that_created_nothing_is_tried_again() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.store.fail_put(0, Fault::Conflict);
        case.store.fail_put(0, Fault::Conflict);
        append(&log, entry(0, 100)).await;
        assert!(durable_or_failed(&log, 1, &case.acked).await.is_none());
        assert_eq!(case.store.attempts(0).len(), 3);
        assert_eq!(case.recover(0).await.unwrap().0, case.acked.groups());
    });
}

#[test]
fn r8_a_foreign_object_is_fatal_and_never_taken_for_success() {
    run_paused(async {
        for planted in ["group", "noise"] {
            let case = Case::new();
            if planted == "group" {
                case.plant(0, 0).await;
            } else {
                let noise = PutPayload::from_static(b"not a group");
                case.store.inner().put(&Case::path(0), noise).await.unwrap();
            }
            let log = case.log();
            append(&log, entry(0, 100)).await;
            let error = durable_or_failed(&log, 1, &case.acked).await.unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(case.acked.groups().is_empty());
        }
    });
}

#[test]
fn r9_a_sealed_log_is_fenced_and_its_zombie_acknowledges_nothing() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 3).await;
        assert!(durable_or_failed(&log, 3, &case.acked).await.is_none());
        let (groups, end) = case.recover(0).await.unwrap();
        assert_eq!((groups.len(), end), (3, 3));
        // The zombie goes on, with several groups in flight.
        case.store
            .fail_put(3, Fault::Slow(Duration::from_millis(50)));
        case.append_groups(&log, 3, 5).await;
        let error = durable_or_failed(&log, 4, &case.acked).await.unwrap();
        assert!(
            matches!(error, Error::Fenced { sequence: 3, .. }),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert_eq!(case.acked.entries(), sent(0, 3));
        assert!(log.reserve(1).await.is_err());
        // Its late puts are no part of the log, for any later heir.
        assert!(case.store.sequences().await.len() > 4);
        assert_eq!(case.recover(0).await.unwrap().1, 3);
        // And they are swept; the seal is not.
        let store = Arc::new(case.store.clone());
        sweep(&case.env, store, PREFIX.into(), wal_id(1), 3, FAST)
            .await
            .unwrap();
        assert_eq!(case.store.sequences().await, [3]);
        assert_eq!(case.recover(3).await.unwrap(), (vec![], 3));
    });
}

#[test]
fn r9_a_log_that_is_sealed_unread_tells_its_owner() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 5).await;
        assert!(durable_or_failed(&log, 5, &case.acked).await.is_none());
        // One that nobody can read any more: that is why the log is given up.
        let garbage = PutPayload::from_static(b"garbage");
        let inner = case.store.inner();
        inner.put(&Case::path(2), garbage).await.unwrap();
        assert_eq!(case.seal(0).await.unwrap(), 5);
        append(&log, entry(5, 100)).await;
        let error = durable_or_failed(&log, 6, &case.acked).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert_eq!(case.acked.entries(), sent(0, 5));
        let keys = case.store.keys().await;
        assert_eq!(case.seal(0).await.unwrap(), 5, "it stands");
        assert_eq!(case.store.keys().await, keys);
    });
}

#[test]
fn r9_a_seal_lies_in_the_first_hole_and_races_with_its_owner() {
    run_paused(async {
        let case = Case::new();
        for sequence in [0, 2, 3, 5, 6] {
            case.plant(sequence, 0).await;
        }
        assert_eq!(case.seal(2).await.unwrap(), 4);
        assert_eq!(case.seal(2).await.unwrap(), 4, "it stands");
        // Behind what was listed beyond the hole stands another, for an owner that is past it.
        assert_eq!(case.store.sequences().await, [0, 2, 3, 4, 5, 6, 7]);
        // An heir that comes by finds the first one.
        let (groups, end) = case.recover(2).await.unwrap();
        assert_eq!((groups.len(), end), (2, 4));

        // Nothing is there, an answer is lost, and a conflict created nothing.
        let case = Case::new();
        case.store.fail_put(0, Fault::AnswerLost);
        assert!(case.seal(0).await.is_err());
        assert_eq!(case.seal(0).await.unwrap(), 0);
        assert_eq!(case.store.sequences().await, [0]);
    });
}

/// A group that its owner acknowledged is gone, and the owner is far beyond that place.
#[test]
fn r9_an_owner_beyond_a_hole_is_told_by_a_second_seal() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 6).await;
        let gone = case.store.delete(&Case::path(3)).await;
        gone.unwrap();
        assert_eq!(case.seal(0).await.unwrap(), 3);
        let permit = log.reserve(100).await.unwrap();
        log.append(permit, entry(6, 100));
        let told = durable_or_failed(&log, 7, &case.acked).await;
        assert_eq!(told.unwrap().kind(), ErrorKind::Fenced);
        assert_eq!(case.acked.groups().len(), 6);
        // Once more, as an operator would whose first answer was lost.
        assert_eq!(case.seal(0).await.unwrap(), 3);
        assert_eq!(case.store.sequences().await, [0, 1, 2, 3, 4, 5, 6]);
    });
}

/// However the two meet: what the owner acknowledges lies before the seal.
#[test]
fn r9_an_owner_that_writes_on_acknowledges_nothing_beyond_a_seal() {
    run_paused(async {
        for after_ms in 0..30 {
            let case = Case::new();
            let log = case.log();
            case.append_groups(&log, 0, 2).await;
            for sequence in 2..8 {
                let slow = Duration::from_millis(7 * (sequence % 3));
                case.store.fail_put(sequence, Fault::Slow(slow));
            }
            let write_on = async |n| {
                // Refused once it is told.
                if let Ok(permit) = log.reserve(100).await {
                    log.append(permit, entry(n, 100));
                }
            };
            let writing = async {
                for n in 2..8 {
                    write_on(n).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let sealing = async {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                case.seal(0).await.unwrap()
            };
            let ((), end) = tokio::join!(writing, sealing);
            let acked = case.acked.groups().len() as u64;
            assert!(acked <= end, "{acked} when it was sealed at {end}");
            write_on(8).await;
            let told = durable_or_failed(&log, 9, &case.acked).await;
            assert_eq!(told.unwrap().kind(), ErrorKind::Fenced);
            assert!(log.durable_end() <= end, "after {after_ms} ms");
        }
    });
}

#[test]
fn a_sweep_keeps_what_it_cannot_read_beyond_the_end() {
    run_paused(async {
        let case = Case::new();
        for sequence in [0, 1, 2, 4] {
            case.plant(sequence, 0).await;
        }
        let damaged = PutPayload::from_static(b"neither a group nor a seal");
        let create = PutMode::Create.into();
        let path = Case::path(5);
        let put = case.store.put_opts(&path, damaged, create);
        put.await.unwrap();
        let store = Arc::new(case.store.clone());
        let swept = sweep(&case.env, store, PREFIX.into(), wal_id(1), 2, FAST).await;
        assert_eq!(swept.unwrap(), 3);
        assert_eq!(case.store.sequences().await, [2, 5]);
    });
}

#[test]
fn r9_a_put_that_lands_between_reading_and_sealing_is_taken() {
    run_paused(async {
        let case = Case::new();
        case.plant(0, 0).await;
        // The heir's read of 1 saw nothing; the owner's put lands before the seal.
        case.store
            .fail_put(1, Fault::Slow(Duration::from_millis(50)));
        let heir = case.recover(0);
        let owner = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            case.plant(1, 0).await;
        };
        let (recovered, ()) = tokio::join!(heir, owner);
        let (groups, end) = recovered.unwrap();
        assert_eq!((groups.len(), end), (2, 2));
    });
}

#[test]
fn r9_only_404_is_absent() {
    run_paused(async {
        for fault in [Fault::Forbidden, Fault::Unavailable, Fault::Hang] {
            let case = Case::new();
            case.plant(0, 0).await;
            case.plant(1, 1).await;
            case.store.always(Op::Get, Some(fault.clone()));
            let error = case.recover(0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Retry, "{fault:?}: {error}");
            assert_eq!(
                case.store.sequences().await,
                [0, 1],
                "{fault:?}: nothing was sealed"
            );
            case.store.always(Op::Get, None);
            assert_eq!(case.recover(0).await.unwrap().1, 2);
        }
    });
}

#[test]
fn r9_the_end_does_not_depend_on_a_listing() {
    run_paused(async {
        let case = Case::new();
        case.store.blind_listing();
        let log = case.log();
        case.append_groups(&log, 0, 10).await;
        assert!(durable_or_failed(&log, 10, &case.acked).await.is_none());
        assert_eq!(case.recover(0).await.unwrap().0, case.acked.groups());
    });
}

#[test]
fn r10_a_hole_below_what_was_acknowledged_is_corruption() {
    run_paused(async {
        // (groups planted with their acked_to, trim, corrupt?)
        type Planted<'a> = &'a [(Sequence, Sequence)];
        let cases: &[(Planted<'_>, Sequence, bool)] = &[
            (&[(0, 0), (1, 0), (3, 2)], 0, false),
            (&[(0, 0), (1, 0), (3, 3)], 0, true),
            (&[(0, 0), (9, 0)], 0, true),
            (&[(0, 0), (8, 0)], 0, false),
            (&[(0, 0), (20, 0)], 0, true),
            (&[(7, 6)], 5, true),
            (&[(6, 5)], 5, false),
            (&[(30, 29)], 5, true),
            (&[], 5, false),
        ];
        for (planted, trim, corrupt) in cases {
            let case = Case::new();
            for (sequence, acked_to) in *planted {
                case.plant(*sequence, *acked_to).await;
            }
            let result = case.recover(*trim).await;
            match result {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{planted:?}: {error}");
                    assert!(corrupt, "{planted:?} from {trim}: {error}");
                }
                Ok(_) => assert!(!corrupt, "{planted:?} from {trim}"),
            }
        }
    });
}

#[test]
fn a_wrong_body_is_read_again_and_a_damaged_object_is_corruption() {
    run_paused(async {
        for fault in [Fault::Truncated, Fault::Flipped, Fault::Unavailable] {
            let case = Case::new();
            case.plant(0, 0).await;
            case.store.fail_get(0, fault.clone());
            case.store.fail_get(0, fault.clone());
            assert_eq!(case.recover(0).await.unwrap().1, 1, "{fault:?}");
            if fault == Fault::Unavailable {
                continue;
            }
            case.store.always(Op::Get, Some(fault.clone()));
            let error = case.recover(0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{fault:?}: {error}");
        }
    });
}

#[test]
fn a_slow_put_is_hedged_with_the_same_key_and_bytes() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.store.fail_put(0, Fault::Hang);
        let started = tokio::time::Instant::now();
        append(&log, entry(0, 100)).await;
        assert!(durable_or_failed(&log, 1, &case.acked).await.is_none());
        assert!(started.elapsed() < Duration::from_secs(1));
        let attempts = case.store.attempts(0);
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0], attempts[1]);
        assert_eq!(case.metrics.hedges.get(), 1);
    });
}

#[test]
fn a_store_that_is_away_for_a_minute_loses_nothing() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 4).await;
        case.store.always(Op::Put, Some(Fault::Unavailable));
        case.append_groups(&log, 4, 30).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(case.acked.entries(), sent(0, 4));
        case.store.always(Op::Put, None);
        assert!(durable_or_failed(&log, 34, &case.acked).await.is_none());
        assert_eq!(case.acked.entries(), sent(0, 34));
        assert_eq!(case.recover(0).await.unwrap().0, case.acked.groups());
    });
}

#[test]
fn r4_only_groups_behind_the_trim_point_are_deleted() {
    run_paused(async {
        let case = Case::new();
        let log = case.log();
        case.append_groups(&log, 0, 10).await;
        assert!(durable_or_failed(&log, 10, &case.acked).await.is_none());
        let end = log.durable_end();
        log.trim(4);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(case.store.sequences().await, (4..end).collect::<Vec<_>>());
        drop(log);
        assert_eq!(case.recover(4).await.unwrap().0, case.acked.groups()[4..]);
    });
}

#[test]
fn a_tail_is_read_whole_whatever_may_be_read_ahead() {
    run_paused(async {
        for room in [0, 1, 300, 700, 1 << 20] {
            let case = Case::new();
            let log = case.log();
            case.append_groups(&log, 0, 20).await;
            log.close().await.unwrap();
            let settings = ObjectSettings {
                read_ahead_bytes: room,
                ..FAST
            };
            let store = Arc::new(case.store.clone());
            let tail = recover(&case.env, store, PREFIX.into(), wal_id(1), 0, settings);
            let mut tail = tail.await.unwrap();
            let groups = read_all(&mut tail).await.unwrap();
            let entries: Vec<Entry> = groups.into_iter().flat_map(|g| g.entries).collect();
            assert_eq!(entries, sent(0, 20), "{room} bytes ahead");
        }
    });
}
