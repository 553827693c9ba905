//! Peers that have left: a node that stops in order disconnects from its neighbours and closes its links at once, where one that
//! merely gives up a neighbour keeps the link until it is idle, and one that fails sends nothing.
//!
//! ```text
//!   leaves      Disconnect ──► link closed            at once
//!   gives up    Disconnect ──► link closed, unused    after TRANSIENT_IDLE_MS
//! ```
//!
//! So this is no more than very likely: it is for people, and no protocol may depend on it.

use std::collections::BTreeMap;

use starling_proto::{Millis, NodeId, NodeRecord};

use crate::links::TRANSIENT_IDLE_MS;

/// Peers that are remembered, at most; beyond it the lowest id is forgotten. An estimate: far more than connect at a time.
const PEERS_MAX: usize = 1_024;
/// Time between the last message of a peer that leaves and the end of its link, milliseconds, at most: the driver flushes for two
/// seconds.
const CLOSES_MS: u64 = 3_000;
const _: () = assert!(CLOSES_MS < TRANSIENT_IDLE_MS);

/// A peer that has disconnected.
struct Farewell {
    /// The start of the process that did.
    incarnation: u64,
    at: Millis,
    /// Whether its link was closed at once.
    has_left: bool,
}

/// The peers that have disconnected, until they connect again.
#[derive(Default)]
pub struct Departures(BTreeMap<NodeId, Farewell>);

impl Departures {
    /// Records that a peer does not want to be a neighbour any more.
    pub fn disconnects(&mut self, now: Millis, record: &NodeRecord) {
        if self.0.len() == PEERS_MAX && !self.0.contains_key(&record.id) {
            self.0.pop_first();
        }
        let farewell = Farewell { incarnation: record.incarnation, at: now, has_left: false };
        self.0.insert(record.id, farewell);
    }

    /// Records that the link of a peer is gone, and not by this node's doing.
    pub fn link_gone(&mut self, now: Millis, peer: &NodeId) {
        if let Some(farewell) = self.0.get_mut(peer) {
            farewell.has_left |= now - farewell.at < CLOSES_MS;
        }
    }

    /// Records that a peer is connected.
    pub fn connected(&mut self, peer: &NodeId) {
        self.0.remove(peer);
    }

    /// Whether the process of this record, or a later one, has left.
    pub fn has_left(&self, record: &NodeRecord) -> bool {
        self.0.get(&record.id).is_some_and(|it| it.has_left && it.incarnation >= record.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use starling_proto::Role;

    use super::*;

    #[test]
    fn a_peer_has_left_if_it_closes_its_link_right_after_its_farewell() {
        let record = |incarnation| NodeRecord::new(NodeId([1; 32]), incarnation, Role::Replica);
        let ended = |farewell_ms: Option<u64>, gone_ms| {
            let mut departures = Departures::default();
            if let Some(at_ms) = farewell_ms {
                departures.disconnects(Millis(at_ms), &record(7));
            }
            departures.link_gone(Millis(gone_ms), &record(7).id);
            departures
        };
        assert!(ended(Some(0), 100).has_left(&record(7)));
        assert!(!ended(None, 100).has_left(&record(7)), "it was killed");
        assert!(!ended(Some(0), TRANSIENT_IDLE_MS).has_left(&record(7)), "it gave up a neighbour");
        let mut left = ended(Some(0), 100);
        assert!(left.has_left(&record(6)) && !left.has_left(&record(8)), "a later process has started since");
        left.connected(&record(7).id);
        assert!(!left.has_left(&record(7)));
    }
}
