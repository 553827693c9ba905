//! Payloads of recent rumors, to serve grafts.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::message::RumorId;

/// Bounded in bytes of payload; the oldest gives way.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    rumors: BTreeMap<RumorId, (Bytes, u16)>,
    order: VecDeque<RumorId>,
}

/// What an entry costs beside its payload, bytes: so that empty payloads are bounded too. A guess.
const ENTRY_BYTES: usize = 128;

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, rumors: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Keeps a rumor that came over `hops` links; the first payload under a name stays.
    pub(super) fn insert(&mut self, id: RumorId, payload: Bytes, hops: u16) {
        if self.rumors.contains_key(&id) {
            return;
        }
        self.bytes += payload.len() + ENTRY_BYTES;
        self.rumors.insert(id, (payload, hops));
        self.order.push_back(id);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some((payload, _)) = self.rumors.remove(&oldest) {
                self.bytes -= payload.len() + ENTRY_BYTES;
            }
        }
    }

    /// A rumor's payload and the links it came over.
    pub(super) fn get(&self, id: &RumorId) -> Option<(Bytes, u16)> {
        self.rumors.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActorId;

    #[test]
    fn the_oldest_gives_way_and_the_bound_holds() {
        let id = |seq| RumorId { actor: ActorId([1; 16]), first: seq, last: seq };
        let mut cache = Cache::new(10 * (100 + ENTRY_BYTES));
        for seq in 1..=25 {
            cache.insert(id(seq), Bytes::from(vec![0; 100]), 3);
            cache.insert(id(seq), Bytes::from(vec![1; 100]), 4);
            assert!(cache.bytes <= cache.bytes_max && cache.order.len() == cache.rumors.len());
        }
        assert_eq!((cache.get(&id(15)), cache.get(&id(16))), (None, Some((Bytes::from(vec![0; 100]), 3))));
        cache.insert(id(26), Bytes::from(vec![0; 1 << 20]), 1);
        assert_eq!((cache.bytes, cache.rumors.len()), (0, 0), "one larger than the cache is not kept");
    }
}
