//! The data types: how each is stored, written and read, one file per type.
//!
//! A new type is a file here with its lines in [`apply`] and [`read`]. Its kind, operations, outcome and JSON are
//! in `starling_types::eventual`; everything else derives from those.

mod counter;
mod extremum;
mod flag;
mod map;
mod register;
mod set;

use std::ops::ControlFlow;

use starling_types::eventual::Data;

pub(crate) use counter::{add as add_to_counter, sum as counter_sum};
pub(crate) use register::versions;
pub use register::{Register, Sibling};

use crate::actor::ActorTable;
use crate::cell::{Rows, Stored};
use crate::place::{key_prefix, keys_prefix};
use crate::store::{Session, Stop};
use crate::{Engine, Error, Kind, Op, Outcome, Write};
use extremum::End;

/// Applies one operation, as the type that it belongs to has it. The match is resolved once for each write and
/// calls the type's function directly.
pub(crate) fn apply<E: Engine>(session: &mut Session<'_, E>, write: &Write) -> Result<Outcome, Stop> {
    match &write.op {
        Op::Put { value } => register::put(session, write, value),
        Op::Flag { enabled } => flag::set(session, write, *enabled),
        Op::Incr { by } => counter::increment(session, write, *by),
        Op::SetAdd { members } => set::add(session, write, members),
        Op::SetRemove { members } => set::remove(session, write, members),
        Op::MapPut { fields } => map::put(session, write, fields),
        Op::MapDelete { names } => map::delete(session, write, names),
        Op::Max { value } => extremum::write(session, write, End::Greatest, *value),
        Op::Min { value } => extremum::write(session, write, End::Least, *value),
        Op::Delete => session.delete_all(key_prefix(&write.keyspace, &write.key)),
        Op::DeletePrefix => session.delete_all(keys_prefix(&write.keyspace, &write.key)),
    }
}

/// A cell with something visible in it, as a read meets it.
pub(crate) struct Found<'c, R> {
    /// The versions at the place, expired ones included.
    pub cell: &'c [Stored],
    /// The field of the place.
    pub field: &'c [u8],
    /// Wall-clock milliseconds of the read.
    pub wall_ms: u64,
    /// Actors by number.
    pub table: &'c ActorTable,
    /// Where the rest of a split body is.
    pub rows: &'c R,
}

/// Adds a cell of type `kind` to what the key holds. Cells of one key arrive in the order of their places, so
/// those of one type follow each other and the type in progress is the last of `data`. Breaks when no further
/// field of the type is wanted.
pub(crate) fn read<R: Rows>(
    kind: Kind,
    found: &Found<'_, R>,
    data: &mut Vec<Data>,
    fields_max: usize,
) -> Result<ControlFlow<()>, Error> {
    match kind {
        Kind::Register => register::read(found, data)?,
        Kind::Flag => flag::read(data),
        Kind::Counter => counter::read(found, data),
        Kind::Max => extremum::read(found, data, End::Greatest),
        Kind::Min => extremum::read(found, data, End::Least),
        Kind::Set => return Ok(set::read(found, data, fields_max)),
        Kind::Map => return map::read(found, data, fields_max),
    }
    Ok(ControlFlow::Continue(()))
}
