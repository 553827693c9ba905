//! The behaviour of all connections: admits them, tracks their links, and turns their events into the driver's.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    connection_limits::{self, ConnectionLimits},
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm,
        ListenError, ListenFailure, NetworkBehaviour, ToSwarm,
    },
};
use starling_proto::{NodeId, NodeRecord, wire::WireError};
use thiserror::Error;

use crate::{
    DriverConfig, Event, Limits, TrustConfig,
    admission::{self, Admission, Members, Places},
    handler::{End, FromLink, Handler, Offence, Shared},
    handshake::{Accepted, Credentials, HandshakeError, Side},
    identity::{node_id, peer_id},
    links::{CameUp, Links},
    offenders::{BanReport, Offenders},
    outbox::Outbox,
};

/// Connections with one peer, at most: two nodes may dial each other at the same moment.
const CONNECTIONS_PER_PEER_MAX: u32 = 2;
/// Least time between two log lines about failed handshakes of one peer.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Peers whose last log line is remembered, at most; the next one evicts all.
const LOGGED_MAX: usize = 1024;

/// Why a connection is refused, beside the limits.
#[derive(Debug, Error)]
enum Refused {
    #[error("its key is not Ed25519")]
    Key,
    #[error("it was disconnected for misbehaviour a short while ago")]
    Banned,
    #[error("this node has as many links as it may have")]
    Full,
}

/// The target of a dial.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) peer: Option<NodeId>,
    pub(crate) address: Option<String>,
}

/// The behaviour; see the module.
pub(crate) struct Behaviour {
    shared: Arc<Shared>,
    credentials: Arc<Credentials>,
    limits: Limits,
    counts: connection_limits::Behaviour,
    admission: Arc<Admission>,
    /// Connections from outside before the end of their handshake; those of nodes that were linked before are not among
    /// them.
    unproved: Places<(PeerId, ConnectionId)>,
    /// Nodes that were linked.
    members: Members<NodeId>,
    /// The other ends of the connections.
    sources: HashMap<ConnectionId, (NodeId, IpAddr)>,
    pub(crate) links: Links,
    offenders: Offenders,
    /// Dials in progress.
    dials: HashMap<ConnectionId, Dial>,
    /// The reasons of connections that are being closed.
    ends: HashMap<ConnectionId, String>,
    ready: VecDeque<ToSwarm<Event, Infallible>>,
    logged: HashMap<NodeId, Instant>,
}

impl Behaviour {
    /// Creates the behaviour. `config.record` has to be signed.
    pub(crate) fn new(config: &DriverConfig) -> Self {
        let limits = config.limits;
        let counts = ConnectionLimits::default()
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX))
            .with_max_pending_outgoing(Some(limits.pending_max));
        Self {
            shared: Arc::default(),
            credentials: Arc::new(Credentials {
                me: config.record.id,
                protocol: config.protocol,
                network: config.network.clone(),
                record: config.record.clone(),
                trust: config.trust.clone(),
            }),
            limits,
            counts: connection_limits::Behaviour::new(counts),
            admission: Admission::new(limits.strangers_max),
            unproved: Places::new(limits.strangers_max),
            members: Members::default(),
            sources: HashMap::new(),
            links: Links::new(config.record.id),
            offenders: Offenders::default(),
            dials: HashMap::new(),
            ends: HashMap::new(),
            ready: VecDeque::new(),
            logged: HashMap::new(),
        }
    }

    pub(crate) fn metrics(&self) -> &Arc<crate::Metrics> {
        &self.shared.metrics
    }

    pub(crate) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// Sets the record for later handshakes.
    pub(crate) fn set_record(&mut self, record: NodeRecord) {
        Arc::make_mut(&mut self.credentials).record = record;
    }

    /// Changes the credentials for later handshakes.
    pub(crate) fn trust_mut(&mut self) -> &mut TrustConfig {
        &mut Arc::make_mut(&mut self.credentials).trust
    }

    pub(crate) fn banned(&self) -> Vec<BanReport> {
        self.offenders.banned(Instant::now())
    }

    /// Queues an event for the caller.
    pub(crate) fn emit(&mut self, event: Event) {
        self.ready.push_back(ToSwarm::GenerateEvent(event));
    }

    /// Whether a dial to this node is on its way.
    pub(crate) fn is_dialing(&self, peer: NodeId) -> bool {
        self.dials.values().any(|dial| dial.peer == Some(peer))
    }

    pub(crate) fn on_dial(&mut self, id: ConnectionId, dial: Dial) {
        self.dials.insert(id, dial);
    }

    /// Reports a failed dial, unless it was reported already.
    pub(crate) fn on_dial_failed(&mut self, id: ConnectionId, reason: String) {
        let Some(Dial { peer, address }) = self.dials.remove(&id) else { return };
        // A link may have come from the other side meanwhile.
        if address.is_none() && peer.is_some_and(|peer| self.links.is_connected(&peer)) {
            return;
        }
        self.shared.metrics.unreachable.add(1);
        self.emit(Event::Unreachable { peer, address, reason });
    }

    fn admit(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        from: IpAddr,
        side: Side,
    ) -> Result<Handler, ConnectionDenied> {
        let node = node_id(&peer).ok_or_else(|| ConnectionDenied::new(Refused::Key))?;
        let now = Instant::now();
        let is_stranger = side == Side::Listener && !self.members.contains(&node);
        let is_of_banned = is_stranger && self.offenders.refuses_strangers(from, now);
        if is_of_banned || self.offenders.is_banned(&node, now) {
            return Err(ConnectionDenied::new(Refused::Banned));
        }
        let is_full = self.links.count() >= self.limits.connections_max as usize;
        if side == Side::Listener && is_full && !self.links.is_connected(&node) {
            return Err(ConnectionDenied::new(Refused::Full));
        }
        let outbox = Arc::new(Outbox::new(&self.limits));
        let traffic = self.links.opened(node, id, outbox.clone());
        Ok(Handler::new(self.shared.clone(), self.credentials.clone(), node, side, outbox, traffic))
    }

    /// Gives a connection from outside a place until its handshake has ended. Whoever has the most makes room.
    fn seat(&mut self, node: NodeId, id: ConnectionId, from: IpAddr) {
        self.sources.insert(id, (node, from));
        if self.members.contains(&node) {
            return;
        }
        if let Some((peer_id, evicted)) = self.unproved.take((peer_id(&node), id), from) {
            self.shared.metrics.refused.add(1);
            self.ends.insert(evicted, "too many others are connecting".to_owned());
            self.ready
                .push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(evicted) });
        }
    }

    fn proved(&mut self, node: NodeId, id: ConnectionId) {
        self.unproved.leave(&(peer_id(&node), id));
        self.members.note(node);
        if let Some((_, from)) = self.sources.get(&id) {
            self.admission.proved(*from);
        }
    }

    fn on_up(&mut self, peer: NodeId, id: ConnectionId, mut accepted: Accepted) {
        self.proved(peer, id);
        // Also if the connection is the second one with the peer: a renewal needs a new one.
        if let Some(certificate) = accepted.shown.issued.take() {
            self.emit(Event::Certified(certificate));
        }
        let dialed = self.dials.remove(&id).and_then(|dial| dial.address);
        match self.links.came_up(peer, id, &accepted) {
            CameUp::New => {}
            CameUp::Another => {
                if let Some(address) = dialed {
                    let reason = format!("{} answers there, and is connected already", peer.short());
                    self.emit(Event::Unreachable { peer: None, address: Some(address), reason });
                }
                return;
            }
            CameUp::Instead { reason, dead } => {
                for id in dead {
                    self.cut(peer, CloseConnection::One(id));
                }
                self.on_down(peer, reason);
            }
        }
        self.shared.metrics.connected.add(1);
        let Accepted { record, negotiated, shown } = accepted;
        let from = self.sources.get(&id).map(|(_, from)| *from).filter(|from| !from.is_unspecified());
        self.emit(Event::Connected { peer, record, from, negotiated, dialed, shown: Box::new(shown) });
    }

    fn on_down(&mut self, peer: NodeId, reason: String) {
        self.shared.metrics.disconnected.add(1);
        self.emit(Event::Disconnected { peer, reason });
    }

    fn cut(&mut self, peer: NodeId, connection: CloseConnection) {
        self.ready.push_back(ToSwarm::CloseConnection { peer_id: peer_id(&peer), connection });
    }

    fn on_ended(&mut self, peer: NodeId, id: ConnectionId, end: End) {
        let reason = match end {
            End::Closed => "closed by the peer".to_owned(),
            End::Broken(reason) => reason,
            End::Handshake(error) => {
                self.on_handshake_failed(peer, &error);
                error.to_string()
            }
        };
        self.ends.insert(id, reason);
        self.cut(peer, CloseConnection::One(id));
    }

    fn on_handshake_failed(&mut self, peer: NodeId, error: &HandshakeError) {
        let metrics = &self.shared.metrics;
        match error {
            HandshakeError::NoCommonVersion { .. } => &metrics.wrong_version,
            HandshakeError::WrongNetwork => &metrics.wrong_network,
            HandshakeError::WrongSecret => &metrics.wrong_secret,
            HandshakeError::BadRecord => &metrics.bad_record,
            HandshakeError::NotAdmitted(_) | HandshakeError::Rejected(_) => &metrics.not_admitted,
            HandshakeError::Malformed(_) | HandshakeError::Broken(_) | HandshakeError::TimedOut => {
                &metrics.failed_handshake
            }
        }
        .add(1);
        let now = Instant::now();
        if self.logged.get(&peer).is_some_and(|last| now.duration_since(*last) < LOG_EVERY) {
            return;
        }
        if self.logged.len() == LOGGED_MAX {
            self.logged.clear();
        }
        self.logged.insert(peer, now);
        tracing::warn!(peer = %peer.short(), %error, "handshake failed");
    }

    fn on_offence(&mut self, peer: NodeId, offence: Offence) {
        let metrics = &self.shared.metrics;
        // The points are guesses: four accidental errors in a row, or two frames that no correct node sends.
        let (counter, points, what) = match offence {
            Offence::Frame(WireError::Checksum) => {
                (&metrics.bad_checksum, 25, WireError::Checksum.to_string())
            }
            Offence::Frame(error) => (&metrics.malformed, 50, error.to_string()),
            Offence::Record => (&metrics.bad_record, 25, "a record is not signed by its node".to_owned()),
        };
        counter.add(1);
        self.punish(peer, points, &what);
    }

    /// Adds points to a peer; cuts it off if it has too many.
    pub(crate) fn punish(&mut self, peer: NodeId, points: u32, what: &str) {
        tracing::debug!(peer = %peer.short(), what, "peer misbehaves");
        let from = self.sources.values().find(|(node, _)| *node == peer).map(|(_, from)| *from);
        if self.offenders.add(peer, from, (points, what), Instant::now()) {
            self.shared.metrics.banned.add(1);
            tracing::warn!(peer = %peer.short(), what, "peer disconnected for misbehaviour");
            self.links.close(peer, &format!("disconnected for misbehaviour: {what}"));
            self.cut(peer, CloseConnection::All);
        }
    }

    fn on_closed(&mut self, closed: &ConnectionClosed<'_>) {
        self.sources.remove(&closed.connection_id);
        self.unproved.leave(&(closed.peer_id, closed.connection_id));
        let Some(peer) = node_id(&closed.peer_id) else { return };
        let id = closed.connection_id;
        let reason = self.ends.remove(&id).unwrap_or_else(|| match closed.cause {
            Some(error) => error.to_string(),
            None => "connection closed".to_owned(),
        });
        if let Some(reason) = self.links.closed(peer, id, reason.clone()) {
            self.on_down(peer, reason);
        }
        self.on_dial_failed(id, reason);
    }

    fn on_listen_failure(&mut self, failure: &ListenFailure<'_>) {
        if matches!(failure.error, ListenError::Denied { .. }) || self.admission.take_evicted() {
            self.shared.metrics.refused.add(1);
        } else {
            self.shared.metrics.failed_handshake.add(1);
        }
        // This behaviour may have admitted a connection that the limits then rejected.
        self.forget(failure.peer_id, failure.connection_id);
    }

    fn on_dial_failure(&mut self, failure: &DialFailure<'_>) {
        self.forget(failure.peer_id, failure.connection_id);
        self.on_dial_failed(failure.connection_id, describe(failure.error));
    }

    fn forget(&mut self, peer: Option<PeerId>, id: ConnectionId) {
        self.sources.remove(&id);
        if let Some(peer) = peer {
            self.unproved.leave(&(peer, id));
        }
        if let Some(peer) = peer.as_ref().and_then(node_id)
            && let Some(reason) = self.links.closed(peer, id, "connection refused".into())
        {
            self.on_down(peer, reason);
        }
    }
}

/// A dial's error as text: every address with its innermost reason.
pub(crate) fn describe(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| {
                let mut cause: &dyn std::error::Error = error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                format!("{address}: {cause}")
            });
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::Denied { cause } => {
            let cause: &dyn std::error::Error = cause;
            cause.source().map_or_else(|| "refused by this node's limits".to_owned(), ToString::to_string)
        }
        DialError::LocalPeerId { .. } => "this node itself answers there".to_owned(),
        DialError::WrongPeerId { address, .. } => format!("another node answers at {address}"),
        DialError::NoAddresses => "no address to dial".to_owned(),
        other => other.to_string(),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.counts.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.counts.handle_established_inbound_connection(id, peer, local, remote)?;
        let from = admission::ip(remote);
        let handler = self.admit(id, peer, from, Side::Listener)?;
        if let Some(node) = node_id(&peer) {
            self.seat(node, id, from);
        }
        Ok(handler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.counts.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.counts.handle_established_outbound_connection(id, peer, address, role, port)?;
        let from = admission::ip(address);
        let handler = self.admit(id, peer, from, Side::Dialer)?;
        if let Some(node) = node_id(&peer) {
            self.sources.insert(id, (node, from));
        }
        Ok(handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.counts.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionClosed(closed) => self.on_closed(&closed),
            FromSwarm::DialFailure(failure) => self.on_dial_failure(&failure),
            FromSwarm::ListenFailure(failure) => self.on_listen_failure(&failure),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: FromLink) {
        let Some(peer) = node_id(&peer) else { return };
        match event {
            FromLink::Up(accepted) => self.on_up(peer, id, *accepted),
            FromLink::Message(message) => self.emit(Event::Message { peer, message }),
            FromLink::Progress => self.emit(Event::Progress { peer }),
            FromLink::Skipped(class) => self.shared.metrics.unknown(class).add(1),
            FromLink::Offence(offence) => self.on_offence(peer, offence),
            FromLink::PeerCloses => self.links.peer_closes(peer, id),
            FromLink::Ended(end) => self.on_ended(peer, id, end),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, Infallible>> {
        // Filled only by calls that the swarm or the driver makes before it polls: no waker needed.
        match self.ready.pop_front() {
            Some(ready) => Poll::Ready(ready),
            None => Poll::Pending,
        }
    }
}
