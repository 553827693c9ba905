//! The part of a log that is kept in memory: the terms of all entries, and the newest entries.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::Entry;

/// Bytes of entries kept in memory per group, at most, but for one entry. A guess: a follower that is a second behind
/// at ten thousand small writes a second is served from memory.
const RECENT_BYTES_MAX: usize = 2 << 20;
/// Bytes of memory for an entry beyond its data and context, about.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The newest entries, without a gap.
#[derive(Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// Bytes of one entry's data and context.
pub fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len()
}

fn cost(entry: &Entry) -> usize {
    entry_bytes(entry) + ENTRY_OVERHEAD_BYTES
}

impl Recent {
    /// Adds entries, which replace all from the first one's index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
            self.forget(VecDeque::pop_back);
        }
        if self.entries.back().is_some_and(|entry| entry.index + 1 != first.index) {
            self.clear();
        }
        for entry in entries {
            self.bytes += cost(entry);
            self.entries.push_back(entry.clone());
        }
        // The last entry stays, whatever its size: it is about to be sent.
        while self.bytes > RECENT_BYTES_MAX && self.entries.len() > 1 {
            self.forget(VecDeque::pop_front);
        }
    }

    fn forget(&mut self, pop: fn(&mut VecDeque<Entry>) -> Option<Entry>) {
        if let Some(entry) = pop(&mut self.entries) {
            self.bytes -= cost(&entry);
        }
    }

    /// Removes the entries up to `index`.
    pub fn compact(&mut self, index: u64) {
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            self.forget(VecDeque::pop_front);
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The index of the first entry in memory; all later ones are in memory too.
    pub fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.index)
    }

    /// The entries from `low` up to and without `high` that fit `bytes_max`, but at least one. Entry `low` has to be
    /// in memory.
    pub fn range(&self, low: u64, high: u64, bytes_max: u64) -> Vec<Entry> {
        let Some(first) = self.first_index() else { return Vec::new() };
        let held = self.entries.range((low.saturating_sub(first) as usize).min(self.entries.len())..);
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in held.take_while(|entry| entry.index < high) {
            bytes += entry_bytes(entry) as u64;
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }
}

/// The terms of all entries. Terms never decrease along a log, so they are stored as runs of equal terms, at most
/// one for each election.
#[derive(Default)]
pub struct Terms {
    /// The term of each run, by the run's first index.
    runs: BTreeMap<u64, u64>,
}

impl Terms {
    /// The terms of a log without entries after `index`, which has this term.
    pub fn since(index: u64, term: u64) -> Self {
        Self { runs: BTreeMap::from([(index, term)]) }
    }

    pub fn get(&self, index: u64) -> Option<u64> {
        self.runs.range(..=index).next_back().map(|(_, term)| *term)
    }

    /// Sets the term of the entry at `index`, and removes the terms of all later ones.
    pub fn set(&mut self, index: u64, term: u64) {
        self.runs.split_off(&index);
        if self.get(index) != Some(term) {
            self.runs.insert(index, term);
        }
    }

    /// Removes the terms before `index`.
    pub fn compact(&mut self, index: u64) {
        if let Some(term) = self.get(index) {
            self.runs = self.runs.split_off(&index);
            self.runs.insert(index, term);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry { index, term, data: vec![0; bytes].into(), ..Entry::default() }
    }

    proptest! {
        /// The terms are those of a plain list, while ends are replaced and beginnings are removed.
        #[test]
        fn terms_are_those_of_a_list(steps in prop::collection::vec((0u64..8, 0u64..2, 0u64..4), 1..60)) {
            let mut terms = Terms::since(0, 1);
            let mut list = vec![1];
            let mut base = 0;
            for (back, more, cut) in steps {
                let index = (list.len() as u64 - back.min(list.len() as u64 - 1)).max(base + 1);
                let term = list[index as usize - 1] + more;
                list.truncate(index as usize);
                list.push(term);
                terms.set(index, term);
                base = (base + cut).min(index);
                terms.compact(base);
                for at in base..list.len() as u64 {
                    prop_assert_eq!(terms.get(at), Some(list[at as usize]));
                }
            }
        }
    }

    #[test]
    fn recent_entries_are_bounded_and_replaced() {
        let mut recent = Recent::default();
        let large: Vec<_> = (1..=8).map(|index| entry(index, 1, RECENT_BYTES_MAX / 4)).collect();
        recent.append(&large);
        assert_eq!(recent.first_index(), Some(6));
        assert_eq!(recent.range(7, 9, 1).len(), 1, "one at least");
        recent.append(&[entry(7, 2, 1)]);
        let terms: Vec<_> =
            recent.range(6, 9, u64::MAX).iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(terms, [(6, 1), (7, 2)]);
        recent.append(&[entry(9, 2, 1)]);
        assert_eq!(recent.first_index(), Some(9), "never with a gap");
    }
}
