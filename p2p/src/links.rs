//! The connections of the link to each peer. Two nodes that dial each other at the same moment
//! have two connections; their callers see one link.
//!
//! Of two live connections with one peer, the node with the lower id decides: it keeps the newest
//! and flushes and closes the other, whatever order the peer saw them in. The other node continues
//! to read from both until then, so that nothing is lost, and closes the older one itself only after
//! a while (the peer may have lost it without notice).

use std::{collections::HashMap, sync::Arc};

use libp2p::swarm::ConnectionId;
use starling_proto::NodeId;

use crate::{
    Traffic,
    handshake::Accepted,
    outbox::{Order, Outbox},
};

/// Every connection of this node.
#[derive(Debug)]
pub(crate) struct Links {
    me: NodeId,
    peers: HashMap<NodeId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// The connections, in the order in which they came up, followed by those that have not yet.
    links: Vec<Link>,
    /// The peer's incarnation in the link that was reported to the caller.
    announced: Option<u64>,
    /// Version of the protocol that the link speaks.
    version: u8,
    /// Why the link is being closed, by the caller or after an offence.
    closing: Option<String>,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct Link {
    id: ConnectionId,
    outbox: Arc<Outbox>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Shaking,
    Up,
    /// The connection is closing: it is read, but no longer written.
    Leaving,
}

/// The effect of a new connection for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CameUp {
    /// A new link.
    New,
    /// The link has ended for this reason, and a new one has begun; these connections are dead.
    Instead { reason: String, dead: Vec<ConnectionId> },
    /// Another connection of a link that the caller knows.
    Another,
}

impl Peer {
    /// The connection over which messages are sent.
    fn current(&self) -> Option<&Link> {
        let newest = |state| self.links.iter().rev().find(|link| link.state == state);
        newest(State::Up).or_else(|| newest(State::Shaking))
    }

    /// Moves the messages that wait on closing connections to the remaining one, which is kept open.
    fn hand_over(&mut self) {
        let Some(current) = self.current().filter(|_| self.closing.is_none()) else { return };
        if !self.links.iter().any(|link| link.state == State::Up && link.id != current.id) {
            current.outbox.order(Order::Keep);
        }
        for link in self.links.iter().filter(|link| link.state == State::Leaving) {
            link.outbox.hand_over(&current.outbox);
        }
    }
}

impl Links {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, peers: HashMap::new() }
    }

    /// Adds a connection before its handshake. Returns the counters of the peer's traffic.
    pub(crate) fn opened(&mut self, peer: NodeId, id: ConnectionId, outbox: Arc<Outbox>) -> Arc<Traffic> {
        let peer = self.peers.entry(peer).or_default();
        peer.links.push(Link { id, outbox, state: State::Shaking });
        peer.traffic.clone()
    }

    /// Records that a connection's handshake succeeded.
    pub(crate) fn came_up(&mut self, node: NodeId, id: ConnectionId, accepted: &Accepted) -> CameUp {
        let Some(peer) = self.peers.get_mut(&node) else { return CameUp::Another };
        let Some(at) = peer.links.iter().position(|link| link.id == id) else { return CameUp::Another };
        let mut link = peer.links.remove(at);
        link.state = State::Up;
        let shaking = peer.links.iter().filter(|link| link.state == State::Shaking).count();
        let older = peer.links.len() - shaking;
        peer.links.insert(older, link);
        let older = &mut peer.links[..older];

        peer.version = accepted.negotiated.version;
        let started = accepted.record.incarnation;
        let Some(incarnation) = peer.announced.replace(started) else { return CameUp::New };
        if let Some(reason) = peer.closing.take() {
            return CameUp::Instead { reason, dead: Vec::new() };
        }
        if incarnation != started {
            for link in older.iter_mut() {
                link.state = State::Leaving;
            }
            let dead = older.iter().map(|link| link.id).collect();
            return CameUp::Instead { reason: "the peer was restarted".into(), dead };
        }
        for link in older.iter_mut().filter(|link| link.state == State::Up) {
            if self.me < node {
                link.state = State::Leaving;
                link.outbox.order(Order::Close);
            } else {
                link.outbox.order(Order::CloseLater);
            }
        }
        peer.hand_over();
        CameUp::Another
    }

    /// Records that the peer is closing this connection.
    pub(crate) fn peer_closes(&mut self, node: NodeId, id: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(link) = peer.links.iter_mut().find(|link| link.id == id) {
            link.state = State::Leaving;
            peer.hand_over();
        }
    }

    /// Removes a connection. Returns the reason if the link is gone with it.
    pub(crate) fn closed(&mut self, node: NodeId, id: ConnectionId, reason: String) -> Option<String> {
        let peer = self.peers.get_mut(&node)?;
        let at = peer.links.iter().position(|link| link.id == id)?;
        let link = peer.links.remove(at);
        let has = |state| peer.links.iter().any(|link| link.state == state);
        // The peer may have chosen a connection whose handshake this node has not finished yet: the link continues if
        // the old one has been flushed in both directions.
        let taken_over = link.state == State::Leaving && peer.closing.is_none() && has(State::Shaking);
        let lives_on = peer.announced.is_none() || has(State::Up) || has(State::Leaving) || taken_over;
        let ended = (!lives_on).then(|| peer.closing.take().unwrap_or(reason));
        if ended.is_some() {
            peer.announced = None;
        }
        if peer.links.is_empty() {
            self.peers.remove(&node);
        }
        ended
    }

    /// Flushes and closes every connection of the link. Returns `false` if there is no link.
    pub(crate) fn close(&mut self, node: NodeId, reason: &str) -> bool {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.announced.is_some()) else {
            return false;
        };
        peer.closing.get_or_insert_with(|| reason.to_owned());
        for link in peer.links.iter_mut().filter(|link| link.state != State::Shaking) {
            link.state = State::Leaving;
            link.outbox.order(Order::Close);
        }
        true
    }

    /// The outbox for the peer, which is that of the newest connection, and the version of the protocol for encoding.
    /// Messages wait there before the handshake of a connection that replaces another one: both are with the same
    /// process, which speaks the same versions.
    pub(crate) fn outbox(&self, node: &NodeId) -> Option<(&Outbox, u8)> {
        let peer = self.peers.get(node).filter(|peer| peer.announced.is_some() && peer.closing.is_none())?;
        Some((&peer.current()?.outbox, peer.version))
    }

    /// How many links there are.
    pub(crate) fn count(&self) -> usize {
        self.peers.values().filter(|peer| peer.announced.is_some()).count()
    }

    /// Whether the caller knows a link that is not being closed.
    pub(crate) fn is_connected(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.announced.is_some() && peer.closing.is_none())
    }

    /// The traffic of the link to a peer.
    pub(crate) fn traffic(&self, node: &NodeId) -> Option<Arc<Traffic>> {
        self.peers.get(node).filter(|peer| peer.announced.is_some()).map(|peer| peer.traffic.clone())
    }
}

#[cfg(test)]
mod tests {
    use starling_proto::{Class, NodeRecord, Role, wire::Negotiated};

    use super::*;
    use crate::Limits;
    use crate::Shown;

    const LOW: NodeId = NodeId([1; 32]);
    const HIGH: NodeId = NodeId([2; 32]);

    fn accepted(id: NodeId, incarnation: u64) -> Accepted {
        let (name, addresses, signature, features) = Default::default();
        let record =
            NodeRecord { name, addresses, signature, ..NodeRecord::new(id, incarnation, Role::Replica) };
        Accepted { record, negotiated: Negotiated { version: 2, features }, shown: Shown::default() }
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn links(me: NodeId, peer: NodeId, connections: usize) -> (Links, Vec<Arc<Outbox>>) {
        let mut links = Links::new(me);
        let outboxes: Vec<_> = (0..connections).map(|_| Arc::new(Outbox::new(&Limits::default()))).collect();
        for (n, outbox) in outboxes.iter().enumerate() {
            links.opened(peer, id(n), outbox.clone());
        }
        (links, outboxes)
    }

    fn order(outbox: &Outbox) -> Order {
        outbox.poll_order(&std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn the_lower_node_keeps_the_newest_and_the_higher_one_waits() {
        for (me, peer, expected) in [(LOW, HIGH, Order::Close), (HIGH, LOW, Order::CloseLater)] {
            let (mut links, outboxes) = links(me, peer, 2);
            assert_eq!(links.came_up(peer, id(1), &accepted(peer, 1)), CameUp::New);
            assert_eq!(links.came_up(peer, id(0), &accepted(peer, 1)), CameUp::Another);
            assert_eq!((order(&outboxes[1]), order(&outboxes[0])), (expected, Order::Keep));
            assert!(std::ptr::eq(links.outbox(&peer).expect("a link").0, &raw const *outboxes[0]));
            assert_eq!(links.closed(peer, id(1), "gone".into()), None);
            assert_eq!(links.closed(peer, id(0), "gone".into()), Some("gone".into()));
            assert!(links.peers.is_empty());
        }
    }

    #[test]
    fn the_higher_node_keeps_the_older_connection_if_the_lower_one_does() {
        let (mut links, outboxes) = links(HIGH, LOW, 2);
        links.came_up(LOW, id(0), &accepted(LOW, 1));
        links.came_up(LOW, id(1), &accepted(LOW, 1));
        assert_eq!(order(&outboxes[0]), Order::CloseLater);
        outboxes[1].push(Class::Control, "said on the newest".into());
        links.peer_closes(LOW, id(1));
        assert_eq!(order(&outboxes[0]), Order::Keep);
        assert!(outboxes[0].take(Class::Control, |_| ()).is_some(), "what waited is not lost");
        assert_eq!(links.closed(LOW, id(1), "closed".into()), None);
        assert!(links.is_connected(&LOW));
    }

    #[test]
    fn a_link_lives_on_while_the_connection_that_takes_over_shakes_hands() {
        let (mut links, outboxes) = links(HIGH, LOW, 2);
        links.came_up(LOW, id(0), &accepted(LOW, 1));
        links.peer_closes(LOW, id(0));
        assert_eq!(links.closed(LOW, id(0), "closed".into()), None);
        assert!(std::ptr::eq(links.outbox(&LOW).expect("a link").0, &raw const *outboxes[1]));
        assert_eq!(links.came_up(LOW, id(1), &accepted(LOW, 1)), CameUp::Another);
        assert!(links.is_connected(&LOW));
    }

    #[test]
    fn a_link_that_breaks_is_gone_whatever_shakes_hands() {
        let (mut links, _outboxes) = links(HIGH, LOW, 2);
        links.came_up(LOW, id(0), &accepted(LOW, 1));
        assert_eq!(links.closed(LOW, id(0), "reset".into()), Some("reset".into()));
        assert!(links.outbox(&LOW).is_none());
        assert_eq!(links.came_up(LOW, id(1), &accepted(LOW, 1)), CameUp::New);
    }

    #[test]
    fn a_restarted_peer_is_another_link() {
        let (mut links, _outboxes) = links(HIGH, LOW, 2);
        links.came_up(LOW, id(0), &accepted(LOW, 1));
        let CameUp::Instead { dead, .. } = links.came_up(LOW, id(1), &accepted(LOW, 2)) else { panic!() };
        assert_eq!(dead, [id(0)]);
        assert_eq!(links.closed(LOW, id(0), "dead".into()), None);
        assert!(links.is_connected(&LOW));
    }

    #[test]
    fn a_link_closed_by_the_caller_ends_for_its_reason_and_may_begin_anew() {
        let (mut links, outboxes) = links(LOW, HIGH, 2);
        assert!(!links.close(HIGH, "no link yet"));
        links.came_up(HIGH, id(0), &accepted(HIGH, 1));
        assert!(links.close(HIGH, "enough"));
        assert_eq!(order(&outboxes[0]), Order::Close);
        assert!(links.outbox(&HIGH).is_none() && !links.is_connected(&HIGH));
        let again = links.came_up(HIGH, id(1), &accepted(HIGH, 1));
        assert_eq!(again, CameUp::Instead { reason: "enough".into(), dead: Vec::new() });
        assert_eq!(links.closed(HIGH, id(0), "closed".into()), None);
        assert!(links.is_connected(&HIGH));
    }
}
