//! Data directories that were damaged while no process ran: what is found, what is told, and that
//! nothing damaged is served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::producer::Producer;
use tests::process::{BrokerProcess, binary};
use wal::WalId;
use wal::inspect::DiskInspection;

use crate::golden::copy;
use crate::load::{Acknowledged, LIMIT, Load, check, check_acknowledged, read_all};

const BLOCK: usize = 4096;
/// Small, so that every block can be looked at.
const SMALL: [&str; 2] = ["--set", "wal.segment.bytes=1048576"];

fn try_start(data: &Path) -> anyhow::Result<BrokerProcess> {
    let more = SMALL.map(str::to_owned);
    BrokerProcess::start(data, "127.0.0.1:0", "127.0.0.1:0", &more)
}

/// How the process is when it ends.
enum Ends {
    Cleanly,
    /// By kill -9, this long after its last record was acknowledged.
    Killed(Duration),
}

/// Fills `data` in two lives: the first ends cleanly, so that its records lie in objects.
fn fill(data: &Path, ends: Ends) -> (Acknowledged, u64) {
    let broker = try_start(data).unwrap();
    let mut load = Load::new(&broker);
    load.send("log", 200);
    load.producer.flush(LIMIT).unwrap();
    let kafka = broker.kafka.to_string();
    broker.stop(LIMIT).unwrap();
    let more = SMALL.map(str::to_owned);
    let broker = BrokerProcess::start(data, &kafka, "127.0.0.1:0", &more).unwrap();
    for _ in 0..8 {
        load.send("log", 25);
        load.producer.flush(LIMIT).unwrap();
    }
    match ends {
        Ends::Cleanly => broker.stop(LIMIT).unwrap(),
        Ends::Killed(after) => {
            // Idleness itself is what is asked for.
            std::thread::sleep(after);
            broker.kill_9().unwrap();
        }
    }
    (load.acknowledged.clone(), load.sent)
}

fn headwater(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.args(arguments).output().unwrap()
}

fn inspect(data: &Path) -> Output {
    headwater(&["wal", "inspect", "--data-dir", data.to_str().unwrap()])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// The log of the last life: its directory, and its one segment that holds groups.
fn last_log(data: &Path) -> (WalId, PathBuf) {
    let logs = wal::inspect::disk_logs(&*env::real::env().disk, &data.join("wal")).unwrap();
    let (id, dir) = logs.into_iter().next().expect("a log is there");
    (id, dir.join("00000000000000000001.wal"))
}

/// A group as it is read: what is in it, and where.
type Group = (u64, String, String);

/// What the log `id` below `dir` reads as, and how it ends; or why it cannot be read.
fn scan(dir: &Path, id: WalId) -> Result<(Vec<Group>, wal::Ending), String> {
    let mut log =
        DiskInspection::open(&env::real::env().disk, dir, id).map_err(|e| e.to_string())?;
    let mut groups = Vec::new();
    while let Some(group) = log.next_group().map_err(|e| e.to_string())? {
        let body = format!("{:?}", group.group);
        groups.push((group.position, group.place, body));
    }
    Ok((groups, log.report().ending))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Starts a damaged directory; gives what the process says before it ends with a failure.
fn refused(data: &Path) -> String {
    let error = try_start(data).unwrap_err().to_string();
    assert!(error.contains("exit status: 1"), "{error}");
    error
}

struct Damaged {
    _scratch: tempfile::TempDir,
    data: PathBuf,
    acknowledged: Acknowledged,
    sent: u64,
}

fn damaged(ends: Ends) -> Damaged {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let (acknowledged, sent) = fill(&data, ends);
    Damaged {
        _scratch: scratch,
        data,
        acknowledged,
        sent,
    }
}

const IDLE: Ends = Ends::Killed(Duration::from_millis(100));

#[test]
fn damage_in_the_middle_of_a_log_is_named_and_nothing_of_it_is_served() {
    let set = damaged(IDLE);
    let (id, path) = last_log(&set.data);
    let whole = std::fs::read(&path).unwrap();
    let (groups, _) = scan(&set.data.join("wal"), id).unwrap();
    let middle = usize::try_from(groups[groups.len() / 2].0).unwrap();
    // The last group of records: the mark behind it proves that it was durable.
    let last = usize::try_from(groups[groups.len() - 2].0).unwrap();
    let mut foreign = whole.clone();
    foreign[..BLOCK].fill(0xa5);
    let cases: [(&str, Vec<u8>); 5] = [
        ("flipped in the middle", with(&whole, middle + 100)),
        ("flipped in its last records", with(&whole, last + 100)),
        ("cut in the middle", whole[..middle + 1000].to_vec()),
        ("empty", Vec::new()),
        ("another's", foreign),
    ];
    for (what, bytes) in cases {
        let copied = tempfile::tempdir().unwrap();
        let data = copied.path().join("data");
        copy(&set.data, &data);
        let (_, path) = last_log(&data);
        std::fs::write(&path, bytes).unwrap();
        let told = refused(&data);
        let name = path.to_str().unwrap();
        for part in [name, "is corrupt at group", "headwater wal abandon"] {
            assert!(told.contains(part), "{what}: {part:?} in {told}");
        }
        if what.starts_with("flipped") {
            assert!(told.contains(&format!("{name} byte ")), "{what}: {told}");
        }
        let inspected = inspect(&data);
        assert!(!inspected.status.success(), "{what}");
        let errors = text(&inspected.stderr);
        assert!(errors.contains(name), "{what}: {errors}");
        // And again: what was found once is remembered, and its records are not served.
        let broker = try_start(&data).unwrap();
        let status = broker.get("/status").unwrap();
        let quarantined = status.split("\"quarantined\":").nth(1).unwrap();
        assert!(quarantined.contains(&id.to_string()), "{what}: {status}");
        broker.kill_9().unwrap();
    }
}

/// What the message names helps: after the mending, nothing is lost; after giving up, only what was
/// in the log, and no offset is given twice.
#[test]
fn a_damaged_log_is_put_back_or_given_up_by_command() {
    let set = damaged(IDLE);
    let (id, path) = last_log(&set.data);
    let whole = std::fs::read(&path).unwrap();
    let (groups, _) = scan(&set.data.join("wal"), id).unwrap();
    let middle = usize::try_from(groups[groups.len() / 2].0).unwrap();
    let (data, wal) = (set.data.to_str().unwrap(), id.to_string());
    let decide = |what: &[&str]| {
        let at = ["--data-dir", data, "--wal", &wal];
        headwater(&[&["wal"], what, &at].concat())
    };
    std::fs::write(&path, with(&whole, middle + 100)).unwrap();
    refused(&set.data);

    let early = decide(&["abandon", "--reason", "a test"]);
    assert!(!early.status.success());
    assert!(text(&early.stderr).contains("say --yes"), "{early:?}");

    std::fs::write(&path, &whole).unwrap();
    let back = decide(&["unquarantine"]);
    assert!(back.status.success(), "{back:?}");
    let broker = try_start(&set.data).unwrap();
    let busy = decide(&["abandon", "--reason", "a test", "--yes"]);
    assert!(text(&busy.stderr).contains("Stop it first"), "{busy:?}");
    check(&read_all(&broker, "log"), &set.acknowledged, set.sent);
    broker.kill_9().unwrap();

    let (id, path) = last_log(&set.data);
    let wal = id.to_string();
    std::fs::write(&path, vec![0xa5; BLOCK]).unwrap();
    refused(&set.data);
    let yes = ["--reason", "a test", "--yes", "--data-dir", data];
    let given = headwater(&[&["wal", "abandon", "--wal", &wal], &yes[..]].concat());
    assert!(given.status.success(), "{given:?}");
    let broker = try_start(&set.data).unwrap();
    let mut load = Load::new(&broker);
    load.send("log", 10);
    load.producer.flush(LIMIT).unwrap();
    let records = read_all(&broker, "log");
    let behind = records.iter().filter(|(offset, _)| *offset >= 1_000_000);
    assert_eq!(behind.count(), 10, "no offset is given twice");
    broker.stop(LIMIT).unwrap();
}

fn with(whole: &[u8], flipped: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[flipped] ^= 1;
    bytes
}

#[test]
fn damage_in_the_last_group_is_a_torn_tail_of_its_size() {
    // Killed at once: what was acknowledged last is the last group.
    let set = damaged(Ends::Killed(Duration::ZERO));
    let (id, path) = last_log(&set.data);
    let (groups, ending) = scan(&set.data.join("wal"), id).unwrap();
    let (last, _, body) = groups.last().unwrap();
    flip(&path, usize::try_from(*last).unwrap() + 200);
    let inspected = inspect(&set.data);
    assert!(inspected.status.success());
    let told = text(&inspected.stderr);
    assert!(told.contains("Torn { bytes: 4096 }"), "{told}");
    let broker = try_start(&set.data).unwrap();
    assert_eq!(
        broker.metric("headwater_wal_torn_bytes_total").unwrap(),
        4096.0
    );
    let log = std::fs::read_to_string(set.data.with_extension("log")).unwrap();
    assert!(log.contains("torn=4096"), "{log}");
    let read = read_all(&broker, "log");
    if body.contains("Mark") {
        // It took longer than 50 ms to be killed, and the mark is all that was torn.
        assert_eq!(ending, wal::Ending::Idle);
        check(&read, &set.acknowledged, set.sent);
    } else {
        let count = u64::try_from(read.len()).unwrap();
        assert!((set.sent - 50..set.sent).contains(&count), "{count}");
        let kept = Acknowledged::default();
        for (number, at) in set.acknowledged.0.lock().unwrap().iter() {
            if *number < count {
                kept.0.lock().unwrap().insert(*number, *at);
            }
        }
        check_acknowledged(&read, &kept);
    }
    broker.stop(LIMIT).unwrap();
}

/// What became of a flip in each block.
#[derive(Debug, Default)]
struct Tally {
    blocks: usize,
    detected: usize,
    /// Unused: behind the end of a log, in segments made ready, all zeros.
    unused: usize,
}

/// Every block of a log's files, flipped once and put back.
fn flip_log(dir: &Path, id: WalId, tally: &mut Tally) -> Vec<(PathBuf, usize)> {
    let log = dir.join(id.to_string());
    let sound = scan(dir, id).unwrap();
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for (position, place, _) in &sound.0 {
        ends.insert(place, *position);
    }
    let mut paths = Vec::new();
    files(&log, &mut paths);
    let mut used = Vec::new();
    for path in paths {
        let whole = std::fs::read(&path).unwrap();
        let end = ends.get(path.to_str().unwrap()).copied().unwrap_or(0) as usize;
        for block in 0..whole.len() / BLOCK {
            let at = block * BLOCK + block * 37 % BLOCK;
            tally.blocks += 1;
            std::fs::write(&path, with(&whole, at)).unwrap();
            match scan(dir, id) {
                Err(told) => {
                    assert!(told.contains(path.to_str().unwrap()), "{at}: {told}");
                    tally.detected += 1;
                    used.push((path.clone(), at));
                }
                Ok(found) if found == sound => {
                    let zeros = &whole[block * BLOCK..(block + 1) * BLOCK];
                    let unused = block * BLOCK > end && zeros.iter().all(|byte| *byte == 0);
                    assert!(unused, "{} at {at} is not noticed", path.display());
                    tally.unused += 1;
                }
                // All that an idle or closed log can lose of its last block is the mark.
                Ok((groups, ending)) => {
                    assert_eq!(groups[..], sound.0[..sound.0.len() - 1], "at {at}");
                    assert_eq!(ending, wal::Ending::Torn { bytes: 4096 }, "at {at}");
                    assert!(sound.0.last().unwrap().2.contains("Mark"));
                    tally.detected += 1;
                }
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    used
}

/// Every block of every object, by the command that checks them.
fn flip_objects(data: &Path, tally: &mut Tally) {
    let (mut paths, root) = (Vec::new(), data.join("objects"));
    files(&root, &mut paths);
    let store = root.to_str().unwrap();
    for path in paths {
        let whole = std::fs::read(&path).unwrap();
        let key = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let is_checkpoint = key.contains("/meta/") && !key.ends_with("/meta/home");
        let arguments = match is_checkpoint {
            true => vec![
                "cluster",
                "checkpoint",
                "verify",
                "--object-store",
                store,
                &key,
            ],
            false => vec!["object", "--object-store", store, "verify", &key],
        };
        if !whole.is_empty() {
            let sound = headwater(&arguments);
            assert!(sound.status.success(), "{key}: {}", text(&sound.stderr));
        }
        for start in (0..whole.len()).step_by(BLOCK) {
            let at = start + start / BLOCK * 37 % (whole.len() - start).min(BLOCK);
            std::fs::write(&path, with(&whole, at)).unwrap();
            let found = headwater(&arguments);
            let told = text(&found.stdout) + &text(&found.stderr);
            assert!(!found.status.success(), "{key} at {at}: {told}");
            assert!(told.contains(&key), "{key} at {at}: {told}");
            tally.blocks += 1;
            tally.detected += 1;
        }
        std::fs::write(&path, whole).unwrap();
    }
}

fn every_block_flipped(ends: Ends) -> Tally {
    let set = damaged(ends);
    let mut tally = Tally::default();
    let raft = set.data.join("raft");
    let identity = std::fs::read(raft.join("identity")).unwrap();
    // The raft log is a log like the other, by another name.
    let own = WalId(uuid::Uuid::from_slice(&identity[8..24]).unwrap());
    let apart = tempfile::tempdir().unwrap();
    copy(&raft.join("log"), &apart.path().join(own.to_string()));
    let mut starts: Vec<(PathBuf, usize)> = flip_log(apart.path(), own, &mut tally)
        .into_iter()
        .map(|(path, at)| (raft.join("log").join(path.file_name().unwrap()), at))
        .collect();
    for (id, _) in wal::inspect::disk_logs(&*env::real::env().disk, &set.data.join("wal")).unwrap()
    {
        let used = flip_log(&set.data.join("wal"), id, &mut tally);
        starts.extend(used);
    }
    flip_objects(&set.data, &mut tally);
    tally.blocks += 1;
    tally.detected += 1;
    starts.push((raft.join("identity"), 20));
    // What a scan finds, a start finds too: the first, some and the last of each.
    for (path, at) in starts.iter().step_by(9).chain(starts.last()) {
        let copied = tempfile::tempdir().unwrap();
        let data = copied.path().join("data");
        copy(&set.data, &data);
        let inside = path.strip_prefix(&set.data).unwrap();
        flip(&data.join(inside), *at);
        match try_start(&data) {
            Err(told) => {
                let told = told.to_string();
                assert!(told.contains(inside.to_str().unwrap()), "{told}");
            }
            // A log that was closed is not read again.
            Ok(broker) => {
                assert!(inside.starts_with("wal"), "{} at {at}", inside.display());
                check(&read_all(&broker, "log"), &set.acknowledged, set.sent);
            }
        }
    }
    let broker = try_start(&set.data).unwrap();
    check(&read_all(&broker, "log"), &set.acknowledged, set.sent);
    broker.stop(LIMIT).unwrap();
    println!("{tally:?}");
    assert_eq!(tally.blocks, tally.detected + tally.unused);
    tally
}

#[test]
fn every_block_flipped_is_found_after_a_clean_stop() {
    assert!(every_block_flipped(Ends::Cleanly).detected > 10);
}

#[test]
fn every_block_flipped_is_found_after_kill_9_and_100_ms_of_idleness() {
    assert!(every_block_flipped(IDLE).detected > 20);
}
