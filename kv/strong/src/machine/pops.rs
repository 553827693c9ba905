//! The position of the first key in each queue.
//!
//! A queue is emptied from its front. The deleted rows slow a scan down until the engine has removed them, so
//! that a scan from the beginning of the range for each key would take longer and longer.

use std::collections::BTreeMap;

use crate::api::Keys;

/// Ranges remembered, at most; the next one evicts all. A guess: the busy queues of a keyspace.
const RANGES_MAX: usize = 64;

/// Beginning and end of a range.
type Bounds = (Vec<u8>, Option<Vec<u8>>);

/// The position from which each range that keys were popped from may have keys. A cache, which is not stored: it
/// changes no answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Pops {
    /// For each range, a key before which the range has none.
    fronts: BTreeMap<Bounds, Vec<u8>>,
}

impl Pops {
    /// The part of `keys` that may have keys.
    pub fn rest(&self, keys: &Keys) -> Keys {
        let Keys::Range { from, to } = keys else { return keys.clone() };
        let range = (from.clone(), to.clone());
        match self.fronts.get(&range) {
            Some(front) => Keys::Range { from: front.clone(), to: range.1 },
            None => keys.clone(),
        }
    }

    /// Records that the first key of `keys` was deleted.
    pub fn popped(&mut self, keys: &Keys, first: &[u8]) {
        let Keys::Range { from, to } = keys else { return };
        if self.fronts.len() == RANGES_MAX {
            self.fronts.clear();
        }
        self.fronts.insert((from.clone(), to.clone()), first.to_vec());
    }

    /// Records that a key was written.
    pub fn put(&mut self, key: &[u8]) {
        for ((from, _), front) in &mut self.fronts {
            if key < front.as_slice() && key >= from.as_slice() {
                *front = key.to_vec();
            }
        }
    }
}
