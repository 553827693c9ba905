//! One long-lived substream: frames of one class, both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream;
use starling_proto::{
    Class,
    wire::{FrameReader, WireError},
};

use crate::{Metrics, Traffic, outbox::Outbox, slices::SLICE_BYTES};

/// Bytes read at once from the multiplexer, which returns buffered bytes.
const READ_BYTES: usize = 4 << 10;
/// Bytes written at once to the multiplexer, which makes one of its frames of them. Frames of other classes go in
/// between, and the receiver gets the bytes of each when it is complete.
const WRITE_BYTES_MAX: usize = SLICE_BYTES;

/// A negotiated stream, with its partly received and partly sent frames.
pub(crate) struct Substream {
    class: Class,
    stream: Stream,
    incoming: FrameReader,
    /// Bytes of an incomplete frame that have arrived since [`Self::take_progress`].
    progress: usize,
    read_closed: bool,
    outgoing: Bytes,
    /// Whether bytes were written since the last flush.
    unflushed: bool,
    write_closed: bool,
}

/// The result of a receive.
pub(crate) enum Received {
    /// A whole frame.
    Frame(Bytes),
    /// The peer has closed its direction.
    End,
    /// The stream can no longer be split into frames.
    Lost(WireError),
}

impl Substream {
    /// Creates a substream; `first` is sent before any frame.
    pub(crate) fn new(class: Class, stream: Stream, first: Vec<u8>) -> Self {
        Self {
            class,
            stream,
            incoming: FrameReader::new(class),
            progress: 0,
            read_closed: false,
            outgoing: first.into(),
            // The negotiation itself may wait to be flushed.
            unflushed: true,
            write_closed: false,
        }
    }

    /// Whether both directions have ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.read_closed && self.write_closed
    }

    /// Bytes of an incomplete frame that have arrived since the last call.
    pub(crate) fn take_progress(&mut self) -> usize {
        std::mem::take(&mut self.progress)
    }

    /// The next frame. Always `Pending` after [`Received::End`].
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            match self.incoming.next_frame() {
                Ok(Some(frame)) => {
                    self.progress = 0;
                    return Poll::Ready(Ok(Received::Frame(frame)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Ok(Received::Lost(error))),
            }
            if self.read_closed {
                return Poll::Pending;
            }
            let mut buffer = [0; READ_BYTES];
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if read == 0 {
                self.read_closed = true;
                return Poll::Ready(Ok(Received::End));
            }
            self.incoming.push(&buffer[..read]);
            self.progress += read;
        }
    }

    /// Sends the waiting frames, as far as the peer and the transport accept them; `close` ends this direction once
    /// none waits.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        traffic: &Traffic,
        metrics: &Metrics,
        close: bool,
    ) -> Poll<io::Result<()>> {
        if self.write_closed {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.outgoing.is_empty() {
                let next = outbox.take(self.class, |bytes| {
                    traffic.sent(self.class).count(bytes);
                    metrics.traffic.sent(self.class).count(bytes);
                });
                let Some(next) = next else { break };
                self.outgoing = next;
            }
            let slice = &self.outgoing[..self.outgoing.len().min(WRITE_BYTES_MAX)];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, slice))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        if close {
            ready!(Pin::new(&mut self.stream).poll_close(cx))?;
            self.write_closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
