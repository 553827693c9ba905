//! Where the first key of a queue is.
//!
//! A queue is emptied from its front, and what was deleted there stays in the way of a scan until the
//! engine gets round to removing it: finding the front again for each key would take ever longer.

use std::collections::BTreeMap;

use crate::api::Keys;

/// Ranges remembered, at most; with more, all are forgotten. A guess: queues of a keyspace that are
/// busy at the same time.
const RANGES_MAX: usize = 64;

/// Beginning and end of a range.
type Bounds = (Vec<u8>, Option<Vec<u8>>);

/// From where on each range that keys were popped from may have keys: only a shorter way to the same
/// answer, so nothing of it is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Pops {
    /// There is no key in a range before this one.
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

    /// The first key of `keys` was deleted.
    pub fn popped(&mut self, keys: &Keys, first: &[u8]) {
        let Keys::Range { from, to } = keys else { return };
        if self.fronts.len() == RANGES_MAX {
            self.fronts.clear();
        }
        self.fronts.insert((from.clone(), to.clone()), first.to_vec());
    }

    /// A key was written.
    pub fn put(&mut self, key: &[u8]) {
        for ((from, _), front) in &mut self.fronts {
            if key < front.as_slice() && key >= from.as_slice() {
                *front = key.to_vec();
            }
        }
    }
}
