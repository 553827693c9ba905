//! Registers: one place per key. Concurrent writes are siblings; a later write supersedes those it has seen.

use std::cmp::Reverse;

use bytes::Bytes;
use starling_types::Blob;
use starling_types::eventual::{self, Data};

use super::Found;
use crate::body::Head;
use crate::cell::{Rows, Stored};
use crate::place::place;
use crate::store::{Session, Stop};
use crate::version::version_of;
use crate::{Check, Dot, Engine, Error, Hlc, Kind, Outcome, Version, Write};

/// Sets a register.
pub fn put<E: Engine>(session: &mut Session<'_, E>, write: &Write, value: &[u8]) -> Result<Outcome, Stop> {
    let place = place(&write.keyspace, &write.key, Kind::Register, &[]);
    session.check_kind(write, &[&place])?;
    let expires_ms = session.expires_ms(write);
    if write.check != Some(Check::Concurrent) {
        let dot = session.put(place, value, expires_ms)?;
        return Ok(Outcome::Put { version: version_of(&mut [dot]) });
    }
    let dot = session.put_beside(place.clone(), value, expires_ms)?;
    let version = session.version(&place)?;
    Ok(Outcome::Put { version: version.unwrap_or_else(|| version_of(&mut [dot])) })
}

/// Adds the register.
pub fn read<R: Rows>(found: &Found<'_, R>, data: &mut Vec<Data>) -> Result<(), Error> {
    data.extend(versions(found)?.map(|register| Data::Register(register.into())));
    Ok(())
}

/// A register as it is read: the version with the highest timestamp, and what it wins over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The value.
    pub value: Bytes,
    /// Names the whole sibling set; for [`crate::Check::Version`].
    pub version: Version,
    /// The operation that wrote the value.
    pub dot: Dot,
    /// When it was written.
    pub written: Hlc,
    /// When it will be hidden, wall-clock milliseconds.
    pub expires_ms: Option<u64>,
    /// The other concurrent versions, latest first. Usually none.
    pub siblings: Vec<Sibling>,
}

/// A concurrent version of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value.
    pub value: Bytes,
    /// The operation that wrote it.
    pub dot: Dot,
    /// When it was written.
    pub written: Hlc,
    /// When it will be hidden, wall-clock milliseconds.
    pub expires_ms: Option<u64>,
}

impl From<Register> for eventual::Register {
    fn from(register: Register) -> Self {
        let Register { value, version, written, expires_ms, siblings, .. } = register;
        let sibling = |value: &Bytes, written: Hlc, expires_ms: Option<u64>| eventual::Sibling {
            value: Blob::from(&value[..]),
            written_ms: written.wall_ms(),
            expires_at_ms: expires_ms,
        };
        let mut all = Vec::new();
        if !siblings.is_empty() {
            all.push(sibling(&value, written, expires_ms));
            all.extend(siblings.iter().map(|s| sibling(&s.value, s.written, s.expires_ms)));
        }
        Self {
            value: Blob::from(&value[..]),
            version: version.to_string(),
            expires_at_ms: expires_ms,
            siblings: all,
        }
    }
}

/// The visible versions of a cell as a register, if there are any.
pub(crate) fn versions<R: Rows>(found: &Found<'_, R>) -> Result<Option<Register>, Error> {
    let mut versions = Vec::with_capacity(found.cell.len());
    for stored in found.cell {
        let Some(head) = stored.head().filter(|head| head.is_visible(found.wall_ms)) else { continue };
        let actor = found.table.id(stored.dot.actor);
        let actor = actor.ok_or_else(|| Error::corrupt("a cell's actor has no row"))?;
        versions.push(read_version(stored, head, Dot { actor, seq: stored.dot.seq }, found.rows)?);
    }
    versions.sort_unstable_by_key(|sibling| Reverse((sibling.written, sibling.dot)));
    let mut dots: Vec<Dot> = versions.iter().map(|sibling| sibling.dot).collect();
    let mut versions = versions.into_iter();
    Ok(versions.next().map(|Sibling { value, dot, written, expires_ms }| Register {
        value,
        version: version_of(&mut dots),
        dot,
        written,
        expires_ms,
        siblings: versions.collect(),
    }))
}

fn read_version(stored: &Stored, head: Head, dot: Dot, rows: &impl Rows) -> Result<Sibling, Error> {
    let value = stored.whole(rows)?.slice(head.bytes..);
    Ok(Sibling { value, dot, written: head.written, expires_ms: head.expires_ms })
}
