//! A circuit breaker per peer: a peer that does not reply gets no requests for a while, longer each time.

use std::collections::BTreeMap;

use starling_strong::members::NodeKey;

/// Failures in a row after which the circuit opens.
const FAILURES_MAX: u32 = 3;
/// How long it stays open at first, and at most, milliseconds; doubled with each failure. A guess.
const REST_MS: u64 = 250;
const REST_MS_MAX: u64 = 8_000;
/// Peers that are kept, at most; the one whose circuit closes first is evicted.
const PEERS_MAX: usize = 256;

#[derive(Clone, Copy, Default)]
struct Peer {
    failures: u32,
    rests_until: u64,
}

/// The circuit breakers of all peers.
#[derive(Default)]
pub struct Breaker {
    peers: BTreeMap<NodeKey, Peer>,
}

impl Breaker {
    /// Whether a peer may get a request.
    pub fn allows(&self, peer: &NodeKey, now_ms: u64) -> bool {
        self.peers.get(peer).is_none_or(|peer| peer.rests_until <= now_ms)
    }

    /// Records a message from a peer.
    pub fn works(&mut self, peer: &NodeKey) {
        self.peers.remove(peer);
    }

    /// Records that a peer did not reply, or cannot be reached.
    pub fn failed(&mut self, peer: NodeKey, now_ms: u64) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let first = self.peers.iter().min_by_key(|(_, peer)| peer.rests_until).map(|(key, _)| *key);
            first.and_then(|first| self.peers.remove(&first));
        }
        let peer = self.peers.entry(peer).or_default();
        peer.failures += 1;
        if let Some(beyond) = peer.failures.checked_sub(FAILURES_MAX) {
            peer.rests_until = now_ms + (REST_MS << beyond.min(16)).min(REST_MS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_fails_rests_longer_and_longer() {
        let mut breaker = Breaker::default();
        let peer = [1; 32];
        for _ in 0..2 {
            breaker.failed(peer, 0);
            assert!(breaker.allows(&peer, 0));
        }
        breaker.failed(peer, 0);
        assert!(!breaker.allows(&peer, 249) && breaker.allows(&peer, 250));
        breaker.failed(peer, 250);
        assert!(!breaker.allows(&peer, 749) && breaker.allows(&peer, 750));
        breaker.works(&peer);
        assert!(breaker.allows(&peer, 0));
    }
}
