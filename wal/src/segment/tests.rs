//! The log of records: opened again and again, crashed at every operation, damaged block by block.

use std::path::Path;

use bytes::Bytes;
use env::sim::SimDisk;

use super::{Ending, SegmentLog, SegmentLogSettings};
use crate::record::Record;
use crate::testing::wal_id;
use crate::{Error, ErrorKind, ScanReport};

const DIR: &str = "/data/raft";
const TINY: SegmentLogSettings = SegmentLogSettings {
    segment_bytes: 16 * 1024,
};

fn record(n: u64) -> Record {
    let bytes = vec![n as u8; [10, 5000, 100, 4000][n as usize % 4]];
    Record {
        tag: n as u32,
        bytes: Bytes::from(bytes),
    }
}

fn create(world: &SimDisk) -> Result<SegmentLog, Error> {
    SegmentLog::create(world.mount(), Path::new(DIR), wal_id(9), 1, TINY)
}

fn open(world: &SimDisk) -> Result<(SegmentLog, Vec<Record>, ScanReport), Error> {
    let mut seen = Vec::new();
    let (log, report) = SegmentLog::open(
        world.mount(),
        Path::new(DIR),
        wal_id(9),
        2,
        TINY,
        &mut |_, records| {
            seen.extend(records);
            Ok(())
        },
    )?;
    Ok((log, seen, report))
}

#[test]
fn a_log_goes_on_after_being_closed_or_killed() {
    let world = SimDisk::new(1);
    let mut log = create(&world).unwrap();
    for round in 0..6_u64 {
        for n in round * 10..round * 10 + 10 {
            assert_eq!(log.append(&[record(n)]).unwrap(), n);
        }
        let expected = match round % 3 {
            0 => {
                log.close().unwrap();
                Ending::Closed
            }
            1 => {
                log.mark_idle().unwrap();
                log.mark_idle().unwrap();
                drop(log);
                Ending::Idle
            }
            _ => {
                drop(log);
                Ending::Busy
            }
        };
        world.power_loss();
        let (again, seen, report) = open(&world).unwrap();
        assert_eq!(seen, (0..round * 10 + 10).map(record).collect::<Vec<_>>());
        assert_eq!(report.ending, expected, "round {round}");
        log = again;
    }
}

#[test]
fn a_purged_front_is_gone_and_its_files_are_reused() {
    let world = SimDisk::new(1);
    let mut log = create(&world).unwrap();
    let mut most = 0;
    for n in 0..200 {
        log.append(&[record(n)]).unwrap();
        if n >= 8 {
            log.purge(n - 8);
        }
        most = most.max(world.used());
    }
    assert!(most <= 8 * 16 * 1024, "{most} bytes for a few groups");
    drop(log);
    world.kill();
    let (_, seen, _) = open(&world).unwrap();
    assert!(seen.len() >= 8 && seen.len() < 30, "{}", seen.len());
    assert_eq!(seen.last(), Some(&record(199)));
}

/// Appends, purges, reopens; gives how many groups were acknowledged, and from where on.
fn scenario(world: &SimDisk, acked: &mut u64, purged: &mut u64) -> Result<(), Error> {
    let mut log = create(world)?;
    for n in 0..40 {
        log.append(&[record(n)])?;
        *acked = n + 1;
        if n % 8 == 7 {
            *purged = n - 5;
            log.purge(*purged);
        }
        if n % 5 == 4 {
            log.mark_idle()?;
        }
    }
    log.close()?;
    let (mut log, _, _) = open(world)?;
    for n in 40..50 {
        log.append(&[record(n)])?;
        *acked = n + 1;
    }
    Ok(())
}

#[test]
fn no_crash_point_of_the_record_log_loses_what_was_appended() {
    let clean = SimDisk::new(3);
    scenario(&clean, &mut 0, &mut 0).unwrap();
    let ops = clean.ops();
    assert!(ops > 150, "{ops}");
    for op in 0..ops {
        for power_loss in [true, false] {
            let world = SimDisk::new(op);
            world.crash_at(op);
            let (mut acked, mut purged) = (0, 0);
            scenario(&world, &mut acked, &mut purged).unwrap_err();
            if power_loss {
                world.power_loss()
            } else {
                world.kill()
            }
            if acked == 0 {
                // Never handed to its owner.
                continue;
            }
            check_reopened(&world, op, acked, purged);
        }
    }
}

fn check_reopened(world: &SimDisk, op: u64, acked: u64, purged: u64) {
    // Opening writes too (it cuts a torn tail): crash that as well, then look.
    world.crash_at(world.ops() + op % 9);
    let crashed_open = open(world);
    world.power_loss();
    if let Err(error) = crashed_open {
        assert!(
            !matches!(error, Error::Corrupt { .. }),
            "crash at {op}: {error}"
        );
    }
    let (mut log, seen, _) = open(world).unwrap_or_else(|e| panic!("crash at {op}: {e}"));
    let next = log.next_sequence();
    assert!(
        next == acked || next == acked + 1,
        "crash at {op}: {next} of {acked}"
    );
    let first = next - seen.len() as u64;
    assert!(first <= purged, "crash at {op}: {first} above {purged}");
    assert_eq!(
        seen,
        (first..next).map(record).collect::<Vec<_>>(),
        "crash at {op}"
    );
    log.append(&[record(next)]).unwrap();
    drop(log);
    world.power_loss();
    assert_eq!(
        open(world).unwrap().1.last(),
        Some(&record(next)),
        "crash at {op}"
    );
}

#[test]
fn every_flipped_block_is_detected_or_reported_as_torn() {
    for clean_stop in [true, false] {
        let world = SimDisk::new(5);
        let mut log = create(&world).unwrap();
        for n in 0..20 {
            log.append(&[record(n)]).unwrap();
        }
        if clean_stop {
            log.close().unwrap()
        } else {
            drop(log)
        }
        world.kill();
        let (_, _, report) = open(&world).unwrap();
        let files = world.files();
        let mut torn = 0;
        for path in &files {
            let blocks = world.contents(path).unwrap().len() / 4096;
            for block in 0..blocks {
                let stored = world.contents(path).unwrap();
                let written = stored[block * 4096..][..4096].iter().any(|byte| *byte != 0);
                if !written {
                    continue;
                }
                for at in [0, 50, 200, 2000, 4090] {
                    world.flip(path, (block * 4096 + at) as u64, 0x20);
                    let place = format!("{} block {block} byte {at}", path.display());
                    let result = open(&world).map(|(_, seen, report)| (seen.len(), report));
                    // Opening cuts a torn tail: put everything back as it was.
                    world.kill();
                    world.replace(path, stored.clone());
                    match result {
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}"),
                        Ok((seen, found)) => {
                            let lost = matches!(found.ending, Ending::Torn { bytes } if bytes > 0);
                            assert!(lost, "{place}: {found:?} passes for {report:?}");
                            assert!(seen >= 19, "{place}: at most the last group");
                            torn += 1;
                        }
                    }
                }
            }
        }
        assert!(
            torn > 0 && torn <= 10,
            "{torn} flips passed for a torn tail"
        );
    }
}

/// A misdirected or stale write is whole by its own checksum: its number gives it away.
#[test]
fn r10_a_group_in_anothers_place_is_damage() {
    let world = SimDisk::new(11);
    let mut log = create(&world).unwrap();
    for n in 0..20 {
        log.append(&[record(n)]).unwrap();
    }
    log.mark_idle().unwrap();
    drop(log);
    world.kill();
    let mut misplaced = 0;
    for path in world.files() {
        let stored = world.contents(&path).unwrap();
        let blocks = stored.len() / 4096;
        for (from, to) in (1..blocks).flat_map(|from| (1..blocks).map(move |to| (from, to))) {
            let block = |at: usize| &stored[at * 4096..][..4096];
            let nothing = |at| block(at).iter().all(|byte| *byte == 0);
            if from == to || nothing(from) || nothing(to) {
                continue;
            }
            let mut moved = stored.clone();
            moved[to * 4096..][..4096].copy_from_slice(block(from));
            world.replace(&path, moved);
            let result = open(&world).map(|(_, seen, report)| (seen, report));
            world.kill();
            world.replace(&path, stored.clone());
            let place = format!("{} block {from} over {to}", path.display());
            match result {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}");
                    misplaced += u32::from(error.to_string().contains("stands in its place"));
                }
                Ok((seen, found)) => {
                    assert!(
                        matches!(found.ending, Ending::Torn { .. }),
                        "{place}: {found:?}"
                    );
                    let whole: Vec<_> = (0..seen.len() as u64).map(record).collect();
                    assert_eq!(seen, whole, "{place}");
                    assert!(seen.len() >= 19, "{place}: at most the last group");
                }
            }
        }
    }
    assert!(misplaced > 5, "{misplaced}");
}

/// With its end a file may lose all that proves that groups are missing.
#[test]
fn a_file_that_was_cut_is_damaged_wherever_it_was_cut() {
    let world = SimDisk::new(9);
    let mut log = create(&world).unwrap();
    for n in 0..20 {
        log.append(&[record(n)]).unwrap();
    }
    log.mark_idle().unwrap();
    drop(log);
    world.kill();
    for path in world.files() {
        let stored = world.contents(&path).unwrap();
        for kept in (0..stored.len()).step_by(1024) {
            world.replace(&path, stored[..kept].to_vec());
            let place = format!("{} cut to {kept} bytes", path.display());
            let Err(error) = open(&world) else {
                panic!("{place} passes");
            };
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}");
            world.kill();
        }
        world.replace(&path, stored);
    }
    assert_eq!(open(&world).unwrap().1.len(), 20);
}

#[test]
fn an_absent_or_foreign_log_is_refused_and_a_live_one_is_locked() {
    let world = SimDisk::new(6);
    assert!(matches!(open(&world).err().unwrap(), Error::Missing { .. }));
    let log = create(&world).unwrap();
    assert!(matches!(open(&world).err().unwrap(), Error::Locked { .. }));
    drop(log);
    let foreign = SegmentLog::open(
        world.mount(),
        Path::new(DIR),
        wal_id(8),
        1,
        TINY,
        &mut |_, _| Ok(()),
    );
    let foreign = foreign.err().unwrap();
    assert!(matches!(foreign, Error::Foreign { .. }), "{foreign}");
    assert_eq!(foreign.kind(), ErrorKind::Invalid);
    assert!(
        create(&world).is_err(),
        "an existing log is not overwritten"
    );
}

#[test]
fn after_a_failed_sync_the_record_log_takes_nothing_more() {
    let world = SimDisk::new(7);
    let mut log = create(&world).unwrap();
    log.append(&[record(0)]).unwrap();
    world.fail_next_sync();
    let failed = log.append(&[record(1)]).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Internal);
    assert!(log.append(&[record(2)]).is_err());
    assert!(log.close().is_err());
    world.power_loss();
    let (_, seen, _) = open(&world).unwrap();
    assert_eq!(seen[0], record(0));
    assert!(seen.len() <= 2);
}

#[test]
fn a_full_disk_refuses_a_record_and_takes_it_later() {
    let world = SimDisk::new(8);
    let mut log = create(&world).unwrap();
    world.set_capacity(Some(world.used()));
    let mut n = 0;
    let error = loop {
        match log.append(&[record(n)]) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(log.append(&[record(n)]).is_err(), "still full");
    world.set_capacity(None);
    assert_eq!(log.append(&[record(n)]).unwrap(), n);
    drop(log);
    world.kill();
    assert_eq!(
        open(&world).unwrap().1,
        (0..=n).map(record).collect::<Vec<_>>()
    );
}

#[test]
fn a_wrong_bit_in_any_read_of_an_opening_is_never_written_back() {
    let mut refused = 0;
    for seed in 1..=40 {
        let world = SimDisk::new(seed);
        let mut log = create(&world).unwrap();
        for n in 0..5 {
            log.append(&[record(n)]).unwrap();
        }
        drop(log);
        world.kill();
        let before = world.reads();
        drop(open(&world).unwrap());
        let reads = world.reads() - before;
        // The last two are what is written again.
        for read in reads - 1..=reads {
            world.flip_read_at(world.reads() + read);
            refused += u32::from(open(&world).is_err());
            world.flip_read_at(0);
            world.kill();
            let (_, seen, _) = open(&world).unwrap();
            assert_eq!(seen.len(), 5, "seed {seed}, read {read} of {reads}");
            world.kill();
        }
    }
    assert!(refused >= 40, "{refused} refused");
}
