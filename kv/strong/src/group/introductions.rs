//! Whose messages this member handles: those of the nodes of its group's members, as of the last entry that it has
//! applied. While a change is under way, the members before and after it count. The sender is the node that the transport
//! has authenticated; the number of a member in a message proves nothing.
//!
//! A member that was away, or applies late, does not know members that were added meanwhile, and one of them may lead. It
//! handles no message of such a stranger before a member that it knows has named the stranger:
//!
//! ```text
//! stranger              this member            members that it knows
//!   Append        ──►
//!                       AskMembers       ──►
//!                                        ◄──   Members: numbers and nodes
//!   Append        ──►   (handled)
//! ```
//!
//! One of them is enough, and not a majority of the voters: each of them is trusted with the group's contents anyway, and
//! could send the entry that adds the stranger itself. A majority would keep a member out that has only one acquaintance
//! left, and the group without its vote. Members that were introduced may introduce others, so it does not matter how many
//! changes this member has missed.
//!
//! A member that has joined, and waits for its first snapshot, knows no members. It handles messages of the nodes that its
//! invitation named, which the caller has checked.

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::{Engine, Error};

use super::wire::RaftMessage;
use super::{Group, GroupMessage, Notice, Output};
use crate::limits::TERMS_AHEAD_MAX;
use crate::log::Log;
use crate::members::{MEMBERS_MAX, MemberId, Members, NodeKey, is_member_id};

/// Time between two questions, milliseconds, however many strangers send messages. A guess: a few round trips.
const ASK_EVERY_MS: u64 = 500;

/// Members that this one does not know from its log.
#[derive(Default)]
pub struct Introductions {
    /// Nodes of members that were added by entries which this member has not applied.
    members: BTreeMap<MemberId, NodeKey>,
    /// Nodes of which known ones have said that they are voters, without their numbers.
    voters: BTreeSet<NodeKey>,
    /// The nodes that an invitation named; empty as soon as this member knows the members.
    hosts: BTreeSet<NodeKey>,
    /// When members were last asked, milliseconds.
    asked_ms: Option<u64>,
}

impl Introductions {
    /// Of a member that was invited by, and together with, these nodes.
    pub fn by(hosts: impl IntoIterator<Item = NodeKey>) -> Self {
        Self { hosts: hosts.into_iter().take(MEMBERS_MAX + 1).collect(), ..Self::default() }
    }

    /// Those that an earlier run has recorded. `is_alone`: the member knows no other one. After unsafe recovery it believes
    /// its former members when they say that another one of them was recovered after it.
    pub fn open<E: Engine>(log: &Log<E>, is_alone: bool) -> Result<Self, Error> {
        if log.members().0.voters.is_empty() {
            return Ok(Self::by(log.read_hosts()?));
        }
        let voters = if is_alone { log.read_former()? } else { BTreeSet::new() };
        Ok(Self { voters, ..Self::default() })
    }

    /// The nodes of the invitation.
    pub fn hosts(&self) -> &BTreeSet<NodeKey> {
        &self.hosts
    }

    /// The node of a member that was introduced.
    pub fn node_of(&self, member: MemberId) -> Option<&NodeKey> {
        self.members.get(&member)
    }

    /// Forgets what the members of the log make superfluous.
    pub fn settle(&mut self, members: &Members) {
        self.members.retain(|member, _| !members.nodes.contains_key(member));
        self.hosts.clear();
        self.voters.clear();
    }

    fn add(&mut self, member: MemberId, node: NodeKey) {
        if self.members.len() < MEMBERS_MAX || self.members.contains_key(&member) {
            self.members.insert(member, node);
        }
    }
}

impl<E: Engine> Group<E> {
    /// Names the nodes of another invitation to a member that has no snapshot yet.
    pub fn introduce_hosts(&mut self, hosts: impl IntoIterator<Item = NodeKey>) {
        let hosts = Introductions::by(hosts).hosts;
        if self.is_informed() || hosts == self.introductions.hosts {
            return;
        }
        // After a failed write a start falls back to the invitation before; the leader repeats this one.
        let _ = self.raw.store().write_hosts(&hosts);
        self.introductions.hosts = hosts;
    }

    /// Whether strangers have to be introduced. While nodes of release 0.1.0 may be members, which do not know the
    /// question, strangers are believed as that release does.
    fn is_wary(&self) -> bool {
        self.knows_questions()
    }

    /// Whether messages of a node are handled: this member knows it as that of another one, from its log or by an
    /// introduction.
    pub fn knows(&self, node: &NodeKey) -> bool {
        let introductions = &self.introductions;
        self.members.on(node).is_some()
            || introductions.hosts.contains(node)
            || introductions.voters.contains(node)
            || introductions.members.values().any(|known| known == node)
            || !self.is_wary()
    }

    /// Whether a node has the member with this number.
    pub(super) fn is_on(&self, member: MemberId, node: &NodeKey) -> bool {
        self.members.nodes.get(&member).or_else(|| self.introductions.node_of(member)) == Some(node)
    }

    /// Whether a message of Raft is from a member. If its sender is a stranger, members are asked; if it was removed, it
    /// is notified.
    pub(super) fn is_from_member(&mut self, now_ms: u64, from: NodeKey, message: &RaftMessage) -> bool {
        let member = message.from;
        if message.to != self.config.member {
            return false;
        }
        if let Some(node) = self.members.nodes.get(&member) {
            return *node == from && self.is_term_near(from, message);
        }
        if self.members.is_gone(member) {
            self.on_check_membership(from, member);
            return false;
        }
        if !self.is_informed() && self.introductions.hosts.contains(&from) || !self.is_wary() {
            self.introductions.add(member, from);
        }
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::StrangersBelieved) {
            self.introductions.add(member, from);
        }
        if self.introductions.node_of(member) == Some(&from) {
            return self.is_term_near(from, message);
        }
        self.ask_members(now_ms);
        false
    }

    /// Whether a message's term is not absurdly far ahead: a member whose disk or memory is damaged must not use up the
    /// terms of the group.
    fn is_term_near(&mut self, from: NodeKey, message: &RaftMessage) -> bool {
        let is_near = !self.is_informed() || message.term <= self.term().saturating_add(TERMS_AHEAD_MAX);
        if !is_near {
            self.outputs.push_back(Output::Notice(Notice::Impossible { from, what: "a jump of terms" }));
        }
        is_near
    }

    /// Asks the members that this one knows who the members are.
    pub(super) fn ask_members(&mut self, now_ms: u64) {
        let asked_ms = self.introductions.asked_ms;
        if !self.is_wary() || asked_ms.is_some_and(|at| now_ms < at.saturating_add(ASK_EVERY_MS)) {
            return;
        }
        self.introductions.asked_ms = Some(now_ms);
        let known = self.members.nodes.values().chain(self.introductions.members.values());
        let known: BTreeSet<NodeKey> = known.copied().filter(|node| *node != self.config.node).collect();
        for to in known {
            self.outputs.push_back(Output::Send { to, message: GroupMessage::AskMembers });
        }
    }

    /// Sends the members that this one knows from its log.
    pub(super) fn on_ask_members(&mut self, from: NodeKey) {
        if self.is_informed() {
            let members = self.members.nodes.clone().into_iter().collect();
            self.outputs.push_back(Output::Send { to: from, message: GroupMessage::Members { members } });
        }
    }

    /// Records members that a known one has named and that were added after the last entry which this one has applied.
    pub(super) fn on_members(&mut self, from: NodeKey, members: Vec<(MemberId, NodeKey)>) {
        let is_member = |(_, node): (&MemberId, &NodeKey)| *node == from;
        let is_known = self.members.on(&from).is_some() || self.introductions.members.iter().any(is_member);
        if !is_known || !self.is_informed() || members.len() > MEMBERS_MAX {
            return;
        }
        let next = self.members.next;
        let added = members.into_iter().filter(|(member, _)| *member >= next && is_member_id(*member));
        let added: BTreeMap<MemberId, NodeKey> = added.collect();
        // Of two members on one node, only the later one can be there now.
        let is_same = |node: &NodeKey| added.values().any(|other| other == node);
        self.introductions.members.retain(|_, node| !is_same(node));
        for (member, node) in added {
            if self.introductions.members.len() == MEMBERS_MAX {
                self.introductions.members.pop_first();
            }
            self.introductions.add(member, node);
        }
    }

    /// Believes these nodes when they say that this one is no member any more: a node that this member knows has named
    /// them as voters.
    pub(super) fn introduce_voters(&mut self, voters: &[NodeKey]) {
        self.introductions.voters = voters.iter().take(MEMBERS_MAX).copied().collect();
    }
}
