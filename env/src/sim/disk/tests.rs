use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn write(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn synced(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = write(disk, path, bytes);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_tears_what_was_not() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let world = SimDisk::new(seed);
        let disk = world.mount();
        let file = synced(&*disk, "/a", &[1; 8192]);
        file.write_all_at(&[2; 8192], 8192).unwrap();
        world.power_loss();
        let left = world.contents(Path::new("/a")).unwrap();
        assert_eq!(&left[..8192], &[1; 8192], "seed {seed}");
        assert!(left.len() <= 16_384);
        outcomes.insert(left[8192..].chunks(512).map(|c| c[0]).collect::<Vec<_>>());
        assert!(
            left[8192..]
                .chunks(512)
                .all(|c| c.iter().all(|b| *b == c[0])),
            "torn inside 512"
        );
    }
    assert!(outcomes.contains(&vec![]), "sometimes all is lost");
    assert!(outcomes.contains(&vec![2; 16]), "sometimes all is kept");
    assert!(
        outcomes.len() > 20,
        "and often some of it: {}",
        outcomes.len()
    );
}

#[test]
fn names_are_durable_only_after_their_directory_was_synced() {
    let mut lost = 0;
    for seed in 0..100 {
        let world = SimDisk::new(seed);
        let disk = world.mount();
        let file = write(&*disk, "/a", b"x");
        file.sync_data().unwrap();
        synced(&*disk, "/b", b"y");
        write(&*disk, "/c", b"z");
        world.power_loss();
        assert!(world.contents(Path::new("/a")).is_some(), "synced with /b");
        lost += usize::from(world.contents(Path::new("/c")).is_none());
    }
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn a_killed_process_leaves_its_writes_and_can_do_nothing_more() {
    let world = SimDisk::new(5);
    let disk = world.mount();
    disk.create_dir_all(Path::new("/d/e")).unwrap();
    let lock = disk.lock_dir(Path::new("/d/e")).unwrap();
    assert_eq!(
        disk.lock_dir(Path::new("/d/e")).err().unwrap().kind(),
        io::ErrorKind::WouldBlock
    );
    let file = write(&*disk, "/d/e/f", b"kept");
    world.kill();
    assert!(file.write_all_at(b"late", 0).is_err());
    assert!(disk.read_dir(Path::new("/d")).is_err());
    let disk = world.mount();
    let again = disk.lock_dir(Path::new("/d/e")).unwrap();
    drop(lock);
    assert!(
        disk.lock_dir(Path::new("/d/e")).is_err(),
        "a dead lock frees nothing"
    );
    drop(again);
    assert_eq!(world.contents(Path::new("/d/e/f")).unwrap(), b"kept");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_crash_hears_of_one_between_two_operations() {
    let world = SimDisk::new(1);
    let crash = world.clone();
    let heard = tokio::spawn(async move { crash.until_crashed().await });
    tokio::task::yield_now().await;
    world.crash_now();
    let heard = tokio::time::timeout(std::time::Duration::from_secs(1), heard).await;
    heard.expect("told at once").unwrap();
    assert!(world.crashed());
}

#[test]
fn a_crash_ends_the_process_at_the_named_operation() {
    for op in 0..5 {
        let world = SimDisk::new(op);
        world.crash_at(op);
        let disk = world.mount();
        let run = || -> io::Result<()> {
            let file = disk.open(Path::new("/a"), OpenMode::CreateNew)?;
            file.write_all_at(b"1", 0)?;
            file.sync_data()?;
            disk.sync_dir(Path::new("/"))?;
            file.write_all_at(b"2", 0)
        };
        assert!(run().is_err());
        assert!(world.crashed());
        assert_eq!(world.ops(), op + 1);
        world.power_loss();
        if op == 4 {
            assert!(world.contents(Path::new("/a")).is_some());
        }
    }
}

#[test]
fn a_failed_sync_loses_silently_what_it_covered() {
    let mut lost = 0;
    for seed in 0..100 {
        let world = SimDisk::new(seed);
        let disk = world.mount();
        let file = synced(&*disk, "/a", b"old");
        file.write_all_at(b"new", 0).unwrap();
        world.fail_next_sync();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let mut seen = [0; 3];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, b"new");
        world.power_loss();
        lost += usize::from(world.contents(Path::new("/a")).unwrap() == b"old");
    }
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn a_full_disk_refuses_growth_but_not_overwriting() {
    let world = SimDisk::new(1);
    world.set_capacity(Some(10));
    let disk = world.mount();
    let file = write(&*disk, "/a", b"12345678");
    let full = file.write_all_at(b"abc", 8).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_all_at(b"ab", 8).unwrap();
    file.write_all_at(b"0", 0).unwrap();
    assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 0);
    disk.remove_file(Path::new("/a")).unwrap();
    assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 10);
}

#[test]
fn faults_come_from_the_seed_alone() {
    let run = |seed| {
        let world = SimDisk::new(seed);
        world.set_faults(DiskFaults {
            fail_read: 2000,
            flip_read: 2000,
            fail_write: 2000,
            fail_sync: 2000,
        });
        let disk = world.mount();
        let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        let mut trace = Vec::new();
        for i in 0..100_u8 {
            let written = file.write_all_at(&[i; 64], 0).is_ok();
            let synced = file.sync_data().is_ok();
            let mut back = [0; 64];
            let read = file.read_at(&mut back, 0).is_ok();
            trace.push((written, synced, read, back));
        }
        trace
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_read_that_gives_a_wrong_bit_does_so_once() {
    let world = SimDisk::new(3);
    let disk = world.mount();
    let file = write(&*disk, "/a", b"12345678");
    let read = || {
        let mut back = [0; 8];
        file.read_at(&mut back, 0).unwrap();
        back
    };
    assert_eq!(read(), *b"12345678");
    world.flip_read_at(world.reads() + 1);
    assert_eq!(read(), *b"12345678");
    let wrong = read();
    let bits = wrong
        .iter()
        .zip(b"12345678")
        .map(|(a, b)| (a ^ b).count_ones());
    assert_eq!(bits.sum::<u32>(), 1);
    assert_eq!(read(), *b"12345678");
    assert_eq!(world.reads(), 4);
}
