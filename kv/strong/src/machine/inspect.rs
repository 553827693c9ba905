//! The check of a replica's rows, for `starling doctor`: every row of the live generation is read, one at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use starling_kv::Error;
use starling_kv::engine::{Family, View};

use super::GroupId;
use super::rows::{Listed, PREFIX_BYTES, Prefix, Record, changes_parts, past_parts};
use super::state::State;
use crate::api::Revision;

/// Bytes of a lease's id and its tag in a row key, after the prefix.
const LEASE_KEY_BYTES: usize = 9;

/// The result of the check of a replica's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Live keys.
    pub keys: u64,
    /// Superseded records that are kept.
    pub superseded: u64,
    /// What is wrong, each with the number of rows. Empty if the rows are sound.
    pub problems: BTreeMap<&'static str, u64>,
}

impl Inspected {
    fn problem(&mut self, what: &'static str) {
        *self.problems.entry(what).or_default() += 1;
    }
}

/// Reads all rows of a replica on one snapshot, in memory bounded by one row: whether each can be read, is not later than
/// the state, and whether they add up to the size in the state. A group without a state has no rows.
///
/// # Errors
/// Fails with an error of the engine, or if the state cannot be read.
pub fn inspect(view: &impl View, group: &GroupId) -> Result<Inspected, Error> {
    let mut found = Inspected::default();
    let Some(row) = view.get(Family::StrongState, group)? else { return Ok(found) };
    let state = State::decode(&row)?;
    let rows = Prefix::new(group, state.generation);
    let mut bytes = 0;
    for family in [Family::StrongNow, Family::StrongPast, Family::StrongChanges] {
        view.scan(family, rows.bytes(), rows.end().as_deref(), &mut |row_key, row| {
            bytes += (row_key.len() + row.len()) as u64;
            let revision = match family {
                Family::StrongNow => latest(view, rows, &mut found, row_key, row)?,
                Family::StrongPast => superseded(&mut found, row_key, row),
                _ => changes(&mut found, row_key, row),
            };
            if revision > state.revision {
                found.problem("rows are later than the keyspace's revision");
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    lease_keys(view, rows, &mut found)?;
    if bytes != state.bytes {
        found.problem("the rows do not add up to the keyspace's size");
    }
    Ok(found)
}

/// Checks the latest record of a key, and that its lease has it.
fn latest(
    view: &impl View,
    rows: Prefix,
    found: &mut Inspected,
    row_key: &[u8],
    row: &[u8],
) -> Result<Revision, Error> {
    found.keys += 1;
    let Ok(record) = Record::decode(row) else {
        found.problem("keys cannot be read");
        return Ok(0);
    };
    if record.lease != 0 {
        let lease_key = rows.lease_key(record.lease, &row_key[PREFIX_BYTES..]);
        if view.get(Family::StrongState, &lease_key)?.is_none() {
            found.problem("keys are not among those of their lease");
        }
    }
    Ok(record.modified)
}

fn superseded(found: &mut Inspected, row_key: &[u8], row: &[u8]) -> Revision {
    found.superseded += 1;
    match past_parts(row_key) {
        Ok((_, revision))
            if row.is_empty() || Record::decode(row).is_ok_and(|it| it.modified == revision) =>
        {
            revision
        }
        _ => {
            found.problem("superseded records cannot be read");
            0
        }
    }
}

fn changes(found: &mut Inspected, row_key: &[u8], row: &[u8]) -> Revision {
    if let (Ok((revision, _)), Ok(_)) = (changes_parts(row_key), Listed::decode_all(row)) {
        return revision;
    }
    found.problem("lists of changes cannot be read");
    0
}

/// Checks that every key of a lease has this lease.
fn lease_keys(view: &impl View, rows: Prefix, found: &mut Inspected) -> Result<(), Error> {
    let from = rows.lease_keys();
    let to = starling_kv::engine::prefix_end(&from);
    view.scan(Family::StrongState, &from, to.as_deref(), &mut |row_key, _| {
        let parts = row_key[PREFIX_BYTES..].split_at_checked(LEASE_KEY_BYTES);
        let row = parts.map(|(_, key)| view.get(Family::StrongNow, &rows.now(key))).transpose()?.flatten();
        let lease = row.as_deref().and_then(|row| Record::decode(row).ok()).map(|record| record.lease);
        let id = parts.and_then(|(id, _)| id[1..].try_into().ok()).map(i64::from_be_bytes);
        if lease.is_none() || lease != id {
            found.problem("leases have keys that are not attached to them");
        }
        Ok(ControlFlow::Continue(()))
    })
}
