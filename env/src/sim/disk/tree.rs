//! The names of files: as seen, and as a power loss would leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::sim::SimEntropy;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type Names = BTreeMap<PathBuf, Node>;

/// All names.
#[derive(Debug, Default)]
pub(super) struct Tree {
    current: Names,
    durable: Names,
    /// Changes that no sync has covered, by directory, in order.
    pending: BTreeMap<PathBuf, Vec<Change>>,
}

impl Tree {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) {
            return Some(Node::Directory);
        }
        self.current.get(path).copied()
    }

    pub(super) fn need_parent(&self, path: &Path) -> io::Result<()> {
        match self.get(parent(path)) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) {
        self.change(parent(path), Change::Add(path.to_owned(), node));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(parent(path), Change::Remove(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match self.get(from) {
            Some(Node::File(_)) => {}
            Some(Node::Directory) => return Err(io::ErrorKind::Unsupported.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        self.need_parent(to)?;
        self.change(parent(to), Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for above in path.ancestors() {
            match self.get(above) {
                Some(Node::Directory) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(above.to_owned()),
            }
        }
        for directory in missing.iter().rev() {
            self.add(directory, Node::Directory);
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match self.get(path) {
            Some(Node::Directory) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let inside = self
            .current
            .keys()
            .filter(|name| name.parent() == Some(path));
        Ok(inside.cloned().collect())
    }

    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        if self.get(path) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in self.pending.remove(path).unwrap_or_default() {
            apply(&mut self.durable, &change);
        }
        Ok(())
    }

    /// Of each directory some first changes persist, as a journal keeps them.
    pub(super) fn lose_power(&mut self, entropy: &SimEntropy) {
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = entropy.below(changes.len() as u64 + 1) as usize;
            for change in &changes[..kept] {
                apply(&mut self.durable, change);
            }
        }
        // A name is lost with the directory it is in.
        let names = self.durable.clone();
        self.durable.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .all(|above| is_root(above) || names.contains_key(above))
        });
        self.current = self.durable.clone();
    }

    pub(super) fn insert_durable(&mut self, path: &Path, node: Node) {
        self.current.insert(path.to_owned(), node);
        self.durable.insert(path.to_owned(), node);
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self
            .current
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Files that a name leads to now.
    pub(super) fn seen_inodes(&self) -> BTreeSet<u64> {
        self.current.values().filter_map(inode).collect()
    }

    /// Files that any name leads to: seen, durable, or on the way.
    pub(super) fn all_inodes(&self) -> BTreeSet<u64> {
        let added = self
            .pending
            .values()
            .flatten()
            .filter_map(|change| match change {
                Change::Add(_, node) => inode(node),
                Change::Remove(_) | Change::Rename(..) => None,
            });
        self.durable
            .values()
            .filter_map(inode)
            .chain(self.seen_inodes())
            .chain(added)
            .collect()
    }

    fn change(&mut self, directory: &Path, change: Change) {
        apply(&mut self.current, &change);
        self.pending
            .entry(directory.to_owned())
            .or_default()
            .push(change);
    }
}

fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn inode(node: &Node) -> Option<u64> {
    match node {
        Node::File(inode) => Some(*inode),
        Node::Directory => None,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/") || path == Path::new(".")
}
