//! Reads without the leader: one round trip to the nearest majority of the voters (Charapko, Ailijiang and
//! Demirbas, "Linearizable Quorum Reads in Paxos", `HotStorage` 2019).
//!
//! Each voter of a majority sends the last index of its log. A state, on any member, that contains all these
//! entries contains every write that was committed before the question: a committed entry is in the log of at
//! least one voter of every majority, so none has a higher index. The voters that count are those of the state
//! itself. If they had been changed since, a majority of the earlier voters would have committed the change, so it
//! would be in one of the logs and therefore in the state. Raft has one such change under way at a time, and
//! a majority of the voters before a change and one of those after it have a member in common.
//!
//! While writes are under way, logs reach further than states, and a read would wait until all these entries are
//! applied. Then the follower asks the leader instead, which knows the commit index.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use starling_kv::Engine;

use super::{Group, GroupMessage, Output};
use crate::api::{Answer, Keys, Read, Refusal};
use crate::codec::Nesting;
use crate::members::{MEMBERS_MAX, MemberId, Members, NodeKey};

/// The last log indexes that members have sent since a read arrived.
#[derive(Clone, Debug, Default)]
pub struct LastIndexes(BTreeMap<MemberId, u64>);

/// A member's answer to a probe: a read that a node without a replica confirms itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Probed {
    /// The number of the answering member.
    pub member: MemberId,
    /// The last index of its log.
    pub last: u64,
    /// The result of the read, if the probe contained one.
    pub found: Option<Found>,
}

/// The result of a read of a member's state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Found {
    /// The last entry that the state contains.
    pub applied: u64,
    /// The voters as of that entry.
    pub voters: BTreeSet<MemberId>,
    /// The previous voters, while a change is under way; see [`Members::outgoing`].
    pub outgoing: BTreeSet<MemberId>,
    /// The read's result.
    pub result: Result<Answer, Refusal>,
}

impl LastIndexes {
    /// Records that a member's log ends with entry `last`.
    pub fn note(&mut self, member: MemberId, last: u64) {
        self.0.insert(member, last);
    }

    /// Whether the logs of a majority of these voters reach no further than entry `applied`.
    fn are_in(&self, members: &Members, applied: u64) -> bool {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::TailsOfTooFew) {
            return self.0.values().any(|last| *last <= applied);
        }
        members.has_majority(|member| self.0.get(&member).is_some_and(|last| *last <= applied))
    }

    /// Whether the state of `found` contains everything that was committed before the first probe.
    pub fn confirm(&self, found: &Found) -> bool {
        self.are_in(&found.members(), found.applied)
    }

    /// Whether further answers may still lead to [`LastIndexes::confirm`].
    pub fn may_confirm(&self, found: &Found) -> bool {
        found.members().has_majority(|member| self.0.get(&member).is_none_or(|last| *last <= found.applied))
    }
}

impl Found {
    fn members(&self) -> Members {
        let (voters, outgoing) = (self.voters.clone(), self.outgoing.clone());
        Members { voters, outgoing, ..Members::default() }
    }

    /// Whether the numbers of voters are within their bounds. Results from a peer are checked with it.
    pub fn is_bounded(&self) -> bool {
        self.voters.len() <= MEMBERS_MAX && self.outgoing.len() <= MEMBERS_MAX
    }
}

/// Whether a node without a replica may confirm this read itself: only a read of one key, which is cheap.
pub fn is_probe(read: &Read) -> bool {
    matches!(read, Read::Range(range) if matches!(range.keys, Keys::One(_)))
}

impl<E: Engine> Group<E> {
    /// Answers a probe: the last index of this member's log, and the result of the read, if there is one. `None` if
    /// the group has stopped, does not know yet what it has promised, the read is not allowed or the engine fails.
    pub fn probe(&mut self, now_ms: u64, read: Option<&Read>) -> Option<Probed> {
        if self.stopped.is_some() || !self.takes_part() || read.is_some_and(|read| !is_probe(read)) {
            return None;
        }
        let found = match read.map(|read| self.machine.read(read)) {
            None => None,
            Some(Err(_)) => return None,
            Some(Ok(result)) => Some(Found {
                applied: self.machine.applied(),
                voters: self.members.voters.clone(),
                outgoing: self.members.outgoing.clone(),
                result,
            }),
        };
        Some(Probed { member: self.config.member, last: self.last_promised(now_ms), found })
    }

    /// Asks all other voters for the last indexes of their logs, for the round with this name. Returns the index of
    /// this member's log.
    pub(super) fn ask_last_indexes(&mut self, now_ms: u64, name: u64) -> LastIndexes {
        let mut last_indexes = LastIndexes::default();
        last_indexes.note(self.config.member, self.last_promised(now_ms));
        let voters = self.members.voters.union(&self.members.outgoing);
        let nodes = voters.filter_map(|voter| self.members.nodes.get(voter));
        for to in nodes.filter(|node| **node != self.config.node) {
            self.outputs.push_back(Output::Send { to: *to, message: GroupMessage::AskLastIndex { name } });
        }
        last_indexes
    }

    /// Sends the last index of this member's log to a member that has reads to serve.
    pub(super) fn on_ask_last_index(&mut self, now_ms: u64, from: NodeKey, name: u64) {
        if !self.takes_part() {
            return;
        }
        let (member, index) = (self.config.member, self.last_promised(now_ms));
        let message = GroupMessage::LastIndex { name, member, index };
        self.outputs.push_back(Output::Send { to: from, message });
    }

    /// Records the last index of a member's log.
    pub(super) fn on_last_index(&mut self, from: NodeKey, name: u64, member: MemberId, index: u64) {
        if self.members.nodes.get(&member) == Some(&from) {
            self.requests.note_last_index(name, member, index);
        }
    }

    /// Completes the rounds for which the logs of a majority reach no further than what is applied here.
    pub(super) fn confirm_by_last_indexes(&mut self) {
        let applied = self.machine.applied();
        let members = &self.members;
        self.requests.confirm_if(applied, |last_indexes| last_indexes.are_in(members, applied));
    }
}
