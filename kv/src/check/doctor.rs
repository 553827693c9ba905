//! The check of a store: reads every row and compares each family with the others.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::body::content_hash;
use crate::cell::{self, DotRow, Stored, parse_ttl_key, ttl_key};
use crate::codec::Input;
use crate::delta::read_spans;
use crate::dot::LocalDot;
use crate::engine::{Family, View};
use crate::fingerprint::{Buckets, context_hash};
use crate::place::PlaceRef;
use crate::store::{
    ACTOR_PREFIX, BUCKETS_PREFIX, CHECKPOINT_KEY, CONTEXT_PREFIX, EQUIVOCATIONS_KEY, FORMAT, FORMAT_KEY,
    numbered_rows,
};
use crate::{ActorId, Engine, Error, Intervals, Root};

/// Examples kept of each kind of problem.
const EXAMPLES_MAX: usize = 5;

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Format of the rows.
    pub format: u32,
    /// Actors.
    pub actors: u64,
    /// Intervals of the causal context; more than `actors` means gaps, which repair closes.
    pub intervals: u64,
    /// Dots in the context.
    pub dots_seen: u64,
    /// Live entries.
    pub entries: u64,
    /// Places with live entries.
    pub places: u64,
    /// Places with more than one version.
    pub places_with_siblings: u64,
    /// Entries with an expiry.
    pub expiring: u64,
    /// Entries that a newer version of Starling wrote: kept and forwarded, not read.
    pub unreadable: u64,
    /// Dots that were found with two contents since the store was created, after a machine was rolled back together
    /// with its memory. All replicas keep the same one of the two.
    pub equivocations: u64,
    /// The root as recomputed from the rows.
    pub root: Option<Root>,
    /// The problems; empty if the store is sound.
    pub problems: Vec<Problem>,
}

/// One kind of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its description.
    pub what: &'static str,
    /// The number of occurrences.
    pub count: u64,
    /// The places of some occurrences.
    pub examples: Vec<String>,
}

impl Report {
    /// Whether there is no problem.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        let position = self.problems.iter().position(|problem| problem.what == what).unwrap_or_else(|| {
            self.problems.push(Problem { what, count: 0, examples: Vec::new() });
            self.problems.len() - 1
        });
        let problem = &mut self.problems[position];
        problem.count += 1;
        if problem.examples.len() < EXAMPLES_MAX {
            problem.examples.push(example());
        }
    }
}

/// Checks all rows of `engine` on one snapshot, in memory bounded by the number of actors and
/// buckets. `expected` is the root in the running store's memory, if it was read at the same
/// instant.
///
/// # Errors
/// Fails if the engine cannot read. All other problems are in the report.
pub fn doctor(engine: &impl Engine, expected: Option<Root>) -> Result<Report, Error> {
    let view = engine.view();
    let mut check = Checkup { view: &view, report: Report::default(), actors: Vec::new() };
    check.meta()?;
    check.cells()?;
    check.dots()?;
    check.ttl()?;
    check.bodies()?;
    check.fingerprints(expected)?;
    Ok(check.report)
}

#[derive(Default)]
struct Actor {
    id: Option<ActorId>,
    seen: Intervals,
    buckets: Buckets,
}

struct Checkup<'v, V> {
    view: &'v V,
    report: Report,
    actors: Vec<Actor>,
}

impl<V: View> Checkup<'_, V> {
    fn meta(&mut self) -> Result<(), Error> {
        let format = self.view.get(Family::Meta, FORMAT_KEY)?.and_then(|row| row.try_into().ok());
        self.report.format = format.map_or(0, u32::from_be_bytes);
        if self.report.format != FORMAT {
            self.report.problem("the format is not one that this program writes", String::new);
        }
        let equivocations =
            self.view.get(Family::Meta, EQUIVOCATIONS_KEY)?.and_then(|row| row.try_into().ok());
        self.report.equivocations = equivocations.map_or(0, u64::from_be_bytes);
        let (actors, report) = (&mut self.actors, &mut self.report);
        numbered_rows(self.view, ACTOR_PREFIX, &mut |number, row| {
            if number as usize != actors.len() {
                report.problem("an actor's number is out of order", || number.to_string());
            }
            let id = row.try_into().ok().map(ActorId);
            actors.push(Actor { id, ..Actor::default() });
            Some(())
        })?;
        numbered_rows(self.view, CONTEXT_PREFIX, &mut |number, row| {
            match (actors.get_mut(number as usize), read_spans(&mut Input::new(row))) {
                (Some(actor), Some(seen)) => actor.seen = seen,
                _ => report.problem("a context cannot be read", || format!("actor {number}")),
            }
            Some(())
        })?;
        self.report.actors = self.actors.len() as u64;
        self.report.intervals = self.actors.iter().map(|actor| actor.seen.spans().len() as u64).sum();
        self.report.dots_seen = self.actors.iter().map(|actor| actor.seen.count()).sum();
        Ok(())
    }

    fn cells(&mut self) -> Result<(), Error> {
        let view = self.view;
        view.scan(Family::Cells, &[], None, &mut |place, row| {
            let shown = || place.escape_ascii().to_string();
            let Some(parsed) = PlaceRef::parse(place) else {
                self.report.problem("a cell's key is not a place", shown);
                return Ok(ControlFlow::Continue(()));
            };
            let Ok(cell) = cell::decode(row.to_vec()) else {
                self.report.problem("a cell cannot be read", shown);
                return Ok(ControlFlow::Continue(()));
            };
            self.report.places += 1;
            self.report.places_with_siblings += u64::from(cell.len() > 1);
            if cell.is_empty() {
                self.report.problem("a cell is empty", shown);
            }
            for version in &cell {
                let is_readable = parsed.kind.is_some() && version.head().is_some();
                self.report.unreadable += u64::from(!is_readable);
                self.version(place, version)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Checks one live entry: context, content hash, expiry.
    fn version(&mut self, place: &[u8], version: &Stored) -> Result<(), Error> {
        let shown = || format!("{:?} at {}", version.dot, place.escape_ascii());
        self.report.entries += 1;
        let dot = version.dot;
        let Some((actor, id)) =
            self.actors.get_mut(dot.actor as usize).and_then(|actor| actor.id.map(|id| (actor, id)))
        else {
            self.report.problem("an entry's actor has no row", shown);
            return Ok(());
        };
        if !actor.seen.contains(dot.seq, dot.seq) {
            self.report.problem("a live dot is not in the context", shown);
        }
        let Ok(body) = version.whole(self.view) else {
            self.report.problem("an entry has lost its body", shown);
            return Ok(());
        };
        let hash = content_hash(id, dot.seq, place, &body);
        actor.buckets.add(dot.seq, hash);
        match self.view.get(Family::Dots, &dot.row_key())?.as_deref().map(DotRow::decode) {
            None => self.report.problem("a live dot has no row", shown),
            Some(Ok(row)) if row.hash == hash && row.place == place => {}
            Some(_) => self.report.problem("a live dot's row has another hash or place", shown),
        }
        if let Some(expires) = version.head().and_then(|head| head.expires_ms) {
            self.report.expiring += 1;
            let row = self.view.get(Family::Ttl, &ttl_key(expires, dot))?;
            if row.as_deref() != Some(place) {
                self.report.problem("an expiry has no row", shown);
            }
        }
        Ok(())
    }

    /// Checks that every row of a dot belongs to a version in a cell. That each version has its row is checked with the
    /// cells.
    fn dots(&mut self) -> Result<(), Error> {
        let view = self.view;
        view.scan(Family::Dots, &[], None, &mut |key, row| {
            let is_live = match (LocalDot::from_row_key(key), DotRow::decode(row)) {
                (Some(dot), Ok(row)) => self.find(&row.place, dot)?.is_some(),
                _ => false,
            };
            if !is_live {
                self.report
                    .problem("a dot's row belongs to no live entry", || key.escape_ascii().to_string());
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn ttl(&mut self) -> Result<(), Error> {
        let view = self.view;
        view.scan(Family::Ttl, &[], None, &mut |key, place| {
            let found = match parse_ttl_key(key) {
                Some((expires, dot)) => self
                    .find(place, dot)?
                    .is_some_and(|v| v.head().is_some_and(|h| h.expires_ms == Some(expires))),
                None => false,
            };
            if !found {
                self.report
                    .problem("an expiry's row belongs to no live entry", || key.escape_ascii().to_string());
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn bodies(&mut self) -> Result<(), Error> {
        let view = self.view;
        view.scan(Family::Bodies, &[], None, &mut |key, _| {
            let row = view.get(Family::Dots, key)?.as_deref().map(DotRow::decode);
            let version = match (LocalDot::from_row_key(key), row) {
                (Some(dot), Some(Ok(row))) => self.find(&row.place, dot)?,
                _ => None,
            };
            if !version.is_some_and(|version| version.is_split()) {
                self.report.problem("a body belongs to no live entry", || key.escape_ascii().to_string());
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn find(&self, place: &[u8], dot: LocalDot) -> Result<Option<Stored>, Error> {
        let Some(row) = self.view.get(Family::Cells, place)? else { return Ok(None) };
        // A cell that cannot be read is reported elsewhere.
        Ok(cell::decode(row).unwrap_or_default().into_iter().find(|version| version.dot == dot))
    }

    fn fingerprints(&mut self, expected: Option<Root>) -> Result<(), Error> {
        let (mut context, mut live) = (0u128, 0u128);
        for actor in &self.actors {
            live = live.wrapping_add(actor.buckets.total().hash);
            if let Some(id) = actor.id.filter(|_| !actor.seen.is_empty()) {
                context = context.wrapping_add(context_hash(id, &actor.seen));
            }
        }
        let root = Root { context: context.to_le_bytes(), live: live.to_le_bytes() };
        self.report.root = Some(root);
        if expected.is_some_and(|expected| expected != root) {
            self.report.problem("the root in memory is not the root of the rows", String::new);
        }
        if self.view.get(Family::Meta, CHECKPOINT_KEY)?.is_some() {
            let mut rows = BTreeMap::new();
            numbered_rows(self.view, BUCKETS_PREFIX, &mut |number, row| {
                rows.insert(number, Buckets::decode(row));
                Some(())
            })?;
            for (number, actor) in (0..).zip(&self.actors) {
                let row = rows.remove(&number).unwrap_or_else(|| Some(Buckets::default()));
                if row.as_ref() != Some(&actor.buckets) {
                    self.report
                        .problem("the fingerprint checkpoint does not match", || format!("actor {number}"));
                }
            }
        }
        Ok(())
    }
}
