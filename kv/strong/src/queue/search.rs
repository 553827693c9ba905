//! The search for items that can be reserved.
//!
//! A read shows the first keys of each area: items, and the claims, holds and notes beside them, which are in the same
//! order. An item is free if neither a claim nor a hold stands beside it. The search reads on until it has found enough.
//!
//! A keyspace counts the keys of a range that it reads, however few it returns, so that a read of the whole queue takes time
//! in proportion to its length. The search therefore remembers where the first window of an area ended, and reads only up to
//! there ([`Hints::horizons`]) as long as that shows enough: a queue of n items is counted once for every window.

use std::collections::{BTreeMap, BTreeSet};

use starling_types::strong::queue::{Order, Rules};

use super::keys::{Area, Part, QueueKeys};
use super::order::{Asker, Job, rank};
use super::{About, Unfitting, found, get, outcomes, read_rules};
use crate::api::{Body, Found, KeyValue, Range, Revision, Txn, TxnOp};

/// Free items among which an order chooses, at most. An estimate: their keys and notes are some tens of KiB.
pub const WINDOW: usize = 256;
/// Keys of each kind in one read in the order of arrival, which needs only the first free ones. An estimate: more than the
/// claims of a few workers.
const PAGE_ARRIVAL: u64 = 64;
/// Workers whose rates are compared, at most.
const RATES_MAX: u64 = 256;

/// An item that no worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// Its key.
    pub key: Vec<u8>,
    /// The revision at which it was written.
    pub written: Revision,
    /// What is known of it.
    pub about: About,
    /// The revision at which that was written; 0: it was not.
    pub noted: Revision,
}

/// What a client remembers from one search to the next. Wrong hints cost reads, and change no result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    rules: Rules,
    turn: Option<String>,
    /// The places up to which the areas `ready` and `later` were read.
    horizons: [Option<Vec<u8>>; 2],
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// The revision at which the queue was read first: what has become free at a later one may be missing.
    pub revision: Revision,
    /// The rules of the queue.
    pub rules: Rules,
    /// Free items, the next one first: at least as many as were wanted, or all.
    pub free: Vec<Free>,
    /// Free items that were reserved as often as the rules allow.
    pub spent: Vec<Free>,
}

/// A part of an area that is read page by page.
#[derive(Clone, Debug)]
struct Scan {
    area: Area,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    is_done: bool,
    /// Whether it has shown a free item.
    has_free: bool,
}

/// A search under way; see the module.
#[derive(Clone, Debug)]
pub struct Search {
    keys: QueueKeys,
    hints: Hints,
    wanted: usize,
    /// The rate of the worker that asks; see [`super::claim`].
    rate: Option<u64>,
    rates: Vec<u64>,
    scans: Vec<Scan>,
    is_bounded: bool,
    is_fresh: bool,
    /// The revision of the first read since the scans have begun.
    revision: Option<Revision>,
    free: Vec<Free>,
    spent: Vec<Free>,
}

impl Search {
    /// Begins to look for at least `wanted` items. `rate`: that of the worker that asks, if it is known.
    pub fn new(keys: QueueKeys, hints: Hints, wanted: usize, rate: Option<u64>) -> Self {
        let mut search = Self {
            keys,
            hints,
            wanted: wanted.max(1),
            rate,
            rates: Vec::new(),
            scans: Vec::new(),
            is_bounded: true,
            is_fresh: false,
            revision: None,
            free: Vec::new(),
            spent: Vec::new(),
        };
        search.begin();
        search
    }

    /// What the search has learned for the next one.
    pub fn into_hints(self) -> Hints {
        self.hints
    }

    fn begin(&mut self) {
        (self.free, self.spent, self.revision) = (Vec::new(), Vec::new(), None);
        let scan = |area, from, to| Scan { area, from, to, is_done: false, has_free: false };
        let horizon = |at: usize| self.hints.horizons[at].clone().filter(|_| self.is_bounded);
        let turn = self.hints.turn.as_deref().filter(|_| self.hints.rules.order == Order::Tenants);
        let behind = turn.map(QueueKeys::after_tenant);
        self.scans = vec![scan(Area::Tenants, behind.clone(), None)];
        self.scans.extend(behind.map(|behind| scan(Area::Tenants, None, Some(behind))));
        self.scans.push(scan(Area::Ready, None, horizon(0)));
        self.scans.push(scan(Area::Later, None, horizon(1)));
    }

    /// The read that continues the search.
    pub fn read(&self) -> Txn {
        let mut then = vec![get(self.keys.rules()), get(self.keys.turn())];
        then.push(TxnOp::Range(Range { limit: RATES_MAX, ..Range::of(self.keys.rates()) }));
        let limit = if self.hints.rules.order == Order::Arrival { PAGE_ARRIVAL } else { WINDOW as u64 };
        for scan in self.open() {
            for part in Part::ALL {
                let keys = self.keys.range(part, scan.area, scan.from.as_deref(), scan.to.as_deref());
                then.push(TxnOp::Range(Range { limit, keys_only: part != Part::About, ..Range::of(keys) }));
            }
        }
        Txn { then, ..Txn::default() }
    }

    fn open(&self) -> impl Iterator<Item = &Scan> {
        self.scans.iter().filter(|scan| !scan.is_done)
    }

    /// Handles the answer to the read. `None`: the search continues with another one.
    ///
    /// # Errors
    /// Fails if the answer is none to the read.
    pub fn step(&mut self, revision: Revision, body: Body) -> Result<Option<Findings>, Unfitting> {
        let revision = *self.revision.get_or_insert(revision);
        let mut bodies = outcomes(body)?.1.into_iter();
        let mut next = || bodies.next().ok_or(Unfitting).and_then(found);
        let rules = read_rules(next()?.kvs.pop());
        let turn = next()?.kvs.pop().and_then(|kv| String::from_utf8(kv.value).ok());
        let rate = |kv: &KeyValue| std::str::from_utf8(&kv.value).ok()?.parse().ok();
        self.rates = next()?.kvs.iter().filter_map(rate).collect();
        let mut scans = std::mem::take(&mut self.scans);
        for scan in scans.iter_mut().filter(|scan| !scan.is_done) {
            let pages = [next()?, next()?, next()?, next()?];
            self.see(rules, scan, pages);
        }
        self.scans = scans;
        let has_changed = |before: &Hints| {
            before.rules.order != rules.order || (rules.order == Order::Tenants && before.turn != turn)
        };
        let is_stale = !self.is_fresh && has_changed(&self.hints);
        (self.is_fresh, self.hints.rules, self.hints.turn) = (true, rules, turn);
        let refill = if rules.order == Order::Arrival { self.wanted } else { WINDOW / 2 };
        if is_stale {
            self.begin();
        } else if self.has_enough() {
            return Ok(Some(self.end(revision)));
        } else if self.open().next().is_none() {
            let is_complete = !self.is_bounded || self.hints.horizons == [None, None];
            if is_complete || self.free.len() >= refill.max(self.wanted) {
                return Ok(Some(self.end(revision)));
            }
            self.is_bounded = false;
            self.begin();
        }
        Ok(None)
    }

    fn has_enough(&self) -> bool {
        self.free.len() >= self.wanted
            && match self.hints.rules.order {
                Order::Arrival => true,
                Order::Shortest | Order::Longest => self.free.len() >= WINDOW,
                // The first tenant behind the one that was served last is known.
                Order::Tenants => self.scans.first().is_some_and(|scan| scan.is_done || scan.has_free),
            }
    }

    /// Handles one page of a scan: items, claims, holds and notes, as far as all four are known.
    fn see(&mut self, rules: Rules, scan: &mut Scan, pages: [Found; 4]) {
        let place = |part: Part, kv: &KeyValue| self.keys.place_of(part, &kv.key).map(<[u8]>::to_vec);
        let ends = pages.iter().zip(Part::ALL).filter(|(page, _)| page.more);
        let end = ends.filter_map(|(page, part)| place(part, page.kvs.last()?)).min();
        let [items, claims, holds, abouts] = pages;
        let taken: BTreeSet<Vec<u8>> = claims
            .kvs
            .iter()
            .filter_map(|kv| place(Part::Claim, kv))
            .chain(holds.kvs.iter().filter_map(|kv| place(Part::Hold, kv)))
            .collect();
        let notes = abouts.kvs.iter().filter_map(|kv| Some((place(Part::About, kv)?, kv)));
        let notes: BTreeMap<Vec<u8>, &KeyValue> = notes.collect();
        for item in items.kvs {
            let Some(at) = place(Part::Item, &item) else { continue };
            let is_known = end.as_ref().is_none_or(|end| at <= *end) && self.keys.place(&item.key).is_some();
            if !is_known || taken.contains(&at) {
                continue;
            }
            let note = notes.get(&at);
            let about = note.map(|kv| About::read(&kv.value)).unwrap_or_default();
            let is_spent = rules.attempts > 0 && about.attempts >= rules.attempts;
            let written = item.mod_revision;
            let free = Free { key: item.key, written, about, noted: note.map_or(0, |kv| kv.mod_revision) };
            scan.has_free |= !is_spent;
            if is_spent { &mut self.spent } else { &mut self.free }.push(free);
        }
        scan.is_done = end.is_none();
        // The next key behind the last one.
        scan.from = end.map(|end| [&end[..], &[0]].concat()).or(scan.from.take());
    }

    fn end(&mut self, revision: Revision) -> Findings {
        for (horizon, area) in self.hints.horizons.iter_mut().zip([Area::Ready, Area::Later]) {
            if !self.is_bounded || horizon.is_none() {
                let open = |scan: &&Scan| scan.area == area && !scan.is_done;
                *horizon = self.scans.iter().find(open).and_then(|scan| scan.from.clone());
            }
        }
        let rules = self.hints.rules;
        let free = std::mem::take(&mut self.free);
        let fastest = self.rates.iter().copied().chain(self.rate).max();
        let speed = match (self.rate, fastest) {
            (Some(rate), Some(fastest)) => rate.max(1) as f64 / fastest.max(1) as f64,
            _ => 1.0,
        };
        let asker = Asker { turn: self.hints.turn.as_deref(), speed };
        let jobs: Vec<Job<'_>> = free.iter().filter_map(|it| job(&self.keys, it)).collect();
        let order = rank(&rules, asker, &jobs);
        let mut unranked: Vec<Option<Free>> = free.into_iter().map(Some).collect();
        let free = order.into_iter().filter_map(|at| unranked[at].take()).collect();
        Findings { revision, rules, free, spent: std::mem::take(&mut self.spent) }
    }
}

/// What the order of an item depends on.
pub(super) fn job<'j>(keys: &QueueKeys, free: &'j Free) -> Option<Job<'j>> {
    let place = keys.place(&free.key)?;
    let About { cost_ms, pushed_ms, tenant, .. } = &free.about;
    let tenant = if place.area == Area::Tenants { place.tenant } else { tenant };
    let (priority, number) = (place.priority, place.number);
    Some(Job { priority, number, cost_ms: *cost_ms, pushed_ms: *pushed_ms, tenant })
}
