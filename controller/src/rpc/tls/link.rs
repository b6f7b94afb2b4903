//! A connection between nodes, which knows why it broke.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use env::BoxStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Tls;
use super::explain::{self, TLS_HEARD};
use crate::limits::TLS_COMPLAINT;

/// First byte of TLS records: change of cipher, alert, handshake, data. HTTP/2 begins with `P` or 0.
const TLS_RECORDS: std::ops::RangeInclusive<u8> = 0x14..=0x17;

/// Why connections to, or from, some place fail. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Why(Arc<Mutex<Reason>>);

#[derive(Default)]
struct Reason {
    text: Option<String>,
    /// When it was last told in the log.
    told: Option<Instant>,
    /// Those that were not told since.
    untold: u64,
}

/// Who is at this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// A stream whose handshake, if any, is done.
pub(crate) struct Link {
    stream: BoxStream,
    tls: Option<Tls>,
    side: Side,
    /// Where the other end is, for a person.
    peer: String,
    why: Why,
    /// Whether anything was read.
    begun: bool,
}

// === impl Why ===

impl Why {
    /// What is known of the last failure.
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().text.clone()
    }

    /// It is being tried anew, or works.
    pub(crate) fn clear(&self) {
        self.0.lock().text = None;
    }

    /// Notes it, and tells it unless something was told just now.
    pub(crate) fn set(&self, side: Side, peer: &str, text: &str) {
        let untold = {
            let mut reason = self.0.lock();
            reason.text = Some(text.to_owned());
            let now = Instant::now();
            if reason.told.is_some_and(|told| now - told < TLS_COMPLAINT) {
                reason.untold += 1;
                return;
            }
            reason.told = Some(now);
            std::mem::take(&mut reason.untold)
        };
        match side {
            Side::Caller => tracing::warn!(untold, "no calls to {peer}: {text}"),
            Side::Callee => tracing::warn!(untold, "no calls from {peer}: {text}"),
        }
    }
}

// === impl Link ===

impl Link {
    pub(crate) fn new(
        stream: BoxStream,
        tls: Option<Tls>,
        side: Side,
        peer: String,
        why: Why,
    ) -> Self {
        Self {
            stream,
            tls,
            side,
            peer,
            why,
            begun: false,
        }
    }

    /// Looks at the first bytes.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(first) = bytes.first() else {
            return Ok(());
        };
        self.begun = true;
        if self.tls.is_none() && TLS_RECORDS.contains(first) {
            self.why.set(self.side, &self.peer, TLS_HEARD);
            return Err(io::Error::new(io::ErrorKind::InvalidData, TLS_HEARD));
        }
        if self.side == Side::Caller {
            self.why.clear();
        }
        Ok(())
    }

    /// The callee's refusal comes after the caller's handshake, as the first thing that is read.
    fn explained(&self, error: io::Error) -> io::Error {
        let Some(tls) = self.tls.as_ref().filter(|_| !self.begun) else {
            return error;
        };
        if explain::rustls_of(&error).is_none() {
            return error;
        }
        let text = explain::handshake(&error, &tls.0.files);
        self.why.set(self.side, &self.peer, &text);
        io::Error::new(error.kind(), text)
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match read {
            Poll::Ready(Ok(())) if !self.begun => Poll::Ready(self.begin(&buf.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.explained(error))),
            other => other,
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
