//! Counters: a place per actor with the sum of what that actor added, 16 bytes big-endian. The counter is the
//! sum over the actors.

use std::collections::BTreeMap;

use starling_types::Count;
use starling_types::eventual::{Counter, Data};

use super::Found;
use crate::cell::{Body, Stored};
use crate::place::{kind_prefix, place};
use crate::store::{Session, Stop};
use crate::{Engine, Kind, Outcome, Write, WriteError};

/// Adds to a counter.
pub fn increment<E: Engine>(session: &mut Session<'_, E>, write: &Write, by: i64) -> Result<Outcome, Stop> {
    let own_place = place(&write.keyspace, &write.key, Kind::Counter, &session.actor().0);
    session.check_kind(write, &[&own_place])?;
    let mut others = session.total(&kind_prefix(&write.keyspace, &write.key, Kind::Counter))?;
    let wall_ms = session.wall_ms();
    let own_sum = sum(session.cell(&own_place)?, wall_ms).unwrap_or_default();
    others.subtract(own_sum);
    let sum = own_sum.checked_add(i128::from(by)).ok_or(WriteError::CounterOverflow)?;
    let value = sum.checked_add(others.saturated()).ok_or(WriteError::CounterOverflow)?;
    session.put(own_place, &sum.to_be_bytes(), session.expires_ms(write))?;
    Ok(Outcome::Counter { value })
}

/// Adds an actor's sum to the counter.
pub fn read<R>(found: &Found<'_, R>, data: &mut Vec<Data>) {
    add(sum(found.cell, found.wall_ms).unwrap_or_default(), data);
}

/// Adds a sum to the counter.
pub fn add(sum: i128, data: &mut Vec<Data>) {
    match data.last_mut() {
        Some(Data::Counter(counter)) => counter.value.0 = counter.value.0.saturating_add(sum),
        _ => data.push(Data::Counter(Counter { value: Count(sum) })),
    }
}

/// The sum that a counter's field stands for: of two live dots of one actor the later counts. `None` if none is visible.
pub fn sum(cell: &[Stored], wall_ms: u64) -> Option<i128> {
    let mut last: BTreeMap<u32, (u64, i128)> = BTreeMap::new();
    for version in cell {
        let (Some(head), Body::Whole(body)) = (version.head(), &version.body) else { continue };
        let sum = body[head.bytes..].try_into().ok().map(i128::from_be_bytes);
        let Some(sum) = sum.filter(|_| head.is_visible(wall_ms)) else { continue };
        let slot = last.entry(version.dot.actor).or_insert((0, 0));
        #[cfg(planted)]
        let sum =
            sum + if starling_planted::on(starling_planted::Bug::CounterFieldsSummed) { slot.1 } else { 0 };
        *slot = (*slot).max((version.dot.seq, sum));
    }
    last.values().map(|&(_, sum)| sum).reduce(i128::saturating_add)
}
