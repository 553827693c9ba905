//! Whether this member still belongs to the group, and when it may forget it.
//!
//! A change of members counts for a member when it has applied it. Those that stay may not know yet that they
//! need the votes of those that leave no longer: if these were gone, nobody could ever lead again. So who was
//! removed stays, and gives its vote, until most of the voters say that it is gone, each of which has that on
//! its disk. Whoever hears of no leader for long asks: it may have been removed while it could not be reached.

use std::collections::BTreeSet;

use starling_kv::Engine;

use super::{Group, GroupMessage, Output, VOTERS_MAX};
use crate::members::{MemberId, NodeKey};

/// Without a word of a leader for so long, and again after as long, a member asks whether it still is one,
/// milliseconds. A guess: longer than an election takes.
const DOUBT_MS: u64 = 5_000;
/// The same for one that knows that it was removed.
const LEAVE_MS: u64 = 300;

/// What is known of it.
pub struct MembershipCheck {
    /// When this member last asked.
    asked_ms: u64,
    /// Who said that it is gone.
    said: BTreeSet<NodeKey>,
    /// The last change of members is durable when this write is.
    change_write: Option<u64>,
}

impl MembershipCheck {
    pub fn new(now_ms: u64) -> Self {
        Self { asked_ms: now_ms, said: BTreeSet::new(), change_write: None }
    }
}

impl<E: Engine> Group<E> {
    /// Whether this member has not heard of a leader for long.
    pub fn is_lonely(&self, now_ms: u64) -> bool {
        let heard = self.heard.get(&self.raw.raft.leader_id).copied().unwrap_or(self.opened_ms);
        !self.is_leader() && now_ms.saturating_sub(heard.max(self.opened_ms)) >= DOUBT_MS
    }

    /// Asks these nodes whether this member still belongs to the group. To be used where the group is said
    /// to live somewhere else than this member knows.
    pub fn check_membership(&mut self, nodes: impl IntoIterator<Item = NodeKey>) {
        let member = self.config.member;
        for to in nodes.into_iter().filter(|node| *node != self.config.node) {
            self.outputs.push_back(Output::Send { to, message: GroupMessage::Belong { member } });
        }
    }

    /// Asks, where there is reason to.
    pub(super) fn doubt(&mut self, now_ms: u64) {
        let was_removed = self.members.is_gone(self.config.member);
        let after_ms = if was_removed { LEAVE_MS } else { DOUBT_MS };
        if now_ms < self.belonging.asked_ms + after_ms || !(was_removed || self.is_lonely(now_ms)) {
            return;
        }
        self.belonging.asked_ms = now_ms;
        let nodes: Vec<_> = self.members.nodes.values().copied().collect();
        self.check_membership(nodes);
    }

    /// The members have changed: it is not said before it is durable.
    pub(super) fn sync_change(&mut self) {
        // Raft does not go on with a leader that is no member; mostly it has handed over before.
        if self.is_leader() && self.members.is_gone(self.config.member) {
            self.raw.raft.become_follower(self.raw.raft.term, 0);
        }
        self.written += 1;
        self.outputs.push_back(Output::Sync(self.written));
        self.belonging.change_write = Some(self.written);
    }

    /// What an earlier run left may not be durable before this write is.
    pub(super) fn sync_change_at_start(&mut self) {
        self.belonging.change_write = Some(self.written);
    }

    pub(super) fn synced_change(&mut self, write: u64) {
        self.belonging.change_write.take_if(|change| *change <= write);
    }

    pub(super) fn on_belong(&mut self, from: NodeKey, member: MemberId) {
        if self.members.is_gone(member) && self.belonging.change_write.is_none() {
            let voters = self.members.voters.iter().filter_map(|voter| self.members.nodes.get(voter));
            let message = GroupMessage::Gone { member, voters: voters.copied().collect() };
            self.outputs.push_back(Output::Send { to: from, message });
        }
    }

    /// Somebody has seen the entry that removed this member: it is true, also if we have never heard of the
    /// one who says it.
    pub(super) fn on_gone(&mut self, from: NodeKey, member: MemberId, voters: Vec<NodeKey>) {
        if member != self.config.member || voters.len() > VOTERS_MAX || !voters.contains(&from) {
            return;
        }
        self.belonging.said.insert(from);
        self.belonging.said.retain(|node| voters.contains(node));
        if self.belonging.said.len() > voters.len() / 2 {
            self.outputs.push_back(Output::Removed);
        } else {
            let said = self.belonging.said.clone();
            self.check_membership(voters.into_iter().filter(|voter| !said.contains(voter)));
        }
    }
}
