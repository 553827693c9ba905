//! The comparison of actors, group by group: which of them differ.

use std::collections::BTreeMap;

use super::{Ending, Replica, Session, Stop};
use crate::message::{ActorSummary, SyncMessage};
use crate::{ActorGroup, ActorId};

/// Groups of actors in one request: their digests fit one answer.
const GROUPS_ASKED_MAX: usize = 256;
/// Actors of this node after which one step compares no further group: some 2 ms of work.
const COMPARED_MAX: u64 = 4096;

impl Session {
    pub(super) fn on_groups(&mut self, theirs: &[(u8, u64)], replica: &impl Replica) {
        let ours: BTreeMap<u8, u64> = replica.groups(self.salt).into_iter().collect();
        let theirs: BTreeMap<u8, u64> = theirs.iter().copied().collect();
        let differing = (0..=u8::MAX).filter(|group| ours.get(group) != theirs.get(group));
        self.groups = differing.map(ActorGroup::First).collect();
        self.by_hash = true;
    }

    pub(super) fn on_actors(&mut self, groups: &[u8], theirs: &[ActorSummary], replica: &impl Replica) {
        if groups.is_empty() {
            self.groups.clear();
            return self.compare_actors(ActorGroup::All, theirs, replica);
        }
        let is_listed = |group: &ActorGroup| groups.iter().any(|byte| ActorGroup::First(*byte) == *group);
        self.groups.retain(|group| !is_listed(group));
        for group in groups.iter().map(|byte| ActorGroup::First(*byte)) {
            self.compare_actors(group, within(theirs, group, |summary| summary.actor), replica);
        }
    }

    /// Handles what the peer has of the first groups that it was asked for. Those that would be too much for one step
    /// are asked for again.
    pub(super) fn on_digests(
        &mut self,
        groups: &[ActorGroup],
        digests: &[(ActorGroup, u64)],
        actors: &[ActorSummary],
        replica: &impl Replica,
    ) -> Result<(), Stop> {
        let (mut parts, mut compared) = (Vec::new(), 0);
        for group in groups {
            if compared > COMPARED_MAX {
                break;
            }
            if self.groups.pop_front() != Some(*group) {
                return Err(Stop::End(Ending::Broken));
            }
            let actors = within(actors, *group, |summary| summary.actor);
            let digests = within(digests, *group, |(part, _)| *part.ids().start());
            let count = replica.actor_count(*group);
            let is_divided = !digests.is_empty() || count > COMPARED_MAX;
            if is_divided && group.part(0).is_some() {
                parts.extend(self.differing(*group, digests, actors, replica));
            } else {
                compared += count;
                self.compare_actors(*group, actors, replica);
            }
        }
        parts.into_iter().rev().for_each(|part| self.groups.push_front(part));
        Ok(())
    }

    /// The parts of a group that are not the same on both sides. If the peer listed its few actors, and this node has too
    /// many for one step, all parts that have any.
    fn differing(
        &self,
        group: ActorGroup,
        digests: &[(ActorGroup, u64)],
        actors: &[ActorSummary],
        replica: &impl Replica,
    ) -> Vec<ActorGroup> {
        let ours: Vec<(ActorGroup, u64)> = replica.digests(group, self.salt);
        let digest = |digests: &[(ActorGroup, u64)], part: ActorGroup| {
            within(digests, part, |(part, _)| *part.ids().start()).first().map(|(_, digest)| *digest)
        };
        let has_actors = |part| !within(actors, part, |summary| summary.actor).is_empty();
        (0..=u8::MAX)
            .filter_map(|byte| group.part(byte))
            .filter(|part| has_actors(*part) || digest(&ours, *part) != digest(digests, *part))
            .collect()
    }

    /// Compares the actors of a group.
    fn compare_actors(&mut self, group: ActorGroup, theirs: &[ActorSummary], replica: &impl Replica) {
        let theirs: BTreeMap<ActorId, &ActorSummary> = theirs.iter().map(|s| (s.actor, s)).collect();
        let ours = replica.actors(group, self.salt);
        let ours: BTreeMap<ActorId, &ActorSummary> = ours.iter().map(|s| (s.actor, s)).collect();
        for (actor, summary) in &theirs {
            let own = ours.get(actor);
            if own != Some(summary) {
                self.on_actor(*actor, own.map_or(0, |own| own.max), summary.max, replica);
            }
        }
        for (actor, own) in ours.iter().filter(|(actor, _)| !theirs.contains_key(actor)) {
            self.on_actor(*actor, own.max, 0, replica);
        }
    }

    /// Asks for the first groups to compare.
    pub(super) fn next_list(&self) -> SyncMessage {
        let (session, salt) = (self.id, self.salt);
        if self.by_hash {
            let groups = self.groups.iter().map(|group| group.ids().start().0[0]).collect();
            return SyncMessage::ListActors { session, salt, groups };
        }
        let groups = self.groups.iter().copied().take(GROUPS_ASKED_MAX).collect();
        SyncMessage::ListGroups { session, salt, groups }
    }
}

/// The items of a group, out of a list in the order of their ids.
fn within<T>(items: &[T], group: ActorGroup, id: impl Fn(&T) -> ActorId) -> &[T] {
    let (first, last) = group.ids().into_inner();
    let from = items.partition_point(|item| id(item) < first);
    let to = items.partition_point(|item| id(item) <= last);
    &items[from..to]
}
