//! Recent rumors: their payloads, to serve grafts, and the links over which they arrived.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::message::RumorId;
use crate::{Millis, NodeId};

/// A rumor as it first arrived.
#[derive(Debug)]
pub(super) struct Rumor {
    pub(super) payload: Bytes,
    /// Number of links that it has passed.
    pub(super) hops: u16,
    /// The link that it arrived over; `None` for this node's own rumors.
    pub(super) bringer: Option<NodeId>,
    pub(super) at: Millis,
}

/// The cache, bounded in bytes of payload; the oldest rumor is evicted.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    rumors: BTreeMap<RumorId, Rumor>,
    order: VecDeque<RumorId>,
}

/// Bytes of an entry beyond its payload, so that empty payloads are bounded too. A guess.
const ENTRY_BYTES: usize = 128;

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, rumors: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Adds a rumor, unless there is one with the same id.
    pub(super) fn insert(&mut self, id: RumorId, rumor: Rumor) {
        if self.rumors.contains_key(&id) {
            return;
        }
        self.bytes += rumor.payload.len() + ENTRY_BYTES;
        self.rumors.insert(id, rumor);
        self.order.push_back(id);
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::CacheUnbounded) {
            return;
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(rumor) = self.rumors.remove(&oldest) {
                self.bytes -= rumor.payload.len() + ENTRY_BYTES;
            }
        }
    }

    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A rumor's payload, and the number of links that it has passed.
    pub(super) fn get(&self, id: &RumorId) -> Option<(Bytes, u16)> {
        self.rumors.get(id).map(|rumor| (rumor.payload.clone(), rumor.hops))
    }

    /// The rumors that arrived since then, the latest first.
    pub(super) fn since(&self, since: Millis) -> impl Iterator<Item = (RumorId, &Rumor)> {
        let latest = self.order.iter().rev().filter_map(|id| Some((*id, self.rumors.get(id)?)));
        latest.take_while(move |(_, rumor)| rumor.at >= since)
    }

    /// The peer that sent a rumor first.
    pub(super) fn bringer(&self, id: &RumorId) -> Option<NodeId> {
        self.rumors.get(id)?.bringer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActorId;

    #[test]
    fn the_oldest_gives_way_and_the_bound_holds() {
        let id = |seq| RumorId { actor: ActorId([1; 16]), first: seq, last: seq };
        let rumor =
            |byte, bytes| Rumor { payload: vec![byte; bytes].into(), hops: 3, bringer: None, at: Millis(0) };
        let mut cache = Cache::new(10 * (100 + ENTRY_BYTES));
        for seq in 1..=25 {
            cache.insert(id(seq), rumor(0, 100));
            cache.insert(id(seq), rumor(1, 100));
            assert!(cache.bytes <= cache.bytes_max && cache.order.len() == cache.rumors.len());
        }
        assert_eq!((cache.get(&id(15)), cache.get(&id(16))), (None, Some((Bytes::from(vec![0; 100]), 3))));
        cache.insert(id(26), rumor(0, 1 << 20));
        assert_eq!((cache.bytes, cache.rumors.len()), (0, 0), "one larger than the cache is not kept");
    }
}
