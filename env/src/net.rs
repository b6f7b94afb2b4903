//! TCP, real or simulated.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A stream of either side.
pub type BoxStream = Box<dyn Stream>;

/// Binds and connects.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Listens on `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// The system's (`AddrInUse`, …).
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// Connects to `address`.
    ///
    /// # Errors
    /// The system's (`ConnectionRefused`, …).
    async fn connect(&self, address: SocketAddr) -> io::Result<BoxStream>;

    /// Addresses of `host:port`.
    ///
    /// # Errors
    /// When the name does not resolve.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// A bound socket.
#[async_trait]
pub trait Listener: Send + Sync + 'static {
    /// The next connection and its peer. Cancel-safe.
    ///
    /// # Errors
    /// The system's; most concern one connection only, so callers log and go on.
    async fn accept(&self) -> io::Result<(BoxStream, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
