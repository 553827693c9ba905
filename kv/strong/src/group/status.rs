//! How a group stands, as this member sees it.

use raft::ProgressState;
use starling_kv::Engine;

use super::{Group, Stop};
use crate::members::{MemberId, NodeKey};

/// A group as one of its members sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The election the group is in.
    pub term: u64,
    /// Who leads, if it is known.
    pub leader: Option<NodeKey>,
    /// The last entry of this member's log.
    pub last_index: u64,
    /// The last entry that is known to be committed.
    pub commit_index: u64,
    /// The last entry that is applied here.
    pub applied_index: u64,
    /// The entry before the first that the log keeps.
    pub base_index: u64,
    /// Bytes of the log, about.
    pub log_bytes: u64,
    /// Milliseconds since this member heard of its leader; of a leader, since it heard of a majority.
    /// `None`: not since this process started.
    pub heard_ms: Option<u64>,
    /// Whether voters are being changed.
    pub is_changing: bool,
    /// Everybody.
    pub members: Vec<MemberStatus>,
    /// Requests that wait here.
    pub waiting: usize,
    /// Why the group has stopped here, if it has.
    pub stopped: Option<Stop>,
}

/// One member, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its place in the group.
    pub member: MemberId,
    /// Where it lives.
    pub node: NodeKey,
    /// Whether it votes.
    pub is_voter: bool,
    /// How far its log agrees with the leader's; only the leader knows.
    pub matched: Option<u64>,
    /// Whether it is being sent a snapshot; only the leader knows.
    pub is_restoring: bool,
    /// Milliseconds since it was heard of; `None`: not since this process started. Followers hear of the
    /// leader only.
    pub silent_ms: Option<u64>,
}

impl<E: Engine> Group<E> {
    /// How the group stands.
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
            is_changing: self.target.is_some() || self.members.is_joint(),
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
        let is_self = member == self.config.member;
        MemberStatus {
            member,
            node,
            is_voter: self.members.voters.contains(&member),
            matched: progress.map(|progress| progress.matched),
            is_restoring: progress.is_some_and(|progress| progress.state == ProgressState::Snapshot),
            silent_ms: if is_self {
                Some(0)
            } else {
                self.heard.get(&member).map(|at| now_ms.saturating_sub(*at))
            },
        }
    }

    /// Nodes of voters that were silent for so long, as the leader knows.
    pub fn lost(&self, now_ms: u64, after_ms: u64) -> Vec<NodeKey> {
        if !self.is_leader() {
            return Vec::new();
        }
        let heard = |member: &MemberId| self.heard.get(member).copied().unwrap_or(self.opened_ms);
        let is_lost = |member: &&MemberId| {
            **member != self.config.member && now_ms.saturating_sub(heard(member)) >= after_ms
        };
        let lost = self.members.voters.iter().filter(is_lost);
        lost.filter_map(|member| self.members.nodes.get(member)).copied().collect()
    }

    /// Nodes of the voters that this member has no word from: whom to look for if there is no majority.
    pub fn missing(&self, now_ms: u64) -> Vec<NodeKey> {
        let voters = self.members.voters.union(&self.members.outgoing);
        let silent = voters.filter(|member| !self.is_heard(now_ms, **member));
        silent.filter_map(|member| self.members.nodes.get(member)).copied().collect()
    }
}
