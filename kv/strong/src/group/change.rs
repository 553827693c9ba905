//! Changes of a group's voters, in steps each of which keeps a majority. New members join as learners. Once
//! they have caught up, they replace the old voters in one change, through a joint majority of both (Ongaro's
//! thesis, 4.3).

use std::collections::BTreeSet;

use bincode::{Decode, Encode, config};
use raft::ProgressState;
use starling_kv::Engine;

use super::apply::raft_change;
use super::timing::LEASE_MS;
use super::{Group, Output, Token};
use crate::machine::DATED;
use crate::members::{MEMBERS_MAX, MemberId, NodeKey, is_member_id};

/// Voters of a group, at most.
pub const VOTERS_MAX: usize = 7;
/// Entries that a learner may lack and still count as caught up. A guess: less than a second's writes.
const CAUGHT_UP_ENTRIES: u64 = 1000;
/// How long a change waits until the leader has received messages from most of the new voters, milliseconds. A new
/// leader has messages from few members, and a link that broke takes a moment to come back. Estimate: a few
/// elections, or a new member's first connection on a busy machine.
const MAJORITY_MS: u64 = 3_000;

/// How long a change waits for a new voter that sends nothing, milliseconds. A guess: longer than a node takes to
/// restart.
const NEW_VOTER_MS: u64 = 30_000;

/// One change of the members: the context of an entry in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Change {
    /// New members and their nodes.
    pub added: Vec<(MemberId, NodeKey)>,
    /// Members that become learners.
    pub learners: Vec<MemberId>,
    /// Members that become voters.
    pub voters: Vec<MemberId>,
    /// Members that are removed.
    pub removed: Vec<MemberId>,
}

impl Change {
    pub(super) fn is_bounded(&self) -> bool {
        let lists = [&self.learners, &self.voters, &self.removed];
        let ids = lists.into_iter().flatten().copied().chain(self.added.iter().map(|(member, _)| *member));
        lists.iter().all(|list| list.len() <= MEMBERS_MAX)
            && self.added.len() <= MEMBERS_MAX
            && ids.into_iter().all(is_member_id)
    }
}

/// Why the voters were not changed, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum ChangeError {
    /// This member does not lead; the caller asks the leader.
    #[error("this node does not lead the keyspace")]
    NotLeader,
    /// A later request has replaced the change before it was done. The voters may be those of before.
    #[error("another change of voters has replaced this one")]
    Busy,
    /// The list is empty, longer than [`VOTERS_MAX`], or has a node twice.
    #[error("a keyspace has from 1 to {VOTERS_MAX} voters, each on a node of its own")]
    Number,
    /// The leader received no message from most of the new voters for a few seconds.
    #[error("these voters would have no majority now: most of them do not respond")]
    NoMajority,
    /// Leadership was to be transferred to a node that is not a voter.
    #[error("that node is not a voter of the keyspace")]
    NotAVoter,
    /// A new voter has sent nothing for half a minute. The members are those of before.
    #[error("a new voter has not responded for {} s", NEW_VOTER_MS / 1000)]
    SilentVoter,
    /// The node of a new voter declines, for this reason. The members are those of before. Sent while data version 3 is
    /// in force.
    #[error("{0}")]
    Declined(String),
    /// The node that was to lead has not taken over; the leader is the one of before. Sent while data version 3 is in
    /// force.
    #[error("that node has not taken over: it does not respond, or lacks too much of the log")]
    NotTransferred,
}

/// The voters that a change under way is to reach.
pub(super) struct Target {
    token: Token,
    nodes: BTreeSet<NodeKey>,
    /// The voters of before, which a change that fails returns to.
    before: BTreeSet<NodeKey>,
    /// Why the change has failed: what it has added is being removed.
    failure: Option<ChangeError>,
    /// When it was requested, milliseconds.
    began_ms: u64,
    /// Whether most of these nodes have responded since.
    has_majority: bool,
}

/// A transfer of leadership that is under way.
pub(super) struct Transfer {
    token: Token,
    to: MemberId,
}

impl<E: Engine> Group<E> {
    pub(super) fn handle_set_voters(&mut self, now_ms: u64, token: Token, nodes: Vec<NodeKey>) {
        let listed = nodes.len();
        let nodes: BTreeSet<_> = nodes.into_iter().collect();
        let refusal = if !self.is_leader() {
            Some(ChangeError::NotLeader)
        } else if nodes.len() != listed || nodes.is_empty() || listed > VOTERS_MAX {
            Some(ChangeError::Number)
        } else {
            None
        };
        if let Some(error) = refusal {
            self.finish(token, Err(error));
            return;
        }
        let before = self.members.voters.iter().filter_map(|voter| self.members.nodes.get(voter));
        let before = before.copied().collect();
        let target = Target { token, nodes, before, failure: None, began_ms: now_ms, has_majority: false };
        if let Some(replaced) = self.target.replace(target) {
            self.finish(replaced.token, Err(replaced.failure.unwrap_or(ChangeError::Busy)));
        }
    }

    /// Whether most of these nodes respond, or are new and therefore not expected to yet.
    fn would_decide(&self, now_ms: u64, nodes: &BTreeSet<NodeKey>) -> bool {
        let is_there =
            |node: &&NodeKey| self.members.on(node).is_none_or(|member| self.is_heard(now_ms, member));
        nodes.iter().filter(is_there).count() > nodes.len() / 2
    }

    /// Whether this member has lately received a message from that one.
    pub(super) fn is_heard(&self, now_ms: u64, member: MemberId) -> bool {
        member == self.config.member
            || self.heard.get(&member).is_some_and(|at| now_ms.saturating_sub(*at) < 2 * LEASE_MS)
    }

    /// Ends the change under way without a result, because this member does not lead: the caller asks the leader.
    pub(super) fn abandon_target(&mut self) {
        if let Some(target) = self.target.take() {
            self.finish(target.token, Err(ChangeError::NotLeader));
        }
    }

    /// Ends the transfer under way without a result, because the group stops on this node.
    pub(super) fn abandon_transfer(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            self.finish(transfer.token, Err(ChangeError::NotLeader));
        }
    }

    fn finish(&mut self, token: Token, result: Result<(), ChangeError>) {
        self.outputs.push_back(Output::Changed { token, result });
    }

    /// Why the change under way cannot be done; `None` if it is waited for, or goes on.
    fn obstacle(&self, now_ms: u64, target: &Target) -> Option<ChangeError> {
        let is_silent = |member: MemberId| {
            let heard_ms = self.heard.get(&member).copied().unwrap_or(0).max(target.began_ms);
            !self.members.voters.contains(&member) && now_ms.saturating_sub(heard_ms) >= NEW_VOTER_MS
        };
        if !target.has_majority && now_ms >= target.began_ms + MAJORITY_MS {
            Some(ChangeError::NoMajority)
        } else if target.nodes.iter().filter_map(|node| self.members.on(node)).any(is_silent) {
            Some(ChangeError::SilentVoter)
        } else {
            None
        }
    }

    /// Turns a change that has failed into the removal of what it has added; the client is answered after that. Ends one
    /// that has added nothing, and one that cannot be undone.
    fn undo(&mut self, now_ms: u64, target: Target, error: ChangeError) -> Option<Target> {
        let has_added = self.members.nodes.values().any(|node| !target.before.contains(node));
        if target.failure.is_some() || !has_added {
            self.finish(target.token, Err(target.failure.unwrap_or(error)));
            return None;
        }
        let (nodes, failure) = (target.before.clone(), Some(error));
        Some(Target { nodes, failure, began_ms: now_ms, has_majority: false, ..target })
    }

    /// Takes the next step of the change under way, if one is possible now.
    pub(super) fn drive_target(&mut self, now_ms: u64) {
        let is_settled = self.leads && !self.raw.raft.has_pending_conf() && !self.members.is_joint();
        let Some(mut target) = self.target.take_if(|_| is_settled) else { return };
        target.has_majority |= self.would_decide(now_ms, &target.nodes);
        if let Some(error) = self.obstacle(now_ms, &target) {
            let Some(undone) = self.undo(now_ms, target, error) else { return };
            target = undone;
        }
        if !target.has_majority {
            self.target = Some(target);
            return;
        }
        let on = |node: &NodeKey| self.members.on(node);
        if let Some(node) = target.nodes.iter().find(|node| on(node).is_none()).copied() {
            self.add_learner(node);
            self.target = Some(target);
            return;
        }
        let wanted: BTreeSet<MemberId> = target.nodes.iter().filter_map(on).collect();
        let new: Vec<_> = wanted.difference(&self.members.voters).copied().collect();
        let removed: Vec<_> = self.members.nodes.keys().filter(|id| !wanted.contains(id)).copied().collect();
        if new.is_empty() && removed.is_empty() {
            self.finish(target.token, target.failure.map_or(Ok(()), Err));
            return;
        }
        self.target = Some(target);
        let is_ready = |member: &MemberId| self.has_caught_up(*member) && self.is_heard(now_ms, *member);
        if !new.iter().all(is_ready) {
            return;
        }
        if self.members.voters.is_disjoint(&wanted) {
            // One of the new voters votes beside the old ones first: leadership is transferred to it.
            let voters = new.into_iter().take(1).collect();
            self.propose_change(&Change { voters, ..Change::default() });
        } else if !wanted.contains(&self.config.member) {
            // A leader that is to be removed transfers leadership first, and the new leader finishes the change.
            self.hand_over(&wanted);
        } else {
            self.propose_change(&Change { voters: new, removed, ..Change::default() });
        }
    }

    fn add_learner(&mut self, node: NodeKey) {
        let member = self.members.next;
        if self.members.nodes.len() < MEMBERS_MAX {
            let change = Change { added: vec![(member, node)], learners: vec![member], ..Change::default() };
            self.propose_change(&change);
        }
    }

    fn propose_change(&mut self, change: &Change) {
        let context =
            bincode::encode_to_vec(change, config::standard()).expect("writing to a Vec does not fail");
        // Raft rejects it during a transfer of leadership and with too much uncommitted; the next call of
        // `drive_target` proposes it again.
        let _ = self.raw.propose_conf_change(context, raft_change(change));
    }

    fn has_caught_up(&self, member: MemberId) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        self.raw.raft.prs().get(member).is_some_and(|progress| {
            let has_state = progress.state != ProgressState::Snapshot && progress.matched > 0;
            has_state && progress.matched + CAUGHT_UP_ENTRIES >= last
        })
    }

    /// Transfers leadership to the voter among these whose log reaches furthest.
    fn hand_over(&mut self, among: &BTreeSet<MemberId>) {
        let progress = |member: &MemberId| self.raw.raft.prs().get(*member).map(|progress| progress.matched);
        let best = self.members.voters.intersection(among).max_by_key(|member| progress(member)).copied();
        if let Some(best) = best.filter(|_| self.raw.raft.lead_transferee.is_none()) {
            self.raw.transfer_leader(best);
        }
    }

    /// Invites learners that have acknowledged nothing yet: their nodes may not have created their replicas.
    pub(super) fn invite(&mut self) {
        let is_new = |member: &MemberId| {
            self.raw.raft.prs().get(*member).is_some_and(|progress| progress.matched == 0)
        };
        // Never a voter: one that came back without its log has lost what it promised.
        let is_learner = |member: &MemberId| self.members.learners.contains(member);
        let invited = self.members.nodes.iter().filter(|(member, _)| is_learner(member) && is_new(member));
        let invited: Vec<_> = invited.map(|(member, node)| (*member, *node)).collect();
        for (member, node) in invited {
            self.outputs.push_back(Output::Invite { node, member });
        }
    }

    /// Undoes the change under way if it waits for a new voter on this node, which declines.
    pub(super) fn handle_declined(&mut self, now_ms: u64, node: &NodeKey, reason: String) {
        let is_new = |member: MemberId| !self.members.voters.contains(&member);
        let is_awaited = self.members.on(node).is_some_and(is_new);
        if let Some(target) = self.target.take_if(|target| is_awaited && target.nodes.contains(node)) {
            let is_known = self.version >= DATED;
            let error = if is_known { ChangeError::Declined(reason) } else { ChangeError::SilentVoter };
            self.target = self.undo(now_ms, target, error);
        }
    }

    pub(super) fn handle_transfer(&mut self, token: Token, node: &NodeKey) {
        let to = self.members.on(node).filter(|member| self.members.voters.contains(member));
        match to {
            _ if !self.is_leader() => self.finish(token, Err(ChangeError::NotLeader)),
            None => self.finish(token, Err(ChangeError::NotAVoter)),
            Some(to) => {
                self.raw.transfer_leader(to);
                if let Some(replaced) = self.transfer.replace(Transfer { token, to }) {
                    self.finish(replaced.token, Err(ChangeError::Busy));
                }
            }
        }
    }

    /// Ends the transfer under way once another member leads, or Raft has given it up.
    pub(super) fn drive_transfer(&mut self, now_ms: u64) {
        let raft = &self.raw.raft;
        let is_over = match raft.leader_id {
            0 => self.leaderless_ms(now_ms).is_some_and(|ms| ms >= MAJORITY_MS),
            _ => raft.lead_transferee.is_none(),
        };
        let Some(Transfer { token, to }) = self.transfer.take_if(|_| is_over) else { return };
        let result = if raft.leader_id == to {
            Ok(())
        } else if !self.is_leader() {
            Err(ChangeError::NotLeader)
        } else if self.version >= DATED {
            Err(ChangeError::NotTransferred)
        } else {
            Ok(())
        };
        self.finish(token, result);
    }
}
