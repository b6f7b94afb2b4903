//! Counts what processes ask of disks and store while an act lasts, and ends one of them in the
//! middle of a chosen step.
//!
//! ```text
//!   disk: write, sync, create, rename, … ─┐
//!   store: put, get, list, delete ────────┼─▶ does the act's filter take it? ─▶ number ─▶ chosen?
//!          and the answer of each put ────┘                                         └▶ power loss
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use env::sim::SimDisk;
use env::{DirLock, Disk, Env, File, OpenMode};

use crate::acts::Act;

/// One thing that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// Who asks.
    pub(crate) node: i32,
    /// `write`, `put`, …
    pub(crate) verb: &'a str,
    /// `raft/log`, `wal`, `objects data`, `objects wal 4`, …
    pub(crate) place: &'a str,
}

/// The count. Clones share it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Steps(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    /// The act that lasts.
    act: Option<Act>,
    /// Where processes end, counted from its beginning.
    points: BTreeSet<u64>,
    tally: Tally,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    /// Of each kind.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// Where processes ended.
    pub(crate) ended: Vec<String>,
}

// === impl Steps ===

impl Steps {
    pub(crate) fn new(points: &[u64]) -> Self {
        let ledger = Ledger {
            points: points.iter().copied().collect(),
            ..Ledger::default()
        };
        Self(Arc::new(Mutex::new(ledger)))
    }

    pub(crate) fn begin(&self, act: Act) {
        self.ledger().act = Some(act);
    }

    pub(crate) fn end(&self) {
        self.ledger().act = None;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.ledger().tally.clone()
    }

    /// Counts `step`; true when its process ends in the middle of it.
    pub(crate) fn is_last(&self, step: Step<'_>) -> bool {
        let mut ledger = self.ledger();
        if !ledger.act.is_some_and(|act| act.counts(step)) {
            return false;
        }
        let kind = format!("{} {}", step.verb, step.place);
        *ledger.tally.kinds.entry(kind.clone()).or_default() += 1;
        let number = ledger.tally.steps;
        ledger.tally.steps += 1;
        let last = ledger.points.contains(&number);
        if last {
            let place = format!("{number} (node {}: {kind})", step.node);
            ledger.tally.ended.push(place);
        }
        last
    }

    /// `env` with a disk whose steps are counted.
    pub(crate) fn over(&self, env: Env, node: i32, sim: &SimDisk) -> Env {
        let toll = Toll {
            steps: self.clone(),
            node,
            sim: sim.clone(),
        };
        let disk = Arc::new(Counted {
            disk: env.disk,
            toll,
        });
        Env { disk, ..env }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().expect("no panic under this lock")
    }
}

/// What a step of a machine costs.
#[derive(Clone)]
struct Toll {
    steps: Steps,
    node: i32,
    sim: SimDisk,
}

impl Toll {
    /// To be called before the step is done: the disk then crashes in the middle of it.
    fn pay(&self, verb: &str, path: &Path) {
        let place = place(path);
        let step = Step {
            node: self.node,
            verb,
            place: &place,
        };
        if self.steps.is_last(step) {
            self.sim.crash_at(self.sim.ops());
        }
    }
}

/// Which part of the data directory `path` belongs to.
fn place(path: &Path) -> String {
    let inner = path.strip_prefix("/data").unwrap_or(path);
    let mut parts = inner.iter().map(|part| part.to_string_lossy());
    let first = parts.next().unwrap_or_default();
    match (first.as_ref(), parts.next()) {
        ("raft", Some(second)) => format!("raft/{second}"),
        ("wal", _) => "wal".to_owned(),
        ("", _) => "data".to_owned(),
        _ => "data/other".to_owned(),
    }
}

struct Counted {
    disk: Arc<dyn Disk>,
    toll: Toll,
}

impl Disk for Counted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.toll.pay("create", path);
        }
        let file = self.disk.open(path, mode)?;
        Ok(Box::new(CountedFile {
            file,
            path: path.to_owned(),
            toll: self.toll.clone(),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.toll.pay("mkdir", path);
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.toll.pay("rename", to);
        self.disk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.toll.pay("link", to);
        self.disk.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.toll.pay("remove", path);
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.toll.pay("rmdir", path);
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.toll.pay("sync names", path);
        self.disk.sync_dir(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.file_len(path)
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.available_bytes(path)
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.disk.lock_dir(path)
    }
}

struct CountedFile {
    file: Box<dyn File>,
    path: PathBuf,
    toll: Toll,
}

impl File for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.toll.pay("write", &self.path);
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.toll.pay("sync", &self.path);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.toll.pay("resize", &self.path);
        self.file.set_len(len)
    }
}

#[test]
fn places_are_parts_of_the_data_directory() {
    for (path, expected) in [
        ("/data/raft/log/00000001", "raft/log"),
        ("/data/wal/4f/segment", "wal"),
        ("/data/node.json", "data/other"),
        ("/data", "data"),
    ] {
        assert_eq!(place(Path::new(path)), expected);
    }
}
