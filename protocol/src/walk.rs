//! The records of a produced batch, visited without being kept: what a broker must know of each
//! before it takes the batch.
//!
//! ```text
//! payload ─▶ decoder, 32 KiB at a time ─▶ lengths judged, keys and values skipped ─▶ visit
//! ```
//!
//! **Invariant:** memory does not grow with what a batch decompresses to or with any length in it.
//! Without compression nothing is allocated or copied.

use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;

use crate::batch::BatchView;
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::limits::{MAX_RECORD_HEADERS, WALK_WINDOW_BYTES};
use crate::varint::{self, MAX_I32_BYTES, MAX_I64_BYTES};

/// How much a compressed batch may hold. Without compression its own length is the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkLimits {
    /// Most bytes of all records.
    pub max_bytes: usize,
    /// Most bytes of one record.
    pub max_record_bytes: usize,
}

/// What is told of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// Its distance from the base offset; as its place, but where compaction took some away.
    pub offset_delta: i32,
    /// Milliseconds since 1970 by the producer; -1 for none.
    pub timestamp: i64,
    /// Whether its key is other than null.
    pub has_key: bool,
}

impl BatchView<'_> {
    /// Reads every record to its end and calls `visit` for each, in order: the batch must hold
    /// exactly the records that its header counts, at offsets without a gap, each as long as it
    /// says, and nothing after them. [`validate_produced`](Self::validate_produced) comes first.
    ///
    /// # Errors
    /// On the first that is wrong. Records before it have been visited.
    pub fn walk(&self, limits: WalkLimits, mut visit: impl FnMut(Visited)) -> Result<()> {
        self.walk_as(limits, Offsets::Dense, |record| {
            visit(record);
            ControlFlow::Continue(())
        })
    }

    /// As [`walk`](Self::walk), of a batch that was kept: offsets rise, with gaps where compaction
    /// took records away, and `visit` may end it early.
    ///
    /// # Errors
    /// On the first that is wrong before the end. Records before it have been visited.
    pub fn walk_kept(
        &self,
        limits: WalkLimits,
        visit: impl FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<()> {
        self.walk_as(limits, Offsets::Rising, visit)
    }

    fn walk_as(
        &self,
        limits: WalkLimits,
        offsets: Offsets,
        visit: impl FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<()> {
        let (codec, payload) = (self.compression()?, self.payload());
        if codec == Compression::None {
            let limits = WalkLimits {
                max_bytes: payload.len(),
                max_record_bytes: payload.len(),
            };
            return Walker::new(payload, codec, limits).batch(self, offsets, visit);
        }
        let decoder = codec.reader(payload, limits.max_bytes)?;
        let input = BufReader::with_capacity(WALK_WINDOW_BYTES, decoder);
        Walker::new(input, codec, limits).batch(self, offsets, visit)
    }
}

/// Which offsets a batch may hold.
#[derive(Clone, Copy, PartialEq)]
enum Offsets {
    /// Each the next one: as produced.
    Dense,
    /// Each above the one before: as compacted.
    Rising,
}

struct Walker<B> {
    input: B,
    codec: Compression,
    limits: WalkLimits,
    /// Position in the decompressed payload.
    at: usize,
}

/// What one record tells of itself.
struct Fields {
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
}

impl<B: BufRead> Walker<B> {
    fn new(input: B, codec: Compression, limits: WalkLimits) -> Self {
        Self {
            input,
            codec,
            limits,
            at: 0,
        }
    }

    fn batch(
        mut self,
        batch: &BatchView<'_>,
        offsets: Offsets,
        mut visit: impl FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<()> {
        let base_timestamp = batch.base_timestamp();
        let mut last = -1;
        for index in 0..batch.record_count() {
            let fields = self.record()?;
            let offset_delta = fields.offset_delta;
            let taken = match offsets {
                Offsets::Dense => offset_delta == index,
                Offsets::Rising => offset_delta > last,
            };
            if !taken {
                return Err(self.error("an offset that is not the next one"));
            }
            last = offset_delta;
            let visited = visit(Visited {
                index,
                offset_delta,
                timestamp: base_timestamp.wrapping_add(fields.timestamp_delta),
                has_key: fields.has_key,
            });
            if visited.is_break() {
                return Ok(());
            }
        }
        // The decoder comes to its own end, and to its checksum, only when asked for more.
        if self.window()?.is_empty() {
            Ok(())
        } else {
            Err(self.error("bytes left after the last record"))
        }
    }

    #[inline]
    fn record(&mut self) -> Result<Fields> {
        let len = self.i32()?;
        let len = usize::try_from(len).map_err(|_| self.error("a negative length"))?;
        let end = self.at.saturating_add(len);
        if len > self.limits.max_record_bytes {
            return Err(self.error("a record longer than may be"));
        }
        if end > self.limits.max_bytes {
            return Err(match self.codec {
                Compression::None => self.error("a length beyond the end"),
                _ => Error::DecompressedTooLarge {
                    limit: self.limits.max_bytes,
                },
            });
        }
        self.skip(1, end)?; // Attributes: none are defined.
        let timestamp_delta = varint::unzigzag_i64(self.raw(MAX_I64_BYTES)?);
        let offset_delta = self.i32()?;
        let has_key = self.nullable(end)?;
        self.nullable(end)?;
        self.headers(end)?;
        if self.at != end {
            return Err(self.error("a record that does not fill its length"));
        }
        Ok(Fields {
            timestamp_delta,
            offset_delta,
            has_key,
        })
    }

    #[inline]
    fn headers(&mut self, end: usize) -> Result<()> {
        let count = self.i32()?;
        let count = usize::try_from(count).map_err(|_| self.error("a negative header count"))?;
        if count > MAX_RECORD_HEADERS || count > end.saturating_sub(self.at) {
            return Err(self.error("more headers than there can be"));
        }
        for _ in 0..count {
            if !self.nullable(end)? {
                return Err(self.error("a header without key"));
            }
            self.nullable(end)?;
        }
        Ok(())
    }

    /// Skips bytes behind their length, and says whether they are other than null.
    #[inline]
    fn nullable(&mut self, end: usize) -> Result<bool> {
        match self.i32()? {
            -1 => Ok(false),
            len => match usize::try_from(len) {
                Ok(len) => self.skip(len, end).map(|()| true),
                Err(_) => Err(self.error("a negative length")),
            },
        }
    }

    /// Skips `len` bytes of a record that ends at `end`.
    #[inline]
    fn skip(&mut self, len: usize, end: usize) -> Result<()> {
        if len > end.saturating_sub(self.at) {
            return Err(self.error("a length beyond the record"));
        }
        let mut left = len;
        while left > 0 {
            let available = self.window()?.len();
            if available == 0 {
                return Err(self.error("the records are cut off"));
            }
            let step = left.min(available);
            self.advance(step);
            left -= step;
        }
        Ok(())
    }

    #[inline]
    fn i32(&mut self) -> Result<i32> {
        let value = self.raw(MAX_I32_BYTES)?;
        varint::unzigzag_i32(value).ok_or_else(|| self.error("a varint beyond 32 bits"))
    }

    #[inline]
    fn raw(&mut self, max: usize) -> Result<u64> {
        let window = self.window()?;
        // Nearly all are one byte long.
        if let Some(&byte) = window.first()
            && byte < 0x80
        {
            self.advance(1);
            return Ok(u64::from(byte));
        }
        match varint::read_raw(window, max) {
            Some((value, len)) => {
                self.advance(len);
                Ok(value)
            }
            None => self.raw_in_pieces(max),
        }
    }

    /// A varint that lies across the end of the window, or is none.
    #[cold]
    fn raw_in_pieces(&mut self, max: usize) -> Result<u64> {
        let mut bytes = [0; MAX_I64_BYTES];
        for slot in bytes.iter_mut().take(max) {
            let Some(&byte) = self.window()?.first() else {
                return Err(self.error("the records are cut off"));
            };
            self.advance(1);
            *slot = byte;
            if byte < 0x80 {
                break;
            }
        }
        let read = varint::read_raw(&bytes, max);
        let (value, _) = read.ok_or_else(|| self.error("a varint that does not end"))?;
        Ok(value)
    }

    #[inline]
    fn window(&mut self) -> Result<&[u8]> {
        let codec = self.codec;
        self.input.fill_buf().map_err(|error| undone(codec, error))
    }

    #[inline]
    fn advance(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.at += bytes;
    }

    #[cold]
    fn error(&self, what: &'static str) -> Error {
        Error::Record { what, at: self.at }
    }
}

/// What made a decoder stop: a piece too large is no damage.
#[cold]
fn undone(codec: Compression, error: io::Error) -> Error {
    match error.downcast() {
        Ok(error @ Error::DecompressedTooLarge { .. }) => error,
        Ok(error) => codec.damaged(error),
        Err(error) => codec.damaged(error),
    }
}

#[cfg(test)]
mod tests;
