//! Whole request frames off a socket: `socket ─▶ read-ahead ─▶ frame, paid for as it arrives`.
//!
//! **Invariant:** memory held for a frame is at most twice what of it has arrived, or what this
//! connection has proved to send, or 64 KiB.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::frame::{PREFIX_BYTES, request_frame_len};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use crate::limits::{FIRST_FRAME_BYTES, READ_AHEAD_BYTES, STALLED_FRAME, TRUSTED_FRAME_BYTES};
use crate::memory::{FrameBudget, FrameLease};

/// A whole request, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Held until the request is answered.
    pub(crate) _lease: FrameLease,
}

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The client closed, between frames.
    #[error("closed by the client")]
    Closed,
    /// Nothing came for longer than `connections.max.idle.ms`.
    #[error("idle")]
    Idle,
    /// A frame took longer than `request.receive.timeout.ms`.
    #[error("a request was not complete in time")]
    Slow,
    /// Memory is short and the frame does not grow.
    #[error("memory is short and the request has stalled")]
    Stalled,
    /// The length prefix makes no sense.
    #[error(transparent)]
    Length(#[from] protocol::Error),
    /// The socket failed, or ended within a frame.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// How frames are read.
#[derive(Clone, Debug)]
pub(crate) struct ReadSettings {
    /// Largest frame.
    pub(crate) max_frame: usize,
    /// Longest time from a frame's first byte to its last.
    pub(crate) receive_timeout: Duration,
    /// Longest time between frames.
    pub(crate) idle: Option<Duration>,
}

/// Reads frames.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    io: R,
    ahead: BytesMut,
    budget: Arc<FrameBudget>,
    settings: ReadSettings,
    /// Largest frame that came whole.
    proved: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames off `io`.
    pub(crate) fn new(io: R, budget: Arc<FrameBudget>, settings: ReadSettings) -> Self {
        Self {
            io,
            ahead: BytesMut::new(),
            budget,
            settings,
            proved: 0,
        }
    }

    /// The next frame. Not cancel-safe once its first byte came: a dropped call ends the
    /// connection.
    ///
    /// # Errors
    /// The connection is then closed; only [`ReadError::Closed`] and [`ReadError::Idle`] are
    /// ordinary.
    pub(crate) async fn next(&mut self) -> Result<Frame, ReadError> {
        self.first_bytes().await?;
        let deadline = Instant::now() + self.settings.receive_timeout;
        while self.ahead.len() < PREFIX_BYTES {
            timeout_at(deadline, read_some(&mut self.io, &mut self.ahead))
                .await
                .map_err(|_| ReadError::Slow)??;
        }
        let prefix = *self.ahead.first_chunk().expect("four bytes are there");
        let declared = request_frame_len(prefix, self.settings.max_frame)?;
        self.ahead.advance(PREFIX_BYTES);
        let whole = timeout_at(deadline, self.body(declared));
        let frame = whole.await.map_err(|_| ReadError::Slow)??;
        self.proved = self.proved.max(declared.min(TRUSTED_FRAME_BYTES));
        Ok(frame)
    }

    /// Waits, idle, for the first byte of a frame.
    async fn first_bytes(&mut self) -> Result<(), ReadError> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        self.ahead.reserve(READ_AHEAD_BYTES);
        let reading = self.io.read_buf(&mut self.ahead);
        let read = match self.settings.idle {
            Some(idle) => tokio::time::timeout(idle, reading)
                .await
                .map_err(|_| ReadError::Idle)??,
            None => reading.await?,
        };
        if read == 0 {
            Err(ReadError::Closed)
        } else {
            Ok(())
        }
    }

    /// Resolves when the client has closed or the socket has failed; never while what it sends
    /// goes on. Cancel-safe; called between frames.
    pub(crate) async fn ended(&mut self) -> ReadError {
        if self.ahead.is_empty() {
            self.ahead.reserve(READ_AHEAD_BYTES);
            match self.io.read_buf(&mut self.ahead).await {
                Ok(0) => return ReadError::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
        // The next request waits its turn: more is not read for it.
        std::future::pending().await
    }

    async fn body(&mut self, declared: usize) -> Result<Frame, ReadError> {
        let mut lease = self.budget.lease(declared);
        let at_hand = self.ahead.len().min(declared);
        let mut room = declared.min(FIRST_FRAME_BYTES.max(self.proved));
        lease.grow(room).await;
        let mut bytes = BytesMut::with_capacity(room);
        bytes.extend_from_slice(&self.ahead[..at_hand]);
        self.ahead.advance(at_hand);
        while bytes.len() < declared {
            if bytes.len() == room {
                let more = room.min(declared - room);
                lease.grow(more).await;
                room += more;
                bytes.reserve(room - bytes.len());
            }
            let free = room - bytes.len();
            let mut into = (&mut bytes).limit(free);
            let stall = Instant::now() + STALLED_FRAME;
            match timeout_at(stall, self.io.read_buf(&mut into)).await {
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => drop(read?),
                Err(_) if self.budget.is_short() => return Err(ReadError::Stalled),
                Err(_) => {}
            }
        }
        Ok(Frame {
            bytes: bytes.freeze(),
            _lease: lease,
        })
    }
}

async fn read_some<R: AsyncRead + Unpin>(io: &mut R, into: &mut BytesMut) -> io::Result<()> {
    into.reserve(READ_AHEAD_BYTES);
    match io.read_buf(into).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
