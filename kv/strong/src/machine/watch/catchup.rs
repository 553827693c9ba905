//! Reads of the events that a watch has missed.

use std::ops::ControlFlow;

use starling_kv::engine::{Family, View};
use starling_kv::{Engine, Error};

use super::KeyChange;
use super::watcher::{Watcher, event_bytes};
use crate::api::{Event, EventKind, Revision};
use crate::machine::check::contains;
use crate::machine::rows::{Listed, Prefix, Record, changes_parts, corrupt};

/// Changes visited in one step, about. A guess: a millisecond of work.
const STEP_CHANGES: usize = 1024;

/// The result of a step.
pub(super) struct Step {
    /// Events of whole revisions.
    pub events: Vec<Event>,
    /// The revision up to which all events are in `events`.
    pub reached: Revision,
}

/// Reads a watch's events from its next revision up to `revision`, of about `bytes_max` bytes.
pub(super) fn step<E: Engine>(
    engine: &E,
    rows: Prefix,
    watcher: &Watcher,
    revision: Revision,
    bytes_max: usize,
) -> Result<Step, Error> {
    let view = engine.view();
    let mut step = Step { events: Vec::new(), reached: revision };
    let (mut seen, mut bytes) = (0, 0);
    let (from, to) = (rows.changes(watcher.next, 0), rows.changes(revision + 1, 0));
    view.scan(Family::StrongChanges, &from, Some(&to), &mut |row_key, row| {
        let (at, sub) = changes_parts(row_key)?;
        // A step ends only before the first row of a revision, so that it contains whole revisions.
        if sub == 0 && (seen >= STEP_CHANGES || (bytes >= bytes_max && !step.events.is_empty())) {
            step.reached = at - 1;
            return Ok(ControlFlow::Break(()));
        }
        for listed in Listed::decode_all(row)? {
            seen += 1;
            if watcher.spec.only.is_none_or(|only| only == listed.kind)
                && contains(&watcher.spec.keys, listed.key)
            {
                let event = event(&view, rows, at, &listed, watcher.spec.prev)?;
                bytes += event_bytes(&event);
                step.events.push(event);
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(step)
}

fn event(
    view: &impl View,
    rows: Prefix,
    revision: Revision,
    listed: &Listed<'_>,
    prev: bool,
) -> Result<Event, Error> {
    let new = match listed.kind {
        EventKind::Put => Some(record(view, rows, revision, listed.key)?),
        EventKind::Delete => None,
    };
    // The superseded record may have been removed by a compaction.
    let old = if prev && listed.superseded != 0 {
        view.get(Family::StrongPast, &rows.past(listed.key, listed.superseded))?
    } else {
        None
    };
    KeyChange { revision, key: listed.key, new: new.as_deref(), old: old.as_deref() }.event(prev)
}

/// The record that was written for a key at a revision.
fn record(view: &impl View, rows: Prefix, revision: Revision, key: &[u8]) -> Result<Vec<u8>, Error> {
    if let Some(row) = view.get(Family::StrongNow, &rows.now(key))?
        && Record::decode(&row)?.modified == revision
    {
        return Ok(row);
    }
    let past = view.get(Family::StrongPast, &rows.past(key, revision))?;
    past.ok_or_else(|| corrupt("a change without its record"))
}
