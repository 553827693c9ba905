//! Several drivers in one task, driven until a state is reached.

use std::time::Duration;

use futures::future::select_all;
use starling_p2p::{Driver, DriverConfig, Event, Identity, Limits, Network, TrustConfig};
use starling_proto::{Message, NodeId, NodeRecord, Role, message::Heartbeat, wire::Protocol};
use tokio::time::timeout;

/// Long enough for a busy machine; only a failure takes it.
pub const DEADLINE: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to listen on.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
/// The same over QUIC.
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A driver and all its events.
pub struct Node {
    pub driver: Driver,
    pub record: NodeRecord,
    pub seen: Vec<Event>,
}

pub fn network(secrets: &[u8]) -> Network {
    Network { id: [9; 16], secrets: secrets.iter().map(|secret| [*secret; 32].into()).collect() }
}

pub fn config(identity: Identity, listen: &[&str], network: Network) -> DriverConfig {
    let record = NodeRecord { name: "test".into(), ..NodeRecord::new(identity.node_id(), 1, Role::Replica) };
    let listen = listen.iter().map(ToString::to_string).collect();
    let (protocol, limits) = (Protocol::CURRENT, Limits::default());
    DriverConfig { identity, listen, protocol, network, record, trust: TrustConfig::default(), limits }
}

impl Node {
    pub async fn start(listen: &[&str], network: Network) -> Self {
        Self::start_with(config(Identity::generate(), listen, network)).await
    }

    pub async fn start_with(config: DriverConfig) -> Self {
        let mut record = config.record.clone();
        let mut driver = Driver::start(config).await.expect("starts");
        record.addresses = driver.listen_addresses();
        driver.sign(&mut record);
        driver.set_record(record.clone());
        Self { driver, record, seen: Vec::new() }
    }

    pub fn id(&self) -> NodeId {
        self.record.id
    }

    pub fn is_connected(&self, peer: NodeId) -> bool {
        let last = self.seen.iter().rev().find_map(|event| match event {
            Event::Connected { peer: p, .. } if *p == peer => Some(true),
            Event::Disconnected { peer: p, .. } if *p == peer => Some(false),
            _ => None,
        });
        last == Some(true)
    }

    /// How often a link was reported as up and down.
    pub fn ups_and_downs(&self) -> (usize, usize) {
        let count = |is: fn(&Event) -> bool| self.seen.iter().filter(|event| is(event)).count();
        (count(|e| matches!(e, Event::Connected { .. })), count(|e| matches!(e, Event::Disconnected { .. })))
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.seen.iter().filter_map(|event| match event {
            Event::Message { message, .. } => Some(message),
            _ => None,
        })
    }

    pub fn unreachable(&self) -> Option<&str> {
        self.seen.iter().find_map(|event| match event {
            Event::Unreachable { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
    }
}

/// A small message that is distinct from others.
pub fn ping(n: u64) -> Message {
    Message::Heartbeat(Heartbeat::Ping { wall_ms: n })
}

/// Drives all nodes until the state is reached.
pub async fn until(nodes: &mut [Node], what: &str, reached: impl Fn(&[Node]) -> bool) {
    let driving = async {
        while !reached(nodes) {
            let events = nodes.iter_mut().map(|node| Box::pin(node.driver.next_event()));
            // Counters have no event, so the state is checked periodically.
            let told = timeout(LOOK_EVERY, select_all(events)).await.map(|(event, index, _)| (event, index));
            if let Ok((event, index)) = told {
                nodes[index].seen.push(event);
            }
        }
    };
    if timeout(DEADLINE, driving).await.is_err() {
        let told = |node: &Node| -> Vec<_> {
            let is_message = |event: &&Event| matches!(event, Event::Message { .. });
            node.seen.iter().filter(|event| !is_message(event)).cloned().collect()
        };
        let seen: Vec<_> = nodes.iter().map(|node| (told(node), node.messages().count())).collect();
        panic!("not reached: {what}; events and number of messages: {seen:#?}");
    }
}

/// Two nodes, the first of which has dialed the second and is connected.
pub async fn pair(listen: &[&str]) -> Vec<Node> {
    let mut nodes = vec![Node::start(listen, network(&[1])).await, Node::start(listen, network(&[1])).await];
    let record = nodes[1].record.clone();
    nodes[0].driver.dial(&record);
    connected(&mut nodes).await;
    nodes
}

/// Waits until the first two nodes see each other.
pub async fn connected(nodes: &mut [Node]) {
    until(nodes, "connected", |n| n[0].is_connected(n[1].id()) && n[1].is_connected(n[0].id())).await;
}
