//! Reading a log back from its segments, up to its end.
//!
//! **Invariant (R10):** reading stops at the first group that is not sound. That is the end only
//! if no sound group lies beyond it: the writer syncs each group before it writes the next, so
//! anything beyond proves that what is missing was durable, and that is corruption.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{Disk, File, OpenMode};

use super::file::{SegmentId, check_header, list_segments};
use super::frame;
use crate::limits::BLOCK_BYTES;
use crate::record::{DecodeError, DecodedGroup, GroupHeader, GroupKind};
use crate::{Error, Sequence, WalId};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Pieces in which the space beyond the end is searched.
const SEARCH_BYTES: usize = 1 << 20;

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the mark of a clean stop: nothing is missing.
    Closed,
    /// With the mark of an idle log: nothing acknowledged is missing.
    Idle,
    /// After a group: the log was killed while it was busy.
    Busy,
    /// After a group, with traces of one more that was never completed. Had it been
    /// acknowledged and then damaged, it would look the same.
    Torn {
        /// Bytes of those traces.
        bytes: u64,
    },
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanReport {
    /// Number of the first group that is not there.
    pub end: Sequence,
    /// How the log ends.
    pub ending: Ending,
    /// Numbered groups read.
    pub groups: u64,
    /// Bytes of them, padding included.
    pub bytes: u64,
}

/// A group and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) group: DecodedGroup,
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    pub(crate) bytes: u64,
}

pub(super) struct SegmentFile {
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
    pub(super) bytes: u64,
    /// Bytes of it when it was made, as its header says.
    made: u64,
    first: Option<GroupHeader>,
}

/// Reads the groups of one log in order. Blocks.
pub(crate) struct Scanner {
    wal_id: WalId,
    pub(super) segments: Vec<SegmentFile>,
    pub(super) at: usize,
    pub(super) position: u64,
    next: Sequence,
    last: Option<GroupKind>,
    trim: Sequence,
    /// True when groups may follow a closed mark (a log that is opened again).
    reopened: bool,
    groups: u64,
    bytes: u64,
    ended: Option<Ending>,
}

impl Scanner {
    /// Opens the segments of `dir` and finds where to begin: at the segment that holds `trim`,
    /// or, without one, at the oldest.
    ///
    /// # Errors
    /// `Missing` for a directory without a log, `Foreign` for another's, `Corrupt` when the oldest
    /// group lies above `trim`.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        wal_id: WalId,
        trim: Option<Sequence>,
    ) -> Result<Self, Error> {
        let mut segments = Vec::new();
        let listed = match list_segments(&**disk, dir) {
            Ok(listed) => listed,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("list", dir, e)),
        };
        if listed.is_empty() {
            let reason = "there is no segment file of it".to_owned();
            return Err(Error::Missing {
                path: dir.to_owned(),
                wal_id,
                reason,
            });
        }
        for (generation, path) in listed {
            segments.push(SegmentFile::open(disk, wal_id, generation, path)?);
        }
        let mut scanner = Self {
            wal_id,
            segments,
            at: 0,
            position: BLOCK,
            next: 0,
            last: None,
            trim: trim.unwrap_or(0),
            reopened: trim.is_none(),
            groups: 0,
            bytes: 0,
            ended: None,
        };
        scanner.begin(trim)?;
        Ok(scanner)
    }

    fn begin(&mut self, trim: Option<Sequence>) -> Result<(), Error> {
        let holds_trim = |segment: &SegmentFile| {
            segment
                .first
                .is_some_and(|first| trim.is_some_and(|trim| first.meta.sequence <= trim))
        };
        let found = self.segments.iter().rposition(holds_trim);
        self.at = found.unwrap_or(0);
        let start = &self.segments[self.at];
        match (found, start.first) {
            (Some(_), Some(first)) => self.next = first.meta.sequence,
            // The oldest one; where it begins is known only if nothing may be missing before.
            (None, Some(first)) if trim.is_none() || env::planted!("oldest-above-trim") => {
                self.next = first.meta.sequence;
            }
            (None, None) if start.generation == 1 && trim.unwrap_or(0) == 0 => self.next = 0,
            (_, first) => {
                let trim = trim.unwrap_or(0);
                let reason = match first {
                    Some(first) => format!(
                        "the oldest group is {}, above the trim point {trim}",
                        first.meta.sequence
                    ),
                    None => format!("no group is left, though the trim point is {trim}"),
                };
                return Err(self.corrupt(trim, reason));
            }
        }
        // It took its name when all of it was durable: what is missing was cut off since, and
        // with it whatever proves that groups are missing.
        for segment in &self.segments[self.at..] {
            if segment.bytes < segment.made {
                let (path, bytes, made) = (segment.path.display(), segment.bytes, segment.made);
                let reason = format!("{path} was cut to {bytes} of its {made} bytes");
                return Err(self.corrupt(self.next, reason));
            }
        }
        for pair in self.segments[self.at..].windows(2) {
            if pair[1].generation != pair[0].generation + 1 {
                let reason = format!("segment {} is missing", pair[0].generation + 1);
                return Err(self.corrupt(self.next, reason));
            }
        }
        Ok(())
    }

    /// The next group, marks included; `None` at the end. Groups below the trim point are passed
    /// over unread.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported`, or `Io` when a read fails.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Error> {
        while self.ended.is_none() {
            match self.read_frame()? {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(DecodeError::Unsupported { what }) => {
                    return Err(Error::Unsupported {
                        place: self.place(),
                        what,
                    });
                }
                Err(reason) => {
                    if !self.roll()? {
                        self.finish(&reason)?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// What was found; complete once [`Scanner::next`] has given `None`.
    pub(crate) fn report(&self) -> ScanReport {
        ScanReport {
            end: self.next,
            ending: self.ended.unwrap_or(Ending::Busy),
            groups: self.groups,
            bytes: self.bytes,
        }
    }

    pub(crate) fn wal_id(&self) -> WalId {
        self.wal_id
    }

    /// `Ok(Ok(None))`: passed over.
    fn read_frame(&mut self) -> Result<Result<Option<Frame>, DecodeError>, Error> {
        let segment = &self.segments[self.at];
        let header = match segment.header_at(self.wal_id, self.position)? {
            Ok(header) => header,
            Err(e) => return Ok(Err(e)),
        };
        let meta = header.meta;
        if meta.sequence != self.next {
            let reason = format!("group {} stands in its place", meta.sequence);
            return Err(self.corrupt(self.next, reason));
        }
        let bytes = frame::padded_bytes(header.group_bytes());
        if self.position + bytes > segment.bytes {
            let missing = self.position + bytes - segment.bytes;
            return Ok(Err(DecodeError::Short { missing }));
        }
        let passed = meta.kind.is_numbered() && meta.sequence < self.trim;
        let mut found = None;
        if !passed {
            let frame = segment.read(self.position, bytes as usize)?;
            let group = match frame::decode_frame(&header, &frame) {
                Ok(group) => group,
                Err(e) => return Ok(Err(e)),
            };
            let path = segment.path.clone();
            found = Some(Frame {
                group,
                path,
                position: self.position,
                bytes,
            });
        }
        self.position += bytes;
        self.last = Some(meta.kind);
        if meta.kind.is_numbered() {
            self.next += 1;
            self.groups += u64::from(!passed);
            self.bytes += if passed { 0 } else { bytes };
        }
        if meta.kind == GroupKind::Closed && !self.reopened {
            self.ended = Some(Ending::Closed);
        }
        Ok(Ok(found))
    }

    /// Goes on in the next segment, if its first group names this very position as the end of
    /// the one before.
    fn roll(&mut self) -> Result<bool, Error> {
        let Some(next) = self.segments.get(self.at + 1) else {
            return Ok(false);
        };
        let Some(first) = next.first else {
            return Ok(false);
        };
        if first.meta.sequence != self.next {
            return Ok(false);
        }
        let bytes = frame::padded_bytes(first.group_bytes());
        if BLOCK + bytes > next.bytes {
            return Ok(false);
        }
        let Ok(group) = frame::decode_frame(&first, &next.read(BLOCK, bytes as usize)?) else {
            return Ok(false);
        };
        let end = Some((self.segments[self.at].generation, self.position));
        let tied = group
            .extensions
            .iter()
            .any(|section| section.as_previous_end() == end);
        if tied {
            self.at += 1;
            self.position = BLOCK;
        }
        Ok(tied)
    }

    /// Decides whether what stands here is the end, a torn group at the end, or damage.
    fn finish(&mut self, reason: &DecodeError) -> Result<(), Error> {
        let mut torn = 0;
        let searched = match env::planted!("damage-ends-the-log") {
            true => self.at..self.at,
            false => self.at..self.segments.len(),
        };
        for index in searched {
            let segment = &self.segments[index];
            // Where the missing group may rightly stand: here, or first in the next segment.
            let hole = match index - self.at {
                0 => Some(self.position),
                1 => Some(BLOCK),
                _ => None,
            };
            let start = if index == self.at {
                self.position
            } else {
                BLOCK
            };
            segment.search(self.wal_id, start, |position, header, trailer| {
                let at_hole = hole == Some(position);
                let proof = match (header, trailer) {
                    (Some(header), _) if at_hole && header.meta.sequence == self.next => {
                        if segment.is_sound(&header, position)? {
                            Some(self.next)
                        } else {
                            torn = torn.max(frame::padded_bytes(header.group_bytes()));
                            None
                        }
                    }
                    (Some(header), _) => Some(header.meta.sequence),
                    (None, Some((sequence, _))) if sequence > self.next => Some(sequence),
                    (None, Some((sequence, bytes))) => {
                        let from = (position + BLOCK).checked_sub(bytes);
                        if sequence == self.next && from == hole {
                            torn = torn.max(bytes);
                        }
                        None
                    }
                    (None, None) => None,
                };
                let Some(sequence) = proof else { return Ok(()) };
                let reason = format!(
                    "{reason}; group {sequence} at {} byte {position} proves that it was durable",
                    segment.path.display()
                );
                Err(self.corrupt(self.next, reason))
            })?;
        }
        self.ended = Some(match (torn, self.last) {
            (0, Some(GroupKind::Closed)) => Ending::Closed,
            (0, Some(GroupKind::Idle)) => Ending::Idle,
            (0, _) => Ending::Busy,
            (bytes, _) => Ending::Torn { bytes },
        });
        Ok(())
    }

    pub(crate) fn place(&self) -> String {
        format!(
            "{} byte {}",
            self.segments[self.at].path.display(),
            self.position
        )
    }

    fn corrupt(&self, sequence: Sequence, reason: String) -> Error {
        Error::Corrupt {
            wal_id: self.wal_id,
            sequence,
            place: self.place(),
            reason,
        }
    }
}

impl SegmentFile {
    fn open(
        disk: &Arc<dyn Disk>,
        wal_id: WalId,
        generation: u64,
        path: PathBuf,
    ) -> Result<Self, Error> {
        let file = disk
            .open(&path, OpenMode::Existing)
            .map_err(|e| Error::io("open", &path, e))?;
        let bytes = file.len().map_err(|e| Error::io("measure", &path, e))?;
        let mut segment = Self {
            generation,
            path,
            file,
            bytes,
            made: 0,
            first: None,
        };
        let block = if bytes < BLOCK {
            // Renamed into place only when whole: cut since.
            Bytes::from_static(&[0; BLOCK_BYTES])
        } else {
            segment.read(0, BLOCK_BYTES)?
        };
        segment.made = check_header(&block, SegmentId { wal_id, generation }, &segment.path)?;
        segment.first = segment.header_at(wal_id, BLOCK)?.ok();
        Ok(segment)
    }

    fn read(&self, position: u64, bytes: usize) -> Result<Bytes, Error> {
        let mut buffer = vec![0; bytes];
        self.file
            .read_exact_at(&mut buffer, position)
            .map_err(|e| Error::io("read", &self.path, e))?;
        Ok(buffer.into())
    }

    /// True when the whole frame at `position` is as its writer made it.
    fn is_sound(&self, header: &GroupHeader, position: u64) -> Result<bool, Error> {
        let bytes = frame::padded_bytes(header.group_bytes());
        if position + bytes > self.bytes {
            return Ok(false);
        }
        let frame = self.read(position, bytes as usize)?;
        Ok(frame::decode_frame(header, &frame).is_ok())
    }

    fn header_at(
        &self,
        wal_id: WalId,
        position: u64,
    ) -> Result<Result<GroupHeader, DecodeError>, Error> {
        if position + BLOCK > self.bytes {
            return Ok(Err(DecodeError::NotAGroup));
        }
        let block = self.read(position, BLOCK_BYTES)?;
        Ok(GroupHeader::decode(&block, wal_id, self.generation))
    }

    /// Calls `found` for each block from `start` on that has a sound header or trailer.
    fn search(
        &self,
        wal_id: WalId,
        start: u64,
        mut found: impl FnMut(u64, Option<GroupHeader>, Option<(Sequence, u64)>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut position = start;
        while position + BLOCK <= self.bytes {
            let whole = (self.bytes - position) / BLOCK * BLOCK;
            let piece = self.read(position, whole.min(SEARCH_BYTES as u64) as usize)?;
            for (index, block) in piece.chunks(BLOCK_BYTES).enumerate() {
                let at = position + (index * BLOCK_BYTES) as u64;
                let header = GroupHeader::decode(block, wal_id, self.generation).ok();
                let trailer = frame::trailer(block, wal_id, self.generation);
                if header.is_some() || trailer.is_some() {
                    found(at, header, trailer)?;
                }
            }
            position += piece.len() as u64;
        }
        Ok(())
    }
}
