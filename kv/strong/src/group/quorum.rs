//! Reads without the leader, one round trip to the nearest majority away from anywhere (Charapko, Ailijiang and
//! Demirbas, "Linearizable Quorum Reads in Paxos", `HotStorage` 2019).
//!
//! A majority of the voters says how far their logs reach. A state that contains all of that, on any member,
//! contains every write that was committed before they were asked: an entry behind it would be in the log of
//! some member of every majority. The voters that count are those of the state itself. Had they changed since,
//! the entry that changed them would be committed too, by a majority of the ones before, and so be in one of
//! those logs, and in the state; Raft has one such change under way at a time, and a majority of the voters
//! before a change and one of those after it have a member in common.
//!
//! Where writes are under way logs reach further than states, and a read would wait for all of them. Then the
//! leader is asked, which knows what is committed.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use starling_kv::Engine;

use super::{Group, GroupMessage, Output};
use crate::api::{Answer, Keys, Read, Refusal};
use crate::codec::Nesting;
use crate::members::{MEMBERS_MAX, MemberId, Members, NodeKey};

/// How far the logs of members reach, as each has said since a read came.
#[derive(Clone, Debug, Default)]
pub struct LastIndexes(BTreeMap<MemberId, u64>);

/// What a member tells somebody who reads for himself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Probed {
    /// Which member.
    pub member: MemberId,
    /// The last entry of its log.
    pub last: u64,
    /// What it found, if it was asked for that too.
    pub found: Option<Found>,
}

/// What a read finds in a member's state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Nesting")]
pub struct Found {
    /// The last entry that the state contains.
    pub applied: u64,
    /// The voters as of that entry.
    pub voters: BTreeSet<MemberId>,
    /// Those before, while a change is under way; see [`Members::outgoing`].
    pub outgoing: BTreeSet<MemberId>,
    /// What.
    pub result: Result<Answer, Refusal>,
}

impl LastIndexes {
    /// This member's log ends with entry `last`.
    pub fn note(&mut self, member: MemberId, last: u64) {
        self.0.insert(member, last);
    }

    /// Whether most logs reach no further than the state after entry `applied`, with these voters.
    fn are_in(&self, members: &Members, applied: u64) -> bool {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::TailsOfTooFew) {
            return self.0.values().any(|last| *last <= applied);
        }
        members.has_majority(|member| self.0.get(&member).is_some_and(|last| *last <= applied))
    }

    /// Whether what was found contains all that was committed before anybody was asked.
    pub fn confirm(&self, found: &Found) -> bool {
        self.are_in(&found.members(), found.applied)
    }

    /// Whether it may still turn out so.
    pub fn may_confirm(&self, found: &Found) -> bool {
        found.members().has_majority(|member| self.0.get(&member).is_none_or(|last| *last <= found.applied))
    }
}

impl Found {
    fn members(&self) -> Members {
        let (voters, outgoing) = (self.voters.clone(), self.outgoing.clone());
        Members { voters, outgoing, ..Members::default() }
    }

    /// Whether a group can be so: what came from a peer has to be.
    pub fn is_bounded(&self) -> bool {
        self.voters.len() <= MEMBERS_MAX && self.outgoing.len() <= MEMBERS_MAX
    }
}

/// Whether somebody outside of the group may read for himself: what one key is, which costs little to find.
pub fn is_probe(read: &Read) -> bool {
    matches!(read, Read::Range(range) if matches!(range.keys, Keys::One(_)))
}

impl<E: Engine> Group<E> {
    /// Tells somebody who reads for himself how far this member's log reaches, and what it finds; `None`: it
    /// serves nothing, or no such read.
    pub fn probe(&mut self, read: Option<&Read>) -> Option<Probed> {
        if self.stopped.is_some() || read.is_some_and(|read| !is_probe(read)) {
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
        Some(Probed { member: self.config.member, last: self.raw.raft.raft_log.last_index(), found })
    }

    /// Asks all other voters how far their logs reach, for the round of this name; how far this one's does.
    pub(super) fn ask_last_indexes(&mut self, name: u64) -> LastIndexes {
        let mut last_indexes = LastIndexes::default();
        last_indexes.note(self.config.member, self.raw.raft.raft_log.last_index());
        let voters = self.members.voters.union(&self.members.outgoing);
        let nodes = voters.filter_map(|voter| self.members.nodes.get(voter));
        for to in nodes.filter(|node| **node != self.config.node) {
            self.outputs.push_back(Output::Send { to: *to, message: GroupMessage::AskLastIndex { name } });
        }
        last_indexes
    }

    /// A member has reads to serve.
    pub(super) fn on_ask_last_index(&mut self, from: NodeKey, name: u64) {
        let (member, index) = (self.config.member, self.raw.raft.raft_log.last_index());
        let message = GroupMessage::LastIndex { name, member, index };
        self.outputs.push_back(Output::Send { to: from, message });
    }

    /// A member has said how far its log reaches.
    pub(super) fn on_last_index(&mut self, from: NodeKey, name: u64, member: MemberId, index: u64) {
        if self.members.nodes.get(&member) == Some(&from) {
            self.requests.note_last_index(name, member, index);
        }
    }

    /// Rounds that most logs have confirmed by now: what they reach is applied.
    pub(super) fn confirm_by_last_indexes(&mut self) {
        let applied = self.machine.applied();
        let members = &self.members;
        self.requests.confirm_if(applied, |last_indexes| last_indexes.are_in(members, applied));
    }
}
