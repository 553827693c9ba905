//! An index of watches by the keys that they watch.

use std::collections::{BTreeMap, BTreeSet};

use super::WatchId;
use crate::api::Keys;

/// Ranges that may be searched one by one before they are sorted in, and ended ones that may stay, even if few are
/// sorted. A guess.
const FRESH_MAX: usize = 64;

/// All watches by their keys and ranges.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Vec<u8>, BTreeSet<WatchId>>,
    ranges: Ranges,
}

impl Index {
    pub fn insert(&mut self, id: WatchId, keys: &Keys) {
        match keys {
            Keys::One(key) => {
                self.keys.entry(key.clone()).or_default().insert(id);
            }
            Keys::Range { from, to } => {
                self.ranges.insert(Entry { from: from.clone(), to: to.clone(), id });
            }
        }
    }

    pub fn remove(&mut self, id: WatchId, keys: &Keys) {
        match keys {
            Keys::One(key) => {
                if let Some(ids) = self.keys.get_mut(key) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            Keys::Range { .. } => self.ranges.remove(id),
        }
    }

    /// Adds the watches of `key` to `ids`.
    pub fn matching(&self, key: &[u8], ids: &mut Vec<WatchId>) {
        if let Some(watches) = self.keys.get(key) {
            ids.extend(watches);
        }
        self.ranges.matching(key, ids);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    from: Vec<u8>,
    /// The end of the range; `None` if it has none.
    to: Option<Vec<u8>>,
    id: WatchId,
}

impl Entry {
    fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_ref().is_none_or(|to| key < to.as_slice())
    }
}

/// The watched ranges. Most are an implicit interval tree: sorted by their beginnings, with the entry that reaches
/// farthest in each subtree. The latest ones are in a list beside it, so that not every insertion sorts.
#[derive(Clone, Debug, Default)]
struct Ranges {
    sorted: Vec<Entry>,
    /// For each entry, the one that reaches farthest among those in the subtree of which it is the root.
    farthest: Vec<usize>,
    fresh: Vec<Entry>,
    /// Watches that have ended and are still among the sorted ones, so that not every removal moves them all.
    removed: BTreeSet<WatchId>,
}

impl Ranges {
    fn insert(&mut self, entry: Entry) {
        if self.removed.contains(&entry.id) {
            self.sort();
        }
        self.fresh.push(entry);
        if self.fresh.len() > FRESH_MAX.max(self.sorted.len() / 8) {
            self.sort();
        }
    }

    fn remove(&mut self, id: WatchId) {
        if let Some(at) = self.fresh.iter().position(|entry| entry.id == id) {
            self.fresh.swap_remove(at);
            return;
        }
        self.removed.insert(id);
        if self.removed.len() > FRESH_MAX.max(self.sorted.len() / 8) {
            self.sort();
        }
    }

    fn sort(&mut self) {
        let removed = std::mem::take(&mut self.removed);
        self.sorted.retain(|entry| !removed.contains(&entry.id));
        self.sorted.append(&mut self.fresh);
        self.sorted.sort_unstable();
        self.measure();
    }

    fn matching(&self, key: &[u8], ids: &mut Vec<WatchId>) {
        ids.extend(self.fresh.iter().filter(|entry| entry.contains(key)).map(|entry| entry.id));
        let begun = self.sorted.partition_point(|entry| entry.from.as_slice() <= key);
        self.collect(key, 0, self.sorted.len(), begun, ids);
    }

    /// Searches entries `low..high`, of which those from `begun` on begin after the key.
    fn collect(&self, key: &[u8], low: usize, high: usize, begun: usize, ids: &mut Vec<WatchId>) {
        if low >= high || low >= begun {
            return;
        }
        let middle = low.midpoint(high);
        let reaches = &self.sorted[self.farthest[middle]];
        if reaches.to.as_ref().is_some_and(|to| to.as_slice() <= key) {
            return;
        }
        self.collect(key, low, middle, begun, ids);
        let entry = &self.sorted[middle];
        if middle < begun && entry.contains(key) && !self.removed.contains(&entry.id) {
            ids.push(entry.id);
        }
        self.collect(key, middle + 1, high, begun, ids);
    }

    fn measure(&mut self) {
        self.farthest = vec![0; self.sorted.len()];
        self.measure_stretch(0, self.sorted.len());
    }

    fn measure_stretch(&mut self, low: usize, high: usize) -> Option<usize> {
        if low >= high {
            return None;
        }
        let middle = low.midpoint(high);
        let sides = [self.measure_stretch(low, middle), self.measure_stretch(middle + 1, high)];
        let farther = |one: usize, other: usize| match (&self.sorted[one].to, &self.sorted[other].to) {
            (None, _) => one,
            (_, None) => other,
            (Some(a), Some(b)) => {
                if a >= b {
                    one
                } else {
                    other
                }
            }
        };
        let farthest = sides.into_iter().flatten().fold(middle, farther);
        self.farthest[middle] = farthest;
        Some(farthest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..4, 0..3)
    }

    fn keys() -> impl Strategy<Value = Keys> {
        prop_oneof![
            key().prop_map(Keys::One),
            (key(), prop::option::of(key())).prop_map(|(from, to)| Keys::Range { from, to }),
        ]
    }

    proptest! {
        #[test]
        fn finds_what_looking_at_each_finds(
            all in prop::collection::vec((keys(), any::<bool>()), 0..300),
            asked in prop::collection::vec(key(), 1..20),
        ) {
            let mut index = Index::default();
            for (id, (keys, _)) in (0..).zip(&all) {
                index.insert(id, keys);
            }
            for (id, (keys, stays)) in (0..).zip(&all) {
                if !stays {
                    index.remove(id, keys);
                }
            }
            for key in asked {
                let mut found = Vec::new();
                index.matching(&key, &mut found);
                found.sort_unstable();
                let wanted = (0..).zip(&all).filter(|(_, (keys, stays))| {
                    *stays && crate::machine::check::contains(keys, &key)
                });
                let wanted: Vec<WatchId> = wanted.map(|(id, _)| id).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
