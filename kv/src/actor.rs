//! Actors and their interning.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// One run of one process as the origin of writes: random, 128 bits, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActorId(pub [u8; 16]);

impl Ord for ActorId {
    /// The order of the bytes, compared as one number.
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for ActorId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Actors under small numbers, given in the order in which this replica met them. Only grows.
#[derive(Debug, Default)]
pub(crate) struct ActorTable {
    ids: Vec<ActorId>,
    numbers: BTreeMap<ActorId, u32>,
}

impl ActorTable {
    /// The number of `id`, if it has one.
    pub fn number(&self, id: ActorId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// The actor under `number`.
    pub fn id(&self, number: u32) -> Option<ActorId> {
        self.ids.get(number as usize).copied()
    }

    /// How many there are; the number the next one gets.
    pub fn len(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Gives `id` the next number. It must not have one.
    pub fn push(&mut self, id: ActorId) {
        let former = self.numbers.insert(id, self.len());
        assert!(former.is_none(), "an actor is interned once");
        self.ids.push(id);
    }

    /// Forgets what was pushed last, down to `len` actors (the write that would have recorded them
    /// failed).
    pub fn truncate(&mut self, len: u32) {
        for id in self.ids.drain(len as usize..) {
            self.numbers.remove(&id);
        }
    }
}
