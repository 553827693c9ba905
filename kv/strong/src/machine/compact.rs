//! Removal of rows that are not read any more, in bounded steps: compacted revisions, rows that a restored
//! snapshot replaced, and dropped groups.

use std::ops::ControlFlow;
use std::sync::Arc;

use starling_kv::engine::{Family, RowOp, View, prefix_end};
use starling_kv::{Engine, Error};

use super::rows::{Listed, Prefix, changes_parts};
use super::state::State;
use super::{GroupId, Machine};
use crate::api::{EventKind, Revision};
use crate::log::witness;

/// Changes whose superseded records are removed in one step, about. A guess: some milliseconds of work.
const SWEEP_CHANGES: usize = 512;
/// Rows removed in one step of the removal of whole generations, at most. A guess.
const REMOVE_ROWS: usize = 2048;

const FAMILIES: [Family; 4] =
    [Family::StrongNow, Family::StrongPast, Family::StrongChanges, Family::StrongState];

impl<E: Engine> Machine<E> {
    /// Does one bounded step of housekeeping. Returns whether there is more to do. It does not change the replicated
    /// state: replicas that have removed different rows give the same answers, and have the same hash.
    ///
    /// While a [`super::Snapshot`] is read, nothing is removed.
    ///
    /// # Errors
    /// Fails with an error of the engine. The step can be repeated.
    pub fn maintain(&mut self) -> Result<bool, Error> {
        self.check_sound()?;
        if !self.is_untidy() {
            return Ok(false);
        }
        // A restoration that was dropped leaves its rows.
        if self.restoring.take_if(|restoring| restoring.strong_count() == 0).is_some() {
            self.leftovers = Some(Leftovers::default());
        }
        if let Some(mut at) = self.leftovers.take() {
            let more = self.remove_leftovers(&mut at);
            // After an error the removal starts again.
            let again = if more.is_ok() { at } else { Leftovers::default() };
            self.leftovers = (!matches!(more, Ok(false))).then_some(again);
            return more.map(|_| self.is_untidy());
        }
        self.sweep()?;
        Ok(self.is_untidy())
    }

    /// Whether [`Machine::maintain`] has something to do now.
    pub fn is_untidy(&self) -> bool {
        let was_given_up = || self.restoring.as_ref().is_some_and(|restoring| restoring.strong_count() == 0);
        let has_work = self.leftovers.is_some() || self.state.swept < self.state.compacted || was_given_up();
        has_work && !self.has_failed && Arc::strong_count(&self.pin) == 1
    }

    /// Removes rows of generations that are neither live nor being restored.
    fn remove_leftovers(&self, at: &mut Leftovers) -> Result<bool, Error> {
        let mut kept = vec![self.state.generation];
        if self.restoring.is_some() {
            kept.push(self.state.generation_last);
        }
        remove_generations(&self.engine, &self.group, &kept, at)
    }

    /// Sweeps the next changes up to the compacted revision: removes the records that they superseded, and, below
    /// that revision, the lists of changes.
    fn sweep(&mut self) -> Result<(), Error> {
        let State { swept, compacted, .. } = self.state;
        let mut step = Sweep { rows: self.rows, ops: Vec::new(), bytes: 0, changes: 0, reached: compacted };
        let (from, to) = (self.rows.changes(swept, 0), self.rows.changes(compacted + 1, 0));
        self.engine.view().scan(Family::StrongChanges, &from, Some(&to), &mut |row_key, row| {
            let (at, sub) = changes_parts(row_key)?;
            // Below the compacted revision lists are removed, so that the next step continues within a revision.
            if step.changes >= SWEEP_CHANGES && (sub == 0 || at < compacted) {
                step.reached = at - 1;
                return Ok(ControlFlow::Break(()));
            }
            // The records superseded at `swept` were removed by the sweep before.
            if at > swept {
                step.superseded(at, row)?;
            }
            // A watch may begin at the compacted revision itself.
            if at < compacted {
                step.remove(Family::StrongChanges, row_key.to_vec(), row.len());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let before = (self.state.swept, self.state.bytes);
        self.state.swept = step.reached;
        self.state.bytes = self.state.bytes.saturating_sub(step.bytes);
        step.ops.push(self.state_op());
        self.write_rows(step.ops).inspect_err(|_| (self.state.swept, self.state.bytes) = before)
    }
}

struct Sweep {
    rows: Prefix,
    ops: Vec<RowOp>,
    bytes: u64,
    changes: usize,
    reached: Revision,
}

impl Sweep {
    fn superseded(&mut self, at: Revision, row: &[u8]) -> Result<(), Error> {
        for listed in Listed::decode_all(row)? {
            self.changes += 1;
            if listed.superseded != 0 {
                let row_key = self.rows.past(listed.key, listed.superseded);
                self.remove(Family::StrongPast, row_key, listed.superseded_bytes as usize);
            }
            if listed.kind == EventKind::Delete {
                self.remove(Family::StrongPast, self.rows.past(listed.key, at), 0);
            }
        }
        Ok(())
    }

    fn remove(&mut self, family: Family, row_key: Vec<u8>, row_bytes: usize) {
        self.bytes += (row_key.len() + row_bytes) as u64;
        self.ops.push(RowOp::Delete(family, row_key));
    }
}

/// The position at which the removal of whole generations continues, so that removed rows are not scanned again.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Index into [`FAMILIES`].
    family: usize,
    from: Vec<u8>,
}

/// Does one bounded step of the removal of a dropped group's rows. Returns whether there is more to do. A machine
/// that is opened between two steps is empty.
pub fn destroy<E: Engine>(engine: &E, group: &GroupId, at: &mut Leftovers) -> Result<bool, Error> {
    let Some(row) = engine.get(Family::StrongState, group)? else {
        return remove_generations(engine, group, &[], at);
    };
    let state = State::decode(&row)?;
    let empty = State::new(state.generation_last.saturating_add(1));
    if state != State::new(state.generation) {
        engine.write(vec![RowOp::Put(Family::StrongState, group.to_vec(), empty.encode())])?;
        return Ok(true);
    }
    if remove_generations(engine, group, &[], at)? {
        return Ok(true);
    }
    let mut last = vec![RowOp::Delete(Family::StrongState, group.to_vec())];
    last.extend(witness::removals(group));
    engine.write(last)?;
    Ok(false)
}

/// Removes some rows of all generations except those in `kept`, which is in ascending order. Returns whether there
/// may be more.
fn remove_generations<E: Engine>(
    engine: &E,
    group: &GroupId,
    kept: &[u32],
    at: &mut Leftovers,
) -> Result<bool, Error> {
    let mut ops = Vec::new();
    while let Some(family) = FAMILIES.get(at.family) {
        for (from, to) in gaps(group, kept) {
            let from = from.max(at.from.clone());
            if to.as_ref().is_some_and(|to| *to <= from) {
                continue;
            }
            engine.view().scan(*family, &from, to.as_deref(), &mut |row_key, _| {
                if ops.len() == REMOVE_ROWS {
                    at.from = row_key.to_vec();
                    return Ok(ControlFlow::Break(()));
                }
                ops.push(RowOp::Delete(*family, row_key.to_vec()));
                Ok(ControlFlow::Continue(()))
            })?;
            if ops.len() == REMOVE_ROWS {
                engine.write(ops)?;
                return Ok(true);
            }
        }
        *at = Leftovers { family: at.family + 1, from: Vec::new() };
    }
    if !ops.is_empty() {
        engine.write(ops)?;
    }
    Ok(false)
}

/// The ranges of row keys of a group's generations, except those that are kept.
fn gaps(group: &GroupId, kept: &[u32]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let prefixes = kept.iter().map(|generation| Prefix::new(group, *generation));
    let ends = prefixes.clone().map(|prefix| Some(prefix.bytes().to_vec())).chain([prefix_end(group)]);
    let first = Some(Prefix::new(group, 0).bytes().to_vec());
    let begins = [first].into_iter().chain(prefixes.map(|prefix| prefix.end()));
    begins.zip(ends).filter_map(|(from, to)| Some((from?, to))).collect()
}
