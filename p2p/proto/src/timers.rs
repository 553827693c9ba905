//! A table of named deadlines, on which every machine's `poll_timeout` is based.

use std::collections::{BTreeMap, BTreeSet};

use crate::Millis;

/// Deadlines, at most one per key. Equal deadlines fire in the order of their keys, so that a run is
/// reproducible.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    deadlines: BTreeMap<K, Millis>,
    queue: BTreeSet<(Millis, K)>,
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Self { deadlines: BTreeMap::new(), queue: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Millis) {
        self.cancel(&key);
        self.deadlines.insert(key.clone(), at);
        self.queue.insert((at, key));
    }

    /// Sets the deadline of `key` unless it already has an earlier one.
    pub fn set_earlier(&mut self, key: K, at: Millis) {
        if self.deadlines.get(&key).is_none_or(|old| at < *old) {
            self.set(key, at);
        }
    }

    /// Removes the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &K) {
        if let Some(at) = self.deadlines.remove(key) {
            self.queue.remove(&(at, key.clone()));
        }
    }

    /// Whether `key` has a deadline.
    pub fn is_set(&self, key: &K) -> bool {
        self.deadlines.contains_key(key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Millis> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Removes and returns the key of the earliest deadline that `now` has reached.
    pub fn pop_due(&mut self, now: Millis) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.deadlines.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The table equals a plain list of (key, deadline).
        #[test]
        fn behaves_as_a_list_of_deadlines(steps in prop::collection::vec((0..4u8, 0..6u8, 0..50u64), 0..60)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u8, Millis> = BTreeMap::new();
            for (kind, key, at) in steps {
                let at = Millis(at);
                match kind {
                    0 => {
                        timers.set(key, at);
                        model.insert(key, at);
                    }
                    1 => {
                        timers.set_earlier(key, at);
                        let old = model.get(&key).copied().unwrap_or(at);
                        model.insert(key, old.min(at));
                    }
                    2 => {
                        timers.cancel(&key);
                        model.remove(&key);
                    }
                    _ => {
                        let first = model.iter().map(|(k, t)| (*t, *k)).min().filter(|(t, _)| *t <= at);
                        prop_assert_eq!(timers.pop_due(at), first.map(|(_, k)| k));
                        if let Some((_, key)) = first {
                            model.remove(&key);
                        }
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert_eq!(timers.is_set(&key), model.contains_key(&key));
            }
        }
    }
}
