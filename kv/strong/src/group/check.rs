//! The check of a replica on the disk of a stopped node.

use starling_kv::Engine;

use super::{GroupId, OpenError, Stop};
use crate::log::{CREATED_AT, Log};
use crate::machine::{Config, Machine};

/// Why a replica that an earlier run left would not serve when its node starts; `None` if it would. Reads what
/// [`super::Group::open`] reads, and writes nothing.
pub fn failure<E: Engine>(engine: &E, group: GroupId) -> Option<String> {
    match open(engine, group) {
        Ok(machine) => machine?.diverged().map(|_| Stop::Diverged.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn open<E: Engine>(engine: &E, group: GroupId) -> Result<Option<Machine<E>>, OpenError> {
    let Some(log) = Log::open(engine.clone(), group)? else { return Ok(None) };
    let machine = Machine::open(engine.clone(), group, Config::default())?;
    let applied = if is_new(&log, &machine) { CREATED_AT } else { machine.applied() };
    if !log.can_reconcile(applied)? {
        fits(&log, applied)?;
    }
    Ok(Some(machine))
}

/// Whether the first entry of a new group, which has no command, is not applied yet.
pub(super) fn is_new<E: Engine>(log: &Log<E>, machine: &Machine<E>) -> bool {
    machine.applied() == 0 && log.base_index() == CREATED_AT
}

/// Fails unless the log continues from the last entry that the state machine has applied.
pub(super) fn fits<E: Engine>(log: &Log<E>, applied: u64) -> Result<(), OpenError> {
    let kept = log.base_index()..=log.last_index();
    if kept.contains(&applied) {
        return Ok(());
    }
    Err(OpenError::Unfit(format!("entry {applied} is applied, and the log has {kept:?}")))
}
