//! What this member may have promised before its process started: entries that it acknowledged, and votes.
//!
//! Raft assumes that a member never forgets them. A machine that is restored from an older copy does, and with its vote
//! the group could lose acknowledged writes, or elect two leaders in one term. So a member that opens its replica first
//! asks the others what they know:
//!
//! ```text
//! this member                        every other member
//!   AskPromises: end of its log  ->
//!                                <-  Promises: term, last committed entry, end of the log, and what the leader counted
//!                                    as acknowledged by this member
//! ```
//!
//! It takes part in Raft when all voters have replied, or [`WAIT_MS`] after the first reply; and it takes no message of
//! Raft from a member that has not replied, however late. Then
//!
//! - its term is the largest one of all replies, and its vote in that term counts as given;
//! - it votes only for candidates, and campaigns only with a log, that reach the last entry known to be committed, its
//!   *floor*: that is what its log before the copy would have made it do (Raft, extended version, section 5.4.1). Any
//!   candidate that may be elected has this entry, so the group stays available;
//! - for [`LIKELY_MS`] the ends of all logs count as committed, unless a leader knows better: after a power failure nobody
//!   may know that an entry is committed.
//!
//! A leader sends entries only after the last one that a member has acknowledged, and raft-rs takes a rejection of an
//! earlier one for outdated. So the leader that is asked forgets what it counted, if the member's log ends before.
//!
//! What stays impossible: if all other members that had acknowledged an entry are lost, or cannot be reached for longer
//! than the wait, while this one comes back without it, the others elect a leader without it.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use raft::StateRole;
use starling_kv::Engine;

use super::timing::{ELECTION_MS_MAX, TICK_MS};
use super::wire::{Kind, RaftMessage};
use super::{Group, GroupMessage, Notice, Output};
use crate::limits::TERMS_AHEAD_MAX;
use crate::log::LogPosition;
use crate::machine::DATED;
use crate::members::{MemberId, NodeKey};

/// How long a member waits for the replies of voters after the first reply, milliseconds: twice the time after which a
/// leader that has failed is replaced. A guess.
pub const WAIT_MS: u64 = 2 * ELECTION_MS_MAX;

/// How long after the last reply the ends of the others' logs count, milliseconds: the member with the longest log has to
/// be elected by then, and where it has failed again, the others wait for so long. A guess: ten elections.
const LIKELY_MS: u64 = 10_000;

/// Time between two writes of what members have acknowledged, milliseconds. A guess.
const KEEP_EVERY_MS: u64 = 1_000;

/// The reply to [`GroupMessage::AskPromises`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Promises {
    /// The replying member.
    pub member: MemberId,
    /// Its term.
    pub term: u64,
    /// The last entry that it knows to be committed.
    pub committed: LogPosition,
    /// The end of its log; of a leader in office, `committed`: it knows what else counts.
    pub last: LogPosition,
    /// The last committed entry that the asking member had acknowledged, if its log ends before; else 0.
    pub acknowledged: LogPosition,
}

/// A replica that came back with less than it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The last committed entry that it had acknowledged.
    pub acknowledged: u64,
    /// The last entry of its log when it came back.
    pub found: u64,
    /// Whether it still lacks some of them.
    pub is_behind: bool,
}

/// Whether a member takes part in Raft.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It does.
    Takes,
    /// Not before the others have replied.
    Waits,
    /// Not any more; see [`Group::withdraw`].
    Withdrawn,
}

/// What is known about promises of this member, and of others.
pub struct Recall {
    /// Whether an earlier run has left the replica, and this one has handled no input yet.
    is_fresh: bool,
    /// Whether this member has a question.
    asks: bool,
    /// The question's name.
    name: u64,
    part: Part,
    /// The members that have replied.
    replied: BTreeSet<MemberId>,
    /// When each node was last asked, milliseconds.
    asked_ms: BTreeMap<NodeKey, u64>,
    /// When the first reply arrived, milliseconds.
    first_ms: Option<u64>,
    /// The largest term of the replies and of this member, when it asked.
    term: u64,
    /// The last entry that is known to be committed.
    floor: LogPosition,
    /// The latest end of a log. It counts as `floor` until `likely_until_ms`.
    likely: LogPosition,
    likely_until_ms: u64,
    /// The last committed entry that this member had acknowledged and did not have, and the end of its log then.
    lost: Option<(LogPosition, LogPosition)>,
    /// When what members have acknowledged was last kept, milliseconds.
    kept_ms: u64,
    /// On the leader: the last committed entries that members had acknowledged and did not have when they came back.
    marks: BTreeMap<MemberId, LogPosition>,
}

impl Recall {
    /// Nothing is asked yet; `is_fresh`: an earlier run has left the replica, which has other members.
    pub fn new(name: u64, is_fresh: bool) -> Self {
        Self {
            is_fresh,
            asks: false,
            name,
            part: Part::Takes,
            replied: BTreeSet::new(),
            asked_ms: BTreeMap::new(),
            first_ms: None,
            term: 0,
            floor: LogPosition::default(),
            likely: LogPosition::default(),
            likely_until_ms: 0,
            lost: None,
            kept_ms: 0,
            marks: BTreeMap::new(),
        }
    }

    /// Begins anew with another question.
    fn again(&mut self, term: u64) {
        self.name = self.name.wrapping_add(1);
        self.term = self.term.max(term);
        (self.asks, self.part) = (true, Part::Waits);
        self.replied.clear();
        self.asked_ms.clear();
        self.first_ms = None;
    }

    fn floor(&self, now_ms: u64) -> LogPosition {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::PromisesForgotten) {
            return LogPosition::default();
        }
        if now_ms < self.likely_until_ms { self.floor.max(self.likely) } else { self.floor }
    }

    fn note(&mut self, now_ms: u64, reply: &Promises) {
        self.replied.insert(reply.member);
        self.first_ms.get_or_insert(now_ms);
        self.term = self.term.max(reply.term);
        self.floor = self.floor.max(reply.committed);
        self.likely = self.likely.max(reply.last);
        self.likely_until_ms = now_ms + LIKELY_MS;
    }
}

impl<E: Engine> Group<E> {
    /// Asks the other members, if an earlier run has left this replica and all members know the question: as soon as this
    /// one knows that, and before its first input.
    pub(super) fn begin_recall(&mut self) {
        let recall = &self.recall;
        if recall.part == Part::Takes && recall.is_fresh && !recall.asks && self.knows_questions() {
            self.recall.again(self.raw.raft.term);
            self.recall_promises(self.opened_ms);
        }
    }

    /// Records that this member has an input.
    pub(super) fn note_input(&mut self) {
        self.recall.is_fresh = false;
    }

    /// Whether this member takes part in Raft: not before it knows what it may have promised.
    pub fn takes_part(&self) -> bool {
        self.recall.part == Part::Takes
    }

    /// Takes part in Raft no more: another process acts for this member, with another log. The replica stays readable, as
    /// it is. Which of its entries the other one acknowledges is not known here, so there is no way back but a start.
    pub fn withdraw(&mut self) {
        self.recall.part = Part::Withdrawn;
        if self.raw.raft.state != StateRole::Follower {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
        }
    }

    /// Whether the last start of this member's process found less than the member had acknowledged.
    pub fn rollback(&self) -> Option<Rollback> {
        let (acknowledged, found) = self.recall.lost?;
        let is_behind = self.log_position() < acknowledged;
        Some(Rollback { acknowledged: acknowledged.index, found: found.index, is_behind })
    }

    /// The end of this member's log.
    fn log_position(&self) -> LogPosition {
        let log = &self.raw.raft.raft_log;
        LogPosition { term: log.last_term(), index: log.last_index() }
    }

    /// An entry of this member's log; one that was removed from it has term 0.
    fn position_of(&self, index: u64) -> LogPosition {
        LogPosition { term: self.raw.raft.raft_log.term(index).unwrap_or_default(), index }
    }

    /// Whether this member's log has everything that it may have to have in an election.
    pub(super) fn reaches_floor(&self, now_ms: u64) -> bool {
        self.log_position() >= self.recall.floor(now_ms)
    }

    /// The last index that this member's log has, or had before it was rolled back.
    pub(super) fn last_promised(&self, now_ms: u64) -> u64 {
        self.raw.raft.raft_log.last_index().max(self.recall.floor(now_ms).index)
    }

    /// Whether a message of Raft may be handled. If its sender has not replied yet, it is asked.
    pub(super) fn may_step(&mut self, now_ms: u64, from: NodeKey, message: &RaftMessage) -> bool {
        if self.recall.part == Part::Withdrawn {
            return false;
        }
        self.check_own_log(message);
        if self.recall.asks && !self.recall.replied.contains(&message.from) {
            self.ask_promises(now_ms, from);
            return false;
        }
        if self.recall.part == Part::Waits {
            return false;
        }
        match message.kind {
            Kind::Vote | Kind::PreVote => {
                let candidate = LogPosition { term: message.log_term, index: message.index };
                candidate >= self.recall.floor(now_ms)
            }
            Kind::TimeoutNow => self.reaches_floor(now_ms),
            _ => true,
        }
    }

    /// Begins anew if a member in this one's term counts on entries which the log lacks. A machine that is restored
    /// together with its memory goes on without a start.
    fn check_own_log(&mut self, message: &RaftMessage) {
        let last = self.raw.raft.raft_log.last_index();
        let counts_on = match message.kind {
            Kind::Heartbeat => message.commit,
            Kind::AppendReply if self.is_leader() && !message.reject => message.index,
            _ => return,
        };
        let term = self.raw.raft.term;
        if counts_on <= last
            || message.term < term
            || self.recall.part == Part::Waits
            || !self.knows_questions()
        {
            return;
        }
        if self.is_leader() {
            self.raw.raft.become_follower(term, 0);
        }
        self.recall.again(term);
    }

    /// Whether all members know this question, and later ones: data version 3 is in force, or the group has adopted it,
    /// or it was when the log was made.
    pub(super) fn knows_questions(&self) -> bool {
        self.machine.version().max(self.version) >= DATED || self.raw.store().is_in_journal()
    }

    /// Removes the commit index from a message to a member whose log may differ from the leader's before it.
    pub(super) fn distrust_commit(&self, message: &mut RaftMessage) {
        if message.kind == Kind::Heartbeat && self.log_position() < self.recall.floor {
            message.commit = 0;
        }
    }

    fn ask_promises(&mut self, now_ms: u64, to: NodeKey) {
        let asked_ms = self.recall.asked_ms.get(&to);
        if asked_ms.is_some_and(|at| now_ms < at + TICK_MS) {
            return;
        }
        self.recall.asked_ms.insert(to, now_ms);
        let (name, member, last) = (self.recall.name, self.config.member, self.log_position());
        self.outputs
            .push_back(Output::Send { to, message: GroupMessage::AskPromises { name, member, last } });
    }

    /// Asks the voters that have not replied, and ends the wait when it is over. Called once a tick.
    pub(super) fn recall_promises(&mut self, now_ms: u64) {
        if self.recall.part != Part::Waits {
            return;
        }
        let voters = self.members.voters.union(&self.members.outgoing);
        let others = voters.filter(|voter| **voter != self.config.member);
        let left = others.filter(|voter| !self.recall.replied.contains(voter));
        let left: Vec<_> = left.filter_map(|voter| self.members.nodes.get(voter)).copied().collect();
        let is_over = self.recall.first_ms.is_some_and(|at| now_ms >= at + WAIT_MS);
        if left.is_empty() || is_over {
            self.recall.part = Part::Takes;
            self.adopt_term();
        } else {
            for node in left {
                self.ask_promises(now_ms, node);
            }
        }
    }

    /// Advances to the largest term of the replies. This member may have voted in it, and forgotten that.
    fn adopt_term(&mut self) {
        let term = self.recall.term;
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::VoteForgotten) {
            return;
        }
        let raft = &mut self.raw.raft;
        if term > raft.term {
            raft.become_follower(term, 0);
        }
        if raft.vote == 0 && raft.term == term && raft.state == StateRole::Follower {
            raft.vote = raft.id;
        }
    }

    /// Replies to a member whose process has started, and whose log ends with `last`.
    pub(super) fn on_ask_promises(&mut self, from: NodeKey, name: u64, member: MemberId, last: LogPosition) {
        if !last.is_bounded() {
            self.outputs.push_back(Output::Notice(Notice::Impossible { from, what: "the end of a log" }));
            return;
        }
        if self.recall.part == Part::Withdrawn {
            return;
        }
        if self.members.is_gone(member) {
            self.on_check_membership(from, member);
            return;
        }
        if self.members.nodes.get(&member) == Some(&from) {
            self.note_returned(member, from, last);
        }
        let kept = self.raw.store().marks().get(&member).filter(|mark| last < **mark);
        let acknowledged = self.recall.marks.get(&member).max(kept).copied().unwrap_or_default();
        let committed = self.position_of(self.raw.raft.raft_log.committed);
        let knows = self.is_leader() && self.raw.raft.commit_to_current_term();
        let reply = Promises {
            member: self.config.member,
            term: self.raw.raft.term,
            committed,
            last: if knows { committed } else { self.log_position() },
            acknowledged,
        };
        self.outputs.push_back(Output::Send { to: from, message: GroupMessage::Promises { name, reply } });
    }

    /// On the leader, forgets what it has counted as acknowledged by a member whose log ends before that.
    fn note_returned(&mut self, member: MemberId, node: NodeKey, last: LogPosition) {
        let nodes = &self.members.nodes;
        self.recall
            .marks
            .retain(|other, mark| if *other == member { last < *mark } else { nodes.contains_key(other) });
        let progress = self.raw.raft.prs().get(member).filter(|_| self.is_leader());
        let Some(matched) = progress.map(|progress| progress.matched) else { return };
        if last.index >= matched && last.term >= self.position_of(matched).term {
            return;
        }
        let mut mark = self.position_of(matched.min(self.raw.raft.raft_log.committed));
        if mark.term == 0 {
            // It was removed from the log, and so are all entries before it.
            mark.term = last.term;
        }
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(member) {
            progress.become_probe();
            progress.matched = 0;
            progress.committed_index = 0;
            progress.next_idx = last.index.min(matched) + 1;
        }
        if last < mark {
            self.recall.marks.insert(member, mark);
            let (acknowledged, found) = (mark.index, last.index);
            self.outputs.push_back(Output::Notice(Notice::MemberRolledBack { node, acknowledged, found }));
        }
    }

    /// On the leader, keeps what the members have acknowledged beside the log, now and then.
    pub(super) fn keep_marks(&mut self, now_ms: u64) {
        if !self.is_leader() || now_ms < self.recall.kept_ms + KEEP_EVERY_MS {
            return;
        }
        self.recall.kept_ms = now_ms;
        let mut marks = self.raw.store().marks().clone();
        marks.retain(|member, _| self.members.nodes.contains_key(member));
        let committed = self.raw.raft.raft_log.committed;
        for (member, progress) in self.raw.raft.prs().iter() {
            let mark = self.position_of(progress.matched.min(committed));
            if *member != self.config.member && mark.term != 0 {
                let kept = marks.entry(*member).or_default();
                *kept = mark.max(*kept);
            }
        }
        self.raw.mut_store().keep_marks(marks);
    }

    /// Records a member's reply.
    pub(super) fn on_promises(&mut self, now_ms: u64, from: NodeKey, name: u64, reply: &Promises) {
        let positions = [reply.committed, reply.last, reply.acknowledged];
        let is_near = reply.term <= self.term().saturating_add(TERMS_AHEAD_MAX);
        if !is_near || !positions.into_iter().all(LogPosition::is_bounded) {
            self.outputs.push_back(Output::Notice(Notice::Impossible { from, what: "a promise" }));
            return;
        }
        if !self.recall.asks || name != self.recall.name || !self.is_on(reply.member, &from) {
            return;
        }
        self.recall.note(now_ms, reply);
        let found = self.log_position();
        if found < reply.acknowledged && self.recall.lost.is_none_or(|(mark, _)| mark < reply.acknowledged) {
            self.recall.lost = Some((reply.acknowledged, found));
            let (acknowledged, found) = (reply.acknowledged.index, found.index);
            self.outputs.push_back(Output::Notice(Notice::RolledBack { acknowledged, found }));
        }
        if self.recall.part == Part::Takes {
            self.adopt_term();
        }
        self.recall_promises(now_ms);
    }
}
