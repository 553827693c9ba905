//! The writer's state in memory: contexts and fingerprints of every actor.
//!
//! Actors are as many as processes have ever been started in the network, so each has few bytes here, and nothing that
//! one read or write does may visit all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::{Arc, PoisonError, RwLock};

use super::groups::{GroupSum, Groups};
use crate::actor::{ActorTable, push_tightly};
use crate::dot::LocalDot;
use crate::fingerprint::{Buckets, context_hash};
use crate::{ActorId, Intervals};
use starling_types::ActorGroup;

/// The context and fingerprints of one actor.
#[derive(Clone, Debug, Default)]
pub(super) struct ActorState {
    /// Its part of the causal context.
    pub seen: Intervals,
    /// Sums over its live entries.
    pub buckets: Buckets,
}

/// Contexts and fingerprints, by actor number.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Actors by number, shared with readers.
    table: Arc<RwLock<ActorTable>>,
    numbers: BTreeMap<ActorId, u32>,
    actors: Vec<ActorState>,
    /// The actors with gaps in their contexts, with their context hashes: of many spans a hash takes long.
    gapped: BTreeMap<u32, u128>,
    /// Spans of all contexts.
    intervals: u64,
    /// Sums over the actors' context hashes and live entries.
    groups: Groups,
    /// Live entries.
    entries: u64,
    /// Actors whose buckets may differ from those of their row on disk.
    unsaved: BTreeSet<u32>,
    /// While fingerprints are rebuilt: dots below this one are counted, the others not yet.
    rebuilt_to: Option<LocalDot>,
}

impl Index {
    /// The index of actors in the order of their numbers, of which nothing has been seen; `None` if one has two numbers.
    pub fn new(ids: Vec<ActorId>) -> Option<Self> {
        let count = ids.len();
        // Sorted first, which fills the nodes of the map.
        let numbers: BTreeMap<ActorId, u32> = ids.iter().copied().zip(0..).collect();
        (numbers.len() == count).then(|| Self {
            numbers,
            actors: vec![ActorState::default(); count],
            table: Arc::new(RwLock::new(ActorTable::new(ids))),
            ..Self::default()
        })
    }

    /// The table of actors.
    pub fn table(&self) -> &Arc<RwLock<ActorTable>> {
        &self.table
    }

    /// The number of actors, which is the number of the next one.
    pub fn len(&self) -> u32 {
        self.actors.len() as u32
    }

    /// Spans of all contexts.
    pub fn intervals(&self) -> u64 {
        self.intervals
    }

    /// The number of an actor, if it has one.
    pub fn number(&self, id: ActorId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// The actor under a number that is below [`Index::len`].
    pub fn id(&self, number: u32) -> ActorId {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.id(number).expect("every actor of the index is in the table")
    }

    pub fn actor(&self, number: u32) -> &ActorState {
        &self.actors[number as usize]
    }

    /// Those actors of a range of ids of which something has been seen, in order of ids.
    pub fn seen_actors(
        &self,
        ids: impl RangeBounds<ActorId>,
    ) -> impl Iterator<Item = (ActorId, &ActorState)> {
        let actors = self.numbers.range(ids).map(|(&id, &number)| (id, self.actor(number)));
        actors.filter(|(_, actor)| !actor.seen.is_empty())
    }

    /// Visits the actors of which something has been seen, by number.
    pub fn for_each_seen(&self, mut visit: impl FnMut(ActorId, &ActorState)) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for (id, actor) in table.ids().iter().zip(&self.actors) {
            if !actor.seen.is_empty() {
                visit(*id, actor);
            }
        }
    }

    /// The actors with gaps in their contexts, by number.
    pub fn gapped(&self) -> impl Iterator<Item = (u32, &ActorState)> {
        self.gapped.keys().map(|&number| (number, self.actor(number)))
    }

    /// The sum over a group of actors.
    pub fn sum(&self, group: ActorGroup) -> GroupSum {
        self.groups.sum(group).unwrap_or_else(|| {
            self.numbers.range(group.ids()).fold(GroupSum::default(), |mut sum, (&id, &number)| {
                sum.merge(self.sum_of(id, number));
                sum
            })
        })
    }

    /// The sums over the parts of a group that have actors, in order of ids.
    pub fn parts(&self, group: ActorGroup) -> Vec<(ActorGroup, GroupSum)> {
        let parts = (0..=u8::MAX).filter_map(|byte| group.part(byte));
        let mut sums: Vec<_> = parts.filter_map(|part| Some((part, self.groups.sum(part)?))).collect();
        if sums.is_empty() {
            for (&id, &number) in self.numbers.range(group.ids()) {
                match (group.part_of(id), sums.last_mut()) {
                    (None, _) => break,
                    (Some(part), Some((last, sum))) if part == *last => sum.merge(self.sum_of(id, number)),
                    (Some(part), _) => sums.push((part, self.sum_of(id, number))),
                }
            }
        }
        sums.retain(|(_, sum)| sum.actors > 0);
        sums
    }

    fn sum_of(&self, id: ActorId, number: u32) -> GroupSum {
        let actor = self.actor(number);
        GroupSum {
            actors: u64::from(!actor.seen.is_empty()),
            context: self.gapped.get(&number).copied().unwrap_or_else(|| context_hash(id, &actor.seen)),
            live: actor.buckets.total().hash,
        }
    }

    /// Adds to the sums of an actor's groups what its own sum was less before.
    fn change(&mut self, id: ActorId, number: u32, before: GroupSum) {
        let mut change = self.sum_of(id, number);
        change.subtract(before);
        self.groups.add(id, change);
        if self.groups.need_rebuild() {
            self.groups.rebuild();
            for number in 0..self.len() {
                let id = self.id(number);
                self.groups.add(id, self.sum_of(id, number));
            }
        }
    }

    /// Live entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn is_rebuilding(&self) -> bool {
        self.rebuilt_to.is_some()
    }

    pub fn rebuilt_to(&self) -> Option<LocalDot> {
        self.rebuilt_to
    }

    /// Adds the actor with the next number, which is in the table already.
    pub fn push(&mut self, id: ActorId) {
        let former = self.numbers.insert(id, self.len());
        assert!(former.is_none(), "an actor is interned once");
        push_tightly(&mut self.actors, ActorState::default());
    }

    /// Whether all of `first..=last` has been seen. An unknown number has seen nothing.
    pub fn is_seen(&self, number: u32, first: u64, last: u64) -> bool {
        self.actors.get(number as usize).is_some_and(|actor| actor.seen.contains(first, last))
    }

    /// Replaces the context of an actor by one that includes it.
    pub fn set_seen(&mut self, number: u32, seen: Intervals) {
        let id = self.id(number);
        let before = self.sum_of(id, number);
        let former = std::mem::replace(&mut self.actors[number as usize].seen, seen);
        self.gapped.remove(&number);
        let seen = &self.actors[number as usize].seen;
        if seen.has_gaps() {
            self.gapped.insert(number, context_hash(id, seen));
        }
        self.intervals = self.intervals + seen.spans().len() as u64 - former.spans().len() as u64;
        self.change(id, number, before);
    }

    /// Sets the fingerprints of a checkpoint; there are none yet.
    pub fn set_buckets(&mut self, number: u32, buckets: Buckets) {
        let total = buckets.total();
        self.entries += total.live;
        self.groups.add(self.id(number), GroupSum { live: total.hash, ..GroupSum::default() });
        self.actors[number as usize].buckets = buckets;
    }

    /// Records that an actor has a row of buckets that may be out of date.
    pub fn set_unsaved(&mut self, number: u32) {
        self.unsaved.insert(number);
    }

    /// The first actors with buckets to be saved, at most `count_max`.
    pub fn unsaved(&self, count_max: usize) -> Vec<u32> {
        self.unsaved.iter().copied().take(count_max).collect()
    }

    /// Records that the buckets of actors were saved.
    pub fn set_saved(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.unsaved.remove(number);
        }
    }

    /// Begins to build the fingerprints, of which there are none yet.
    pub fn begin_rebuild(&mut self) {
        self.rebuilt_to = Some(LocalDot { actor: 0, seq: 0 });
    }

    /// Records that the rebuild has counted every dot below `next`, or all dots if `None`.
    pub fn advance_rebuild(&mut self, next: Option<LocalDot>) {
        self.rebuilt_to = next;
    }

    /// Counts a live dot of the rebuild.
    pub fn count(&mut self, dot: LocalDot, hash: u128) {
        self.actors[dot.actor as usize].buckets.add(dot.seq, hash);
        self.unsaved.insert(dot.actor);
        self.entries += 1;
        self.groups.add(self.id(dot.actor), GroupSum { live: hash, ..GroupSum::default() });
    }

    /// Adds a dot that became live. During a rebuild, it counts the dots after its position later.
    pub fn add(&mut self, dot: LocalDot, hash: u128) {
        if self.is_counted(dot) {
            self.count(dot, hash);
        }
    }

    /// Removes a dot that is no longer live.
    pub fn remove(&mut self, dot: LocalDot, hash: u128) {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::FingerprintKept) {
            return;
        }
        if self.is_counted(dot) {
            self.actors[dot.actor as usize].buckets.remove(dot.seq, hash);
            self.unsaved.insert(dot.actor);
            self.entries -= 1;
            let live = 0u128.wrapping_sub(hash);
            self.groups.add(self.id(dot.actor), GroupSum { live, ..GroupSum::default() });
        }
    }

    /// The parts of `first..=last` where live dots may be found; nothing is live elsewhere.
    pub fn live_parts(&self, number: u32, first: u64, last: u64) -> Vec<(u64, u64)> {
        match self.actors.get(number as usize) {
            None => Vec::new(),
            Some(_) if !self.is_counted(LocalDot { actor: number, seq: last }) => vec![(first, last)],
            Some(actor) => actor.buckets.live_parts(first, last).collect(),
        }
    }

    /// Whether this dot may be live.
    pub fn may_be_live(&self, dot: LocalDot) -> bool {
        !self.is_counted(dot)
            || self.actors.get(dot.actor as usize).is_some_and(|actor| actor.buckets.any(dot.seq))
    }

    fn is_counted(&self, dot: LocalDot) -> bool {
        self.rebuilt_to.is_none_or(|next| dot < next)
    }
}
