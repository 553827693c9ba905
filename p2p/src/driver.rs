//! The driver of the network: it executes commands and returns events.

use std::{collections::VecDeque, io, num::NonZeroU8, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, TransportError,
    core::upgrade::Version,
    multiaddr::Protocol,
    swarm::{
        self, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use starling_proto::{
    Class, Message, NodeId, NodeRecord,
    trust::{Certificate, Trust},
    wire,
};
use thiserror::Error;

use crate::{
    BanReport, DriverConfig, Event, Identity, Metrics, Traffic,
    behaviour::{Behaviour, Dial, describe},
    identity::peer_id,
    outbox::Pushed,
    transport::{build, check_is_free, is_tcp},
};

/// TCP addresses of one node that are dialed at a time, at most; the others wait until one of them fails.
const DIALS_AT_ONCE_MAX: usize = 4;
/// Points for contents that no correct node sends: the second time within a minute cuts the peer off.
const CONTENTS_POINTS: u32 = 50;
/// How long a listener may take to report its address.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a further interface after which the known ones count as all. A guess: the system lists them at
/// once.
const INTERFACE_PAUSE: Duration = Duration::from_millis(50);

/// Why a driver did not start.
#[derive(Debug, Error)]
pub enum DriverError {
    /// A configured address is not a multiaddress, or no transport understands it.
    #[error("`{address}` is not an address to listen on: {reason}; an example is /ip4/0.0.0.0/tcp/7400")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else listens there.
    #[error("port of {address} is taken: stop the process that listens there, or choose another port")]
    Taken {
        /// As configured.
        address: String,
    },
    /// The system refused otherwise.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's error.
        reason: String,
    },
    /// The transports cannot be set up.
    #[error("cannot set up the network transports: {0}")]
    Transport(io::Error),
}

/// The network as one object, owned by one task. It makes progress only while
/// [`Driver::next_event`] is awaited. Dropping it breaks every connection at once.
pub struct Driver {
    swarm: Swarm<Behaviour>,
    identity: Identity,
    /// Concrete addresses, without `/p2p`.
    listen_addresses: Vec<Multiaddr>,
    /// Events that are returned before new ones.
    pending: VecDeque<Event>,
}

impl Driver {
    /// Starts listening on every configured address, and returns once each is known in concrete
    /// form. Needs a tokio runtime with I/O and time, and spawns on it one task per connection.
    pub async fn start(mut config: DriverConfig) -> Result<Self, DriverError> {
        config.identity.sign(&mut config.record);
        let keypair = config.identity.keypair();
        let behaviour = Behaviour::new(&config);
        let transport = build(keypair, behaviour.admission()).map_err(DriverError::Transport)?;
        let swarm_config = swarm::Config::with_tokio_executor()
            // A negotiation and the first message travel together.
            .with_substream_upgrade_protocol_override(Version::V1Lazy)
            .with_max_negotiating_inbound_streams(Class::ALL.len());
        let mut driver = Self {
            swarm: Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config),
            identity: config.identity,
            listen_addresses: Vec::new(),
            pending: VecDeque::new(),
        };
        for address in &config.listen {
            driver.listen(address).await?;
        }
        Ok(driver)
    }

    async fn listen(&mut self, address: &str) -> Result<(), DriverError> {
        let malformed = |reason: String| DriverError::Address { address: address.to_owned(), reason };
        let refused = |reason: String| DriverError::Listen { address: address.to_owned(), reason };
        let parsed: Multiaddr =
            address.parse().map_err(|e: libp2p::multiaddr::Error| malformed(e.to_string()))?;
        let is_unspecified = parsed.iter().any(|part| match part {
            Protocol::Ip4(ip) => ip.is_unspecified(),
            Protocol::Ip6(ip) => ip.is_unspecified(),
            _ => false,
        });
        check_is_free(&parsed).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => DriverError::Taken { address: address.to_owned() },
            _ => refused(error.to_string()),
        })?;
        self.swarm.listen_on(parsed).map_err(|error| match error {
            TransportError::MultiaddrNotSupported(_) => malformed("neither TCP nor QUIC".to_owned()),
            TransportError::Other(error) => refused(error.to_string()),
        })?;
        let known = self.listen_addresses.len();
        let concrete = async {
            while self.listen_addresses.len() == known {
                let event = self.poll_swarm().await;
                self.pending.push_back(event);
            }
        };
        tokio::time::timeout(LISTEN_TIMEOUT, concrete)
            .await
            .map_err(|_| refused("no network interface has this address".to_owned()))?;
        if is_unspecified {
            self.await_interfaces().await;
        }
        Ok(())
    }

    /// Every interface's address comes as an event of its own. They come at once, and the first
    /// ticket should name them all.
    async fn await_interfaces(&mut self) {
        while let Ok(event) = tokio::time::timeout(INTERFACE_PAUSE, self.poll_swarm()).await {
            self.pending.push_back(event);
        }
    }

    /// The next event. Cancel-safe: nothing is lost if the future is dropped.
    pub async fn next_event(&mut self) -> Event {
        match self.pending.pop_front() {
            Some(event) => event,
            None => self.poll_swarm().await,
        }
    }

    async fn poll_swarm(&mut self) -> Event {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(event) => return event,
                SwarmEvent::NewListenAddr { address, .. } => {
                    let text = address.to_string();
                    self.listen_addresses.push(address);
                    return Event::NewListenAddress(text);
                }
                SwarmEvent::ExpiredListenAddr { address, .. } => {
                    self.listen_addresses.retain(|known| *known != address);
                }
                SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                    self.listen_addresses.retain(|known| !addresses.contains(known));
                    tracing::warn!(?addresses, ?reason, "no longer listening");
                }
                SwarmEvent::ListenerError { error, .. } => {
                    tracing::warn!(%error, "listener failed for a moment");
                }
                _ => {}
            }
        }
    }

    /// Connects to a node, its TCP addresses first: over them the death of a process is noticed at
    /// once. Answered by `Connected` or `Unreachable`; does nothing if there is a link, or a dial
    /// under way.
    pub fn dial(&mut self, record: &NodeRecord) {
        if !self.swarm.behaviour().links.is_connected(&record.id) {
            self.dial_again(record);
        }
    }

    /// Connects to a node, also if there is a link: the handshake asks an issuer for a certificate. Answered by
    /// `Certified`, beside what [`Driver::dial`] is answered by.
    pub fn renew(&mut self, issuer: &NodeRecord) {
        self.dial_again(issuer);
    }

    fn dial_again(&mut self, record: &NodeRecord) {
        let node = record.id;
        if self.swarm.behaviour().is_dialing(node) {
            return;
        }
        let (tcp, others): (Vec<Multiaddr>, Vec<Multiaddr>) =
            record.addresses.iter().filter_map(|address| address.parse().ok()).partition(is_tcp);
        let at_once = tcp.len().clamp(1, DIALS_AT_ONCE_MAX) as u8;
        let is_tcp = !tcp.is_empty();
        let dial = Dial { peer: Some(node), address: None };
        let opts = DialOpts::peer_id(peer_id(&node))
            .condition(PeerCondition::Always)
            .override_dial_concurrency_factor(NonZeroU8::new(at_once).unwrap_or(NonZeroU8::MIN))
            .addresses(tcp.into_iter().chain(others).collect());
        // With a port of its own, a TCP connection cannot coincide with the peer's own dial and become one connection
        // that both sides count as the dialer's.
        self.start_dial(if is_tcp { opts.allocate_new_port() } else { opts }.build(), dial);
    }

    /// Connects to the node at a multiaddress; if it ends in `/p2p/...`, to that node only.
    /// Answered by `Connected` with this very string, or by `Unreachable` with it, also if the node
    /// is connected already.
    pub fn dial_address(&mut self, address: &str) {
        let dial = Dial { peer: None, address: Some(address.to_owned()) };
        let parsed: Multiaddr = match address.parse() {
            Ok(parsed) => parsed,
            Err(error) => return self.unreachable(dial, format!("not a multiaddress: {error}")),
        };
        let is_quic = parsed.iter().any(|part| matches!(part, Protocol::QuicV1));
        let opts = DialOpts::unknown_peer_id().address(parsed);
        self.start_dial(if is_quic { opts } else { opts.allocate_new_port() }.build(), dial);
    }

    fn start_dial(&mut self, opts: DialOpts, dial: Dial) {
        let id = opts.connection_id();
        self.swarm.behaviour_mut().on_dial(id, dial);
        if let Err(error) = self.swarm.dial(opts) {
            self.swarm.behaviour_mut().on_dial_failed(id, describe(&error));
        }
    }

    fn unreachable(&mut self, dial: Dial, reason: String) {
        let Dial { peer, address } = dial;
        self.metrics().unreachable.add(1);
        self.swarm.behaviour_mut().emit(Event::Unreachable { peer, address, reason });
    }

    /// Queues a message for several peers, encoded once for each version of the protocol among them.
    /// Never blocks. Without a link to a peer the message to it is dropped: its `Disconnected` was
    /// reported or is about to be. A full queue drops it too, counts it, and reports [`Event::Shed`]. A
    /// message that a peer's version does not have is counted and not sent.
    pub fn send(&mut self, peers: &[NodeId], message: &Message) {
        let class = message.class();
        let behaviour = self.swarm.behaviour_mut();
        let mut encoded: Vec<(u8, Option<Bytes>)> = Vec::new();
        for peer in peers {
            let Some((outbox, version)) = behaviour.links.outbox(peer) else { continue };
            let known = encoded.iter().find(|(known, _)| *known == version).map(|(_, frame)| frame.clone());
            let frame = known.unwrap_or_else(|| {
                let frame = encode(message, version);
                encoded.push((version, frame.clone()));
                frame
            });
            let Some(frame) = frame else {
                behaviour.metrics().unspoken.add(1);
                continue;
            };
            if let Pushed::Shed { first } = outbox.push(class, frame) {
                behaviour.metrics().shed(class).add(1);
                if first {
                    behaviour.emit(Event::Shed { peer: *peer, class });
                }
            }
        }
    }

    /// The peers that were disconnected for misbehaviour last, and are still refused; a few, the last one first.
    pub fn banned(&self) -> Vec<BanReport> {
        self.swarm.behaviour().banned()
    }

    /// Notes that a peer sent a message whose contents no correct node sends. One that goes on is disconnected, and refused
    /// for a while, as are strangers from its host.
    pub fn misbehaved(&mut self, peer: NodeId, what: &str) {
        self.swarm.behaviour_mut().punish(peer, CONTENTS_POINTS, what);
    }

    /// Flushes the queues of a peer, for at most two seconds, then closes the link, which `Disconnected` reports with
    /// this reason. Messages of the peer may come until then.
    pub fn close(&mut self, peer: NodeId, reason: &str) {
        self.swarm.behaviour_mut().links.close(peer, reason);
    }

    /// Replaces this node's own record for later handshakes; signs it.
    pub fn set_record(&mut self, mut record: NodeRecord) {
        self.identity.sign(&mut record);
        self.swarm.behaviour_mut().set_record(record);
    }

    /// Replaces the authority's statements for later handshakes.
    pub fn set_trust(&mut self, trust: Arc<Trust>) {
        self.swarm.behaviour_mut().trust_mut().trust = trust;
    }

    /// Replaces this node's certificate for later handshakes.
    pub fn set_certificate(&mut self, certificate: Certificate) {
        self.swarm.behaviour_mut().trust_mut().certificate = Some(certificate);
    }

    /// Makes the record this node's own: sets its id and signs it.
    pub fn sign(&self, record: &mut NodeRecord) {
        self.identity.sign(record);
    }

    /// Concrete addresses this node listens on, without `/p2p`.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.listen_addresses.iter().map(ToString::to_string).collect()
    }

    /// Counters, shared.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.swarm.behaviour().metrics().clone()
    }

    /// The traffic of the link to a connected peer.
    pub fn traffic(&self, peer: NodeId) -> Option<Arc<Traffic>> {
        self.swarm.behaviour().links.traffic(&peer)
    }
}

/// The frame; `None` if the version does not have the message, or no version may carry it.
fn encode(message: &Message, version: u8) -> Option<Bytes> {
    let class = message.class();
    let frame = wire::encode(message, version)?;
    let fits = frame.len() <= wire::frame_max(class);
    if !fits {
        // The receiver would treat it as an attack.
        tracing::error!(bytes = frame.len(), ?class, "message is larger than its class allows: dropped");
    }
    fits.then_some(frame)
}
