//! The body of a call's request. A call is in progress on its connection only from the moment when its request has arrived: a
//! client that begins calls and sends nothing more must not keep others out (`starling_listener`, places).

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use starling_listener::{Activity, InProgress};
use starling_service::Caller;

/// Marks a call as in progress once its request has arrived. Clones are of one call, which ends when all are dropped.
#[derive(Clone)]
pub struct Arrival {
    connection: Activity,
    in_progress: Arc<OnceLock<InProgress>>,
    /// Whether the client goes on sending while the call is answered, so that its first bytes have to do.
    is_stream: bool,
}

impl Arrival {
    pub fn new(connection: &Activity, is_stream: bool) -> Self {
        Self { connection: connection.clone(), in_progress: Arc::default(), is_stream }
    }
}

/// The body, watched for its end.
pub struct Arriving<B> {
    pub body: B,
    pub arrival: Arrival,
    /// Whose quota its bytes are taken from.
    pub sender: Caller,
}

impl<B: Body + Unpin> Body for Arriving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.sender.charge(frame.data_ref().map_or(0, Buf::remaining));
        }
        if frame.is_none() || self.arrival.is_stream || self.body.is_end_stream() {
            self.arrival.in_progress.get_or_init(|| self.arrival.connection.begin());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
