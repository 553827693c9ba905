//! Joins: the only merge rule. An entry stays if the other side has it too, or has never seen it; the result's context
//! is the union of both. No entry of a delta is ever rejected.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Store;
use super::recover::EQUIVOCATIONS_KEY;
use super::restrict::live_rows;
use super::transaction::{Changeset, Transaction};
use crate::body::{Head, content_hash};
use crate::cell::{Body, DotRow, Stored, is_followed};
use crate::delta::{self, ActorDelta, Delta, Entry};
use crate::dot::LocalDot;
use crate::engine::{Family, RowOp};
use crate::hlc::Clock;
use crate::{ActorId, Change, DotRange, Engine, Error};

/// A span of claimed dots up to this long is looked up dot by dot, a longer one is scanned. A guess:
/// a seek costs about as much as four lookups.
const LOOKUPS_MAX: u64 = 4;

/// The result of a join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Whether live entries or the context changed.
    pub changed: bool,
    /// Entries that are live here now and were not before.
    pub entries: u64,
    /// Older live dots at the places of those entries: the sender may know them to be dead.
    pub suspects: Vec<DotRange>,
    /// Dots that are dead in the delta and stay as they were here. See [`Store::join_part`].
    pub withheld: Vec<DotRange>,
    /// Keys whose visible state may have changed, in order, each once.
    pub changes: Vec<Change>,
}

impl<E: Engine> Store<E> {
    /// Joins a delta as a whole.
    ///
    /// # Errors
    /// Fails with [`Error::Malformed`] if the bytes are not a delta, otherwise with an error of the engine. Then
    /// nothing has changed.
    pub fn join(&mut self, wall_ms: u64, bytes: &[u8]) -> Result<Joined, Error> {
        self.join_delta(wall_ms, bytes, None)
    }

    /// Joins a part of another replica's state of which more is to come: its entries, and of its deaths those that cannot
    /// lose anything, because the place holds a version that was written later. A version here that the other replica has
    /// replaced by one that is still to come would otherwise be lost if that replica is never heard of again. So would a
    /// version at a third replica, which would learn from this one that it is dead; therefore dead dots that were never
    /// seen here are withheld too.
    ///
    /// At most `withheld_max` ranges are withheld. Beyond that dots that were seen stay as they are, and the others are
    /// seen and dead from now on.
    ///
    /// # Errors
    /// Like [`Store::join`].
    pub fn join_part(&mut self, wall_ms: u64, bytes: &[u8], withheld_max: usize) -> Result<Joined, Error> {
        self.join_delta(wall_ms, bytes, Some(withheld_max))
    }

    fn join_delta(
        &mut self,
        wall_ms: u64,
        bytes: &[u8],
        withheld_max: Option<usize>,
    ) -> Result<Joined, Error> {
        let delta = delta::decode(bytes)?;
        let mut session = Session::new(self, &delta, wall_ms);
        session.withheld_max = withheld_max;
        for section in &delta.actors {
            session.claim(section);
        }
        for section in &delta.actors {
            session.take_entries(section)?;
        }
        for section in &delta.actors {
            session.apply_removals(section)?;
        }
        let Finished { mut set, mut joined, clock, future, equivocations, siblings, is_own_taken } =
            session.finish()?;
        if equivocations > 0 {
            let total = self.stats.equivocations + equivocations;
            set.ops.push(RowOp::Put(Family::Meta, EQUIVOCATIONS_KEY.to_vec(), total.to_be_bytes().to_vec()));
        }
        joined.changed = !set.is_old_news();
        joined.changes = self.apply(set)?;
        self.clock = clock;
        self.drop_actor_if_taken(&delta, is_own_taken);
        self.stats.joins += 1;
        self.stats.joins_old_news += u64::from(!joined.changed);
        self.stats.entries_joined += joined.entries;
        self.stats.siblings += siblings;
        self.stats.future_timestamps += future;
        self.stats.equivocations += equivocations;
        Ok(joined)
    }

    /// Drops this store's actor if a peer has dots of it that this store never created, or with another content
    /// (`has_other_content`): the process was copied or rolled back, and another one creates dots of that actor.
    fn drop_actor_if_taken(&mut self, delta: &Delta<'_>, has_other_content: bool) {
        let has_later = self.own.is_some_and(|own| {
            delta.actors.iter().any(|section| section.actor == own.id && section.claimed.max() >= own.next)
        });
        if has_later || has_other_content {
            self.own = None;
            self.stats.actor_rotations += 1;
        }
    }
}

struct Session<'s, 'd, E: Engine> {
    store: &'s Store<E>,
    txn: Transaction<'s, E>,
    view: OnceCell<E::View<'s>>,
    /// The delta's sections by actor number.
    sections: BTreeMap<u32, &'d ActorDelta<'d>>,
    wall_ms: u64,
    clock: Clock,
    /// Claimed dots that were removed at places already visited.
    removed: BTreeSet<LocalDot>,
    /// `None` withholds nothing.
    withheld_max: Option<usize>,
    withheld: Vec<DotRange>,
    entries: u64,
    future: u64,
    equivocations: u64,
    /// A dot of the store's present actor has another content in the delta.
    is_own_taken: bool,
}

/// The result of a session.
struct Finished {
    set: Changeset,
    /// Without what the writing of `set` changes.
    joined: Joined,
    clock: Clock,
    future: u64,
    equivocations: u64,
    siblings: u64,
    is_own_taken: bool,
}

impl<'s, 'd, E: Engine> Session<'s, 'd, E> {
    fn finish(self) -> Result<Finished, Error> {
        let Self { txn, withheld, clock, entries, future, equivocations, is_own_taken, .. } = self;
        let (siblings, suspects) = txn.siblings()?;
        let set = txn.finish()?;
        let joined = Joined { entries, suspects, withheld, ..Joined::default() };
        Ok(Finished { set, joined, clock, future, equivocations, siblings, is_own_taken })
    }

    fn new(store: &'s Store<E>, delta: &'d Delta<'d>, wall_ms: u64) -> Self {
        let mut txn = Transaction::new(store);
        let sections = delta.actors.iter().filter(|section| !section.claimed.is_empty());
        let sections = sections.map(|section| (txn.number(section.actor), section)).collect();
        Self {
            store,
            txn,
            view: OnceCell::new(),
            sections,
            wall_ms,
            clock: store.clock,
            removed: BTreeSet::new(),
            withheld_max: None,
            withheld: Vec::new(),
            entries: 0,
            future: 0,
            equivocations: 0,
            is_own_taken: false,
        }
    }

    /// Adds the claimed dots that were not seen yet to the context.
    fn claim(&mut self, section: &ActorDelta<'_>) {
        if section.claimed.is_empty() {
            return;
        }
        let number = self.txn.number(section.actor);
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::ContextNotJoined) {
            return section.entries.iter().for_each(|entry| self.txn.see(number, entry.seq, entry.seq));
        }
        for &(first, last) in section.claimed.spans() {
            if self.withheld_max.is_some() {
                self.claim_entries(section, number, first, last);
            } else if !self.store.index.is_seen(number, first, last) {
                self.txn.see(number, first, last);
            }
        }
    }

    /// Adds the dots of the entries to the context, and withholds the dead ones that were not seen yet.
    fn claim_entries(&mut self, section: &ActorDelta<'_>, number: u32, first: u64, last: u64) {
        let known = self.store.number(section.actor).map(|number| &self.store.index.actor(number).seen);
        for (first, last) in known.map_or_else(|| vec![(first, last)], |seen| seen.gaps(first, last)) {
            let from = section.entries.partition_point(|entry| entry.seq < first);
            let entries = section.entries[from..].iter().map(|entry| entry.seq);
            let mut next = first;
            for seq in entries.take_while(|seq| *seq <= last) {
                self.claim_dead(section.actor, number, next, seq - 1);
                self.txn.see(number, seq, seq);
                next = seq + 1;
            }
            self.claim_dead(section.actor, number, next, last);
        }
    }

    fn claim_dead(&mut self, actor: ActorId, number: u32, first: u64, last: u64) {
        if first <= last && !self.withhold(actor, first, last) {
            self.txn.see(number, first, last);
        }
    }

    /// Whether there was room to withhold dots.
    fn withhold(&mut self, actor: ActorId, first: u64, last: u64) -> bool {
        let has_room = self.withheld_max.is_some_and(|max| self.withheld.len() < max);
        if has_room {
            self.withheld.push(DotRange { actor, first, last });
        }
        has_room
    }

    fn take_entries(&mut self, section: &'d ActorDelta<'d>) -> Result<(), Error> {
        if section.entries.is_empty() {
            return Ok(());
        }
        let number = self.txn.number(section.actor);
        for entry in &section.entries {
            #[cfg(planted)]
            if starling_planted::on(starling_planted::Bug::RefusedEntryClaimed)
                && Head::parse(entry.body).is_some_and(|head| head.written.wall_ms() > self.wall_ms + 60_000)
            {
                continue;
            }
            let dot = LocalDot { actor: number, seq: entry.seq };
            if self.store.index.is_seen(number, entry.seq, entry.seq) {
                self.compare(section, entry, dot)?;
            } else {
                self.add(entry, dot, None)?;
                self.entries += 1;
            }
        }
        Ok(())
    }

    /// Adds a new entry, or the winning content of an equivocation. The dots at its place that the delta claims to be
    /// dead are removed at the same time, which saves looking them up.
    fn add(&mut self, entry: &'d Entry<'d>, dot: LocalDot, hash: Option<u128>) -> Result<(), Error> {
        let head = Head::parse(entry.body);
        if let Some(head) = head {
            let ahead = self.store.options.clock_ahead_ms_max;
            self.future += u64::from(!self.clock.observe(head.written, self.wall_ms, ahead));
        }
        let (sections, removed) = (&self.sections, &mut self.removed);
        let withholds = self.withheld_max.is_some();
        let follows = |version: &Stored| {
            let written = version.head().map(|head| head.written);
            written.is_some() && head.map(|head| head.written) > written
        };
        let cell = self.txn.cell(&entry.place)?;
        cell.retain(|version| {
            let dies = is_claimed_dead(sections, version.dot) && (!withholds || follows(version));
            if dies {
                removed.insert(version.dot);
            }
            !dies
        });
        cell.push(Stored { dot, body: Body::Whole(Bytes::copy_from_slice(entry.body)), hash });
        Ok(())
    }

    /// Compares an entry whose dot has been seen: it is live already, or dead. If it is live with another content, the
    /// larger hash wins, on every replica.
    fn compare(
        &mut self,
        section: &'d ActorDelta<'d>,
        entry: &'d Entry<'d>,
        dot: LocalDot,
    ) -> Result<(), Error> {
        if !self.store.index.may_be_live(dot) {
            return Ok(());
        }
        let Some(row) = self.store.engine.get(Family::Dots, &dot.row_key())? else { return Ok(()) };
        let ours = DotRow::decode(&row)?;
        let theirs = content_hash(section.actor, entry.seq, &entry.place, entry.body);
        if ours.hash == theirs {
            return Ok(());
        }
        self.equivocations += 1;
        self.is_own_taken |= self.store.own.is_some_and(|own| own.id == section.actor);
        if theirs > ours.hash {
            self.txn.cell(&ours.place)?.retain(|version| version.dot != dot);
            self.add(entry, dot, Some(theirs))?;
        }
        Ok(())
    }

    /// Applies removals: the dots that are claimed, seen here, and not live on the other side.
    fn apply_removals(&mut self, section: &ActorDelta<'_>) -> Result<(), Error> {
        #[cfg(planted)]
        if starling_planted::on(starling_planted::Bug::DeletionIgnored) {
            return Ok(());
        }
        let Some(number) = self.store.number(section.actor) else { return Ok(()) };
        let index = &self.store.index;
        let seen = &index.actor(number).seen;
        let parts = section.claimed.spans().iter().flat_map(|&(first, last)| seen.within(first, last));
        let parts: Vec<_> = parts.flat_map(|(first, last)| index.live_parts(number, first, last)).collect();
        for (first, last) in parts {
            for (dot, place) in self.live_dots(section, number, first, last)? {
                if self.withheld_max.is_some() && !is_followed(self.txn.cell(&place)?, dot) {
                    self.withhold(section.actor, dot.seq, dot.seq);
                    continue;
                }
                self.txn.cell(&place)?.retain(|version| version.dot != dot);
            }
        }
        Ok(())
    }

    /// The live dots of `first..=last` that are not live in the delta and not removed yet.
    fn live_dots(
        &self,
        section: &ActorDelta<'_>,
        number: u32,
        first: u64,
        last: u64,
    ) -> Result<Vec<(LocalDot, Vec<u8>)>, Error> {
        let stays = |dot: LocalDot| holds(section, dot.seq) || self.removed.contains(&dot);
        let mut found = Vec::new();
        let engine = &self.store.engine;
        if last - first < LOOKUPS_MAX {
            for dot in (first..=last).map(|seq| LocalDot { actor: number, seq }).filter(|&dot| !stays(dot)) {
                if let Some(row) = engine.get(Family::Dots, &dot.row_key())? {
                    found.push((dot, DotRow::decode(&row)?.place));
                }
            }
            return Ok(found);
        }
        let view = self.view.get_or_init(|| engine.view());
        live_rows(view, number, first, last, &mut |dot, row| {
            if !stays(dot) {
                found.push((dot, row.place));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

/// Whether the section's dot is live in the delta.
fn holds(section: &ActorDelta<'_>, seq: u64) -> bool {
    section.entries.binary_search_by_key(&seq, |entry| entry.seq).is_ok()
}

/// Whether the delta claims that a dot is dead.
fn is_claimed_dead(sections: &BTreeMap<u32, &ActorDelta<'_>>, dot: LocalDot) -> bool {
    sections
        .get(&dot.actor)
        .is_some_and(|section| section.claimed.contains(dot.seq, dot.seq) && !holds(section, dot.seq))
}
