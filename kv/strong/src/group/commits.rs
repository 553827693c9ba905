//! When followers learn what is committed: with the next entries, if some follow soon, so that a busy group
//! says it in no message of its own. A follower on which somebody waits to know says so with each
//! acknowledgement, and is told at once.

use std::collections::BTreeSet;

use starling_kv::Engine;

use super::Group;
use super::wire::{Kind, RaftMessage};
use crate::members::MemberId;

/// A leader that has nothing else to say waits for so long, milliseconds: longer than one client that writes
/// again and again takes for its next write.
const TELL_MS: u64 = 5;
/// What a follower that wants to be told at once says beside an acknowledgement.
const HURRIED: &[u8] = b"h";

/// What the followers have been told.
#[derive(Debug, Default)]
pub struct Commits {
    /// The last entry that all were told to be committed. Who missed it hears of it with the next heartbeat.
    told: u64,
    /// When to say of later ones at the latest.
    tell_at: Option<u64>,
    /// Members on which somebody waits.
    hurried: BTreeSet<MemberId>,
}

impl<E: Engine> Group<E> {
    /// Says beside an acknowledgement whether somebody waits here.
    pub(super) fn mark_hurried(&self, message: &mut RaftMessage) {
        if message.kind == Kind::AppendReply
            && (self.machine.is_watched() || self.requests.wait_for_entries())
        {
            message.context = HURRIED.to_vec();
        }
    }

    /// Takes note of that.
    pub(super) fn note_hurried(&mut self, message: &RaftMessage) {
        if message.kind == Kind::AppendReply {
            if message.context == HURRIED {
                self.commits.hurried.insert(message.from);
            } else {
                self.commits.hurried.remove(&message.from);
            }
        }
    }

    /// All followers are being sent entries, or none, and with them what is committed.
    pub(super) fn told_commits(&mut self) {
        self.commits.told = self.raw.raft.raft_log.committed;
    }

    /// Somebody has to know now.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.commits.tell_at = Some(now_ms);
    }

    /// Tells the followers what is committed, if it is time.
    pub(super) fn tell_commits(&mut self, now_ms: u64) {
        if !self.is_leader() {
            self.commits.hurried.clear();
        }
        if !self.is_leader() || self.commits.told >= self.raw.raft.raft_log.committed {
            self.commits.tell_at = None;
            return;
        }
        let at = *self.commits.tell_at.get_or_insert(now_ms + TELL_MS);
        if at <= now_ms || self.commits.hurried.iter().any(|member| self.members.nodes.contains_key(member)) {
            self.commits.tell_at = None;
            self.raw.raft.bcast_append();
            self.told_commits();
        }
    }

    /// When it will be.
    pub(super) fn commits_at(&self) -> Option<u64> {
        self.commits.tell_at
    }
}
