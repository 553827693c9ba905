//! Flags: one place per key, live while the flag is on. Enabling wins: a disabling removes what it has seen.

use starling_types::eventual::{Data, FlagState};

use crate::place::place;
use crate::store::{Session, Stop};
use crate::{Engine, Kind, Outcome, Write};

/// Turns a flag on or off.
pub fn set<E: Engine>(session: &mut Session<'_, E>, write: &Write, enabled: bool) -> Result<Outcome, Stop> {
    let place = place(&write.keyspace, &write.key, Kind::Flag, &[]);
    if enabled {
        session.check_kind(write, &[&place])?;
        session.put(place, &[], session.expires_ms(write))?;
    } else {
        session.remove(write, vec![place])?;
    }
    Ok(Outcome::Flag)
}

/// A visible flag is on.
pub fn read(data: &mut Vec<Data>) {
    data.push(Data::Flag(FlagState { enabled: true }));
}
