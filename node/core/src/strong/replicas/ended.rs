//! Who may end a replica here with a message: the node that created the group, while the creation may still fail, and the
//! voters of a group that was dropped, most of which have to say so.

use std::collections::BTreeMap;

use starling_kv::Engine;
use starling_strong::group::GroupId;
use starling_strong::machine::DATED;
use starling_strong::members::NodeKey;

use super::super::context::Context;
use super::Replicas;

/// How long after a replica was created its creator may remove it, milliseconds: the longest creation, and a message on a
/// slow link.
const CREATION_MS: u64 = 60_000;
/// Refused groups whose creators are remembered, at most. A guess: more than are created in a minute.
const REFUSED_MAX: usize = 64;

/// Groups that this node was asked to create a replica of and did not, with the nodes that asked: when such a creation
/// fails, this node says so to members which have not been reached.
#[derive(Default)]
pub struct Refused(BTreeMap<GroupId, NodeKey>);

impl<E: Engine> Replicas<E> {
    /// Records who has created the replica of a group, or was refused.
    pub fn note_creator(&mut self, now_ms: u64, group: GroupId, creator: NodeKey) {
        if let Some(replica) = self.open.get_mut(&group) {
            replica.created_by.get_or_insert((creator, now_ms));
            return;
        }
        if self.refused.0.len() >= REFUSED_MAX {
            self.refused.0.pop_first();
        }
        self.refused.0.insert(group, creator);
    }

    /// Handles the end of a group's creation that this node has refused.
    pub fn end_refused(&mut self, cx: &mut Context, group: GroupId, from: NodeKey) {
        if self.refused.0.get(&group) == Some(&from) {
            self.refused.0.remove(&group);
            self.note_dropped(cx, group);
        }
    }

    /// Whether a replica is of a group that this node has just created, and whose creation has failed.
    pub fn is_abandoned(&self, now_ms: u64, group: GroupId, from: NodeKey) -> bool {
        let created_by = self.open.get(&group).and_then(|replica| replica.created_by);
        created_by.is_some_and(|(creator, at_ms)| creator == from && now_ms < at_ms + CREATION_MS)
    }

    /// Records that a node says that a group was dropped. Returns whether most of the voters that the replica here knows
    /// have said so; where they may not be able to read the entry that drops it, whether one member has.
    pub fn dropped_by(&mut self, group: GroupId, from: NodeKey) -> bool {
        let Some(replica) = self.open.get_mut(&group) else { return false };
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::DropBelieved) {
            return true;
        }
        let members = replica.group.members();
        if members.on(&from).is_none() {
            return false;
        }
        if replica.group.version() < DATED {
            return true;
        }
        replica.dropped_by.insert(from);
        let has_said =
            |member| members.nodes.get(&member).is_some_and(|node| replica.dropped_by.contains(node));
        members.has_majority(has_said)
    }
}
