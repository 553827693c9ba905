//! Interning of actors.

use std::collections::BTreeMap;

use crate::ActorId;

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
