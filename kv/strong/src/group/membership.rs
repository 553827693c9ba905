//! Whether this node is still a member of the group, and when it may remove its replica.
//!
//! A change of members takes effect on a member when the member has applied it. The members that stay may not
//! know yet that they no longer need the votes of removed members, and without these votes they could elect no
//! leader. So a removed member keeps its replica, and votes, until most of the voters have notified it of its
//! removal. A voter does so only after it has persisted the change. A member that has had no leader for
//! [`LONELY_MS`] asks, because it may have been removed while it could not be reached.

use std::collections::BTreeSet;

use starling_kv::Engine;

use super::{Group, GroupMessage, Output, VOTERS_MAX};
use crate::members::{MemberId, NodeKey};

/// How long a member has no leader before it asks whether it is still a member, and how long before it asks
/// again, milliseconds. A guess: longer than an election takes.
const LONELY_MS: u64 = 5_000;
/// How long a member that knows of its removal waits before it asks again, milliseconds. A guess.
const LEAVE_MS: u64 = 300;

/// The state of the check.
pub struct MembershipCheck {
    /// When this member last asked.
    asked_ms: u64,
    /// Voters that notified this member of its removal.
    notified_by: BTreeSet<NodeKey>,
    /// The write that makes the last change of members durable, until it is.
    change_write: Option<u64>,
}

impl MembershipCheck {
    pub fn new(now_ms: u64) -> Self {
        Self { asked_ms: now_ms, notified_by: BTreeSet::new(), change_write: None }
    }
}

impl<E: Engine> Group<E> {
    /// Whether this member has had no leader for five seconds.
    pub fn is_lonely(&self, now_ms: u64) -> bool {
        let heard = self.heard.get(&self.raw.raft.leader_id).copied().unwrap_or(self.opened_ms);
        !self.is_leader() && now_ms.saturating_sub(heard.max(self.opened_ms)) >= LONELY_MS
    }

    /// Asks these nodes whether this node is still a member: a published location of the group does not name it.
    pub fn check_membership(&mut self, nodes: impl IntoIterator<Item = NodeKey>) {
        let member = self.config.member;
        for to in nodes.into_iter().filter(|node| *node != self.config.node) {
            self.outputs.push_back(Output::Send { to, message: GroupMessage::CheckMembership { member } });
        }
    }

    /// Asks the members that this one knows, if it is lonely or was removed.
    pub(super) fn check_own_membership(&mut self, now_ms: u64) {
        let was_removed = self.members.is_gone(self.config.member);
        let after_ms = if was_removed { LEAVE_MS } else { LONELY_MS };
        if now_ms < self.membership.asked_ms + after_ms || !(was_removed || self.is_lonely(now_ms)) {
            return;
        }
        self.membership.asked_ms = now_ms;
        let nodes = self.members.nodes.values().chain(self.introductions.hosts());
        let nodes: Vec<_> = nodes.copied().collect();
        self.check_membership(nodes);
    }

    /// Syncs a change of members: no removed member is notified before it is durable.
    pub(super) fn sync_change(&mut self) {
        // Raft does not work with a leader that is not a member. Usually it has transferred leadership before.
        if self.is_leader() && self.members.is_gone(self.config.member) {
            self.raw.raft.become_follower(self.raw.raft.term, 0);
        }
        self.written += 1;
        self.outputs.push_back(Output::Sync(self.written));
        self.membership.change_write = Some(self.written);
    }

    /// Treats the members that an earlier run wrote as not durable until the first sync.
    pub(super) fn sync_change_at_start(&mut self) {
        self.membership.change_write = Some(self.written);
    }

    pub(super) fn synced_change(&mut self, write: u64) {
        self.membership.change_write.take_if(|change| *change <= write);
    }

    pub(super) fn on_check_membership(&mut self, from: NodeKey, member: MemberId) {
        if self.members.is_gone(member) && self.membership.change_write.is_none() {
            let voters = self.members.voters.iter().filter_map(|voter| self.members.nodes.get(voter));
            let message = GroupMessage::Gone { member, voters: voters.copied().collect() };
            self.outputs.push_back(Output::Send { to: from, message });
        }
    }

    /// Handles a voter's notification that this member was removed. The voter may be one that this member does not
    /// know: then one that it knows has to name it first.
    pub(super) fn on_gone(&mut self, now_ms: u64, from: NodeKey, member: MemberId, voters: Vec<NodeKey>) {
        if member != self.config.member || voters.len() > VOTERS_MAX || !voters.contains(&from) {
            return;
        }
        if !self.knows(&from) {
            self.ask_members(now_ms);
            return;
        }
        self.introduce_voters(&voters);
        self.membership.notified_by.insert(from);
        self.membership.notified_by.retain(|node| voters.contains(node));
        if self.membership.notified_by.len() > voters.len() / 2 {
            self.outputs.push_back(Output::Removed);
        } else {
            let notified_by = self.membership.notified_by.clone();
            self.check_membership(voters.into_iter().filter(|voter| !notified_by.contains(voter)));
        }
    }
}
