//! The API's socket: bounded in connections, so that clients cannot use up the files that peers and
//! the store need.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at a time; a further one waits in the system's queue until one closes. A guess:
/// far more than tools and watches open, and a small part of the usual limit on open files.
const CONNECTIONS_MAX: usize = 512;

/// A listener that accepts while there is room.
pub struct BoundedListener {
    inner: TcpListener,
    room: Arc<Semaphore>,
}

impl BoundedListener {
    /// Around a socket that listens already.
    pub fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self { inner: TcpListener::from_std(socket)?, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        // The framework's own way of accepting waits out the system's running short of files.
        let (stream, peer) = Listener::accept(&mut self.inner).await;
        // Without it small answers wait for acknowledgements; if it fails, they only come later.
        let _ = stream.set_nodelay(true);
        (BoundedStream { stream, _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that counts against the bound while it lives.
pub struct BoundedStream {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
