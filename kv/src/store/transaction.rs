//! A transaction: the cells and contexts that one engine write will change, gathered in memory.
//! Nothing of the store changes before the engine has accepted the write.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, ControlFlow};
use std::sync::PoisonError;

use super::Store;
use super::recover::{CHECKPOINT_KEY, actor_key, context_key};
use crate::cell::{self, DotRow, Latest, Stored, ttl_key};
use crate::delta::put_spans;
use crate::dot::LocalDot;
use crate::engine::{Family, RowOp, View};
use crate::place::PlaceRef;
use crate::{ActorId, Change, DotRange, Engine, Error, Intervals, Kind};

/// A cell before and after.
#[derive(Debug, Default)]
struct Touched {
    before: Vec<Stored>,
    now: Vec<Stored>,
}

/// The function that a scan calls with each place and its live versions; it may end the scan.
pub(super) type CellVisitor<'v> = dyn FnMut(&[u8], &[Stored]) -> ControlFlow<()> + 'v;

/// See the module.
pub(super) struct Transaction<'s, E> {
    store: &'s Store<E>,
    touched: BTreeMap<Vec<u8>, Touched>,
    /// The whole contexts that have grown.
    seen: BTreeMap<u32, Intervals>,
    /// The dots by which they have grown, in order.
    news: Vec<(u32, u64, u64)>,
    /// New actors, whose numbers follow those of the table.
    fresh: Vec<ActorId>,
    fresh_numbers: BTreeMap<ActorId, u32>,
    known: u32,
}

/// The result of a transaction.
#[derive(Debug, Default)]
pub(super) struct Changeset {
    pub ops: Vec<RowOp>,
    removed: Vec<(LocalDot, u128)>,
    added: Vec<(LocalDot, u128)>,
    seen: BTreeMap<u32, Intervals>,
    news: Vec<(u32, u64, u64)>,
    fresh: Vec<ActorId>,
    changes: Vec<Change>,
    /// Fields of counters whose totals count them: the prefix of their places, before, now.
    counted: Vec<(Vec<u8>, Vec<Stored>, Vec<Stored>)>,
    /// When the first of the added versions expires, wall-clock milliseconds.
    expires_ms: Option<u64>,
}

impl Changeset {
    /// Whether it changes neither live entries nor context.
    pub fn is_old_news(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.seen.is_empty()
    }
}

impl<'s, E: Engine> Transaction<'s, E> {
    pub fn new(store: &'s Store<E>) -> Self {
        let known = store.index.len();
        Self {
            store,
            touched: BTreeMap::new(),
            seen: BTreeMap::new(),
            news: Vec::new(),
            fresh: Vec::new(),
            fresh_numbers: BTreeMap::new(),
            known,
        }
    }

    /// Places that it has read or changed.
    pub fn places(&self) -> usize {
        self.touched.len()
    }

    /// The number of an actor; a new one gets the next.
    pub fn number(&mut self, id: ActorId) -> u32 {
        if let Some(number) = self.store.number(id) {
            return number;
        }
        *self.fresh_numbers.entry(id).or_insert_with(|| {
            self.fresh.push(id);
            self.known + (self.fresh.len() - 1) as u32
        })
    }

    /// The actor under a number that a cell or this transaction gave.
    pub fn id(&self, number: u32) -> Result<ActorId, Error> {
        let id = match number.checked_sub(self.known) {
            None => Some(self.store.index.id(number)),
            Some(position) => self.fresh.get(position as usize).copied(),
        };
        id.ok_or_else(|| Error::corrupt(format!("actor {number} has no row")))
    }

    /// Adds dots to the context.
    pub fn see(&mut self, number: u32, first: u64, last: u64) {
        let index = &self.store.index;
        self.seen
            .entry(number)
            .or_insert_with(|| {
                if number < index.len() { index.actor(number).seen.clone() } else { Intervals::new() }
            })
            .insert(first, last);
        match self.news.last_mut() {
            Some((actor, _, end)) if *actor == number && *end + 1 == first => *end = last,
            _ => self.news.push((number, first, last)),
        }
    }

    /// The versions at a place as this transaction leaves them, to be changed.
    pub fn cell(&mut self, place: &[u8]) -> Result<&mut Vec<Stored>, Error> {
        Ok(match self.touched.entry(place.to_vec()) {
            Entry::Occupied(touched) => &mut touched.into_mut().now,
            Entry::Vacant(slot) => {
                let before = cell::read(&Latest(&self.store.engine), place)?;
                &mut slot.insert(Touched { now: before.clone(), before }).now
            }
        })
    }

    /// The cells under a prefix that this transaction has read or changed, as they were and as they are now.
    pub fn touched(&self, prefix: &[u8]) -> impl Iterator<Item = (&[Stored], &[Stored])> {
        self.touched
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(place, _)| place.starts_with(prefix))
            .map(|(_, touched)| (touched.before.as_slice(), touched.now.as_slice()))
    }

    /// Visits the cells of a range that hold anything, as this transaction leaves them.
    pub fn scan(
        &self,
        view: &impl View,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut CellVisitor<'_>,
    ) -> Result<(), Error> {
        let mut ours = self
            .touched
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(place, _)| to.is_none_or(|to| place.as_slice() < to))
            .map(|(place, touched)| (place.as_slice(), touched.now.as_slice()))
            .peekable();
        let mut flow = ControlFlow::Continue(());
        let mut see = |place: &[u8], cell: &[Stored]| {
            if !cell.is_empty() && flow.is_continue() {
                flow = visit(place, cell);
            }
            flow
        };
        view.scan(Family::Cells, from, to, &mut |place, row| {
            while let Some((earlier, cell)) = ours.next_if(|(ours, _)| *ours < place) {
                if see(earlier, cell).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(match ours.next_if(|(ours, _)| *ours == place) {
                Some((_, cell)) => see(place, cell),
                None => see(place, &cell::decode(row.to_vec())?),
            })
        })?;
        for (place, cell) in ours {
            if see(place, cell).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// How many places hold new versions beside others, and those of the others that are older than this
    /// transaction and were written before another version there: nothing is lost if they are dead.
    pub fn siblings(&self) -> Result<(u64, Vec<DotRange>), Error> {
        let mut places = 0;
        let mut older = Vec::new();
        for Touched { before, now } in self.touched.values().filter(|touched| touched.now.len() > 1) {
            let is_old = |version: &&Stored| before.iter().any(|old| old.dot == version.dot);
            if now.iter().all(|version| is_old(&version)) {
                continue;
            }
            places += 1;
            let suspect = |version: &&Stored| is_old(version) && cell::is_followed(now, version.dot);
            for LocalDot { actor, seq } in now.iter().filter(suspect).map(|version| version.dot) {
                older.push(DotRange { actor: self.id(actor)?, first: seq, last: seq });
            }
        }
        older.sort_unstable();
        Ok((places, older))
    }

    /// The changeset: the rows to write, and the changes in memory.
    pub fn finish(mut self) -> Result<Changeset, Error> {
        let mut set = Changeset::default();
        let mut key_before: &[u8] = &[];
        let rows = Latest(&self.store.engine);
        // Versions that expired before this are hidden, and watches know.
        let hidden_ms = self.store.expired_until_ms();
        let is_hidden = |version: &Stored| {
            version.head().and_then(|head| head.expires_ms).is_some_and(|expires_ms| expires_ms < hidden_ms)
        };
        // All removals come first: one dot may leave one place and appear at another (equivocation).
        for (place, touched) in &self.touched {
            for version in touched.before.iter().filter(|version| !touched.now.contains(version)) {
                let hash = version.content_hash(self.id(version.dot.actor)?, place, &rows)?;
                set.remove(version, hash);
            }
        }
        for (place, touched) in &self.touched {
            if touched.before == touched.now {
                continue;
            }
            for version in touched.now.iter().filter(|version| !touched.before.contains(version)) {
                let hash = version.content_hash(self.id(version.dot.actor)?, place, &rows)?;
                set.add(place, version, hash);
            }
            set.ops.push(if touched.now.is_empty() {
                RowOp::Delete(Family::Cells, place.clone())
            } else {
                RowOp::Put(Family::Cells, place.clone(), cell::encode(&touched.now))
            });
            let parsed =
                PlaceRef::parse(place).ok_or_else(|| Error::corrupt("a cell's key is not a place"))?;
            let key = &place[..parsed.key_prefix_bytes()];
            let kind = &place[..=parsed.key_prefix_bytes()];
            if parsed.kind == Some(Kind::Counter) && self.store.totals().counts(kind, place) {
                set.counted.push((kind.to_vec(), touched.before.clone(), touched.now.clone()));
            }
            let differs =
                |version: &&Stored| !touched.before.contains(version) || !touched.now.contains(version);
            let mut versions = touched.before.iter().chain(&touched.now).filter(differs);
            if key != key_before && versions.any(|version| !is_hidden(version)) {
                set.changes.push(Change { keyspace: parsed.keyspace.to_owned(), key: parsed.key() });
                key_before = key;
            }
        }
        for (&number, seen) in &self.seen {
            let mut row = Vec::new();
            put_spans(&mut row, seen);
            set.ops.push(RowOp::Put(Family::Meta, context_key(number), row));
        }
        if self.seen.is_empty() {
            // A new actor without dots needs no number.
            self.fresh.clear();
        }
        for (number, id) in (self.known..).zip(&self.fresh) {
            set.ops.push(RowOp::Put(Family::Meta, actor_key(number), id.0.to_vec()));
        }
        set.seen = std::mem::take(&mut self.seen);
        set.news = std::mem::take(&mut self.news);
        set.fresh = std::mem::take(&mut self.fresh);
        Ok(set)
    }
}

impl Changeset {
    fn remove(&mut self, version: &Stored, hash: u128) {
        let key = version.dot.row_key();
        self.ops.push(RowOp::DeleteOnce(Family::Dots, key.to_vec()));
        if version.is_split() {
            self.ops.push(RowOp::DeleteOnce(Family::Bodies, key.to_vec()));
        }
        if let Some(expires) = version.head().and_then(|head| head.expires_ms) {
            self.ops.push(RowOp::DeleteOnce(Family::Ttl, ttl_key(expires, version.dot)));
        }
        self.removed.push((version.dot, hash));
    }

    fn add(&mut self, place: &[u8], version: &Stored, hash: u128) {
        let key = version.dot.row_key();
        self.ops.push(RowOp::Put(Family::Dots, key.to_vec(), DotRow::encode(hash, place)));
        if let Some(rest) = version.split_rest() {
            self.ops.push(RowOp::Put(Family::Bodies, key.to_vec(), rest.to_vec()));
        }
        if let Some(expires) = version.head().and_then(|head| head.expires_ms) {
            self.ops.push(RowOp::Put(Family::Ttl, ttl_key(expires, version.dot), place.to_vec()));
            self.expires_ms = earlier(self.expires_ms, Some(expires));
        }
        self.added.push((version.dot, hash));
    }
}

/// The earlier of two instants, if there is any.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

impl<E: Engine> Store<E> {
    /// Writes a changeset, then applies it to memory. On an error nothing has changed, except that the next write
    /// draws a fresh actor: part of the failed write may be on disk.
    pub(super) fn apply(&mut self, mut set: Changeset) -> Result<Vec<Change>, Error> {
        if set.ops.is_empty() {
            return Ok(Vec::new());
        }
        if self.checkpointed {
            set.ops.push(RowOp::Delete(Family::Meta, CHECKPOINT_KEY.to_vec()));
        }
        let known = self.index.len();
        if !set.fresh.is_empty() {
            // Before the write, because a reader that finds a number must find its actor.
            let mut table = self.index.table().write().unwrap_or_else(PoisonError::into_inner);
            set.fresh.iter().for_each(|&id| table.push(id));
        }
        if let Err(error) = self.engine.write(set.ops) {
            self.index.table().write().unwrap_or_else(PoisonError::into_inner).truncate(known);
            self.own = None;
            return Err(error);
        }
        self.checkpointed = false;
        self.next_expiry_ms = earlier(self.next_expiry_ms, set.expires_ms);
        for id in set.fresh {
            self.index.push(id);
        }
        for (number, seen) in set.seen {
            self.index.set_seen(number, seen);
        }
        self.recent.extend(set.news);
        for (prefix, before, now) in set.counted {
            self.totals().replace(&prefix, &before, &now);
        }
        for (dot, hash) in set.removed {
            self.index.remove(dot, hash);
        }
        for (dot, hash) in set.added {
            self.index.add(dot, hash);
        }
        Ok(set.changes)
    }
}
