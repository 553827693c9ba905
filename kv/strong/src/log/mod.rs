//! A group's log in rows of an engine: the entries, this member's term and vote, and the group's members.
//!
//! The rows are in the engine's journal, or in its other rows where release 0.1.0 has to be able to read them; a log is
//! moved once. Each change is one write of the engine, so that after a crash all or none of it is there. Nothing here is
//! durable before the engine was synced: until then the caller sends nothing that promises durability.
//!
//! A log that has lost what its member has promised (rows missing, damaged or out of order) does not open. The
//! member may have acknowledged the lost entries, and if it voted without them, an acknowledged write could be
//! lost. Such a member has to leave the group, and its node joins again as a new member.

mod aside;
mod end;
mod hosts;
mod place;
mod recent;
mod record;
mod recoveries;
mod storage;
pub(crate) mod witness;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use raft::eraftpb::{Entry, EntryType, HardState, Snapshot};
use starling_kv::engine::{Family, RowOp, View};
use starling_kv::{Engine, Error};

pub use end::{LogEnd, LogPosition};
pub(crate) use recent::entry_bytes;
use recent::{Recent, Terms};
pub(crate) use record::entry_type;
use record::{Base, Tail};
pub use recoveries::{Recoveries, Recovery};
use witness::Witness;

use crate::limits::{INDEX_MAX, TERM_MAX, TERMS_AHEAD_MAX};
use crate::members::{MemberId, Members, NodeKey};

/// Index before the first entry of a new group's log: raft-rs needs an index and a term there.
pub const CREATED_AT: u64 = 1;
/// Terms by which unsafe recovery advances a group, so that no former member has a higher one. A guess.
const FORCED_TERMS: u64 = 1_000_000;
/// Runs of entries removed in one write, at most. A guess: a few milliseconds of work.
const REMOVED_MAX: usize = 4096;

/// Why a log does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A row does not match its checksum, or is out of order.
    #[error("the log is damaged at entry {index}, of {last} that were promised")]
    Damaged {
        /// The first bad entry; 0: the row with the term and vote, or the one with the members.
        index: u64,
        /// The last entry that this member may have acknowledged; 0: unknown.
        last: u64,
    },
    /// Entries at the end of the log are missing.
    #[error("the log ends at entry {found}, but entry {last} was promised")]
    Truncated {
        /// The last entry that was found.
        found: u64,
        /// The last entry that this member may have acknowledged.
        last: u64,
    },
    /// The engine has lost rows that were synced, perhaps of this log.
    #[error("the store has lost writes that were durable, so the log may lack entries that were promised")]
    Lost,
    /// A later version of the program wrote the log.
    #[error("the log has format {found}, this program reads up to {supported}: upgrade this node")]
    Format {
        /// The log's format version.
        found: u8,
        /// The newest format version that this program reads.
        supported: u8,
    },
    /// The engine failed; the log may be sound.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// The position of a snapshot in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// The last entry that it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of that entry.
    pub members: Members,
}

/// The replacement of a log by a snapshot; see [`Log::install`].
pub struct Install {
    base: Base,
    tail: Tail,
    ops: Vec<RowOp>,
}

impl Install {
    /// The row operations that replace the log.
    pub fn rows(&self) -> Vec<RowOp> {
        self.ops.clone()
    }
}

/// A group's log.
pub struct Log<E> {
    engine: E,
    group: [u8; 16],
    /// Where the rows are.
    family: Family,
    tail: Tail,
    base: Base,
    /// The last commit index that was written; 0: none.
    commit: u64,
    /// See [`Log::keep_marks`].
    marks: BTreeMap<MemberId, LogPosition>,
    /// Whether the marks are to be written.
    are_marks_due: bool,
    recoveries: Recoveries,
    terms: Terms,
    recent: Recent,
    /// The first index of each run. There is no gap between runs, and none after the last entry.
    runs: BTreeSet<u64>,
    /// The last entry that the state machine contained when raft-rs began.
    applied: u64,
    /// Bytes of the entries in the log.
    bytes: u64,
    /// The snapshot for followers that need removed entries.
    offer: Option<Snapshot>,
    /// Requests and failures of raft-rs's reads, which have only `&self`.
    asked: RefCell<Asked>,
}

#[derive(Default)]
struct Asked {
    snapshot: bool,
    failure: Option<Error>,
}

impl<E: Engine> Log<E> {
    /// Creates the log of a new group with these members and an empty state machine, as of entry 1. Every initial
    /// member creates the same log. It replaces an existing log of the group, so it must only be called for a group
    /// of which this node has no rows.
    pub fn create(engine: E, group: [u8; 16], members: Members, family: Family) -> Result<Self, Error> {
        let base = Base { index: CREATED_AT, term: 1, members, members_at: CREATED_AT };
        let tail = Tail { term: 1, vote: 0, last_index: CREATED_AT, last_term: 1 };
        Self::begin(engine, group, base, tail, family)
    }

    /// Creates an empty log for a member that was added and waits for a snapshot.
    pub fn join(engine: E, group: [u8; 16], family: Family) -> Result<Self, Error> {
        Self::begin(engine, group, Base::default(), Tail::default(), family)
    }

    fn begin(engine: E, group: [u8; 16], base: Base, tail: Tail, family: Family) -> Result<Self, Error> {
        let log = Self::assemble(engine, group, base, tail, family);
        let rows = vec![log.tail_row(&log.tail), log.base_row(&log.base)];
        if family == Family::Journal {
            place::remove_rows(&log.engine, family, &group)?;
            log.engine.write(rows)?;
            log.engine.write(place::marks(&group).to_vec())?;
        } else {
            log.engine.write(rows)?;
        }
        Ok(log)
    }

    fn assemble(engine: E, group: [u8; 16], base: Base, tail: Tail, family: Family) -> Self {
        Self {
            engine,
            group,
            family,
            terms: Terms::since(base.index, base.term),
            tail,
            base,
            commit: 0,
            marks: BTreeMap::new(),
            are_marks_due: false,
            recoveries: Recoveries::default(),
            recent: Recent::default(),
            runs: BTreeSet::new(),
            applied: 0,
            bytes: 0,
            offer: None,
            asked: RefCell::default(),
        }
    }

    /// Opens the log of an earlier run, and reads every entry; `None` if there is none.
    pub fn open(engine: E, group: [u8; 16]) -> Result<Option<Self>, LogError> {
        if engine.get(Family::Raft, &record::lost_key(&group))?.is_some() {
            return Err(LogError::Lost);
        }
        Self::open_with_loss(engine, group)
    }

    /// As [`Log::open`], even if entries may be missing that the member has promised: only for unsafe recovery.
    pub fn open_with_loss(engine: E, group: [u8; 16]) -> Result<Option<Self>, LogError> {
        let family = place::family(&engine, &group)?;
        let row = |key: &[u8]| engine.get(family, key);
        let (tail_key, base_key) = (record::tail_key(&group), record::base_key(&group));
        let (tail, base) = match (row(&tail_key)?, row(&base_key)?) {
            (None, None) => return Ok(None),
            (Some(tail), Some(base)) => (tail, base),
            _ => return Err(LogError::Damaged { index: 0, last: 0 }),
        };
        // A later version of the program writes these two rows before any others.
        if let Some(found) = [&tail, &base].into_iter().find_map(|row| record::later_version(row)) {
            return Err(LogError::Format { found, supported: record::VERSION });
        }
        let damaged = LogError::Damaged { index: 0, last: 0 };
        let tail: Tail = record::open(&tail_key, &tail).ok_or_else(|| damaged.clone())?;
        let base: Base = record::open(&base_key, &base).ok_or_else(|| damaged.clone())?;
        let commit_key = record::commit_key(&group);
        let commit = row(&commit_key)?;
        let commit = commit.map(|row| record::open(&commit_key, &row).ok_or(damaged.clone())).transpose()?;
        let marks_key = record::marks_key(&group);
        let marks = row(&marks_key)?;
        let marks = marks.map(|row| record::open(&marks_key, &row).ok_or(damaged)).transpose()?;
        let recoveries = Self::read_recoveries(&engine, &group, tail.term)?;
        let mut log = Self::assemble(engine, group, base, tail, family);
        log.recoveries = recoveries;
        log.commit = commit.unwrap_or_default();
        log.marks = marks.unwrap_or_default();
        log.read_entries()?;
        Ok(Some(log))
    }

    fn read_entries(&mut self) -> Result<(), LogError> {
        let last = self.tail.last_index;
        let mut next = self.base.index + 1;
        let mut term = self.base.term;
        let mut bad = false;
        let (from, to) = (record::run_key(&self.group, next), record::run_key(&self.group, INDEX_MAX));
        let (terms, recent, bytes) = (&mut self.terms, &mut self.recent, &mut self.bytes);
        let runs = &mut self.runs;
        self.engine.view().scan(self.family, &from, Some(&to), &mut |key, row| {
            let Some(run) = record::open_run(key, row).filter(|run| run[0].index == next) else {
                bad = true;
                return Ok(ControlFlow::Break(()));
            };
            runs.insert(next);
            for entry in &run {
                bad = entry.term < term || entry.index > last;
                if bad {
                    return Ok(ControlFlow::Break(()));
                }
                term = entry.term;
                terms.set(next, term);
                *bytes += entry_bytes(entry) as u64;
                next += 1;
            }
            recent.append(&run);
            Ok(ControlFlow::Continue(()))
        })?;
        if bad {
            return Err(LogError::Damaged { index: next, last });
        }
        if next != last + 1 {
            return Err(LogError::Truncated { found: next - 1, last });
        }
        let is_consistent = term == self.tail.last_term && term <= self.tail.term.max(self.base.term);
        if is_consistent { Ok(()) } else { Err(LogError::Damaged { index: last, last }) }
    }

    /// Sets where raft-rs begins: the state machine contains the entries up to `applied`.
    pub fn begin_at(&mut self, applied: u64) {
        self.applied = applied;
    }

    /// Writes entries, which replace all from the first one's index on, and term and vote, in one write.
    ///
    /// With entries that change the members, and in the journal with all, it writes `commit`, the commit index, too. A leader proposes a change
    /// only after it has applied the change before, so `commit` covers that one. Hence a member that has acknowledged
    /// a change never forgets that the changes before it are committed, and does not campaign before it has applied
    /// them (Raft, extended version, section 6: it would campaign with former voters, who may elect it beside a
    /// leader of the new ones).
    pub fn append(&mut self, entries: &[Entry], hard: Option<&HardState>, commit: u64) -> Result<(), Error> {
        let mut tail = self.tail;
        if let Some(hard) = hard {
            (tail.term, tail.vote) = (hard.term, hard.vote);
        }
        let mut ops = Vec::new();
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            debug_assert!(first.index > self.base.index, "applied entries are not replaced");
            ops = self.replaced(first.index)?;
            ops.extend(record::runs(entries).map(|run| self.run_row(run)));
            (tail.last_index, tail.last_term) = (last.index, last.term);
            if std::mem::take(&mut self.are_marks_due) {
                ops.push(self.marks_row());
            }
        }
        if ops.is_empty() && tail == self.tail {
            return Ok(());
        }
        ops.push(self.tail_row(&tail));
        let mut written = self.commit;
        let is_change = |entry: &Entry| entry.get_entry_type() != EntryType::EntryNormal;
        if (self.is_in_journal() && commit > written) || entries.iter().any(is_change) {
            written = commit;
            ops.push(self.commit_row(written));
        }
        self.engine.write(ops)?;
        (self.tail, self.commit) = (tail, written);
        if let Some(first) = entries.first() {
            self.runs.split_off(&first.index);
            self.runs.extend(record::runs(entries).map(|run| run[0].index));
        }
        for entry in entries {
            self.terms.set(entry.index, entry.term);
            self.bytes += entry_bytes(entry) as u64;
        }
        self.recent.append(entries);
        Ok(())
    }

    /// Keeps the last committed entry that each member has acknowledged, as far as this one has counted it as the leader:
    /// a member whose log ends before was rolled back. Written with the next entries.
    pub fn keep_marks(&mut self, marks: BTreeMap<MemberId, LogPosition>) {
        self.are_marks_due |= marks != self.marks;
        self.marks = marks;
    }

    /// The marks that were last kept.
    pub fn marks(&self) -> &BTreeMap<MemberId, LogPosition> {
        &self.marks
    }

    /// Writes the commit index to the journal: after a crash, the entries up to it are applied again at once.
    pub fn record_commit(&mut self, commit: u64) -> Result<(), Error> {
        if self.is_in_journal() && commit > self.commit {
            self.engine.write(vec![self.commit_row(commit)])?;
            self.commit = commit;
        }
        Ok(())
    }

    /// The operations that remove the entries from `first` on: runs are removed, and a run that begins before
    /// `first` and ends after it is cut, so that runs never overlap.
    fn replaced(&self, first: u64) -> Result<Vec<RowOp>, Error> {
        let mut ops: Vec<_> = self.runs.range(first..).map(|run| self.removal(*run)).collect();
        let before = self.runs.range(..=first).next_back().copied();
        if let Some(cut) = before.filter(|run| *run < first && first <= self.tail.last_index) {
            ops.push(self.run_row(&self.read(cut, first, u64::MAX)?));
        }
        Ok(ops)
    }

    /// Writes the members as of entry `index`. The caller does so before that entry counts as applied: an entry
    /// that is applied again after a crash must not change the members again.
    pub fn set_members(&mut self, members: Members, index: u64) -> Result<(), Error> {
        let base = Base { members, members_at: index, ..self.base.clone() };
        self.engine.write(vec![self.base_row(&base)])?;
        self.base = base;
        Ok(())
    }

    /// Removes all members but one, as of the end of the log; see [`crate::group::Group::force_alone`]. The term
    /// advances so far beyond this one and `known_term` that this member ignores the former members. A log that was kept
    /// aside no longer is. `known`: the recoveries of the group that the node knows of.
    pub fn force_alone(
        &mut self,
        member: MemberId,
        node: NodeKey,
        known_term: u64,
        known: &Recoveries,
    ) -> Result<(), Error> {
        let next = self.base.members.next.max(member + 1);
        let members =
            Members { voters: [member].into(), nodes: [(member, node)].into(), next, ..Members::default() };
        let base = Base { members, members_at: self.tail.last_index, ..self.base.clone() };
        // What a node knows of the group's term may be wrong.
        let known_term = known_term.min(self.tail.term.saturating_add(TERMS_AHEAD_MAX));
        let term = self.tail.term.max(known_term).saturating_add(FORCED_TERMS);
        if term > TERM_MAX {
            return Err(Error::Corrupt { reason: format!("the group is in term {}", self.tail.term) });
        }
        let tail = Tail { term, vote: 0, ..self.tail };
        let end = LogPosition { term: tail.last_term, index: tail.last_index };
        let recoveries = self.recoveries.later(known).with(end, tail.term);
        self.write_recoveries(&recoveries)?;
        if self.base.members.nodes.len() > 1 {
            self.write_former(&self.base.members.nodes.values().copied().collect())?;
        }
        self.engine.write(vec![self.base_row(&base), self.tail_row(&tail)])?;
        let marks = [record::lost_key(&self.group), record::aside_key(&self.group)];
        self.engine.write(marks.map(|key| RowOp::Delete(Family::Raft, key.to_vec())).into())?;
        (self.base, self.tail, self.recoveries) = (base, tail, recoveries);
        Ok(())
    }

    /// The unsafe recoveries that this member made or knew of when it made one.
    pub fn recoveries(&self) -> &Recoveries {
        &self.recoveries
    }

    /// Removes whole runs of entries up to `index`, a bounded number of them. The state machine must contain these
    /// entries.
    pub fn compact(&mut self, index: u64) -> Result<(), Error> {
        let starts = self.runs.iter().skip(1).copied().chain([self.tail.last_index + 1]);
        let ends = starts.map(|next| next - 1).take_while(|end| *end <= index).take(REMOVED_MAX);
        let (count, index) = ends.fold((0, self.base.index), |(count, _), end| (count + 1, end));
        let Some(term) = self.terms.get(index).filter(|_| index > self.base.index) else { return Ok(()) };
        let left = index - self.base.index;
        let total = (self.tail.last_index - self.base.index).max(1);
        let base = Base { index, term, ..self.base.clone() };
        let mut ops: Vec<_> = self.runs.iter().take(count).map(|run| self.removal(*run)).collect();
        ops.push(self.base_row(&base));
        self.engine.write(ops)?;
        self.base = base;
        self.bytes -= self.bytes * left / total;
        self.runs = self.runs.split_off(&(index + 1));
        self.terms.compact(index);
        self.recent.compact(index);
        Ok(())
    }

    /// The replacement of the whole log by a snapshot. The caller writes its rows together with the state.
    pub fn install(&self, point: &SnapshotPoint, hard: Option<&HardState>) -> Install {
        let mut ops: Vec<_> = self.runs.iter().map(|run| self.removal(*run)).collect();
        let base = Base {
            index: point.index,
            term: point.term,
            members: point.members.clone(),
            members_at: point.index,
        };
        let mut tail = Tail { last_index: point.index, last_term: point.term, ..self.tail };
        if let Some(hard) = hard {
            (tail.term, tail.vote) = (hard.term, hard.vote);
        }
        ops.extend([self.tail_row(&tail), self.base_row(&base)]);
        Install { base, tail, ops }
    }

    /// Completes [`Log::install`] after its rows were written.
    pub fn installed(&mut self, install: Install) {
        self.terms = Terms::since(install.base.index, install.base.term);
        (self.base, self.tail) = (install.base, install.tail);
        self.recent.clear();
        self.runs.clear();
        self.bytes = 0;
    }

    /// Whether [`Log::reconcile`] would make the log fit.
    pub fn can_reconcile(&self, applied: u64) -> Result<bool, Error> {
        let is_known = self.is_in_journal() && applied >= self.base.index;
        Ok(is_known && Witness::load(&self.engine, &self.group)?.is_some())
    }

    /// Makes the log fit the state machine, whose rows may have become durable before the log's: see `witness`. What
    /// is removed from the log was not acknowledged by this member, or conflicts with an entry that is committed.
    pub fn reconcile(&mut self, applied: u64) -> Result<(), Error> {
        let Some(Witness { term, members }) = Witness::load(&self.engine, &self.group)? else {
            return Ok(());
        };
        if applied < self.base.index {
            return Ok(());
        }
        let own = (self.base.members.clone(), self.base.members_at);
        let (members, members_at) = members.filter(|(_, at)| *at > own.1).unwrap_or(own);
        if self.term_of(applied) != Some(term) {
            let (mut install, ahead) =
                (self.install(&SnapshotPoint { index: applied, term, members }, None), self.tail.term < term);
            if ahead {
                (install.tail.term, install.tail.vote) = (term, 0);
                install.ops.push(self.tail_row(&install.tail));
            }
            install.base.members_at = members_at;
            install.ops.push(self.base_row(&install.base));
            self.engine.write(install.rows())?;
            self.installed(install);
        } else if members_at > self.base.members_at {
            self.set_members(members, members_at)?;
        }
        Ok(())
    }

    /// Marks a group's log: the engine has lost rows that were synced, and the log may lack some of them. It does not
    /// open any more.
    pub fn mark_lost(engine: &E, group: &[u8; 16]) -> Result<(), Error> {
        engine.write(vec![RowOp::Put(Family::Raft, record::lost_key(group).to_vec(), Vec::new())])
    }

    /// Removes every row of a group's log.
    pub fn destroy(engine: &E, group: [u8; 16]) -> Result<(), Error> {
        place::remove_rows(engine, Family::Journal, &group)?;
        place::remove_rows(engine, Family::Raft, &group)
    }

    /// Whether the rows are in the engine's journal.
    pub fn is_in_journal(&self) -> bool {
        self.family == Family::Journal
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    fn removal(&self, run: u64) -> RowOp {
        RowOp::Delete(self.family, record::run_key(&self.group, run))
    }

    fn run_row(&self, run: &[Entry]) -> RowOp {
        let key = record::run_key(&self.group, run[0].index);
        let row = record::seal_run(&key, run);
        RowOp::Put(self.family, key, row)
    }

    fn tail_row(&self, tail: &Tail) -> RowOp {
        let key = record::tail_key(&self.group);
        RowOp::Put(self.family, key.to_vec(), record::seal(&key, tail))
    }

    fn base_row(&self, base: &Base) -> RowOp {
        let key = record::base_key(&self.group);
        RowOp::Put(self.family, key.to_vec(), record::seal(&key, base))
    }

    fn commit_row(&self, commit: u64) -> RowOp {
        let key = record::commit_key(&self.group);
        RowOp::Put(self.family, key.to_vec(), record::seal(&key, &commit))
    }

    fn marks_row(&self) -> RowOp {
        let key = record::marks_key(&self.group);
        RowOp::Put(self.family, key.to_vec(), record::seal(&key, &self.marks))
    }

    /// The entry before the first one in the log.
    pub fn base_index(&self) -> u64 {
        self.base.index
    }

    /// The last entry in the log.
    pub fn last_index(&self) -> u64 {
        self.tail.last_index
    }

    /// The term of an entry in the log, or of the one before the first.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        let kept = self.base.index..=self.tail.last_index;
        kept.contains(&index).then(|| self.terms.get(index)).flatten()
    }

    /// The members, and the entry that last changed them.
    pub fn members(&self) -> (&Members, u64) {
        (&self.base.members, self.base.members_at)
    }

    /// Bytes of the entries in the log, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether raft-rs has asked for a snapshot since the last call.
    pub fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.asked.get_mut().snapshot)
    }

    /// Why a read for raft-rs failed, if one did. What raft-rs has done since then must not be used.
    pub fn failure(&self) -> Option<Error> {
        self.asked.borrow().failure.clone()
    }

    /// Sets the snapshot for followers that need removed entries.
    pub fn offer(&mut self, snapshot: Option<Snapshot>) {
        self.offer = snapshot;
    }
}

#[cfg(test)]
mod tests;
