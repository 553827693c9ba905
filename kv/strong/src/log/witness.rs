//! What the rows of the state machine say about the log: term of the last applied entry, and the members as of it.
//!
//! They are written together with the applied index. The machine's rows may become durable before the entries that they
//! contain: a member applies what others have made durable. After a power failure the log may then end before the
//! applied entry, or have another one there, and begins anew at it.
//!
//! ```text
//! StrongState    group, 0      term of the last applied entry
//!                group, 0, 0   members, and the entry that last changed them
//! ```
//! Both sort before the rows of every generation.

use starling_kv::engine::{Family, RowOp};
use starling_kv::{Engine, Error};

use super::record;
use crate::members::Members;

/// What is known about the log from the machine's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The term of the last applied entry.
    pub term: u64,
    /// The members, and the entry that last changed them; `None`: no applied entry did.
    pub members: Option<(Members, u64)>,
}

fn term_key(group: &[u8; 16]) -> Vec<u8> {
    [&group[..], &[0]].concat()
}

fn members_key(group: &[u8; 16]) -> Vec<u8> {
    [&group[..], &[0, 0]].concat()
}

/// The row with the term of the last applied entry.
pub fn term_row(group: &[u8; 16], term: u64) -> RowOp {
    let key = term_key(group);
    let row = record::seal(&key, &term);
    RowOp::Put(Family::StrongState, key, row)
}

/// The row with the members as of entry `index`.
pub fn members_row(group: &[u8; 16], members: &Members, index: u64) -> RowOp {
    let key = members_key(group);
    let row = record::seal(&key, &(members, index));
    RowOp::Put(Family::StrongState, key, row)
}

/// The removals of both rows.
pub fn removals(group: &[u8; 16]) -> [RowOp; 2] {
    [term_key(group), members_key(group)].map(|key| RowOp::Delete(Family::StrongState, key))
}

impl Witness {
    /// Reads both rows; `None` if no entry was applied while the log was in the journal.
    pub fn load<E: Engine>(engine: &E, group: &[u8; 16]) -> Result<Option<Self>, Error> {
        let damaged = || Error::Corrupt { reason: "the term or the members of a strong keyspace".into() };
        let (term_key, members_key) = (term_key(group), members_key(group));
        let Some(row) = engine.get(Family::StrongState, &term_key)? else { return Ok(None) };
        let term = record::open(&term_key, &row).ok_or_else(damaged)?;
        let row = engine.get(Family::StrongState, &members_key)?;
        let members = row.map(|row| record::open(&members_key, &row).ok_or_else(damaged)).transpose()?;
        Ok(Some(Self { term, members }))
    }
}
