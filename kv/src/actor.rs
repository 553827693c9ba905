//! Interning of actors.

use std::collections::BTreeMap;

use crate::ActorId;

/// Actors by small numbers, assigned in the order in which this replica first saw them. Numbers are not reused.
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

    /// The number of actors, which is the number of the next one.
    pub fn len(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Assigns the next number to `id`, which must not have one.
    pub fn push(&mut self, id: ActorId) {
        let former = self.numbers.insert(id, self.len());
        assert!(former.is_none(), "an actor is interned once");
        self.ids.push(id);
    }

    /// Removes the last actors, down to `len` of them, after the write that would have recorded them failed.
    pub fn truncate(&mut self, len: u32) {
        for id in self.ids.drain(len as usize..) {
            self.numbers.remove(&id);
        }
    }
}
