//! Small pieces under the multiplexer. Noise gathers up to 64 KiB while the socket accepts nothing, and its receiver
//! reads no byte of such a frame before it has the last one: over a narrow link that is seconds of silence, and what is
//! urgent waits behind it. So each encrypted frame has a few kilobytes, and one waits at a time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    yamux,
};

/// Payload of an encrypted frame, bytes, at most. A link that transfers so much within the time after which a silent
/// neighbour is suspected is not given up: about 12 kbit/s. Its headers cost 1 %.
pub(crate) const SLICE_BYTES: usize = 4 << 10;

/// A stream that flushes each [`SLICE_BYTES`] before it accepts more.
pub(crate) struct Slices<S> {
    stream: S,
    unflushed: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Slices<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slices<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unflushed >= SLICE_BYTES {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let slice = &bytes[..bytes.len().min(SLICE_BYTES - self.unflushed)];
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, slice))?;
        self.unflushed += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Yamux over [`Slices`].
#[derive(Clone)]
pub(crate) struct Sliced(pub(crate) yamux::Config);

impl UpgradeInfo for Sliced {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<S> for Sliced {
    type Output = yamux::Muxer<Slices<S>>;
    type Error = io::Error;
    type Future = futures::future::Ready<Result<Self::Output, io::Error>>;

    fn upgrade_inbound(self, stream: S, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(Slices { stream, unflushed: 0 }, info)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<S> for Sliced {
    type Output = yamux::Muxer<Slices<S>>;
    type Error = io::Error;
    type Future = futures::future::Ready<Result<Self::Output, io::Error>>;

    fn upgrade_outbound(self, stream: S, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(Slices { stream, unflushed: 0 }, info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that accepts everything into a buffer, and flushes only while it is open.
    #[derive(Default)]
    struct Blocked {
        buffered: usize,
        is_open: bool,
    }

    impl AsyncWrite for Blocked {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.buffered += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.is_open {
                return Poll::Pending;
            }
            self.buffered = 0;
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    #[test]
    fn a_blocked_stream_gathers_one_slice() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut slices = Slices { stream: Blocked::default(), unflushed: 0 };
        let bytes = [7; SLICE_BYTES - 1];
        let mut write = |slices: &mut Slices<Blocked>| match Pin::new(slices).poll_write(&mut cx, &bytes) {
            Poll::Ready(written) => written.expect("a buffer does not fail"),
            Poll::Pending => 0,
        };
        assert_eq!([(); 4].map(|()| write(&mut slices)), [SLICE_BYTES - 1, 1, 0, 0]);
        assert_eq!(slices.stream.buffered, SLICE_BYTES);
        slices.stream.is_open = true;
        assert_eq!(write(&mut slices), SLICE_BYTES - 1, "the flush makes room");
    }
}
