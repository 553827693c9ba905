//! When followers get the commit index: with the next entries, if some follow soon, so that a busy group sends
//! it in no message of its own. A follower with a watch, or with a read that waits for an entry, marks its
//! acknowledgements, and gets it at once.

use std::collections::BTreeSet;

use starling_kv::Engine;

use super::Group;
use super::wire::{Kind, RaftMessage};
use crate::members::MemberId;

/// How long a leader without new entries waits before it sends the commit index, milliseconds: longer than one
/// client that writes again and again takes for its next write.
const SEND_MS: u64 = 5;
/// The context of an acknowledgement of a follower that waits for the commit index.
const HURRIED: &[u8] = b"h";

/// The commit index as the followers have it.
#[derive(Debug, Default)]
pub struct Commits {
    /// The commit index that was sent to all followers. One that missed it gets it with the next heartbeat.
    sent: u64,
    /// When to send a later one at the latest, milliseconds.
    send_at: Option<u64>,
    /// Members that wait for it.
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

    /// Notes whether an acknowledgement is marked.
    pub(super) fn note_hurried(&mut self, message: &RaftMessage) {
        if message.kind == Kind::AppendReply {
            if message.context == HURRIED {
                self.commits.hurried.insert(message.from);
            } else {
                self.commits.hurried.remove(&message.from);
            }
        }
    }

    /// Entries, or an empty message, go to all followers, and the commit index with them.
    pub(super) fn note_commit_index_sent(&mut self) {
        self.commits.sent = self.raw.raft.raft_log.committed;
    }

    /// Sends the commit index without a wait: a follower asked for it.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.commits.send_at = Some(now_ms);
    }

    /// Sends the commit index to the followers, if it is time.
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

    /// When the commit index is to be sent, milliseconds.
    pub(super) fn commits_at(&self) -> Option<u64> {
        self.commits.send_at
    }
}
