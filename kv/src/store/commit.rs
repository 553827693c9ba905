//! Commits: the creation of operations.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::totals::{FIELDS_READ_MAX, PORTION_ROWS, TOTALS_MAX, Wide};
use super::transaction::{CellVisitor, Changeset, Transaction};
use super::{Committed, Own, Store, validate};
use crate::body::{self, content_hash};
use crate::cell::{Body, Stored};
use crate::delta::Builder;
use crate::dot::LocalDot;
use crate::hlc::Clock;
use crate::place::{PlaceRef, bounds, key_prefix, place};
use crate::types::{self, counter_sum};
use crate::version::version_of;
use crate::{
    ActorId, Batch, Check, Dot, DotRange, Engine, Error, Kind, Limits, Op, Outcome, Version, Write,
    WriteError,
};

/// Bytes of a rumor, at most: a larger one is split. A client batch is never split, so a rumor is at
/// most this or one batch (with what it superseded), whichever is larger. A guess: large enough that
/// overheads vanish, small enough to be sent to several peers in turn without holding up others.
pub const RUMOR_BYTES: usize = 256 << 10;

/// A commit begins no further batch once it has changed this many places: some 50 ms of work, in which the
/// node sends no heartbeat.
const PLACES_MAX: usize = 10_000;

/// Why a batch is not applied.
pub(crate) enum Stop {
    /// The batch is rejected; the other batches of the commit continue.
    Refused(WriteError),
    /// The engine failed, and the whole commit fails.
    Failed(Error),
    /// A counter is not counted yet: the batch is not begun.
    Later,
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Refused(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One dot of a batch.
struct Minted {
    seq: u64,
    /// The entry; `None` for a delete dot.
    entry: Option<(Vec<u8>, Bytes)>,
    /// The dots it supersedes.
    observed: Vec<LocalDot>,
}

impl<E: Engine> Store<E> {
    /// Commits batches together: one engine write covers all of them, each sees those before it, and
    /// each takes effect as a whole or is refused as a whole. Bounded: see [`Committed::rest`].
    ///
    /// # Errors
    /// Fails with an error of the engine. Then nothing has changed, and none of the batches took effect.
    pub fn commit(&mut self, wall_ms: u64, batches: Vec<Batch>) -> Result<Committed, Error> {
        let id = match self.own {
            Some(own) => own.id,
            None => self.draw_actor(wall_ms),
        };
        let mut session = Session::new(self, id, wall_ms);
        let mut results = Vec::with_capacity(batches.len());
        let mut rest = VecDeque::from(batches);
        while session.txn.places() < PLACES_MAX
            && let Some(batch) = rest.front()
        {
            results.push(match session.batch(batch) {
                Ok(outcomes) => Ok(outcomes),
                Err(Stop::Refused(error)) => Err(error),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Later) => break,
            });
            rest.pop_front();
        }
        let rest = rest.into();
        let Finished { set, own, clock, rumors } = session.finish()?;
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::AcknowledgedBeforeStored)
            && self.own.is_some()
            && own.next % 8 == 0
        {
            self.own = Some(own);
            return Ok(Committed { results, rest, rumors, changes: Vec::new() });
        }
        let changes = self.apply(set)?;
        let accepted = results.iter().filter(|result| result.is_ok()).count() as u64;
        self.stats.batches += accepted;
        self.stats.refused += results.len() as u64 - accepted;
        if !rumors.is_empty() {
            self.stats.commits += 1;
            self.own = Some(own);
            self.clock = clock;
        }
        Ok(Committed { results, rest, rumors, changes })
    }
}

/// A commit in progress: what its batches have written so far, with the steps that data types are made of.
pub(crate) struct Session<'s, E: Engine> {
    store: &'s Store<E>,
    limits: &'s Limits,
    wall_ms: u64,
    txn: Transaction<'s, E>,
    /// The state before the commit, for scans; created when first needed.
    view: OnceCell<E::View<'s>>,
    own: Own,
    clock: Clock,
    /// The dots of the batch in progress.
    minted: Vec<Minted>,
    /// The cells that the batch in progress has changed, as they were before it.
    undo: BTreeMap<Vec<u8>, Vec<Stored>>,
    /// Places that the batch in progress may still delete.
    deletions_left: usize,
    /// Rows that may still be read to count counters with many fields.
    rows_left: usize,
    /// The rumor in progress and those done.
    rumor: Builder,
    rumor_first: u64,
    rumors: Vec<(DotRange, Bytes)>,
}

/// The result of a session.
struct Finished {
    set: Changeset,
    own: Own,
    clock: Clock,
    rumors: Vec<(DotRange, Bytes)>,
}

impl<'s, E: Engine> Session<'s, E> {
    fn finish(mut self) -> Result<Finished, Error> {
        self.close_rumor_before(self.own.next);
        let Self { txn, own, clock, rumors, .. } = self;
        Ok(Finished { set: txn.finish()?, own, clock, rumors })
    }

    fn new(store: &'s Store<E>, id: ActorId, wall_ms: u64) -> Self {
        let mut txn = Transaction::new(store);
        let own = store.own.unwrap_or_else(|| Own { id, number: txn.number(id), next: 1 });
        #[cfg(planted)]
        let own = match store.number(id) {
            Some(number) if store.own.is_none() => {
                Own { next: store.index.actor(number).seen.max() + 1, ..own }
            }
            _ => own,
        };
        Self {
            store,
            limits: &store.options.limits,
            wall_ms,
            txn,
            view: OnceCell::new(),
            own,
            clock: store.clock,
            minted: Vec::new(),
            undo: BTreeMap::new(),
            deletions_left: 0,
            rows_left: PORTION_ROWS,
            rumor: Builder::default(),
            rumor_first: own.next,
            rumors: Vec::new(),
        }
    }

    fn batch(&mut self, batch: &Batch) -> Result<Vec<Outcome>, Stop> {
        validate::check(batch, self.limits)?;
        self.deletions_left = self.limits.delete_places_max;
        if batch.writes.iter().filter(|write| matches!(write.op, Op::Incr { .. })).count() > TOTALS_MAX {
            // More counters than are kept: they could be counted again for ever.
            self.rows_left = usize::MAX;
        }
        let before = (self.own, self.clock);
        let outcomes: Result<Vec<Outcome>, Stop> =
            batch.writes.iter().enumerate().map(|(index, write)| self.write(index, write)).collect();
        let undo = std::mem::take(&mut self.undo);
        let minted = std::mem::take(&mut self.minted);
        #[cfg(planted)]
        if outcomes.is_err() && starling_planted::on(starling_planted::Bug::RefusedBatchKept) {
            return outcomes;
        }
        if outcomes.is_err() {
            (self.own, self.clock) = before;
            for (place, cell) in undo {
                *self.txn.cell(&place)? = cell;
            }
        } else {
            self.publish(minted)?;
        }
        outcomes
    }

    /// Adds an accepted batch to a rumor and to the context.
    fn publish(&mut self, minted: Vec<Minted>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (minted.first(), minted.last()) else { return Ok(()) };
        self.txn.see(self.own.number, first.seq, last.seq);
        let mut batch_bytes = 0;
        for mint in &minted {
            batch_bytes += mint.entry.as_ref().map_or(0, |(place, body)| Builder::entry_bytes(place, body));
        }
        if self.rumor.bytes() + batch_bytes > RUMOR_BYTES {
            self.close_rumor_before(first.seq);
        }
        for mint in minted {
            self.rumor.claim(self.own.id, mint.seq, mint.seq);
            for observed in mint.observed {
                let dot = Dot { actor: self.txn.id(observed.actor)?, seq: observed.seq };
                self.rumor.claim(dot.actor, dot.seq, dot.seq);
                self.rumor.kill(dot);
            }
            if let Some((place, body)) = mint.entry {
                self.rumor.entry(Dot { actor: self.own.id, seq: mint.seq }, place, body);
            }
        }
        Ok(())
    }

    fn close_rumor_before(&mut self, next: u64) {
        if next > self.rumor_first {
            let range = DotRange { actor: self.own.id, first: self.rumor_first, last: next - 1 };
            self.rumors.push((range, std::mem::take(&mut self.rumor).encode()));
            self.rumor_first = next;
        }
    }

    fn write(&mut self, index: usize, write: &Write) -> Result<Outcome, Stop> {
        self.check_version(index, write)?;
        types::apply(self, write)
    }

    /// The actor that the commit writes as.
    pub fn actor(&self) -> ActorId {
        self.own.id
    }

    /// Wall-clock milliseconds of the commit.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// When the entries of a write expire, wall-clock milliseconds.
    pub fn expires_ms(&self, write: &Write) -> Option<u64> {
        write.ttl_ms.map(|ttl| self.wall_ms.saturating_add(ttl))
    }

    /// Writes fields of one type; returns how many were absent.
    pub fn put_fields<'v>(
        &mut self,
        write: &Write,
        fields: impl Iterator<Item = (Vec<u8>, &'v [u8])>,
    ) -> Result<Outcome, Stop> {
        let expires = self.expires_ms(write);
        let fields: Vec<_> = fields.collect();
        let places: Vec<&[u8]> = fields.iter().map(|(place, _)| place.as_slice()).collect();
        self.check_kind(write, &places)?;
        let mut added = 0;
        for (place, value) in fields {
            added += u64::from(!self.is_visible(&place)?);
            self.put(place, value, expires)?;
        }
        Ok(Outcome::Changed { fields: added })
    }

    /// Removes the live versions at places of one type with one dot; returns how many were visible.
    pub fn remove(&mut self, write: &Write, places: Vec<Vec<u8>>) -> Result<Outcome, Stop> {
        // A field named twice is removed once.
        let places: BTreeSet<Vec<u8>> = places.into_iter().collect();
        let refs: Vec<&[u8]> = places.iter().map(Vec::as_slice).collect();
        self.check_kind(write, &refs)?;
        let mut removed = 0;
        for place in &places {
            removed += u64::from(self.is_visible(place)?);
        }
        self.kill(places.into_iter())?;
        Ok(Outcome::Changed { fields: removed })
    }

    /// Deletes everything under a prefix of places, up to the limit of the batch, with one dot.
    pub fn delete_all(&mut self, prefix: Vec<u8>) -> Result<Outcome, Stop> {
        let max = self.deletions_left;
        let mut places = Vec::new();
        let mut more = false;
        let (from, to) = bounds(prefix);
        self.scan(&from, to.as_deref(), &mut |place, _| {
            if places.len() == max {
                more = true;
                return ControlFlow::Break(());
            }
            places.push(place.to_vec());
            ControlFlow::Continue(())
        })?;
        self.deletions_left -= places.len();
        let removed = places.len() as u64;
        self.kill(places.into_iter())?;
        Ok(Outcome::Deleted { places: removed, more })
    }

    /// Creates a dot for a value at a place, which supersedes every version live there.
    pub fn put(&mut self, place: Vec<u8>, value: &[u8], expires: Option<u64>) -> Result<Dot, Error> {
        self.put_version(place, value, expires, false)
    }

    /// Creates a dot for a value at a place beside the versions live there, which stay.
    pub fn put_beside(&mut self, place: Vec<u8>, value: &[u8], expires: Option<u64>) -> Result<Dot, Error> {
        self.put_version(place, value, expires, true)
    }

    fn put_version(
        &mut self,
        place: Vec<u8>,
        value: &[u8],
        expires: Option<u64>,
        beside: bool,
    ) -> Result<Dot, Error> {
        // Joins have advanced the clock already, except those before the last start.
        let ahead_ms_max = self.store.options.clock_ahead_ms_max;
        for head in self.txn.cell(&place)?.iter().filter_map(Stored::head) {
            self.clock.observe(head.written, self.wall_ms, ahead_ms_max);
        }
        let body = body::encode(self.clock.tick(self.wall_ms), expires, value);
        let local = LocalDot { actor: self.own.number, seq: self.mint() };
        let hash = content_hash(self.own.id, local.seq, &place, &body);
        let version = Stored { dot: local, body: Body::Whole(body.clone()), hash: Some(hash) };
        let observed = if beside {
            let mut versions = self.cell(&place)?.to_vec();
            versions.push(version);
            self.replace(&place, versions)?;
            Vec::new()
        } else {
            self.replace(&place, vec![version])?
        };
        self.minted.push(Minted { seq: local.seq, entry: Some((place, body)), observed });
        Ok(Dot { actor: self.own.id, seq: local.seq })
    }

    /// Creates one delete dot, which supersedes every version live at `places`. Does nothing if none is live.
    fn kill(&mut self, places: impl Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        let mut observed = Vec::new();
        for place in places {
            observed.append(&mut self.replace(&place, Vec::new())?);
        }
        if !observed.is_empty() {
            let seq = self.mint();
            self.minted.push(Minted { seq, entry: None, observed });
        }
        Ok(())
    }

    fn mint(&mut self) -> u64 {
        let seq = self.own.next;
        self.own.next += 1;
        seq
    }

    /// Replaces the versions at a place; returns the dots that were live there.
    fn replace(&mut self, place: &[u8], now: Vec<Stored>) -> Result<Vec<LocalDot>, Error> {
        let cell = self.txn.cell(place)?;
        let before = std::mem::replace(cell, now);
        let observed = before.iter().map(|version| version.dot).collect();
        if !self.undo.contains_key(place) {
            self.undo.insert(place.to_vec(), before);
        }
        Ok(observed)
    }

    /// The versions at a place, as the commit leaves them so far.
    pub fn cell(&mut self, place: &[u8]) -> Result<&[Stored], Error> {
        Ok(self.txn.cell(place)?)
    }

    fn is_visible(&mut self, place: &[u8]) -> Result<bool, Error> {
        let wall_ms = self.wall_ms;
        Ok(self.cell(place)?.iter().any(|version| is_visible(version, wall_ms)))
    }

    /// The version of the register at a place, as the commit leaves it so far; `None` if nothing is visible there.
    pub fn version(&mut self, place: &[u8]) -> Result<Option<Version>, Error> {
        let wall_ms = self.wall_ms;
        let visible: Vec<LocalDot> = self
            .cell(place)?
            .iter()
            .filter(|version| is_visible(version, wall_ms))
            .map(|version| version.dot)
            .collect();
        let mut dots = Vec::with_capacity(visible.len());
        for dot in visible {
            dots.push(Dot { actor: self.txn.id(dot.actor)?, seq: dot.seq });
        }
        Ok((!dots.is_empty()).then(|| version_of(&mut dots)))
    }

    fn check_version(&mut self, index: usize, write: &Write) -> Result<(), Stop> {
        let expected = match write.check {
            None | Some(Check::Concurrent) => return Ok(()),
            Some(Check::Absent) => None,
            Some(Check::Version(version)) => Some(version),
        };
        let found = self.version(&place(&write.keyspace, &write.key, Kind::Register, &[]))?;
        if found != expected {
            return Err(WriteError::VersionMismatch { index, expected, found }.into());
        }
        Ok(())
    }

    /// Rejects an operation of another type than the key holds. Takes one seek, or none if one of the wanted places
    /// exists.
    pub fn check_kind(&mut self, write: &Write, wanted_places: &[&[u8]]) -> Result<(), Stop> {
        let Some(wanted) = write.op.kind() else { return Ok(()) };
        if write.check == Some(Check::Concurrent) {
            return Ok(());
        }
        for place in wanted_places {
            if self.is_visible(place)? {
                return Ok(());
            }
        }
        let (from, to) = bounds(key_prefix(&write.keyspace, &write.key));
        let wall_ms = self.wall_ms;
        let mut holds = None;
        self.scan(&from, to.as_deref(), &mut |place, cell| {
            if !cell.iter().any(|version| is_visible(version, wall_ms)) {
                return ControlFlow::Continue(());
            }
            holds = PlaceRef::parse(place).and_then(|place| place.kind);
            ControlFlow::Break(())
        })?;
        match holds {
            Some(holds) if holds != wanted => {
                Err(WriteError::TypeMismatch { key: write.key.clone(), holds, wanted }.into())
            }
            _ => Ok(()),
        }
    }

    /// The sum of a counter's fields, as the commit leaves them so far. `prefix` is that of its places.
    pub fn total(&mut self, prefix: &[u8]) -> Result<Wide, Stop> {
        if let Some(sum) = self.kept_total(prefix) {
            return Ok(sum);
        }
        let (from, to) = bounds(prefix.to_vec());
        let (mut sum, mut fields) = (Wide::default(), 0);
        let wall_ms = self.wall_ms;
        self.scan(&from, to.as_deref(), &mut |_, cell| {
            sum.add(counter_sum(cell, wall_ms).unwrap_or_default());
            fields += 1;
            if fields > FIELDS_READ_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if fields <= FIELDS_READ_MAX {
            return Ok(sum);
        }
        if !self.store.count(prefix, wall_ms, &mut self.rows_left)? {
            return Err(Stop::Later);
        }
        Ok(self.kept_total(prefix).expect("it was counted just now"))
    }

    fn kept_total(&self, prefix: &[u8]) -> Option<Wide> {
        self.store.totals().with(prefix, self.wall_ms, self.txn.touched(prefix))
    }

    /// Visits the cells of a range that hold anything, as the commit leaves them so far.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut CellVisitor<'_>) -> Result<(), Error> {
        let view = self.view.get_or_init(|| self.store.engine.view());
        self.txn.scan(view, from, to, visit)
    }
}

/// Whether a read at `wall_ms` sees a version. One that cannot be read counts as visible.
fn is_visible(version: &Stored, wall_ms: u64) -> bool {
    version.head().is_none_or(|head| head.is_visible(wall_ms))
}
