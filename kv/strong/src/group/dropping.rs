//! The end of a group: its keyspace is dropped by an entry of its log.
//!
//! ```text
//! leader                                   follower
//!   Drop appended, replicated, committed
//!   applied: commit index sent        ──►  applied
//!   replica closed and kept aside          replica closed and kept aside
//! ```
//! Nothing behind the entry is applied, on any member, so that a member which ends between the application and the removal
//! of its replica finds the entry as the last applied one when it is opened. A member that has not received the commit index,
//! and finds the others gone, is notified by their nodes; see the caller.

use raft::storage::{GetEntriesContext, Storage};
use starling_kv::{Engine, Error};

use super::{ChangeError, Group, Output, PROPOSE_AGAIN_MS, Token};
use crate::machine::Command;

/// The drop that is under way.
#[derive(Default)]
pub struct Dropping {
    /// The requests to do it.
    tokens: Vec<Token>,
    /// When the entry was last proposed, milliseconds.
    proposed_ms: Option<u64>,
    /// Whether the entry is applied.
    is_applied: bool,
    was_reported: bool,
}

impl<E: Engine> Group<E> {
    /// Whether the keyspace was dropped: this member has applied the entry.
    pub fn is_dropped(&self) -> bool {
        self.dropping.is_applied
    }

    pub(super) fn handle_drop(&mut self, now_ms: u64, token: Token) {
        if self.is_leader() {
            self.dropping.tokens.push(token);
            self.propose_drop(now_ms);
        } else {
            self.end_drop(token, Err(ChangeError::NotLeader));
        }
    }

    fn end_drop(&mut self, token: Token, result: Result<(), ChangeError>) {
        self.outputs.push_back(Output::Changed { token, result });
    }

    /// Proposes the entry, again if it found no place in the log.
    pub(super) fn propose_drop(&mut self, now_ms: u64) {
        let is_due = self.dropping.proposed_ms.is_none_or(|at| now_ms >= at.saturating_add(PROPOSE_AGAIN_MS));
        if !self.dropping.tokens.is_empty() && is_due && !self.is_dropped() {
            self.dropping.proposed_ms = Some(now_ms);
            self.enqueue(Command::Drop);
        }
    }

    /// Ends the requests without a result, because this member does not lead: the caller asks the leader.
    pub(super) fn abandon_drop(&mut self) {
        for token in std::mem::take(&mut self.dropping.tokens) {
            self.end_drop(token, Err(ChangeError::NotLeader));
        }
    }

    /// Records that the entry is applied.
    pub(super) fn apply_drop(&mut self, now_ms: u64) {
        self.dropping.is_applied = true;
        self.unapplied.clear();
        self.hurry(now_ms);
        for token in std::mem::take(&mut self.dropping.tokens) {
            self.end_drop(token, Ok(()));
        }
    }

    /// Has the caller close the replica, behind all messages.
    pub(super) fn report_drop(&mut self) {
        if self.is_dropped() && !std::mem::replace(&mut self.dropping.was_reported, true) {
            self.outputs.push_back(Output::Dropped);
        }
    }

    /// Finds out whether an earlier run has applied the entry.
    pub(super) fn find_drop(&mut self) -> Result<(), Error> {
        let (log, applied) = (self.raw.store(), self.machine.applied());
        if applied > log.base_index() && applied <= log.last_index() {
            let entries = log.entries(applied, applied + 1, None, GetEntriesContext::empty(false));
            if let Some(error) = log.failure() {
                return Err(error);
            }
            let drop = Command::Drop.encode();
            self.dropping.is_applied =
                entries.is_ok_and(|entries| entries.iter().any(|entry| entry.data[..] == drop));
        }
        Ok(())
    }
}
