//! The hashes that two replicas compare: the root, actors, and the tree over one actor's sequence numbers.
//! A leaf covers [`SPAN_LEAF`] numbers, a node of level l the numbers `index * width ..` with `width
//! = SPAN_LEAF * SPAN_FANOUT^l`. All hashes but the root's are salted, so that a collision of short
//! hashes does not persist.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeBounds};
use std::sync::atomic::Ordering;

use starling_types::ActorGroup;

use super::Store;
use super::index::ActorState;
use super::restrict::live_rows;
use crate::fingerprint::{Sum, entry_hash, span_hash};
use crate::{ActorId, Engine, Error, Leaf, Root, SPAN_FANOUT, SPAN_LEAF};

impl<E: Engine> Store<E> {
    /// The root; `None` while fingerprints are being rebuilt.
    pub fn root(&self) -> Option<Root> {
        let sum = self.index.sum(ActorGroup::All);
        (!self.index.is_rebuilding())
            .then(|| Root { context: { sum.context }.to_le_bytes(), live: { sum.live }.to_le_bytes() })
    }

    /// Every actor seen, in order of ids: the largest sequence number seen of it, and a hash over
    /// everything seen and live of it.
    pub fn actors(&self, salt: u64) -> Vec<(ActorId, u64, u64)> {
        self.summaries(salt, ..).collect()
    }

    /// Those of [`Store::actors`] that belong to a group.
    pub fn actors_of(&self, group: ActorGroup, salt: u64) -> Vec<(ActorId, u64, u64)> {
        self.summaries(salt, group.ids()).collect()
    }

    fn summaries(
        &self,
        salt: u64,
        ids: impl RangeBounds<ActorId>,
    ) -> impl Iterator<Item = (ActorId, u64, u64)> {
        self.index.seen_actors(ids).map(move |(id, actor)| (id, actor.seen.max(), self.summary(salt, actor)))
    }

    /// Salted hash over everything seen and live of an actor.
    fn summary(&self, salt: u64, actor: &ActorState) -> u64 {
        self.summaries.fetch_add(1, Ordering::Relaxed);
        u64::from_le_bytes(span_hash(salt, actor.seen.spans().iter().copied(), actor.buckets.total()))
    }

    /// The number of actors in a group of which something has been seen.
    pub fn actors_in(&self, group: ActorGroup) -> u64 {
        self.index.sum(group).actors
    }

    /// A salted hash over everything seen and live of each part of a group that has actors, in order of ids. Takes as long
    /// however many actors there are.
    pub fn digests(&self, group: ActorGroup, salt: u64) -> Vec<(ActorGroup, u64)> {
        self.index.parts(group).into_iter().map(|(part, sum)| (part, sum.digest(salt))).collect()
    }

    /// The hashes that version 3 of the protocol compares: those of [`Store::actors`], bound to their actors and added up
    /// by the first byte of the ids, in order; groups without actors are left out. Visits every actor.
    pub fn group_hashes(&self, salt: u64) -> Vec<(u8, u64)> {
        let mut groups = BTreeMap::new();
        // In the order of numbers, in which neighbours are neighbours in memory.
        self.index.for_each_seen(|id, actor| {
            let mut bound = blake3::Hasher::new();
            bound.update(&id.0).update(&self.summary(salt, actor).to_le_bytes());
            let mut short = [0; 8];
            short.copy_from_slice(&bound.finalize().as_bytes()[..8]);
            let group: &mut u64 = groups.entry(id.0[0]).or_default();
            *group = group.wrapping_add(u64::from_le_bytes(short));
        });
        groups.into_iter().collect()
    }

    /// Hashes of the [`SPAN_FANOUT`] children of a node of level 1 or above. Only numbers up to
    /// `limit` count; children wholly beyond it are left out; where nothing is seen the hash is 0.
    /// A node that cannot exist has no children.
    pub fn child_hashes(
        &self,
        actor: ActorId,
        limit: u64,
        level: u8,
        index: u64,
        salt: u64,
    ) -> Result<Vec<u32>, Error> {
        let mut hashes = Vec::new();
        let width = level.checked_sub(1).and_then(|below| SPAN_FANOUT.checked_pow(below.into()));
        let Some(width) = width.and_then(|width| width.checked_mul(SPAN_LEAF)) else { return Ok(hashes) };
        for child in 0..SPAN_FANOUT {
            let first = index.checked_mul(SPAN_FANOUT).and_then(|i| i.checked_add(child)?.checked_mul(width));
            let Some(first) = first.filter(|&first| first <= limit) else { break };
            let last = first.saturating_add(width - 1).min(limit);
            let hash = match self.number(actor) {
                None => 0,
                Some(number) => {
                    let sum = self.sum(number, first, last)?;
                    let seen = self.index.actor(number).seen.within(first, last);
                    let hash = span_hash(salt, seen, sum);
                    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
                }
            };
            hashes.push(hash);
        }
        Ok(hashes)
    }

    /// The sum over the live dots of `first..=last`, where `first` begins a bucket.
    fn sum(&self, number: u32, first: u64, last: u64) -> Result<Sum, Error> {
        let actor = self.index.actor(number);
        let bucket = last / SPAN_LEAF;
        let is_whole = last % SPAN_LEAF == SPAN_LEAF - 1 || actor.seen.max() <= last;
        if is_whole || !actor.buckets.any(last) {
            return Ok(actor.buckets.sum(first / SPAN_LEAF..=bucket));
        }
        let mut sum = Sum::default();
        if bucket > first / SPAN_LEAF {
            sum = actor.buckets.sum(first / SPAN_LEAF..=bucket - 1);
        }
        live_rows(&self.engine.view(), number, bucket * SPAN_LEAF, last, &mut |_, row| {
            sum.add(row.hash);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(sum)
    }

    /// A leaf (a node of level 0) in full, up to `limit`.
    pub fn leaf(&self, actor: ActorId, limit: u64, index: u64, salt: u64) -> Result<Leaf, Error> {
        let mut leaf = Leaf { seen: 0, live: 0, hashes: Vec::new() };
        let (Some(number), Some(first)) = (self.number(actor), index.checked_mul(SPAN_LEAF)) else {
            return Ok(leaf);
        };
        if first > limit {
            return Ok(leaf);
        }
        let last = first.saturating_add(SPAN_LEAF - 1).min(limit);
        for (low, high) in self.index.actor(number).seen.within(first, last) {
            for seq in low..=high {
                leaf.seen |= 1 << (seq - first);
            }
        }
        if leaf.seen != 0 && !self.index.live_parts(number, first, last).is_empty() {
            live_rows(&self.engine.view(), number, first, last, &mut |dot, row| {
                leaf.live |= 1 << (dot.seq - first);
                leaf.hashes.push(entry_hash(salt, row.hash));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(leaf)
    }
}
