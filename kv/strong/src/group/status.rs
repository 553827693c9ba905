//! The status of a group, as this member sees it.

use raft::ProgressState;
use starling_kv::Engine;

use super::{Group, Stop};
use crate::log::{LogEnd, Recoveries};
use crate::members::{MemberId, NodeKey};

/// The status of a group, as one of its members sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The current term.
    pub term: u64,
    /// The leader's node, if it is known.
    pub leader: Option<NodeKey>,
    /// The last entry of this member's log.
    pub last_index: u64,
    /// The last entry that this member knows to be committed.
    pub commit_index: u64,
    /// The last entry that this member has applied.
    pub applied_index: u64,
    /// The entry before the first one in the log.
    pub base_index: u64,
    /// Bytes of the log's entries, about.
    pub log_bytes: u64,
    /// Milliseconds since the last message from the leader, or since this member led; on the leader, the shortest time
    /// within which a majority has sent a message. `None`: not since this process started.
    pub heard_ms: Option<u64>,
    /// Milliseconds since this member knows of no leader; `None`: it knows of one, or has stopped.
    pub leaderless_ms: Option<u64>,
    /// Whether voters are being changed.
    pub is_changing: bool,
    /// All members.
    pub members: Vec<MemberStatus>,
    /// Requests that this member has not answered yet.
    pub waiting: usize,
    /// Why the group has stopped on this node, if it has.
    pub stopped: Option<Stop>,
}

/// The status of one member, as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member's number.
    pub member: MemberId,
    /// The member's node.
    pub node: NodeKey,
    /// Whether the member votes.
    pub is_voter: bool,
    /// The last entry up to which its log agrees with the leader's; `None` on other members than the leader, and while
    /// the leader has no acknowledgement of it: a new leader begins without, and a silent member sends none.
    pub matched: Option<u64>,
    /// Whether the member needs a snapshot; always `false` on other members than the leader.
    pub is_restoring: bool,
    /// Milliseconds since the last message from the member; on the leader, or since it leads. `None`: none since this
    /// process started, or both follow a leader, and send each other hardly any messages.
    pub silent_ms: Option<u64>,
}

impl<E: Engine> Group<E> {
    /// The status of the group.
    pub fn status(&self, now_ms: u64) -> Status {
        let raft = &self.raw.raft;
        let log = self.raw.store();
        Status {
            term: raft.term,
            leader: self.leader(),
            last_index: log.last_index(),
            commit_index: raft.raft_log.committed,
            applied_index: self.machine.applied(),
            base_index: log.base_index(),
            log_bytes: log.bytes(),
            heard_ms: self.heard_ms(now_ms),
            leaderless_ms: self.leaderless_ms(now_ms),
            is_changing: self.is_changing(),
            members: self
                .members
                .nodes
                .iter()
                .map(|(id, node)| self.member_status(now_ms, *id, *node))
                .collect(),
            waiting: self.waiting(),
            stopped: self.stopped.clone(),
        }
    }

    /// The end of this member's log.
    pub fn log_end(&self) -> LogEnd {
        let log = &self.raw.raft.raft_log;
        let (term, index) = (log.last_term(), log.last_index());
        LogEnd { term, index, committed: log.committed, applied: self.machine.applied() }
    }

    /// The group's unsafe recoveries that this member made or knew of when it made one.
    pub fn recoveries(&self) -> &Recoveries {
        self.raw.store().recoveries()
    }

    /// Whether voters are being changed.
    pub fn is_changing(&self) -> bool {
        self.target.is_some() || self.members.is_joint()
    }

    /// Milliseconds since this member knows of no leader; `None`: it knows of one, or has stopped.
    pub fn leaderless_ms(&self, now_ms: u64) -> Option<u64> {
        let since = self.leaderless_since_ms.filter(|_| self.stopped.is_none());
        since.map(|since| now_ms.saturating_sub(since))
    }

    /// The number of voters, and the nodes of those from which this member has lately received no message. While
    /// there is no leader, voters that campaign exchange messages several times a second.
    pub fn silent_voters(&self, now_ms: u64) -> (usize, Vec<NodeKey>) {
        let voters = &self.members.voters;
        let silent = voters.iter().filter(|member| !self.is_heard(now_ms, **member));
        let silent = silent.filter_map(|member| self.members.nodes.get(member)).copied();
        (voters.len(), silent.collect())
    }

    fn heard_ms(&self, now_ms: u64) -> Option<u64> {
        if !self.is_leader() {
            return self.led_at_ms.map(|at| now_ms.saturating_sub(at));
        }
        let silent_ms = |member: MemberId| match self.heard.get(&member) {
            _ if member == self.config.member => Some(0),
            heard => heard.map(|at| now_ms.saturating_sub(*at)),
        };
        let mut all: Vec<u64> = self.members.nodes.keys().filter_map(|id| silent_ms(*id)).collect();
        all.sort_unstable();
        let is_heard =
            |limit: &u64| self.members.has_majority(|id| silent_ms(id).is_some_and(|ms| ms <= *limit));
        all.into_iter().find(is_heard)
    }

    fn member_status(&self, now_ms: u64, member: MemberId, node: NodeKey) -> MemberStatus {
        let progress = self.raw.raft.prs().get(member).filter(|_| self.is_leader());
        MemberStatus {
            member,
            node,
            is_voter: self.members.voters.contains(&member),
            matched: progress.map(|progress| progress.matched).filter(|matched| *matched > 0),
            is_restoring: progress.is_some_and(|progress| progress.state == ProgressState::Snapshot),
            silent_ms: self.silent_ms(now_ms, member),
        }
    }

    /// See [`MemberStatus::silent_ms`].
    fn silent_ms(&self, now_ms: u64, member: MemberId) -> Option<u64> {
        let heard = self.heard.get(&member).copied();
        let leader = self.raw.raft.leader_id;
        let at_ms = if member == self.config.member {
            Some(now_ms)
        } else if self.is_leader() {
            Some(heard.unwrap_or(0).max(self.led_since_ms))
        } else {
            heard.filter(|_| leader == 0 || leader == member)
        };
        at_ms.map(|at| now_ms.saturating_sub(at))
    }

    /// On the leader, the nodes of the voters that have sent it no message for `after_ms`; empty on other members.
    /// Followers send each other hardly any messages, so only the time of this leadership counts.
    pub fn lost(&self, now_ms: u64, after_ms: u64) -> Vec<NodeKey> {
        self.silent(now_ms, after_ms).map(|(node, _)| node).collect()
    }

    /// [`Group::lost`], each with how long it has sent nothing, milliseconds.
    pub fn silent(&self, now_ms: u64, after_ms: u64) -> impl Iterator<Item = (NodeKey, u64)> {
        let voters = self.members.voters.iter().filter(|_| self.is_leader());
        let others = voters.filter(|member| **member != self.config.member);
        others.filter_map(move |member| {
            let silent_ms = self.silent_ms(now_ms, *member).filter(|ms| *ms >= after_ms)?;
            Some((*self.members.nodes.get(member)?, silent_ms))
        })
    }

    /// Whether this member has heard from its leader, or from enough voters to elect one, within this time. A
    /// member that opened its group later than that has not listened for long enough to deny it.
    pub fn may_have_quorum(&self, now_ms: u64, within_ms: u64) -> bool {
        self.open_for_ms(now_ms) < within_ms || self.has_heard_quorum(now_ms, within_ms)
    }

    /// Whether this member has heard from its leader, or from enough voters to elect one, within this time.
    pub fn has_heard_quorum(&self, now_ms: u64, within_ms: u64) -> bool {
        let is_recent = |at: u64| now_ms.saturating_sub(at) < within_ms;
        let hears = |member| self.heard.get(&member).copied().is_some_and(is_recent);
        self.led_at_ms.is_some_and(is_recent)
            || self.members.has_majority(|member| member == self.config.member || hears(member))
    }

    /// Milliseconds since this process opened the group.
    pub fn open_for_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.opened_ms)
    }

    /// The nodes of the voters from which this member has lately received no message: the ones to look for if there
    /// is no majority.
    pub fn missing(&self, now_ms: u64) -> Vec<NodeKey> {
        let voters = self.members.voters.union(&self.members.outgoing);
        let silent = voters.filter(|member| !self.is_heard(now_ms, **member));
        silent.filter_map(|member| self.members.nodes.get(member)).copied().collect()
    }
}
