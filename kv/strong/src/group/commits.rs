//! When the leader sends the commit index: with the next entries, if there are some within [`SEND_MS`], so that
//! a busy group needs no separate message for it. A follower with a watch, or with a read that waits for an
//! entry, marks its acknowledgements, and the leader then sends the commit index at once.

use std::collections::BTreeSet;

use starling_kv::Engine;

use super::Group;
use super::wire::{Kind, RaftMessage};
use crate::members::MemberId;

/// How long a leader without new entries waits before it sends the commit index, milliseconds. Longer than a
/// client in a loop of writes takes until its next write.
const SEND_MS: u64 = 5;
/// The context that marks the acknowledgement of a follower that waits for the commit index.
const HURRIED: &[u8] = b"h";

/// What the leader has sent of its commit index.
#[derive(Debug, Default)]
pub struct Commits {
    /// The commit index that was last sent to all followers. A follower that missed it gets it with the next
    /// heartbeat.
    sent: u64,
    /// When a higher one is to be sent at the latest, milliseconds.
    send_at: Option<u64>,
    /// Members whose last acknowledgement was marked: they wait for the commit index.
    hurried: BTreeSet<MemberId>,
}

impl<E: Engine> Group<E> {
    /// Marks an acknowledgement if this member waits for the commit index.
    pub(super) fn mark_hurried(&self, message: &mut RaftMessage) {
        if message.kind == Kind::AppendReply
            && (self.machine.is_watched() || self.requests.wait_for_entries())
        {
            message.context = HURRIED.to_vec();
        }
    }

    /// Records whether an acknowledgement is marked.
    pub(super) fn note_hurried(&mut self, message: &RaftMessage) {
        if message.kind == Kind::AppendReply {
            if message.context == HURRIED {
                self.commits.hurried.insert(message.from);
            } else {
                self.commits.hurried.remove(&message.from);
            }
        }
    }

    /// Records that a message to all followers carries the current commit index.
    pub(super) fn note_commit_index_sent(&mut self) {
        self.commits.sent = self.raw.raft.raft_log.committed;
    }

    /// Makes the commit index due now, because a follower asked for it.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.commits.send_at = Some(now_ms);
    }

    /// Sends the commit index to the followers, if it is due.
    pub(super) fn send_commit_index(&mut self, now_ms: u64) {
        if !self.is_leader() {
            self.commits.hurried.clear();
        }
        if !self.is_leader() || self.commits.sent >= self.raw.raft.raft_log.committed {
            self.commits.send_at = None;
            return;
        }
        let at = *self.commits.send_at.get_or_insert(now_ms + SEND_MS);
        if at <= now_ms || self.commits.hurried.iter().any(|member| self.members.nodes.contains_key(member)) {
            self.commits.send_at = None;
            self.raw.raft.bcast_append();
            self.note_commit_index_sent();
        }
    }

    /// When the commit index is due, milliseconds.
    pub(super) fn commits_at(&self) -> Option<u64> {
        self.commits.send_at
    }
}
