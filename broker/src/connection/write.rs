//! Answers onto a socket: several small ones in one write, large ones by reference.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits::{WRITE_GATHER_BYTES, WRITE_SEGMENTS, WRITE_STALL};

/// Segments on their way to a socket.
#[derive(Debug)]
pub(crate) struct ResponseWriter<W> {
    io: W,
    segments: Vec<Bytes>,
    gathered: usize,
}

impl<W: AsyncWrite + Unpin> ResponseWriter<W> {
    /// Writes onto `io`.
    pub(crate) fn new(io: W) -> Self {
        Self {
            io,
            segments: Vec::new(),
            gathered: 0,
        }
    }

    /// Adds an answer's segments; nothing is written yet.
    pub(crate) fn push(&mut self, segments: Vec<Bytes>) {
        self.gathered += segments.iter().map(Bytes::len).sum::<usize>();
        self.segments.extend(segments);
    }

    /// Whether enough is gathered that it should go out before more is.
    pub(crate) fn is_full(&self) -> bool {
        self.gathered >= WRITE_GATHER_BYTES
    }

    /// Writes everything that was pushed, and says how many bytes those were.
    ///
    /// # Errors
    /// The socket's, or `TimedOut` when the client takes nothing for a minute.
    pub(crate) async fn flush(&mut self) -> io::Result<usize> {
        let total = self.gathered;
        let mut first = 0;
        while first < self.segments.len() {
            let slices: Vec<IoSlice<'_>> = self.segments[first..]
                .iter()
                .take(WRITE_SEGMENTS)
                .map(|segment| IoSlice::new(segment))
                .collect();
            let mut wrote = match timeout(WRITE_STALL, self.io.write_vectored(&slices)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => wrote?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
            while wrote > 0 {
                let segment = &mut self.segments[first];
                let part = wrote.min(segment.len());
                segment.advance(part);
                wrote -= part;
                if segment.is_empty() {
                    // Lets go of the bytes at once: they may be a block of a cache.
                    *segment = Bytes::new();
                    first += 1;
                }
            }
        }
        self.segments.clear();
        self.gathered = 0;
        if total > 0 {
            self.io.flush().await?;
        }
        Ok(total)
    }
}
