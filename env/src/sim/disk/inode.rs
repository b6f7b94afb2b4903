//! The bytes of one file: as read, and as a power loss would leave them.

use crate::sim::SimEntropy;

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// A file's contents.
#[derive(Debug, Default)]
pub(super) struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            current: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }

    pub(super) fn current(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.current.len());
        let n = buf.len().min(self.current.len() - start);
        buf[..n].copy_from_slice(&self.current[start..start + n]);
        n
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        put(&mut self.current, bytes, offset);
        self.pending.push(Pending::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        resize(&mut self.current, len as usize);
        self.pending.push(Pending::Length(len));
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &pending);
        }
    }

    /// The kernel marks pages clean that it could not write: part of what was pending is lost,
    /// reads go on showing it, and the next sync knows nothing of it.
    pub(super) fn fail_sync(&mut self, entropy: &SimEntropy) {
        for pending in std::mem::take(&mut self.pending) {
            if entropy.chance(50) {
                apply(&mut self.durable, &pending);
            }
        }
    }

    /// Any subset of the pending sectors persists, in any order.
    pub(super) fn lose_power(&mut self, entropy: &SimEntropy) {
        let unit = if entropy.chance(50) { 512 } else { 4096 };
        // Also the plain cases: everything lost, everything kept.
        let keep = [0, 50, 50, 90, 100][entropy.below(5) as usize];
        let mut sectors = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, bytes } => split(offset, &bytes, unit, &mut sectors),
                length => sectors.push(length),
            }
        }
        shuffle_some(&mut sectors, entropy);
        for sector in &sectors {
            if entropy.chance(keep) {
                apply(&mut self.durable, sector);
            }
        }
        self.current = self.durable.clone();
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        self.current[offset as usize] ^= mask;
        if let Some(byte) = self.durable.get_mut(offset as usize) {
            *byte ^= mask;
        }
    }
}

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write {
            offset,
            bytes: written,
        } => put(bytes, written, *offset),
        Pending::Length(len) => resize(bytes, *len as usize),
    }
}

fn put(into: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let end = offset as usize + bytes.len();
    if into.len() < end {
        resize(into, end);
    }
    into[offset as usize..end].copy_from_slice(bytes);
}

/// `Vec::resize` writes byte by byte in a build without optimisation: half of a simulated start.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    match len.checked_sub(bytes.len()) {
        Some(more) => bytes.extend_from_slice(&vec![0; more]),
        None => bytes.truncate(len),
    }
}

/// Pieces that lie within one sector of `unit` bytes each.
fn split(offset: u64, bytes: &[u8], unit: u64, sectors: &mut Vec<Pending>) {
    let mut at = 0;
    while at < bytes.len() {
        let start = offset + at as u64;
        let room = (unit - start % unit) as usize;
        let end = bytes.len().min(at + room);
        sectors.push(Pending::Write {
            offset: start,
            bytes: bytes[at..end].to_vec(),
        });
        at = end;
    }
}

/// Reorders half of the time.
fn shuffle_some(sectors: &mut [Pending], entropy: &SimEntropy) {
    if entropy.chance(50) {
        return;
    }
    for i in (1..sectors.len()).rev() {
        sectors.swap(i, entropy.below(i as u64 + 1) as usize);
    }
}
