//! A disk in memory that knows which of its bytes would survive.
//!
//! ```text
//!   write ─▶ current (what reads see) and pending ─ sync ─▶ durable (what a power loss leaves)
//!   names likewise: create, rename, remove ─ sync_dir ─▶ durable
//! ```
//!
//! Each operation has a number. A crash at number N ends the process in the middle of it: the
//! operation may or may not have taken effect, and every later one of that process fails. Then
//! [`SimDisk::power_loss`] or [`SimDisk::kill`] decides what the next process finds.

mod inode;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::SimEntropy;
use crate::{DirLock, Disk, File, OpenMode};
use inode::Inode;
use tree::{Node, Tree};

/// How often operations go wrong by themselves, in 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Reads that fail.
    pub fail_read: u32,
    /// Reads that give one wrong bit.
    pub flip_read: u32,
    /// Writes that fail, with part of them done.
    pub fail_write: u32,
    /// Syncs that fail; what they covered may be lost though reads still show it.
    pub fail_sync: u32,
}

/// A disk of its own world. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

struct World {
    entropy: SimEntropy,
    tree: Tree,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Raised at each crash: handles of an earlier process fail.
    incarnation: u64,
    locks: BTreeMap<PathBuf, u64>,
    next_lock: u64,
    ops: u64,
    reads: u64,
    flip_read_at: Option<u64>,
    crash_at: Option<u64>,
    crashed: bool,
    /// Told when `crashed` becomes true.
    crash: Arc<Notify>,
    faults: DiskFaults,
    fail_next_sync: bool,
    fail_next_write: bool,
    ignore_syncs: bool,
    capacity: Option<u64>,
}

// === impl SimDisk ===

impl SimDisk {
    /// An empty disk whose faults come from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            entropy: SimEntropy::new(seed),
            tree: Tree::default(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            incarnation: 0,
            locks: BTreeMap::new(),
            next_lock: 0,
            ops: 0,
            reads: 0,
            flip_read_at: None,
            crash_at: None,
            crashed: false,
            crash: Arc::default(),
            faults: DiskFaults::default(),
            fail_next_sync: false,
            fail_next_write: false,
            ignore_syncs: false,
            capacity: None,
        })))
    }

    /// The disk as the current process sees it: dead after the next crash.
    pub fn mount(&self) -> Arc<dyn Disk> {
        let incarnation = self.world().incarnation;
        Arc::new(Mount {
            disk: self.clone(),
            incarnation,
        })
    }

    /// Operations so far, of all processes.
    pub fn ops(&self) -> u64 {
        self.world().ops
    }

    /// Ends the process in the middle of operation number `op` (from 0).
    pub fn crash_at(&self, op: u64) {
        self.world().crash_at = Some(op);
    }

    /// Ends the process now, between two operations.
    pub fn crash_now(&self) {
        let mut world = self.world();
        world.crashed = true;
        world.crash.notify_waiters();
    }

    /// Everything on it is gone, and the process with it: a new disk in the old one's place.
    pub fn wipe(&self) {
        let mut world = self.world();
        world.tree = Tree::default();
        world.inodes.clear();
        world.restart();
    }

    /// True when the process was ended by [`SimDisk::crash_at`] and nothing has restarted it.
    pub fn crashed(&self) -> bool {
        self.world().crashed
    }

    /// Resolves once [`SimDisk::crashed`].
    pub async fn until_crashed(&self) {
        let crash = Arc::clone(&self.world().crash);
        loop {
            let told = crash.notified();
            if self.crashed() {
                return;
            }
            told.await;
        }
    }

    /// The process dies, the machine lives: all that was written is there for the next one.
    pub fn kill(&self) {
        self.world().restart();
    }

    /// The machine loses power: of what was not synced, any part survives, in any order, torn at
    /// 512 or 4096 bytes.
    pub fn power_loss(&self) {
        let mut world = self.world();
        world.lose_power();
        world.restart();
    }

    /// Faults from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.world().faults = faults;
    }

    /// Reads of files so far, of all processes.
    pub fn reads(&self) -> u64 {
        self.world().reads
    }

    /// Read number `read` (as [`SimDisk::reads`] counts) gives one wrong bit, once: what is stored
    /// stays right.
    pub fn flip_read_at(&self, read: u64) {
        self.world().flip_read_at = Some(read);
    }

    /// Makes the next sync of a file fail.
    pub fn fail_next_sync(&self) {
        self.world().fail_next_sync = true;
    }

    /// From now on syncs succeed and do nothing: a disk that lies. For tests of oracles.
    pub fn ignore_syncs(&self) {
        self.world().ignore_syncs = true;
    }

    /// Makes the next write fail, half done.
    pub fn fail_next_write(&self) {
        self.world().fail_next_write = true;
    }

    /// Bounds the bytes of all files; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// Inverts bits of what is stored at `offset` of the file at `path`, for good.
    ///
    /// # Panics
    /// When nothing is stored there.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        self.world()
            .inode_at(path)
            .expect("the file to damage exists")
            .flip(offset, mask);
    }

    /// Bytes of the file at `path`, as reads see them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.world()
            .inode_at(path)
            .map(|inode| inode.current().to_vec())
    }

    /// Replaces the bytes of the file at `path`, durably, making it if need be: an old copy put
    /// back, or a file cut short.
    pub fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.world();
        if let Some(inode) = world.inode_at(path) {
            *inode = Inode::durable(bytes);
            return;
        }
        let inode = world.add_inode(Inode::durable(bytes));
        world.tree.insert_durable(path, Node::File(inode));
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.world().tree.files()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no panic under this lock")
    }
}

// === impl World ===

/// Where in an operation the process ends.
enum Step {
    Go,
    CrashAfter,
}

impl World {
    /// Counts an operation of `incarnation` and decides whether it is the last one.
    fn step(&mut self, incarnation: u64) -> io::Result<Step> {
        if self.crashed || incarnation != self.incarnation {
            return Err(dead());
        }
        let op = self.ops;
        self.ops += 1;
        if self.crash_at != Some(op) {
            return Ok(Step::Go);
        }
        self.crashed = true;
        self.crash.notify_waiters();
        if self.entropy.chance(50) {
            Ok(Step::CrashAfter)
        } else {
            Err(dead())
        }
    }

    /// The answer of an operation that took effect.
    fn answer<T>(step: Step, value: T) -> io::Result<T> {
        match step {
            Step::Go => Ok(value),
            Step::CrashAfter => Err(dead()),
        }
    }

    fn roll(&self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.entropy.below(10_000) < u64::from(per_10_000)
    }

    fn restart(&mut self) {
        self.incarnation += 1;
        self.crashed = false;
        self.crash_at = None;
        self.locks.clear();
        self.collect();
    }

    fn lose_power(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.lose_power(&self.entropy);
        }
        self.tree.lose_power(&self.entropy);
    }

    /// Drops files that no name leads to.
    fn collect(&mut self) {
        let named = self.tree.all_inodes();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    fn used(&self) -> u64 {
        let named = self.tree.seen_inodes();
        let used = self
            .inodes
            .iter()
            .filter(|(inode, _)| named.contains(inode));
        used.map(|(_, inode)| inode.current().len() as u64).sum()
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn add_inode(&mut self, inode: Inode) -> u64 {
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, inode);
        id
    }

    fn inode_at(&mut self, path: &Path) -> Option<&mut Inode> {
        match self.tree.get(path) {
            Some(Node::File(inode)) => self.inodes.get_mut(&inode),
            _ => None,
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated process has crashed")
}

struct Mount {
    disk: SimDisk,
    incarnation: u64,
}

impl Mount {
    fn change<T>(&self, change: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world();
        let step = world.step(self.incarnation)?;
        let value = change(&mut world)?;
        World::answer(step, value)
    }
}

impl Disk for Mount {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let inode = self.change(|world| match (world.tree.get(path), mode) {
            (Some(Node::File(inode)), OpenMode::Read | OpenMode::Existing) => Ok(inode),
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::Directory), _) => Err(io::ErrorKind::IsADirectory.into()),
            (None, OpenMode::CreateNew) => {
                world.tree.need_parent(path)?;
                let inode = world.add_inode(Inode::default());
                world.tree.add(path, Node::File(inode));
                Ok(inode)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        })?;
        let writable = mode != OpenMode::Read;
        let (disk, incarnation) = (self.disk.clone(), self.incarnation);
        Ok(Box::new(Handle {
            disk,
            incarnation,
            inode,
            writable,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|world| world.tree.create_dir_all(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.change(|world| world.tree.list(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|world| world.tree.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|world| {
            let node = world.tree.get(from).ok_or(io::ErrorKind::NotFound)?;
            if world.tree.get(to).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            world.tree.need_parent(to)?;
            world.tree.add(to, node);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|world| match world.tree.get(path) {
            Some(Node::File(_)) => {
                world.tree.remove(path);
                Ok(())
            }
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|world| {
            if !world.tree.list(path)?.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            world.tree.remove(path);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|world| world.tree.sync(path))
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.change(|world| {
            Ok(match world.tree.get(path) {
                Some(Node::File(inode)) => Some(world.inodes[&inode].current().len() as u64),
                Some(Node::Directory) => Some(0),
                None => None,
            })
        })
    }

    fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.change(|world| {
            let capacity = world.capacity.unwrap_or(1 << 50);
            Ok(capacity.saturating_sub(world.used()))
        })
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let token = self.change(|world| {
            if world.tree.get(path) != Some(Node::Directory) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if world.locks.contains_key(path) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            world.next_lock += 1;
            let token = world.next_lock;
            world.locks.insert(path.to_owned(), token);
            Ok(token)
        })?;
        Ok(Box::new(Lock {
            disk: self.disk.clone(),
            path: path.to_owned(),
            token,
        }))
    }
}

struct Lock {
    disk: SimDisk,
    path: PathBuf,
    token: u64,
}

impl DirLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut world = self.disk.world();
        // The lock of a dead process was released with it.
        if world.locks.get(&self.path) == Some(&self.token) {
            world.locks.remove(&self.path);
        }
    }
}

struct Handle {
    disk: SimDisk,
    incarnation: u64,
    inode: u64,
    writable: bool,
}

impl Handle {
    fn change<T>(
        &self,
        change: impl FnOnce(&mut World, &mut Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut world = self.disk.world();
        let step = world.step(self.incarnation)?;
        let mut inode = world.inodes.remove(&self.inode).ok_or_else(dead)?;
        let result = change(&mut world, &mut inode);
        world.inodes.insert(self.inode, inode);
        World::answer(step, result?)
    }

    fn for_writing(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.change(|world, inode| {
            if world.roll(world.faults.fail_read) {
                return Err(io::Error::other("simulated read error"));
            }
            let n = inode.read(buf, offset);
            if n == 0 {
                return Ok(0);
            }
            let chosen = world.flip_read_at == Some(world.reads);
            world.reads += 1;
            if chosen || world.roll(world.faults.flip_read) {
                let bit = world.entropy.below(n as u64 * 8);
                buf[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            Ok(n)
        })
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.for_writing()?;
        self.change(|world, inode| {
            let end = offset + buf.len() as u64;
            let more = end.saturating_sub(inode.current().len() as u64);
            // The file in hand is out of the map: its own length counts too.
            world.check_space(
                more + if more > 0 {
                    inode.current().len() as u64
                } else {
                    0
                },
            )?;
            if std::mem::take(&mut world.fail_next_write) || world.roll(world.faults.fail_write) {
                inode.write(&buf[..buf.len() / 2], offset);
                return Err(io::Error::other("simulated write error"));
            }
            inode.write(buf, offset);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.for_writing()?;
        self.change(|world, inode| {
            if std::mem::take(&mut world.fail_next_sync) || world.roll(world.faults.fail_sync) {
                inode.fail_sync(&world.entropy);
                return Err(io::Error::other("simulated sync error"));
            }
            if !world.ignore_syncs {
                inode.sync();
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.change(|_, inode| Ok(inode.current().len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.for_writing()?;
        self.change(|world, inode| {
            let own = inode.current().len() as u64;
            let more = len.saturating_sub(own);
            world.check_space(if more > 0 { more + own } else { 0 })?;
            inode.set_len(len);
            Ok(())
        })
    }
}
