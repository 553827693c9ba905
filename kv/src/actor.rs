//! Interning of actors.

use crate::ActorId;

/// Actors by small numbers, assigned in the order in which this replica first saw them. Numbers are not reused. Shared
/// with readers, which find numbers in cells; the writer's index has the numbers by actor.
#[derive(Debug, Default)]
pub(crate) struct ActorTable {
    ids: Vec<ActorId>,
}

impl ActorTable {
    /// A table of actors in the order of their numbers.
    pub fn new(ids: Vec<ActorId>) -> Self {
        Self { ids }
    }

    /// The actor under `number`.
    pub fn id(&self, number: u32) -> Option<ActorId> {
        self.ids.get(number as usize).copied()
    }

    /// All actors, by number.
    pub fn ids(&self) -> &[ActorId] {
        &self.ids
    }

    /// Assigns the next number to `id`, which must not have one.
    pub fn push(&mut self, id: ActorId) {
        push_tightly(&mut self.ids, id);
    }

    /// Removes the last actors, down to `len` of them, after the write that would have recorded them failed.
    pub fn truncate(&mut self, len: u32) {
        self.ids.truncate(len as usize);
    }
}

/// Adds an item to a list that never shrinks and has one item for each actor: an eighth of it is free at most, not half.
pub(crate) fn push_tightly<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 4);
    }
    list.push(item);
}
