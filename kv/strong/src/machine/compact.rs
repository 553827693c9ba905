//! Removing what nobody can read any more, in bounded steps: what compaction gave up, rows that a
//! restored snapshot replaced, and dropped groups.

use std::ops::ControlFlow;
use std::sync::Arc;

use starling_kv::engine::{Family, RowOp, View, prefix_end};
use starling_kv::{Engine, Error};

use super::rows::{Listed, Prefix, changes_parts};
use super::state::State;
use super::{GroupId, Machine};
use crate::api::{EventKind, Revision};

/// Changes whose past is removed in one step, about; one revision's at least. A guess: some
/// milliseconds of work.
const SWEEP_CHANGES: usize = 512;
/// Rows removed in one step where all rows go.
const REMOVE_ROWS: usize = 2048;

const FAMILIES: [Family; 4] =
    [Family::StrongNow, Family::StrongPast, Family::StrongChanges, Family::StrongState];

impl<E: Engine> Machine<E> {
    /// Does one bounded step of housekeeping; whether there is more to do.
    ///
    /// While a [`super::Snapshot`] is read, nothing is removed.
    pub fn maintain(&mut self) -> Result<bool, Error> {
        self.check_sound()?;
        if Arc::strong_count(&self.pin) > 1 {
            return Ok(false);
        }
        // One that was given up leaves its rows.
        if self.restoring.take_if(|restoring| restoring.strong_count() == 0).is_some() {
            self.has_leftovers = true;
        }
        if self.has_leftovers {
            self.has_leftovers = self.remove_leftovers()?;
            return Ok(true);
        }
        if self.state.swept == self.state.compacted {
            return Ok(false);
        }
        self.sweep()?;
        Ok(self.state.swept < self.state.compacted)
    }

    /// Removes rows of generations that are neither live nor being restored.
    fn remove_leftovers(&self) -> Result<bool, Error> {
        let mut kept = vec![self.state.generation];
        if self.restoring.is_some() {
            kept.push(self.state.generation_last);
        }
        remove_generations(&self.engine, &self.group, &kept)
    }

    /// Goes on through the changes up to the compacted revision: what one superseded goes, the list
    /// itself goes below that revision.
    fn sweep(&mut self) -> Result<(), Error> {
        let State { swept, compacted, .. } = self.state;
        let mut step = Sweep { rows: self.rows, ops: Vec::new(), bytes: 0, changes: 0, reached: compacted };
        let (from, to) = (self.rows.changes(swept, 0), self.rows.changes(compacted + 1, 0));
        self.engine.view().scan(Family::StrongChanges, &from, Some(&to), &mut |row_key, row| {
            let (at, sub) = changes_parts(row_key)?;
            if sub == 0 && step.changes >= SWEEP_CHANGES {
                step.reached = at - 1;
                return Ok(ControlFlow::Break(()));
            }
            // What the last sweep ended with it has removed already.
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
        self.engine.write(step.ops).inspect_err(|_| (self.state.swept, self.state.bytes) = before)
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

/// Removes all rows of a group that was dropped, in bounded steps; whether there is more to do. A
/// machine opened between two steps is empty.
pub fn destroy<E: Engine>(engine: &E, group: &GroupId) -> Result<bool, Error> {
    let Some(row) = engine.get(Family::StrongState, group)? else {
        return remove_generations(engine, group, &[]);
    };
    let state = State::decode(&row)?;
    let empty = State::new(state.generation_last.saturating_add(1));
    if state != State::new(state.generation) {
        engine.write(vec![RowOp::Put(Family::StrongState, group.to_vec(), empty.encode())])?;
        return Ok(true);
    }
    if remove_generations(engine, group, &[])? {
        return Ok(true);
    }
    engine.write(vec![RowOp::Delete(Family::StrongState, group.to_vec())])?;
    Ok(false)
}

/// Removes some rows of all generations but those; whether there may be more. `kept` rises.
fn remove_generations<E: Engine>(engine: &E, group: &GroupId, kept: &[u32]) -> Result<bool, Error> {
    let mut ops = Vec::new();
    let mut from = Prefix::new(group, 0).bytes().to_vec();
    let ends = kept.iter().map(|generation| Some(Prefix::new(group, *generation)));
    for kept in ends.chain([None]) {
        let to = match &kept {
            Some(prefix) => Some(prefix.bytes().to_vec()),
            None => prefix_end(group),
        };
        for family in FAMILIES {
            engine.view().scan(family, &from, to.as_deref(), &mut |row_key, _| {
                if ops.len() == REMOVE_ROWS {
                    return Ok(ControlFlow::Break(()));
                }
                ops.push(RowOp::Delete(family, row_key.to_vec()));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        match kept.and_then(|prefix| prefix.end()) {
            Some(end) => from = end,
            None => break,
        }
    }
    let is_full = ops.len() == REMOVE_ROWS;
    if !ops.is_empty() {
        engine.write(ops)?;
    }
    Ok(is_full)
}
