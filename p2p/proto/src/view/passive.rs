//! The passive view: peers that can replace neighbours, and which of them are not asked for a while.

use std::collections::BTreeMap;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use super::repair::backoff_ms;
use super::{Blocks, zone};
use crate::{Millis, NodeId, NodeRecord};

/// Peers whose failures are remembered, at most; the one whose rest ends first is evicted.
const RESTING_MAX: usize = 256;
/// First rest of a peer that refused, milliseconds; doubles up to [`REFUSED_MAX_MS`]. A guess: its
/// view was full, which changes seldom.
const REFUSED_FIRST_MS: u64 = 2_000;
/// Longest rest after refusals, milliseconds.
const REFUSED_MAX_MS: u64 = 60_000;
/// Rest of a peer that did not answer, milliseconds: others still name it, and without a rest it would be added again
/// at once. Short, because a whole network may restart at once.
const UNREACHABLE_MS: u64 = 15_000;

#[derive(Debug)]
struct Rest {
    until: Millis,
    failures: u32,
    /// Whether it is kept out of the view while it rests.
    unreachable: bool,
}

/// Of the passive view, a fraction of 1/this holds the last peers of their zones, at most: labels are claims, and a member
/// could name a zone for each of its identities. A guess.
const ZONES_SHARE: usize = 4;

/// The passive view, bounded by the `passive_max` of the configuration. A full view evicts first what it sent in the
/// last shuffle (paper, section 4.4), then a peer of an address block with more than half of the view, then a random
/// one; but not the last peer of a zone, unless there are too many zones ([`ZONES_SHARE`]).
#[derive(Debug)]
pub(super) struct Passive {
    capacity: usize,
    records: BTreeMap<NodeId, NodeRecord>,
    resting: BTreeMap<NodeId, Rest>,
    shuffled: Vec<NodeId>,
}

impl Passive {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, records: BTreeMap::new(), resting: BTreeMap::new(), shuffled: Vec::new() }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &NodeRecord> {
        self.records.values()
    }

    /// Adds or updates a record. The caller keeps out itself, its neighbours and seeds.
    pub(super) fn add(&mut self, now: Millis, record: NodeRecord, blocks: &Blocks, rng: &mut ChaCha8Rng) {
        let id = record.id;
        if let Some(known) = self.records.get_mut(&id) {
            if record.supersedes(known) {
                *known = record;
            }
            return;
        }
        let gone = self.resting.get(&id).is_some_and(|rest| rest.unreachable && rest.until > now);
        if gone || self.capacity == 0 {
            return;
        }
        while self.records.len() >= self.capacity {
            self.make_room(blocks, rng);
        }
        self.records.insert(id, record);
    }

    fn make_room(&mut self, blocks: &Blocks, rng: &mut ChaCha8Rng) {
        let Self { capacity, records, shuffled, .. } = self;
        let zones = zone::count(records.values());
        let is_spared = |peer: &NodeRecord| {
            let is_last = peer.labels.zone().is_some_and(|zone| zones.get(&zone) == Some(&1));
            is_last && zones.len() <= *capacity / ZONES_SHARE
        };
        let free = || records.values().filter(|peer| !is_spared(peer));
        let is_crowded = |p: &&NodeRecord| blocks.count(p, records.values()) > *capacity / 2;
        let mut sent = std::iter::from_fn(|| shuffled.pop()).filter_map(|sent| records.get(&sent));
        let victim = sent.find(|peer| !is_spared(peer));
        let victim = victim.or_else(|| free().filter(is_crowded).choose(rng)).or_else(|| free().choose(rng));
        if let Some(id) = victim.map(|peer| peer.id) {
            records.remove(&id);
        }
    }

    pub(super) fn remove(&mut self, peer: &NodeId) {
        self.records.remove(peer);
    }

    /// Sets the peers that the last shuffle sent, which are evicted first.
    pub(super) fn set_shuffled(&mut self, sent: Vec<NodeId>) {
        self.shuffled = sent;
    }

    pub(super) fn refused(&mut self, peer: NodeId, now: Millis) {
        let failures = self.resting.get(&peer).map_or(0, |rest| rest.failures);
        let until = now + backoff_ms(REFUSED_FIRST_MS, REFUSED_MAX_MS, failures);
        self.rest(peer, Rest { until, failures: failures.saturating_add(1), unreachable: false });
    }

    pub(super) fn unreachable(&mut self, peer: NodeId, now: Millis) {
        self.records.remove(&peer);
        self.rest(peer, Rest { until: now + UNREACHABLE_MS, failures: 0, unreachable: true });
    }

    fn rest(&mut self, peer: NodeId, rest: Rest) {
        self.resting.insert(peer, rest);
        if self.resting.len() > RESTING_MAX
            && let Some(id) = self.resting.iter().min_by_key(|(_, rest)| rest.until).map(|(id, _)| *id)
        {
            self.resting.remove(&id);
        }
    }

    /// Ends the rest of a peer that is alive and accepts neighbours.
    pub(super) fn forgive(&mut self, peer: &NodeId) {
        self.resting.remove(peer);
    }

    /// Whether the peer is not to be asked now.
    pub(super) fn is_resting(&self, peer: &NodeId, now: Millis) -> bool {
        self.resting.get(peer).is_some_and(|rest| rest.until > now)
    }
}
