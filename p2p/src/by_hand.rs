//! Tests with handmade peers, which have the secret and misbehave.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
    },
};
use starling_proto::{
    Class, Message, NodeId, NodeRecord, Role,
    message::{Heartbeat, Payload, SyncMessage, ViewMessage},
    wire::{self, Protocol},
};
use tokio::time::timeout;

use crate::{
    Driver, DriverConfig, Event, HandshakeError, Identity, Limits, Network, TrustConfig,
    admission::Admission,
    handshake::{self, Credentials},
    transport,
};

/// Only a failure takes this long.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time between two checks of a state without an event.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn port(address: &Multiaddr) -> u16 {
    let port = address.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.expect("is a TCP address")
}

fn network() -> Network {
    Network { id: [9; 16], secrets: vec![[1; 32].into()] }
}

fn record(id: NodeId) -> NodeRecord {
    NodeRecord { name: "test".into(), ..NodeRecord::new(id, 1, Role::Replica) }
}

/// The driver under test and its events.
struct Victim {
    driver: Driver,
    seen: Vec<Event>,
}

impl Victim {
    async fn start() -> Self {
        Self::listening("/ip4/127.0.0.1/tcp/0").await
    }

    async fn listening(address: &str) -> Self {
        let identity = Identity::generate();
        let record = record(identity.node_id());
        let listen = vec![address.to_owned()];
        let (protocol, network, limits) = (Protocol::CURRENT, network(), Limits::default());
        let config = DriverConfig {
            identity,
            listen,
            protocol,
            network,
            record,
            trust: TrustConfig::default(),
            limits,
        };
        Self { driver: Driver::start(config).await.expect("starts"), seen: Vec::new() }
    }

    fn address(&self) -> Multiaddr {
        self.driver.listen_addresses()[0].parse().expect("is an address")
    }

    /// Drives while something else happens.
    async fn during<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = Box::pin(what);
        let driving = async {
            loop {
                tokio::select! {
                    result = &mut what => return result,
                    event = self.driver.next_event() => self.seen.push(event),
                }
            }
        };
        timeout(DEADLINE, driving).await.expect("in time")
    }

    async fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let driving = async {
            while !reached(self) {
                if let Ok(event) = timeout(LOOK_EVERY, self.driver.next_event()).await {
                    self.seen.push(event);
                }
            }
        };
        let result = timeout(DEADLINE, driving).await;
        assert!(result.is_ok(), "not reached: {what}; seen: {:?}", self.seen);
    }

    fn messages(&self) -> Vec<&Message> {
        let messages = self.seen.iter().filter_map(|event| match event {
            Event::Message { message, .. } => Some(message),
            _ => None,
        });
        messages.collect()
    }

    fn disconnected(&self) -> Option<&str> {
        self.seen.iter().find_map(|event| match event {
            Event::Disconnected { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
    }

    fn has_connected(&self) -> bool {
        self.seen.iter().any(|event| matches!(event, Event::Connected { .. }))
    }
}

/// A connection whose every byte the test decides.
struct ByHand {
    identity: Identity,
    victim: NodeId,
    unused: Vec<SubstreamBox>,
}

impl ByHand {
    async fn connect(identity: Identity, address: Multiaddr) -> std::io::Result<Self> {
        let mut transport = transport::build(identity.keypair(), Admission::new(1))?;
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(address, opts).map_err(std::io::Error::other)?;
        let (peer, mut muxer): (PeerId, StreamMuxerBox) = dial.await?;
        let mut unused = Vec::new();
        while unused.len() < 3 {
            unused.push(poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await?);
        }
        tokio::spawn(async move { while poll_fn(|cx| muxer.poll_unpin(cx)).await.is_ok() {} });
        let victim = crate::node_id(&peer).expect("is Ed25519");
        Ok(Self { identity, victim, unused })
    }

    /// Negotiates a substream as multistream-select 1.0 does.
    async fn open(&mut self, protocol: &str) -> std::io::Result<SubstreamBox> {
        let line = |text: &str| [&[text.len() as u8 + 1], text.as_bytes(), b"\n"].concat();
        let said = [line("/multistream/1.0.0"), line(protocol)].concat();
        let mut stream = self.unused.pop().expect("three are enough");
        stream.write_all(&said).await?;
        stream.flush().await?;
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard).await?;
        if heard == said { Ok(stream) } else { Err(std::io::Error::other("refused")) }
    }

    fn credentials(&self) -> Credentials {
        let mut record = record(self.identity.node_id());
        self.identity.sign(&mut record);
        let trust = TrustConfig::default();
        Credentials { me: record.id, protocol: Protocol::CURRENT, network: network(), record, trust }
    }

    /// The control substream of an accepted peer.
    async fn shaken(&mut self) -> SubstreamBox {
        let mut control = self.open("/starling/control/1").await.expect("is opened");
        let credentials = self.credentials();
        handshake::dial(&mut control, &credentials, self.victim).await.expect("is accepted");
        control
    }
}

async fn accepted(identity: Identity) -> (Victim, ByHand, SubstreamBox) {
    let mut victim = Victim::start().await;
    let address = victim.address();
    let (peer, control) = victim
        .during(async {
            let mut peer = ByHand::connect(identity, address).await.expect("connects");
            let control = peer.shaken().await;
            (peer, control)
        })
        .await;
    victim.until("connected", Victim::has_connected).await;
    (victim, peer, control)
}

async fn say(victim: &mut Victim, stream: &mut SubstreamBox, bytes: &[u8]) {
    // A peer that was cut off cannot say more.
    let _ = victim.during(async { stream.write_all(bytes).await.and(stream.flush().await) }).await;
}

fn encoded(message: &Message) -> Vec<u8> {
    let frame = wire::encode(message, Protocol::CURRENT.max);
    frame.expect("the newest protocol has every kind").to_vec()
}

fn ping(n: u64) -> Message {
    Message::Heartbeat(Heartbeat::Ping { wall_ms: n })
}

/// A frame whose last byte was changed on the way.
fn bad_checksum() -> Vec<u8> {
    let mut frame = encoded(&ping(7));
    *frame.last_mut().expect("has bytes") ^= 1;
    frame
}

/// Connections of strangers that say nothing, encrypted or not, all from one address.
#[tokio::test]
async fn silent_strangers_keep_nobody_from_connecting() {
    let (tcp, quic) = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1");
    for (listen, is_encrypted) in [(tcp, false), (tcp, true), (quic, true)] {
        let mut victim = Victim::listening(listen).await;
        let address = victim.address();
        let (mut sockets, mut strangers) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            victim
                .during(async {
                    if is_encrypted {
                        let stranger = ByHand::connect(Identity::generate(), address.clone()).await;
                        strangers.push(stranger);
                    } else {
                        let port = port(&address);
                        sockets.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await);
                    }
                })
                .await;
        }
        assert!(sockets.iter().all(Result::is_ok));
        let mut peer = victim
            .during(ByHand::connect(Identity::generate(), address.clone()))
            .await
            .expect("an honest node connects");
        let control = victim.during(peer.shaken()).await;
        victim.until("connected", Victim::has_connected).await;
        let refused = victim.driver.metrics().refused.get();
        assert!(refused > 200, "{listen}: {refused} made room");
        drop(control);
    }
}

#[tokio::test]
async fn a_peer_of_another_version_learns_ours() {
    let mut victim = Victim::start().await;
    let address = victim.address();
    let answer = victim
        .during(async {
            let mut peer = ByHand::connect(Identity::generate(), address).await.expect("connects");
            let mut control = peer.open("/starling/control/1").await.expect("is opened");
            // Whatever follows the range is those versions' business.
            control.write_all(b"\0\x0cstarling\x63\x64??").await.expect("writes");
            let mut answer = [0; 12];
            control.read_exact(&mut answer).await.expect("is answered");
            answer
        })
        .await;
    assert_eq!(&answer[2..10], b"starling");
    assert_eq!(answer[10..], [Protocol::CURRENT.min, Protocol::CURRENT.max]);
    victim.until("counted", |v| v.driver.metrics().wrong_version.get() == 1).await;
    assert!(!victim.has_connected());
}

#[tokio::test]
async fn records_that_are_not_the_peers_own_are_refused() {
    let somebody = Identity::generate();
    for forge in [
        // Another node's, with a valid signature.
        |record: &mut NodeRecord, somebody: &Identity| somebody.sign(record),
        // Its own, changed after signing.
        |record: &mut NodeRecord, _: &Identity| record.name = "forged".into(),
        // Its own, out of bounds.
        |record: &mut NodeRecord, _: &Identity| record.name = "x".repeat(1000),
    ] {
        let mut victim = Victim::start().await;
        let address = victim.address();
        let result = victim
            .during(async {
                let mut peer = ByHand::connect(Identity::generate(), address).await.expect("connects");
                let mut control = peer.open("/starling/control/1").await.expect("is opened");
                let mut credentials = peer.credentials();
                // The proof names the real node; only the record lies.
                forge(&mut credentials.record, &somebody);
                handshake::dial(&mut control, &credentials, peer.victim).await
            })
            .await;
        assert_eq!(result, Err(HandshakeError::BadRecord));
        victim.until("counted", |v| v.driver.metrics().bad_record.get() == 1).await;
        assert!(!victim.has_connected());
    }
}

#[tokio::test]
async fn nothing_else_is_spoken_before_the_handshake_and_not_for_long() {
    let mut victim = Victim::start().await;
    let address = victim.address();
    let mut peer = victim.during(ByHand::connect(Identity::generate(), address)).await.expect("connects");
    for protocol in ["/starling/rumor/1", "/starling/sync/1", "/ipfs/id/1.0.0"] {
        assert!(victim.during(peer.open(protocol)).await.is_err(), "{protocol}");
    }
    victim.until("cut off", |v| v.driver.metrics().failed_handshake.get() == 1).await;
    assert!(!victim.has_connected());
}

#[tokio::test]
async fn a_damaged_frame_is_dropped_and_the_link_goes_on() {
    let (mut victim, _peer, mut control) = accepted(Identity::generate()).await;
    say(&mut victim, &mut control, &[bad_checksum(), encoded(&ping(1))].concat()).await;
    victim.until("the sound one", |v| v.messages().len() == 1).await;
    assert_eq!(victim.messages(), [&ping(1)]);
    assert_eq!(victim.driver.metrics().bad_checksum.get(), 1);
    assert!(victim.disconnected().is_none());
}

#[tokio::test]
async fn a_peer_that_goes_on_is_cut_off_and_refused_and_so_are_strangers_from_its_host() {
    let (identity, member) = (Identity::generate(), Identity::generate());
    let (mut victim, _peer, mut control) = accepted(identity.clone()).await;
    let address = victim.address();
    let _linked = victim
        .during(async {
            let mut peer = ByHand::connect(member.clone(), address).await.expect("connects");
            let control = peer.shaken().await;
            (peer, control)
        })
        .await;
    victim.until("both", |v| v.driver.metrics().connected.get() == 2).await;
    say(&mut victim, &mut control, &bad_checksum().repeat(10)).await;
    victim.until("cut off", |v| v.disconnected().is_some()).await;
    assert!(victim.disconnected().is_some_and(|reason| reason.contains("misbehaviour")));
    assert_eq!(victim.driver.metrics().banned.get(), 1);
    let counted = victim.driver.metrics().bad_checksum.get();
    assert!((4..10).contains(&counted), "nothing is read from it after that: {counted}");

    let address = victim.address();
    let again = ByHand::connect(identity, address.clone());
    let refused = victim.during(async { again.await?.open("/starling/control/1").await }).await;
    assert!(refused.is_err());
    victim.until("counted", |v| v.driver.metrics().refused.get() == 1).await;
    let fresh = ByHand::connect(Identity::generate(), address.clone());
    let refused = victim.during(async { fresh.await?.open("/starling/control/1").await }).await;
    assert!(refused.is_err(), "another key does not help");
    let known = ByHand::connect(member, address);
    let welcome = victim.during(async { known.await?.open("/starling/control/1").await }).await;
    assert!(welcome.is_ok(), "members behind the same address are not");
}

#[tokio::test]
async fn a_frame_that_claims_too_much_ends_the_link() {
    let (mut victim, _peer, mut control) = accepted(Identity::generate()).await;
    say(&mut victim, &mut control, &[0xff; 64]).await;
    victim.until("ended", |v| v.disconnected().is_some()).await;
    assert_eq!(victim.driver.metrics().malformed.get(), 1);
    assert_eq!(victim.driver.metrics().banned.get(), 0, "once may be an accident");
}

#[tokio::test]
async fn a_message_on_the_wrong_substream_is_dropped() {
    let (mut victim, _peer, mut control) = accepted(Identity::generate()).await;
    let delta = Payload(Bytes::from_static(b"bulk"));
    let bulk = encoded(&Message::Sync(SyncMessage::Push { session: 1, delta }));
    say(&mut victim, &mut control, &[bulk, encoded(&ping(1))].concat()).await;
    victim.until("the sound one", |v| v.messages().len() == 1).await;
    assert_eq!(victim.messages(), [&ping(1)]);
    assert_eq!(victim.driver.metrics().malformed.get(), 1);
}

#[tokio::test]
async fn a_forged_record_inside_a_message_is_dropped() {
    let (mut victim, peer, mut control) = accepted(Identity::generate()).await;
    let good = peer.credentials().record;
    let forged = NodeRecord { addresses: vec!["/ip4/192.0.2.1/tcp/1".into()], ..good.clone() };
    let sample =
        |record: &NodeRecord| Message::View(ViewMessage::ProbeReply { sample: vec![record.clone()] });
    let said = [encoded(&sample(&forged)), encoded(&sample(&good))].concat();
    say(&mut victim, &mut control, &said).await;
    victim.until("the sound one", |v| v.messages().len() == 1).await;
    assert_eq!(victim.messages(), [&sample(&good)]);
    assert_eq!(victim.driver.metrics().bad_record.get(), 1);
}

/// A frame of a kind that no version has yet, soundly made.
fn from_the_future(body: &[u8]) -> Vec<u8> {
    let checked = [&[0xee, 1][..], body].concat();
    let hash = blake3::hash(&checked);
    [&[checked.len() as u8 + 4], &hash.as_bytes()[..4], &checked].concat()
}

/// More unknown frames than the offences that ban a peer, after which the link continues.
#[tokio::test]
async fn unknown_kinds_are_skipped_and_counted_and_never_punished() {
    let (mut victim, _peer, mut control) = accepted(Identity::generate()).await;
    let flood = from_the_future(b"news").repeat(1000);
    say(&mut victim, &mut control, &[flood, encoded(&ping(1))].concat()).await;
    victim.until("the known one", |v| v.messages().len() == 1).await;
    assert_eq!(victim.messages(), [&ping(1)]);
    let metrics = victim.driver.metrics();
    assert_eq!((metrics.unknown(Class::Control).get(), metrics.malformed.get()), (1000, 0));
    assert_eq!(metrics.traffic.received(Class::Control).frames.get(), 1001);
    assert!(victim.disconnected().is_none() && metrics.banned.get() == 0);
}
