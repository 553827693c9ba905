//! The writer's state in memory: contexts and fingerprints of every actor.

use crate::dot::LocalDot;
use crate::fingerprint::{Buckets, Sum, context_hash};
use crate::{ActorId, Intervals};

/// The context and fingerprints of one actor.
#[derive(Clone, Debug)]
pub(super) struct ActorState {
    pub id: ActorId,
    /// Its part of the causal context.
    pub seen: Intervals,
    /// Sums over its live entries.
    pub buckets: Buckets,
    context_hash: u128,
}

/// Contexts and fingerprints, by actor number.
#[derive(Debug, Default)]
pub(super) struct Index {
    actors: Vec<ActorState>,
    /// Wrapping sum of the actors' context hashes.
    context: u128,
    /// Sum over the actors' buckets.
    live: Sum,
    /// While fingerprints are rebuilt: dots below this one are counted, the others not yet.
    rebuilt_to: Option<LocalDot>,
}

impl Index {
    pub fn actors(&self) -> &[ActorState] {
        &self.actors
    }

    pub fn actor(&self, number: u32) -> &ActorState {
        &self.actors[number as usize]
    }

    pub fn context(&self) -> u128 {
        self.context
    }

    pub fn live(&self) -> Sum {
        self.live
    }

    pub fn is_rebuilding(&self) -> bool {
        self.rebuilt_to.is_some()
    }

    pub fn rebuilt_to(&self) -> Option<LocalDot> {
        self.rebuilt_to
    }

    /// Adds the actor with the next number.
    pub fn push(&mut self, id: ActorId) {
        self.actors.push(ActorState {
            id,
            seen: Intervals::new(),
            buckets: Buckets::default(),
            context_hash: 0,
        });
    }

    /// Whether all of `first..=last` has been seen. An unknown number has seen nothing.
    pub fn is_seen(&self, number: u32, first: u64, last: u64) -> bool {
        self.actors.get(number as usize).is_some_and(|actor| actor.seen.contains(first, last))
    }

    /// Replaces the context of an actor by one that includes it.
    pub fn set_seen(&mut self, number: u32, seen: Intervals) {
        let actor = &mut self.actors[number as usize];
        let hash = context_hash(actor.id, &seen);
        self.context = self.context.wrapping_sub(actor.context_hash).wrapping_add(hash);
        actor.context_hash = hash;
        actor.seen = seen;
    }

    /// Sets the fingerprints of a checkpoint.
    pub fn set_buckets(&mut self, number: u32, buckets: Buckets) {
        self.live.merge(buckets.total());
        self.actors[number as usize].buckets = buckets;
    }

    /// Begins to rebuild all fingerprints.
    pub fn begin_rebuild(&mut self) {
        for actor in &mut self.actors {
            actor.buckets = Buckets::default();
        }
        self.live = Sum::default();
        self.rebuilt_to = Some(LocalDot { actor: 0, seq: 0 });
    }

    /// Records that the rebuild has counted every dot below `next`, or all dots if `None`.
    pub fn advance_rebuild(&mut self, next: Option<LocalDot>) {
        self.rebuilt_to = next;
    }

    /// Counts a live dot of the rebuild.
    pub fn count(&mut self, dot: LocalDot, hash: u128) {
        self.actors[dot.actor as usize].buckets.add(dot.seq, hash);
        self.live.add(hash);
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
            self.live.remove(hash);
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
