//! Nodes that are no members of the strong keyspace's group, and send its members what only members may. Each invariant of the
//! keyspace has to hold as if they were silent.
//!
//! Only links that a member has to a node that it does not know are used: what members say to each other counts.

use rand::seq::IteratorRandom;
use starling_core::strong::StrongMessage;
use starling_kv::MemoryEngine;
use starling_strong::group::wire::{Kind, RaftMessage, WireEntry};
use starling_strong::group::{Group, GroupId, GroupMessage};
use starling_strong::members::NodeKey;

use super::Strong;
use crate::scenario::STRONG_KEYSPACE;
use crate::world::World;

impl Strong {
    /// Each member of the group is sent a forged message by a node that it does not know.
    pub(crate) fn forge(&mut self, world: &mut World) {
        // Before data version 3 members believe strangers.
        if !world.decides_names() {
            return;
        }
        let (members, _) = world.members(STRONG_KEYSPACE);
        for to in members {
            // The node that has created a group may end it while its creation may fail, whichever process of it.
            let id = |node: &usize| world.nodes[*node].record.id;
            let made = |from: &usize| self.makers.iter().any(|maker| id(maker) == id(from));
            let is_stranger = |from: &usize| !made(from) && world.is_stranger(*from, to, STRONG_KEYSPACE);
            let Some(from) = (0..world.nodes.len()).filter(is_stranger).choose(&mut self.rng) else {
                continue;
            };
            let stranger = world.nodes[from].record.id.0;
            let replica = world.replica_of(to, STRONG_KEYSPACE);
            let forged = replica.and_then(|(group, member)| {
                forged(group, member, stranger).into_iter().choose(&mut self.rng)
            });
            if let Some(message) = forged {
                world.hand_over(from, to, message);
            }
        }
    }
}

/// What ended replicas, or stopped them, while members believed anybody.
fn forged(group: GroupId, member: &Group<MemoryEngine>, stranger: NodeKey) -> [StrongMessage; 4] {
    let number = member.member();
    let end = member.log_end();
    let raft = |kind, term| RaftMessage {
        log_term: end.term,
        index: end.index,
        ..RaftMessage::new(kind, member.members().next, number, term)
    };
    let term = member.term() + 1;
    // No program reads it.
    let entry = WireEntry { kind: 0, term, context: Vec::new(), data: vec![0xff; 8] };
    let append = RaftMessage {
        commit: end.index + 1,
        commit_term: term,
        entries: vec![entry],
        ..raft(Kind::Append, term)
    };
    let gone = GroupMessage::Gone { member: number, voters: vec![stranger] };
    let of_member = |message| StrongMessage::Groups(vec![(group, message)]);
    [
        of_member(GroupMessage::Raft(append)),
        of_member(GroupMessage::Raft(raft(Kind::TimeoutNow, term))),
        of_member(gone),
        StrongMessage::Drop { group },
    ]
}
