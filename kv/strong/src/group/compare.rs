//! Detects replicas that have diverged. Every [`COMPARE_EVERY`] entries, and when a member returns or another one
//! leads, each member sends the leader its state hash after the same entry. If the hashes differ, the leader puts the
//! hash of the majority of the voters into the log, and each member that has another one stops serving; that may be the
//! leader itself.

use std::collections::BTreeMap;

use starling_kv::Engine;

use super::{Group, GroupMessage, Notice, Output};
use crate::machine::Command;
use crate::members::{MemberId, NodeKey};

/// Entries between two comparisons. A guess: a fault is found within a second under load, at no noticeable cost.
const COMPARE_EVERY: u64 = 4096;

/// A member from which the leader has received nothing for so long has returned with its next message, milliseconds:
/// its machine may have been restored from an older copy. A guess: longer than most stalls.
const AWAY_MS: u64 = 2_000;
/// Time between two comparisons because of members that returned, milliseconds. A guess.
const RETURNS_EVERY_MS: u64 = 10_000;

/// The comparison under way, on the leader.
pub struct Comparing {
    /// Whether a member has returned since the last comparison.
    has_return: bool,
    /// When the next comparison because of members that returned is due at the earliest, milliseconds.
    next_ms: u64,
    /// The last entry at which a comparison was begun.
    begun_at: u64,
    /// The entry after which states are compared.
    index: u64,
    /// The hashes received for it. A lost message is not sent again: the next comparison makes up for it.
    hashes: BTreeMap<MemberId, [u8; 32]>,
    /// Whether the result is known; later hashes are ignored.
    is_decided: bool,
}

impl Comparing {
    pub fn since(applied: u64) -> Self {
        let hashes = BTreeMap::new();
        Self { has_return: false, next_ms: 0, begun_at: applied, index: 0, hashes, is_decided: true }
    }
}

impl<E: Engine> Group<E> {
    /// Begins a comparison, if one is due after entry `applied`.
    pub(super) fn compare_hashes(&mut self, applied: u64) {
        if self.leads && applied / COMPARE_EVERY != self.comparing.begun_at / COMPARE_EVERY {
            self.comparing.begun_at = applied;
            self.enqueue(Command::SendHash);
        }
    }

    /// Records that a message of a member has arrived.
    pub(super) fn note_heard(&mut self, now_ms: u64, member: MemberId) {
        let before = self.heard.insert(member, now_ms);
        self.comparing.has_return |= before.is_none_or(|at| now_ms.saturating_sub(at) >= AWAY_MS);
    }

    /// Begins a comparison on the leader, if a member has returned. The one that returned sends its hash once it has
    /// caught up.
    pub(super) fn compare_returned(&mut self, now_ms: u64) {
        if self.comparing.has_return && now_ms >= self.comparing.next_ms {
            self.comparing.has_return = false;
            self.comparing.next_ms = now_ms + RETURNS_EVERY_MS;
            self.enqueue(Command::SendHash);
        }
    }

    /// Sends the leader this member's hash after an entry.
    pub(super) fn send_hash(&mut self, index: u64) {
        let Some(hash) = self.machine.hash_at(index) else { return };
        if self.is_leader() {
            self.comparing =
                Comparing { index, hashes: BTreeMap::new(), is_decided: false, ..self.comparing };
            self.note_hash(self.config.member, hash);
        } else if let Some(to) = self.leader() {
            self.outputs.push_back(Output::Send { to, message: GroupMessage::Hash { index, hash } });
        }
    }

    pub(super) fn on_hash(&mut self, from: NodeKey, index: u64, hash: [u8; 32]) {
        let Some(member) = self.members.on(&from) else { return };
        if self.is_leader() && index == self.comparing.index && !self.comparing.is_decided {
            self.note_hash(member, hash);
        }
    }

    fn note_hash(&mut self, member: MemberId, hash: [u8; 32]) {
        let comparing = &mut self.comparing;
        comparing.hashes.insert(member, hash);
        let has = |member: MemberId, wanted: &[u8; 32]| comparing.hashes.get(&member) == Some(wanted);
        let agreed = comparing.hashes.values().find(|hash| self.members.has_majority(|id| has(id, hash)));
        let differ = comparing.hashes.values().any(|other| *other != hash);
        let are_all = self.members.nodes.keys().all(|member| comparing.hashes.contains_key(member));
        comparing.is_decided = are_all || (differ && agreed.is_some());
        let index = comparing.index;
        match agreed.copied() {
            Some(hash) if differ => self.enqueue(Command::CheckHash { index, hash }),
            None if differ && are_all => {
                self.outputs.push_back(Output::Notice(Notice::Disagreement(index)));
            }
            _ => {}
        }
    }
}
