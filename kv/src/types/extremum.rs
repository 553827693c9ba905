//! Max and min registers: one place per key with an integer, 8 bytes big-endian. Concurrent writes are siblings,
//! of which the greatest (or the least) counts.
//!
//! A write supersedes what it has seen and keeps the greatest of it, so that a key holds one version for
//! each concurrent writer and no more. A delete removes what it has seen; a concurrent write keeps what its own
//! node had seen.

use starling_types::eventual::{Data, Extremum};

use super::Found;
use crate::cell::{Body, Stored};
use crate::place::place;
use crate::store::{Session, Stop};
use crate::{Engine, Kind, Outcome, Write};

/// The end of the integers that a register keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Greatest,
    Least,
}

impl End {
    fn of(self, one: i64, other: i64) -> i64 {
        match self {
            Self::Greatest => one.max(other),
            Self::Least => one.min(other),
        }
    }
}

/// Raises a max register, or lowers a min register.
pub fn write<E: Engine>(
    session: &mut Session<'_, E>,
    write: &Write,
    end: End,
    value: i64,
) -> Result<Outcome, Stop> {
    let kind = if end == End::Greatest { Kind::Max } else { Kind::Min };
    let place = place(&write.keyspace, &write.key, kind, &[]);
    session.check_kind(write, &[&place])?;
    let wall_ms = session.wall_ms();
    let seen = of_cell(session.cell(&place)?, wall_ms, end);
    let value = seen.map_or(value, |seen| end.of(seen, value));
    session.put(place, &value.to_be_bytes(), session.expires_ms(write))?;
    Ok(match end {
        End::Greatest => Outcome::Max { value },
        End::Least => Outcome::Min { value },
    })
}

/// Adds the register.
pub fn read<R>(found: &Found<'_, R>, data: &mut Vec<Data>, end: End) {
    data.extend(of_cell(found.cell, found.wall_ms, end).map(|value| match end {
        End::Greatest => Data::Max(Extremum { value }),
        End::Least => Data::Min(Extremum { value }),
    }));
}

fn of_cell(cell: &[Stored], wall_ms: u64, end: End) -> Option<i64> {
    let value = |version: &Stored| {
        let (Some(head), Body::Whole(body)) = (version.head(), &version.body) else { return None };
        let value = body[head.bytes..].try_into().ok().map(i64::from_be_bytes);
        value.filter(|_| head.is_visible(wall_ms))
    };
    cell.iter().filter_map(value).reduce(|one, other| end.of(one, other))
}
