//! Restrictions of the state, which are sent to other replicas.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Store;
use super::index::ActorState;
use crate::cell::{self, DotRow};
use crate::delta::Builder;
use crate::dot::LocalDot;
use crate::engine::{Family, View};
use crate::{ActorId, Dot, DotRange, Engine, Error};

/// The live entries of a part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The entries, as a delta that claims no other dots; empty if there are none.
    pub delta: Bytes,
    /// The dead dots.
    pub dead: Vec<DotRange>,
    /// The ranges that did not fit.
    pub rest: Vec<DotRange>,
}

/// The function that is called with each range of dead dots.
type OnDead<'f> = dyn FnMut(&mut Builder, DotRange) + 'f;

impl<E: Engine> Store<E> {
    /// Whether every dot of `range` has been seen.
    pub fn contains(&self, range: &DotRange) -> bool {
        self.number(range.actor).is_some_and(|number| self.index.is_seen(number, range.first, range.last))
    }

    /// The parts of `ranges` that have not been seen.
    pub fn missing(&self, ranges: &[DotRange]) -> Vec<DotRange> {
        let mut missing = Vec::new();
        for range in ranges.iter().filter(|range| is_sound(range)) {
            let gaps = match self.number(range.actor) {
                None => vec![(range.first, range.last)],
                Some(number) => self.index.actor(number).seen.gaps(range.first, range.last),
            };
            missing.extend(gaps.into_iter().map(|(first, last)| DotRange {
                actor: range.actor,
                first,
                last,
            }));
        }
        missing
    }

    /// The first `count_max` ranges of dots that have not been seen, below one of the same actor that has.
    pub fn gaps(&self, count_max: usize) -> Vec<DotRange> {
        let of_actor = |(number, state): (u32, &ActorState)| {
            let actor = self.index.id(number);
            let gaps = state.seen.gaps(1, state.seen.max());
            gaps.into_iter().map(move |(first, last)| DotRange { actor, first, last })
        };
        self.index.gapped().flat_map(of_actor).take(count_max).collect()
    }

    /// The state restricted to those dots of `ranges` that have been seen, as a delta of about
    /// `bytes_max` (one entry more, at most), and what of `ranges` did not fit. No bytes if none of
    /// the dots has been seen.
    pub fn restrict(&self, ranges: &[DotRange], bytes_max: usize) -> Result<(Bytes, Vec<DotRange>), Error> {
        let mut builder = Builder::default();
        let rest = self.add_live(&mut builder, ranges, bytes_max, &mut |builder, dead| {
            builder.claim(dead.actor, dead.first, dead.last);
        })?;
        Ok((builder.encode(), rest))
    }

    /// Like [`Store::restrict`], but the delta claims the live dots only; the dead ones come beside it.
    pub fn restrict_to_live(&self, ranges: &[DotRange], bytes_max: usize) -> Result<Part, Error> {
        let mut builder = Builder::default();
        let mut dead = Vec::new();
        let rest = self.add_live(&mut builder, ranges, bytes_max, &mut |_, range| dead.push(range))?;
        Ok(Part { delta: builder.encode(), dead, rest })
    }

    /// Adds the live entries among `ranges`, and calls `on_dead` with the dead dots; returns the ranges that did not fit.
    fn add_live(
        &self,
        builder: &mut Builder,
        ranges: &[DotRange],
        bytes_max: usize,
        on_dead: &mut OnDead<'_>,
    ) -> Result<Vec<DotRange>, Error> {
        let view = self.engine.view();
        for (position, range) in ranges.iter().enumerate() {
            let Some(number) = self.number(range.actor).filter(|_| is_sound(range)) else { continue };
            let seen = &self.index.actor(number).seen;
            for span in seen.within(range.first, range.last) {
                if let Some(stop) = self.add_span(&view, builder, number, span, bytes_max, on_dead)? {
                    let rest = DotRange { first: stop, ..*range };
                    return Ok(std::iter::once(rest).chain(ranges[position + 1..].iter().copied()).collect());
                }
            }
        }
        Ok(Vec::new())
    }

    /// Adds a seen span; returns the first dot that did not fit, if any.
    fn add_span(
        &self,
        view: &E::View<'_>,
        builder: &mut Builder,
        number: u32,
        (first, last): (u64, u64),
        bytes_max: usize,
        on_dead: &mut OnDead<'_>,
    ) -> Result<Option<u64>, Error> {
        if builder.bytes() >= bytes_max {
            return Ok(Some(first));
        }
        let actor = self.index.id(number);
        let mut stop = None;
        let mut next = first;
        for (low, high) in self.index.live_parts(number, first, last) {
            live_rows(view, number, low, high, &mut |dot, row| {
                let place = row.place;
                let cell = cell::read(view, &place)?;
                let version = cell.iter().find(|version| version.dot == dot);
                let version = version.ok_or_else(|| Error::corrupt(format!("{dot:?} is not in its cell")))?;
                let body = version.whole(view)?;
                if builder.has_entries() && builder.bytes() + Builder::entry_bytes(&place, &body) > bytes_max
                {
                    stop = Some(dot.seq);
                    return Ok(ControlFlow::Break(()));
                }
                if next < dot.seq {
                    on_dead(builder, DotRange { actor, first: next, last: dot.seq - 1 });
                }
                next = dot.seq + 1;
                builder.claim(actor, dot.seq, dot.seq);
                builder.entry(Dot { actor, seq: dot.seq }, place, body);
                Ok(ControlFlow::Continue(()))
            })?;
            if stop.is_some() {
                break;
            }
        }
        let end = stop.map_or(last, |stop| stop - 1);
        #[cfg(planted)]
        let end = if starling_planted::on(starling_planted::Bug::RestrictionClaimsRest) { last } else { end };
        if next <= end {
            on_dead(builder, DotRange { actor, first: next, last: end });
        }
        Ok(stop)
    }

    /// A delta that claims exactly those dots of `ranges` that have been seen and are dead here; no
    /// bytes if there are none.
    pub fn dead_among(&self, ranges: &[DotRange]) -> Result<Bytes, Error> {
        let view = self.engine.view();
        let mut builder = Builder::default();
        for range in ranges.iter().filter(|range| is_sound(range)) {
            let Some(number) = self.number(range.actor) else { continue };
            for (first, last) in self.index.actor(number).seen.within(range.first, range.last) {
                self.claim_dead(&view, &mut builder, (range.actor, number), (first, last))?;
            }
        }
        Ok(builder.encode())
    }

    fn claim_dead(
        &self,
        view: &E::View<'_>,
        builder: &mut Builder,
        (actor, number): (ActorId, u32),
        (first, last): (u64, u64),
    ) -> Result<(), Error> {
        let mut next = first;
        let mut claim = |from: u64, to: u64| {
            if from <= to {
                builder.claim(actor, from, to);
            }
        };
        for (low, high) in self.index.live_parts(number, first, last) {
            live_rows(view, number, low, high, &mut |dot, _| {
                // Sequence numbers start at 1, so this does not go below zero.
                claim(next, dot.seq - 1);
                next = dot.seq + 1;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        claim(next, last);
        Ok(())
    }
}

/// A delta that claims these dots to be dead.
pub fn deaths(ranges: &[DotRange]) -> Bytes {
    let mut builder = Builder::default();
    for range in ranges.iter().filter(|range| is_sound(range)) {
        builder.claim(range.actor, range.first, range.last);
    }
    builder.encode()
}

/// Visits the live dots of `first..=last` in order.
pub(super) fn live_rows(
    view: &impl View,
    number: u32,
    first: u64,
    last: u64,
    visit: &mut dyn FnMut(LocalDot, DotRow) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let from = LocalDot { actor: number, seq: first }.row_key();
    let to = LocalDot { actor: number, seq: last + 1 }.row_key();
    view.scan(Family::Dots, &from, Some(&to), &mut |key, row| {
        let dot = LocalDot::from_row_key(key).ok_or_else(|| Error::corrupt("a dot's row has a wrong key"))?;
        visit(dot, DotRow::decode(row)?)
    })
}

/// Whether a range from a peer is valid.
fn is_sound(range: &DotRange) -> bool {
    0 < range.first && range.first <= range.last
}
