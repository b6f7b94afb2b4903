//! The blocking half: paths, temporary files, syncs.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{DirLock, Disk, Entropy, Env, File, OpenMode};
use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use parking_lot::Mutex;

use super::{generic, meta};

/// Where files lie until they are whole.
const TEMPORARY: &str = ".tmp";
/// Processes that write to one directory at a time.
const SLOTS: u32 = 1024;
/// Pieces of a payload are gathered up to this before they are written.
const WRITE_BYTES: usize = 1024 * 1024;
/// And up to so many.
const WRITE_PARTS: usize = 1024;
/// Directories remembered as durable; past it they are only synced again.
const MAX_KNOWN_DIRS: usize = 16 * 1024;

pub(super) struct Files {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    root: PathBuf,
    reserve_bytes: u64,
    slot: Option<Slot>,
    state: Mutex<State>,
}

/// This process's own directory for files that are not whole yet.
struct Slot {
    directory: PathBuf,
    _lock: Box<dyn DirLock>,
}

#[derive(Default)]
struct State {
    /// Directories whose names are durable in their parents.
    known: BTreeSet<PathBuf>,
    /// A directory sync failed: what it held is in doubt, so nothing more is promised.
    failed: Option<String>,
}

/// One directory's content.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) directories: Vec<Path>,
    pub(super) objects: Vec<ObjectMeta>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Files({})", self.root.display())
    }
}

impl Files {
    pub(super) fn new(env: &Env, root: &FilePath, reserve_bytes: u64) -> Self {
        Self {
            disk: Arc::clone(&env.disk),
            entropy: Arc::clone(&env.entropy),
            root: root.to_owned(),
            reserve_bytes,
            slot: None,
            state: Mutex::default(),
        }
    }

    pub(super) fn root(&self) -> &FilePath {
        &self.root
    }

    /// The file of `location`.
    pub(super) fn path_of(&self, location: &Path) -> object_store::Result<PathBuf> {
        let mut path = self.root.clone();
        for (n, part) in location.parts().enumerate() {
            // The library percent-encodes "." and ".." and slashes within parts.
            if n == 0 && part.as_ref() == TEMPORARY {
                return Err(generic("the first part of a key is not .tmp".into()));
            }
            path.push(part.as_ref());
        }
        if path == self.root {
            return Err(generic("an object has a key".into()));
        }
        Ok(path)
    }

    // === start ===

    /// Makes the root, takes a slot and removes what dead processes left in theirs.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        let temporary = self.root.join(TEMPORARY);
        self.disk.create_dir_all(&temporary)?;
        self.sync_chain(&temporary)?;
        for number in 0..SLOTS {
            let directory = temporary.join(number.to_string());
            let exists = self.disk.read_dir(&directory).is_ok();
            if !exists && self.slot.is_some() {
                return Ok(());
            }
            self.disk.create_dir_all(&directory)?;
            match self.disk.lock_dir(&directory) {
                Ok(lock) => {
                    self.clean(&directory)?;
                    if self.slot.is_none() {
                        self.slot = Some(Slot {
                            directory,
                            _lock: lock,
                        });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        match self.slot {
            Some(_) => Ok(()),
            None => Err(io::Error::other(
                "too many processes write to this directory",
            )),
        }
    }

    /// Files of a slot whose lock we hold, so that their writer is dead.
    fn clean(&self, directory: &FilePath) -> io::Result<()> {
        let mut removed = 0;
        for path in self.disk.read_dir(directory)? {
            if path.file_name().is_some_and(|name| name != "LOCK") {
                self.disk.remove_file(&path)?;
                removed += 1;
            }
        }
        if removed > 0 {
            tracing::info!(removed, directory = %directory.display(), "removed unfinished objects");
        }
        Ok(())
    }

    /// Makes `directory`, whose parents may be new, durable by name from the top.
    fn sync_chain(&self, directory: &FilePath) -> io::Result<()> {
        let above: Vec<&FilePath> = directory.ancestors().skip(1).collect();
        for parent in above.into_iter().rev() {
            // The top of a relative path is the working directory.
            let empty = parent.as_os_str().is_empty();
            match self
                .disk
                .sync_dir(if empty { FilePath::new(".") } else { parent })
            {
                Ok(()) => {}
                // A parent that we may not even open was not made by us.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    // === put ===

    /// Stores `payload` under `path` unless something stands there.
    pub(super) fn create(
        &self,
        path: &FilePath,
        payload: PutPayload,
        may_use_reserve: bool,
    ) -> io::Result<()> {
        self.check_usable()?;
        self.check_space(payload.content_length() as u64, may_use_reserve)?;
        let parent = path.parent().expect("an object lies in the root or below");
        self.ensure_durable_dir(parent)?;
        let slot = self.slot.as_ref().expect("a writable store has a slot");
        let temporary = slot
            .directory
            .join(format!("{}", self.entropy.uuid().as_simple()));
        let result = self.write_and_link(&temporary, path, parent, payload);
        match self.disk.remove_file(&temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Waste, not loss: the next start removes it.
            Err(error) => {
                tracing::warn!(%error, path = %temporary.display(), "temporary file not removed");
            }
        }
        result
    }

    fn write_and_link(
        &self,
        temporary: &FilePath,
        path: &FilePath,
        parent: &FilePath,
        payload: PutPayload,
    ) -> io::Result<()> {
        let file = self.disk.open(temporary, OpenMode::CreateNew)?;
        write_payload(&*file, payload)?;
        // Should it fail, nothing of this file is believed: it never gets its name.
        file.sync_data()?;
        drop(file);
        match self.disk.hard_link(temporary, path) {
            Ok(()) => self.sync_or_fail(parent),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Who learns that it exists may rely on it: so its name must last.
                self.sync_or_fail(parent)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn check_usable(&self) -> io::Result<()> {
        match &self.state.lock().failed {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => Ok(()),
        }
    }

    fn check_space(&self, bytes: u64, may_use_reserve: bool) -> io::Result<()> {
        if self.reserve_bytes == 0 || may_use_reserve {
            return Ok(());
        }
        let available = self.disk.available_bytes(&self.root)?;
        if available < self.reserve_bytes.saturating_add(bytes) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "only the reserve of the object directory is left",
            ));
        }
        Ok(())
    }

    /// Makes each directory from the root to `directory`, and syncs the parent of each that this
    /// process has not synced yet: that it exists does not say that its name is durable.
    fn ensure_durable_dir(&self, directory: &FilePath) -> io::Result<()> {
        let below = directory
            .strip_prefix(&self.root)
            .expect("objects lie below the root");
        let mut path = self.root.clone();
        for part in below.components() {
            let parent = path.clone();
            path.push(part);
            if self.state.lock().known.contains(&path) {
                continue;
            }
            self.disk.create_dir_all(&path)?;
            self.sync_or_fail(&parent)?;
            let mut state = self.state.lock();
            if state.known.len() >= MAX_KNOWN_DIRS {
                state.known.clear();
            }
            state.known.insert(path.clone());
        }
        Ok(())
    }

    /// A directory whose sync failed may have lost names that were reported durable, and a second
    /// sync would hide it: from then on every put fails until a restart.
    fn sync_or_fail(&self, directory: &FilePath) -> io::Result<()> {
        self.disk.sync_dir(directory).inspect_err(|error| {
            let shown = directory.display();
            let reason =
                format!("directory {shown} could not be synced: {error}; restart to go on");
            tracing::error!(reason, "object directory failed");
            self.state.lock().failed.get_or_insert(reason);
        })?;
        // The system reports a failed sync once, and perhaps to another put in this directory.
        self.check_usable()
    }

    // === get, list, delete ===

    pub(super) fn length(&self, path: &FilePath) -> io::Result<u64> {
        let length = self.disk.file_len(path)?.ok_or(io::ErrorKind::NotFound)?;
        // A directory has a length too.
        if self.disk.read_dir(path).is_ok() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(length)
    }

    pub(super) fn read(&self, path: &FilePath, range: Range<u64>) -> io::Result<Bytes> {
        let file = self.disk.open(path, OpenMode::Read)?;
        read_range(&*file, &range)
    }

    /// Several ranges, each in a buffer of its own.
    pub(super) fn read_each(
        &self,
        path: &FilePath,
        ranges: &[Range<u64>],
    ) -> io::Result<Vec<Bytes>> {
        let file = self.disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        if ranges.iter().any(|range| range.end > length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        ranges
            .iter()
            .map(|range| read_range(&*file, range))
            .collect()
    }

    pub(super) fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.disk.remove_file(path)?;
        let parent = path.parent().expect("an object lies in the root or below");
        self.disk.sync_dir(parent)
    }

    /// What stands right below `prefix`; nothing when it is no directory.
    pub(super) fn read_dir(&self, prefix: &Path) -> io::Result<Found> {
        if prefix
            .parts()
            .next()
            .is_some_and(|part| part.as_ref() == TEMPORARY)
        {
            return Ok(Found::default());
        }
        let mut directory = self.root.clone();
        directory.extend(prefix.parts().map(|part| part.as_ref().to_owned()));
        let paths = match self.disk.read_dir(&directory) {
            Ok(paths) => paths,
            Err(e) if is_absent(&e) => return Ok(Found::default()),
            Err(error) => return Err(error),
        };
        let mut found = Found::default();
        for path in paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // What is no key of ours (a stray file with a strange name) is not listed.
            let Ok(location) = Path::parse(format!("{prefix}/{name}")) else {
                continue;
            };
            if directory == self.root && name == TEMPORARY {
                continue;
            }
            match self.disk.read_dir(&path) {
                Ok(_) => found.directories.push(location),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    // Gone since it was listed: not there.
                    if let Some(length) = self.disk.file_len(&path)? {
                        found.objects.push(meta(location, length));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn read_range(file: &dyn File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    Ok(file.read_new_at(length as usize, range.start)?.into())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Pieces are written from where they lie, many by one call. What is read soon again lies in our
/// own caches.
fn write_payload(file: &dyn File, payload: PutPayload) -> io::Result<()> {
    let mut position = 0;
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut bytes = 0;
    for piece in payload.iter() {
        parts.push(piece);
        bytes += piece.len();
        if bytes >= WRITE_BYTES || parts.len() >= WRITE_PARTS {
            file.write_once_at(&parts, position)?;
            position += bytes as u64;
            bytes = 0;
            parts.clear();
        }
    }
    if bytes > 0 {
        file.write_once_at(&parts, position)?;
    }
    Ok(())
}
