//! The handler of one connection: opens its substreams, performs the handshake, then transfers messages. It runs in
//! the connection's own task, so that messages need no further task.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::{BoxFuture, Ready, ready as done};
use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use starling_proto::{
    Class, Message, NodeId,
    detector::PROGRESS_MS,
    wire::{self, WireError},
};
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    Metrics, Traffic,
    handshake::{self, Accepted, Credentials, HandshakeError, Side},
    outbox::{Order, Outbox},
    records::Verified,
    substream::{Received, Substream},
};

/// Longest time from the start of a connection to the end of the handshake. A guess: twice a few round trips around the
/// world.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closing connection may flush. A guess.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that another one has replaced is kept until the peer closes it. Longer than a handshake, by
/// whose end the peer must have noticed.
const CLOSE_LATER: Duration = Duration::from_secs(7);
/// How long reading from a peer pauses after each offence but the first.
const OFFENCE_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(PROGRESS_MS);

/// The state that all connections of a driver share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) verified: Mutex<Verified>,
}

/// An event of a connection for the behaviour.
#[derive(Debug)]
pub(crate) enum FromLink {
    /// The handshake succeeded.
    Up(Box<Accepted>),
    /// A message from the peer.
    Message(Message),
    /// Bytes of a frame have arrived, and the frame is not complete.
    Progress,
    /// A frame was skipped whose kind or version this node does not know. It is reported, so that a flood of them is
    /// throttled as messages are.
    Skipped(Class),
    /// The peer sent something invalid.
    Offence(Offence),
    /// The peer is closing the connection, and has sent everything.
    PeerCloses,
    /// The connection has ended and is to be closed.
    Ended(End),
}

/// Why a connection has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// One side closed it.
    Closed,
    /// The handshake failed.
    Handshake(HandshakeError),
    /// It broke.
    Broken(String),
}

/// An offence of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A frame that is not a message.
    Frame(WireError),
    /// A record that its node did not sign.
    Record,
}

/// The classes for which a substream may be negotiated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocols {
    allowed: [bool; 4],
}

impl Protocols {
    fn only(class: Class) -> Self {
        Self { allowed: Class::ALL.map(|c| c == class) }
    }
}

/// The protocol's name of each class, in the order of [`Class::ALL`].
const NAMES: [StreamProtocol; 4] = [
    StreamProtocol::new("/starling/control/1"),
    StreamProtocol::new("/starling/rumor/1"),
    StreamProtocol::new("/starling/sync/1"),
    StreamProtocol::new("/starling/strong/1"),
];

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    /// Called at every poll of a connection: an empty list allocates nothing.
    fn protocol_info(&self) -> Self::InfoIter {
        let allowed =
            NAMES.into_iter().zip(self.allowed).filter_map(|(name, allowed)| allowed.then_some(name));
        allowed.collect::<Vec<_>>().into_iter()
    }
}

impl Protocols {
    fn negotiated(stream: Stream, name: &StreamProtocol) -> Ready<Result<(Class, Stream), Infallible>> {
        let class = Class::ALL.into_iter().zip(&NAMES).find(|(_, n)| *n == name).map(|(class, _)| class);
        done(Ok((class.expect("only offered names are negotiated"), stream)))
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Class, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: Self::Info) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Class, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: Self::Info) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}

/// The result of the handshake: the control stream, the peer, and the bytes to send before any frame.
type Shaken = Result<(Stream, Accepted, Vec<u8>), HandshakeError>;
type Event = ConnectionHandlerEvent<Protocols, (), FromLink>;

enum Phase {
    /// The control substream is being negotiated.
    Opening,
    Shaking(BoxFuture<'static, Shaken>),
    Up,
    Closing {
        /// Whether the peer began to close. Then the peer decides when the connection is closed: by that time all bytes
        /// in both directions have arrived.
        by_peer: bool,
    },
    Ended,
}

/// The handler; see the module.
pub(crate) struct Handler {
    shared: Arc<Shared>,
    credentials: Arc<Credentials>,
    peer: NodeId,
    side: Side,
    outbox: Arc<Outbox>,
    traffic: Arc<Traffic>,
    phase: Phase,
    substreams: [Option<Substream>; 4],
    /// Classes whose substreams the dialer has not requested yet.
    to_open: Vec<Class>,
    /// When the current phase ends.
    deadline: Option<Pin<Box<Sleep>>>,
    /// When progress was reported last.
    progressed: Option<Instant>,
    /// Until when nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
    offences: u32,
    announced_closing: bool,
}

impl Handler {
    pub(crate) fn new(
        shared: Arc<Shared>,
        credentials: Arc<Credentials>,
        peer: NodeId,
        side: Side,
        outbox: Arc<Outbox>,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            shared,
            credentials,
            peer,
            side,
            outbox,
            traffic,
            phase: Phase::Opening,
            substreams: [None, None, None, None],
            to_open: if side == Side::Dialer { vec![Class::Control] } else { Vec::new() },
            deadline: Some(Box::pin(sleep(HANDSHAKE_TIMEOUT))),
            progressed: None,
            pause: None,
            offences: 0,
            announced_closing: false,
        }
    }

    fn end(&mut self, end: End) -> Poll<Event> {
        self.phase = Phase::Ended;
        self.deadline = None;
        self.substreams = [None, None, None, None];
        Poll::Ready(Event::NotifyBehaviour(FromLink::Ended(end)))
    }

    fn broken(&mut self, what: &str, error: &io::Error) -> Poll<Event> {
        self.end(End::Broken(format!("{what}: {error}")))
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    fn on_control_stream(&mut self, mut stream: Stream) {
        let (mine, peer, side) = (self.credentials.clone(), self.peer, self.side);
        self.phase = Phase::Shaking(Box::pin(async move {
            let (accepted, last) = match side {
                Side::Dialer => (handshake::dial(&mut stream, &mine, peer).await?, Vec::new()),
                Side::Listener => handshake::listen(&mut stream, &mine, peer).await?,
            };
            Ok((stream, accepted, last))
        }));
    }

    fn on_stream(&mut self, class: Class, stream: Stream) {
        match (&self.phase, class) {
            (Phase::Opening, Class::Control) => self.on_control_stream(stream),
            (Phase::Up | Phase::Closing { .. }, Class::Rumor | Class::Sync | Class::Strong) => {
                let substream = &mut self.substreams[class as usize];
                if substream.is_none() {
                    *substream = Some(Substream::new(class, stream, Vec::new()));
                }
            }
            // One substream per class: a second one is dropped, which resets it.
            _ => {}
        }
    }

    /// Ends the connection at the next poll, because the peer has rejected a substream.
    fn on_refused_substream(&mut self) {
        if matches!(self.phase, Phase::Up) {
            self.start_closing(false);
        }
        self.deadline = Some(Box::pin(sleep(Duration::ZERO)));
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.is_overdue(cx) {
            return self.end(End::Handshake(HandshakeError::TimedOut));
        }
        let Phase::Shaking(shaking) = &mut self.phase else { return Poll::Pending };
        match ready!(shaking.as_mut().poll(cx)) {
            Err(error) => self.end(End::Handshake(error)),
            Ok((stream, accepted, last)) => {
                self.substreams[Class::Control as usize] = Some(Substream::new(Class::Control, stream, last));
                self.phase = Phase::Up;
                self.deadline = None;
                if self.side == Side::Dialer {
                    self.to_open = vec![Class::Sync, Class::Rumor, Class::Strong];
                }
                Poll::Ready(Event::NotifyBehaviour(FromLink::Up(Box::new(accepted))))
            }
        }
    }

    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match (self.outbox.poll_order(cx), &self.phase) {
            (Order::Close, Phase::Up) => self.start_closing(false),
            (Order::CloseLater, Phase::Up) if self.deadline.is_none() => {
                self.deadline = Some(Box::pin(sleep(CLOSE_LATER)));
            }
            (Order::Keep, Phase::Up) => self.deadline = None,
            _ => {}
        }
        if self.is_overdue(cx) {
            if matches!(self.phase, Phase::Closing { .. }) {
                return self.end(End::Closed);
            }
            self.start_closing(false);
        }
        if let Err(error) = self.send(cx) {
            return self.broken("sending", &error);
        }
        if let Poll::Ready(event) = self.poll_receive(cx) {
            return Poll::Ready(event);
        }
        self.poll_closed()
    }

    fn start_closing(&mut self, by_peer: bool) {
        self.phase = Phase::Closing { by_peer };
        self.deadline = Some(Box::pin(sleep(CLOSE_TIMEOUT)));
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let close = matches!(self.phase, Phase::Closing { .. });
        for substream in self.substreams.iter_mut().flatten() {
            let sent = substream.poll_send(cx, &self.outbox, &self.traffic, &self.shared.metrics, close);
            if let Poll::Ready(Err(error)) = sent {
                return Err(error);
            }
        }
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        for class in Class::ALL {
            let Some(substream) = &mut self.substreams[class as usize] else { continue };
            match substream.poll_receive(cx) {
                Poll::Ready(Ok(Received::Frame(frame))) => return self.on_frame(class, &frame),
                Poll::Ready(Ok(Received::End)) if matches!(self.phase, Phase::Up) => self.start_closing(true),
                Poll::Ready(Ok(Received::End)) | Poll::Pending => {}
                Poll::Ready(Ok(Received::Lost(error))) => return self.on_lost(error),
                Poll::Ready(Err(error)) => return self.broken("receiving", &error),
            }
        }
        if self.has_progressed() {
            return Poll::Ready(Event::NotifyBehaviour(FromLink::Progress));
        }
        if matches!(self.phase, Phase::Closing { by_peer: true }) && !self.announced_closing {
            self.announced_closing = true;
            return Poll::Ready(Event::NotifyBehaviour(FromLink::PeerCloses));
        }
        Poll::Pending
    }

    /// Whether bytes of incomplete frames have arrived that are to be reported now. Those that arrive within the pause
    /// after a report are part of a later report, which further bytes or the whole frame make.
    fn has_progressed(&mut self) -> bool {
        let now = Instant::now();
        if self.progressed.is_some_and(|last| now - last < PROGRESS_PAUSE) {
            return false;
        }
        let has = self.substreams.iter_mut().flatten().map(Substream::take_progress).sum::<usize>() > 0;
        if has {
            self.progressed = Some(now);
        }
        has
    }

    fn on_frame(&mut self, class: Class, frame: &[u8]) -> Poll<Event> {
        self.traffic.received(class).count(frame.len());
        self.shared.metrics.traffic.received(class).count(frame.len());
        let message = match wire::decode(class, frame) {
            Ok(message) => message,
            Err(WireError::Unknown { .. }) => {
                return Poll::Ready(Event::NotifyBehaviour(FromLink::Skipped(class)));
            }
            Err(error) => return self.offence(Offence::Frame(error)),
        };
        let mut verified = self.shared.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let is_sound = verified.check(&message);
        drop(verified);
        if is_sound {
            Poll::Ready(Event::NotifyBehaviour(FromLink::Message(message)))
        } else {
            self.offence(Offence::Record)
        }
    }

    /// Drops an invalid message. The first one may be an accident; from the second one on the peer is throttled.
    fn offence(&mut self, offence: Offence) -> Poll<Event> {
        if self.offences > 0 {
            self.pause = Some(Box::pin(sleep(OFFENCE_PAUSE)));
        }
        self.offences += 1;
        Poll::Ready(Event::NotifyBehaviour(FromLink::Offence(offence)))
    }

    fn on_lost(&mut self, error: WireError) -> Poll<Event> {
        self.substreams = [None, None, None, None];
        self.start_closing(false);
        // Nothing can be flushed, so the next poll ends the connection.
        self.deadline = Some(Box::pin(sleep(Duration::ZERO)));
        self.offence(Offence::Frame(error))
    }

    /// Completes after both directions of every substream have ended. A substream that the dialer has not opened yet
    /// counts too: its messages may be under way.
    fn poll_closed(&mut self) -> Poll<Event> {
        let Phase::Closing { by_peer: false } = self.phase else { return Poll::Pending };
        let is_closed = |substream: &Option<Substream>| substream.as_ref().is_some_and(Substream::is_closed);
        if self.substreams.iter().all(is_closed) { self.end(End::Closed) } else { Poll::Pending }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = FromLink;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    /// The substreams that may be opened now: control before the handshake, the others once after it.
    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        let allowed = Class::ALL.map(|class| match self.phase {
            _ if self.side == Side::Dialer => false,
            Phase::Opening => class == Class::Control,
            Phase::Up | Phase::Closing { .. } => self.substreams[class as usize].is_none(),
            Phase::Shaking(_) | Phase::Ended => false,
        });
        SubstreamProtocol::new(Protocols { allowed }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(class) = self.to_open.pop() {
            let protocol = SubstreamProtocol::new(Protocols::only(class), ());
            return Poll::Ready(Event::OutboundSubstreamRequest { protocol });
        }
        match self.phase {
            Phase::Opening | Phase::Shaking(_) => self.poll_handshake(cx),
            Phase::Up | Phase::Closing { .. } => self.poll_link(cx),
            Phase::Ended => Poll::Pending,
        }
    }

    /// Returns the events that were received before the connection closes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<FromLink>> {
        let last = match self.phase {
            Phase::Opening | Phase::Shaking(_) => self.poll_handshake(cx),
            Phase::Up | Phase::Closing { .. } => self.poll_receive(cx),
            Phase::Ended => Poll::Pending,
        };
        if let Poll::Ready(Event::NotifyBehaviour(last)) = last {
            return Poll::Ready(Some(last));
        }
        self.phase = Phase::Ended;
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Protocols, Protocols>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (class, stream),
                ..
            })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (class, stream),
                ..
            }) => self.on_stream(class, stream),
            ConnectionEvent::DialUpgradeError(_) => self.on_refused_substream(),
            _ => {}
        }
    }
}
