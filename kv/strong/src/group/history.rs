//! Automatic compaction: the leader proposes to discard the revisions beyond the history that is to be kept.
//!
//! Time is no part of the state, so the leader records which revision was the last one at which time. A new leader
//! has no records, and keeps the history for the whole time again. Once half of the quota is used, the time no longer
//! counts, and less and less history is kept: a keyspace whose keys are overwritten does not fill up.

use std::collections::VecDeque;

use starling_kv::Engine;

use super::Group;
use crate::api::{Revision, Write};
use crate::machine::Command;

/// How often the leader checks whether there is something to compact, milliseconds, until half of the quota is used;
/// from then on at each tick. A guess.
const CHECK_MS: u64 = 1_000;
/// Records of time and revision, at most: the history is kept longer by up to one part in so many. A guess.
const RECORDS_MAX: u64 = 360;
/// A compaction discards at least one part in so many of the revisions that are kept, so that a keyspace with few
/// writes gets few entries. A guess.
const STEPS: u64 = 10;

/// How much history of a keyspace is kept, for reads of old revisions and watches that resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The last revisions, which are kept whatever their age while less than half of the quota is used.
    pub revisions: u64,
    /// Age up to which other revisions are kept, milliseconds; 0: nothing is compacted automatically.
    pub ms: u64,
}

impl Default for History {
    /// An hour, and the last 10,000 revisions. Guesses: longer than the outages that watches bridge.
    fn default() -> Self {
        Self { revisions: 10_000, ms: 3_600_000 }
    }
}

/// When which revision was the last one, on the leader.
#[derive(Default)]
pub(super) struct Revisions {
    records: VecDeque<(u64, Revision)>,
    /// When the next check is due, milliseconds.
    due_ms: u64,
    /// The last revision that is older than the history.
    old: Revision,
}

impl Revisions {
    /// Records the revision of now, and returns the last one that is older than `ms`.
    fn note(&mut self, now_ms: u64, revision: Revision, ms: u64) -> Revision {
        if self.records.back().is_none_or(|(at, _)| now_ms >= at + ms / RECORDS_MAX) {
            self.records.push_back((now_ms, revision));
        }
        while let Some((_, old)) = self.records.front().filter(|(at, _)| at.saturating_add(ms) <= now_ms) {
            self.old = *old;
            self.records.pop_front();
        }
        self.old
    }
}

impl<E: Engine> Group<E> {
    /// Proposes a compaction if there is more history than is to be kept. Called on the leader.
    pub(super) fn compact_history(&mut self, now_ms: u64) {
        let History { revisions, ms } = self.config.history;
        if ms == 0 || now_ms < self.revisions.due_ms {
            return;
        }
        let last = self.machine.revision();
        let old = self.revisions.note(now_ms, last, ms);
        // Compacted rows count as used until they are removed.
        if self.machine.is_untidy() {
            return;
        }
        let (used, quota) = (self.machine.bytes(), self.config.machine.quota_bytes);
        let (kept, is_short) = match used {
            _ if used < quota / 2 => (revisions, false),
            _ if used < quota / 4 * 3 => (revisions / 10, true),
            _ if used < quota / 8 * 7 => (revisions / 100, true),
            _ => (0, true),
        };
        if !is_short {
            self.revisions.due_ms = now_ms + CHECK_MS;
        }
        let beyond = last.saturating_sub(kept);
        let revision = if is_short { beyond } else { beyond.min(old) };
        if revision >= self.machine.compacted() + (kept / STEPS).max(1) {
            self.enqueue(Command::Write { id: None, fence: None, write: Write::Compact { revision } });
        }
    }
}
