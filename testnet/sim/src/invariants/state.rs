//! A replica's whole state, read out, in its plainest form.

use std::collections::BTreeMap;
use std::sync::Arc;

use starling_kv::{Dot, DotRange, MemoryEngine, Store, delta};

use super::Dots;

/// A live entry, taken apart as the format's documentation says. Keys of simulated clients contain no
/// zero bytes, so nothing in a place is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Keyspace, key, type and field.
    pub place: Vec<u8>,
    /// Head and value.
    pub body: Vec<u8>,
}

/// The place of a field.
pub fn place(keyspace: &str, key: &[u8], kind: u8, field: &[u8]) -> Vec<u8> {
    [&[keyspace.len() as u8], keyspace.as_bytes(), key, &[0, 1, kind], field].concat()
}

impl Entry {
    fn key_end(&self) -> usize {
        let start = 1 + usize::from(self.place[0]);
        start + self.place[start..].iter().position(|byte| *byte == 0).expect("a place has an end of its key")
    }

    /// Its key.
    pub fn key(&self) -> &[u8] {
        &self.place[1 + usize::from(self.place[0])..self.key_end()]
    }

    /// Whether it is of this keyspace.
    pub fn is_in(&self, keyspace: &str) -> bool {
        self.place[1..].starts_with(keyspace.as_bytes()) && usize::from(self.place[0]) == keyspace.len()
    }

    /// The tag of its data type.
    pub fn kind(&self) -> u8 {
        self.place[self.key_end() + 2]
    }

    /// Its timestamp: 48 bits of milliseconds, 16 bits of counter.
    pub fn written(&self) -> u64 {
        u64::from_be_bytes(self.body[2..10].try_into().expect("eight bytes"))
    }

    /// When it expires, wall-clock milliseconds.
    pub fn expires_ms(&self) -> Option<u64> {
        let bytes = (self.body[1] & 1 == 1).then(|| self.body[10..18].try_into().expect("eight bytes"));
        bytes.map(u64::from_be_bytes)
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        &self.body[if self.body[1] & 1 == 1 { 18 } else { 10 }..]
    }

    /// Its value as a counter's sum.
    pub fn sum(&self) -> i128 {
        self.value().try_into().map_or(0, i128::from_be_bytes)
    }
}

/// Everything a replica has seen, and what of it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its causal context.
    pub seen: Dots,
    /// The live dots.
    pub alive: Dots,
    /// Their entries.
    pub live: BTreeMap<Dot, Arc<Entry>>,
}

impl State {
    /// Reads a store. Entries that `known` holds are shared with it.
    pub fn read(store: &Store<MemoryEngine>, known: &impl Fn(Dot) -> Option<Arc<Entry>>) -> Self {
        let actors = store.actors(0).into_iter();
        let all: Vec<DotRange> = actors.map(|(actor, last, _)| DotRange { actor, first: 1, last }).collect();
        let (bytes, _) = store.restrict(&all, usize::MAX).expect("a memory engine reads");
        let decoded = delta::decode(&bytes).expect("a store's own delta can be decoded");
        let mut state = Self::default();
        for section in decoded.actors {
            for &(first, last) in section.claimed.spans() {
                state.seen.insert(section.actor, first, last);
            }
            for entry in section.entries {
                let dot = Dot { actor: section.actor, seq: entry.seq };
                let shared =
                    known(dot).filter(|known| known.place == entry.place && known.body == entry.body);
                let fresh = || Arc::new(Entry { place: entry.place.clone(), body: entry.body.to_vec() });
                state.live.insert(dot, shared.unwrap_or_else(fresh));
                state.alive.add(dot);
            }
        }
        state
    }

    /// Whether a dot has been seen and does not live.
    pub fn is_dead(&self, dot: Dot) -> bool {
        self.seen.contains(dot) && !self.alive.contains(dot)
    }
}
