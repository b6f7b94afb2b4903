//! One connection: two pipes each way, and a carrier between them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
    duplex, split,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::SimNetwork;

/// Bytes that a socket buffer takes.
const SOCKET_BYTES: usize = 64 * 1024;
/// Chunks under way in one direction.
const CHUNKS: usize = 64;

/// What the network knows of a connection.
pub(super) struct Connection {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    reset: watch::Sender<bool>,
    flag: Arc<AtomicBool>,
    carriers: Arc<AtomicUsize>,
    wakers: Arc<std::sync::Mutex<Vec<Waker>>>,
}

impl Connection {
    pub(super) fn reset(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.reset.send_replace(true);
        for waker in self
            .wakers
            .lock()
            .expect("no panic under this lock")
            .drain(..)
        {
            waker.wake();
        }
    }

    /// False once both directions have ended.
    pub(super) fn is_open(&self) -> bool {
        self.carriers.load(Ordering::SeqCst) > 0
    }
}

/// Both ends of a new connection.
pub(super) fn connect(
    network: SimNetwork,
    from: SocketAddr,
    to: SocketAddr,
) -> (SimStream, SimStream, Arc<Connection>) {
    let (near, near_inner) = duplex(SOCKET_BYTES);
    let (far, far_inner) = duplex(SOCKET_BYTES);
    let (near_read, near_write) = split(near_inner);
    let (far_read, far_write) = split(far_inner);
    let flag = Arc::new(AtomicBool::new(false));
    let carriers = Arc::new(AtomicUsize::new(2));
    let wakers = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (reset, receiver) = watch::channel(false);
    for (read, write, a, b) in [
        (near_read, far_write, from, to),
        (far_read, near_write, to, from),
    ] {
        let carrier = Carrier {
            network: network.clone(),
            from: a,
            to: b,
        };
        let (reset, carriers) = (receiver.clone(), carriers.clone());
        tokio::spawn(async move {
            carrier.run(read, write, reset).await;
            carriers.fetch_sub(1, Ordering::SeqCst);
        });
    }
    let stream = |pipe| SimStream {
        pipe,
        reset: flag.clone(),
        wakers: wakers.clone(),
    };
    let (near, far) = (stream(near), stream(far));
    (
        near,
        far,
        Arc::new(Connection {
            from,
            to,
            reset,
            flag,
            carriers,
            wakers,
        }),
    )
}

/// Carries bytes one way.
struct Carrier {
    network: SimNetwork,
    from: SocketAddr,
    to: SocketAddr,
}

impl Carrier {
    async fn run(
        self,
        mut read: ReadHalf<DuplexStream>,
        mut write: WriteHalf<DuplexStream>,
        mut reset: watch::Receiver<bool>,
    ) {
        let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
        let take = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let n = read.read(&mut buffer).await.unwrap_or(0);
                let due = Instant::now() + self.network.latency();
                // Zero bytes carry the end of the stream.
                if sender.send((due, buffer[..n].to_vec())).await.is_err() || n == 0 {
                    return;
                }
            }
        };
        let give = async {
            while let Some((due, chunk)) = chunks.recv().await {
                sleep_until(due).await;
                self.network
                    .wait_reaches(self.from.ip(), self.to.ip())
                    .await;
                if chunk.is_empty() || write.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            // The other side is gone, or will see the end.
            let _ = write.shutdown().await;
        };
        tokio::select! {
            biased;
            _ = reset.wait_for(|reset| *reset) => {}
            _ = async { tokio::join!(biased; take, give) } => {}
        }
    }
}

/// One end of a connection.
pub(super) struct SimStream {
    pipe: DuplexStream,
    reset: Arc<AtomicBool>,
    wakers: Arc<std::sync::Mutex<Vec<Waker>>>,
}

impl SimStream {
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        if self.reset.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut wakers = self.wakers.lock().expect("no panic under this lock");
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            // At most a reader and a writer for each end wait at a time.
            if wakers.len() >= 16 {
                wakers.drain(..).for_each(Waker::wake);
            }
            wakers.push(context.waker().clone());
        }
        Ok(())
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.pipe).poll_read(context, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.pipe).poll_write(context, buf)
    }

    // Not told by `is_write_vectored`: whoever asks first goes on as before.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.pipe).poll_write_vectored(context, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}
