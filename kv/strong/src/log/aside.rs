//! The mark of a replica that was removed from its group and is kept aside: its rows stay as they were, and it does not
//! open.

use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::{FORCED_TERMS, Log, record};

impl<E: Engine> Log<E> {
    /// Marks a group's log as kept aside since this time, milliseconds since 1970.
    pub fn set_aside(engine: &E, group: &[u8; 16], since_ms: u64) -> Result<(), Error> {
        let key = record::aside_key(group);
        let row = record::seal(&key, &since_ms);
        engine.write(vec![RowOp::Put(Family::Raft, key.to_vec(), row)])
    }

    /// Since when a group's log is kept aside, milliseconds since 1970; `None` if it is not.
    pub fn aside_since(engine: &E, group: &[u8; 16]) -> Result<Option<u64>, Error> {
        let key = record::aside_key(group);
        // With a damaged mark it counts as the oldest.
        Ok(engine.get(Family::Raft, &key)?.map(|row| record::open(&key, &row).unwrap_or_default()))
    }
}

/// Whether unsafe recovery lies between two terms of a group.
pub(super) fn was_forced(term: u64, later: u64) -> bool {
    later >= term.saturating_add(FORCED_TERMS)
}
