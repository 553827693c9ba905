//! An acknowledged write is in the store of its node, with exactly the effect that it is documented to
//! have; a refused one has none. And it is never lost as long as one replica that holds it lives on.

use std::collections::{BTreeMap, BTreeSet};

use starling_kv::{ActorId, Batch, Check, Dot, Kind, Op, Write};

use super::history::Increment;
use super::state::place;
use super::{Memory, State};

/// The reference: writes applied to a plain map from places to live dots.
pub struct Reference<'s> {
    before: &'s State,
    wall_ms: u64,
    own: ActorId,
    first: u64,
    next: u64,
    places: BTreeMap<Vec<u8>, BTreeSet<Dot>>,
    written: BTreeMap<Dot, (Vec<u8>, Option<u64>)>,
    /// Increments that were applied.
    pub increments: Vec<Increment>,
}

impl<'s> Reference<'s> {
    /// The state before a commit under the name `own`.
    pub fn new(before: &'s State, own: ActorId, wall_ms: u64) -> Self {
        let mut places: BTreeMap<Vec<u8>, BTreeSet<Dot>> = BTreeMap::new();
        for (dot, entry) in &before.live {
            places.entry(entry.place.clone()).or_default().insert(*dot);
        }
        let first = before.seen.last(own) + 1;
        Self {
            before,
            wall_ms,
            own,
            first,
            next: first,
            places,
            written: BTreeMap::new(),
            increments: Vec::new(),
        }
    }

    /// Applies an accepted batch.
    pub fn apply(&mut self, batch: &Batch) {
        batch.writes.iter().for_each(|write| self.write(write));
    }

    fn write(&mut self, write: &Write) {
        let at = |kind: Kind, field: &[u8]| place(&write.keyspace, &write.key, kind as u8, field);
        let expires = write.ttl_ms.map(|ttl| self.wall_ms + ttl);
        match &write.op {
            Op::Put { value } => {
                self.put(at(Kind::Register, &[]), value, expires);
            }
            Op::Flag { enabled: true } => {
                self.put(at(Kind::Flag, &[]), &[], expires);
            }
            Op::Flag { enabled: false } => self.kill(&[at(Kind::Flag, &[])]),
            Op::SetAdd { members: elements } => {
                for element in elements {
                    self.put(at(Kind::Set, element), &[], expires);
                }
            }
            Op::SetRemove { members: elements } => {
                self.kill(&elements.iter().map(|element| at(Kind::Set, element)).collect::<Vec<_>>());
            }
            Op::MapPut { fields } => {
                for field in fields {
                    self.put(at(Kind::Map, &field.name.0), &field.value.0, expires);
                }
            }
            Op::MapDelete { names } => {
                self.kill(&names.iter().map(|name| at(Kind::Map, name)).collect::<Vec<_>>());
            }
            Op::Incr { by } => {
                let place = at(Kind::Counter, &self.own.0);
                let sum =
                    self.places.get(&place).and_then(|dots| dots.last()).map_or(0, |dot| self.sum(*dot));
                let sum = sum + i128::from(*by);
                let dot = self.put(place, &sum.to_be_bytes(), expires);
                self.increments.push(Increment { key: write.key.clone(), by: *by, dot });
            }
            Op::Max { value } => self.extremum(at(Kind::Max, &[]), *value, i64::max, expires),
            Op::Min { value } => self.extremum(at(Kind::Min, &[]), *value, i64::min, expires),
            // Without the type; without the end of the key as well.
            Op::Delete => self.kill_prefix(
                place(&write.keyspace, &write.key, 0, &[]).split_last_chunk::<1>().expect("longer").0,
            ),
            Op::DeletePrefix => self.kill_prefix(
                place(&write.keyspace, &write.key, 0, &[]).split_last_chunk::<3>().expect("longer").0,
            ),
        }
    }

    /// The sum under a dot of a counter: of two live dots of one actor the later counts.
    fn sum(&self, dot: Dot) -> i128 {
        let written = self.written.get(&dot).and_then(|(value, _)| value.as_slice().try_into().ok());
        written.map_or_else(|| self.before.live.get(&dot).map_or(0, |entry| entry.sum()), i128::from_be_bytes)
    }

    /// Writes the best of an integer and of those that are visible at its place.
    fn extremum(&mut self, place: Vec<u8>, value: i64, best: fn(i64, i64) -> i64, expires: Option<u64>) {
        let seen = self.places.get(&place).into_iter().flatten().filter_map(|dot| self.integer(*dot));
        let value = seen.fold(value, best);
        self.put(place, &value.to_be_bytes(), expires);
    }

    /// The integer under a dot of a max or min register, unless it has expired.
    fn integer(&self, dot: Dot) -> Option<i64> {
        let before = || self.before.live.get(&dot).map(|entry| (entry.value().to_vec(), entry.expires_ms()));
        let (value, expires) = self.written.get(&dot).cloned().or_else(before)?;
        let is_visible = expires.is_none_or(|expires| self.wall_ms < expires);
        value.try_into().ok().map(i64::from_be_bytes).filter(|_| is_visible)
    }

    fn mint(&mut self) -> Dot {
        self.next += 1;
        Dot { actor: self.own, seq: self.next - 1 }
    }

    fn put(&mut self, place: Vec<u8>, value: &[u8], expires: Option<u64>) -> Dot {
        let dot = self.mint();
        self.places.insert(place, BTreeSet::from([dot]));
        self.written.insert(dot, (value.to_vec(), expires));
        dot
    }

    fn kill(&mut self, places: &[Vec<u8>]) {
        let gone: Vec<_> = places.iter().filter_map(|place| self.places.remove(place)).collect();
        if !gone.is_empty() {
            self.mint();
        }
    }

    fn kill_prefix(&mut self, prefix: &[u8]) {
        let places: Vec<_> = self.places.keys().filter(|place| place.starts_with(prefix)).cloned().collect();
        self.kill(&places);
    }

    /// Compares with what the store made of the writes.
    pub fn compare(&self, after: &State) -> Result<(), String> {
        let mut places: BTreeMap<Vec<u8>, BTreeSet<Dot>> = BTreeMap::new();
        for (dot, entry) in &after.live {
            places.entry(entry.place.clone()).or_default().insert(*dot);
        }
        let all = self.places.keys().chain(places.keys());
        if let Some(place) = all.into_iter().find(|place| self.places.get(*place) != places.get(*place)) {
            let (wanted, found) = (self.places.get(place), places.get(place));
            let place = place.escape_ascii();
            return Err(format!("after the commit {place} should hold {wanted:?}, and holds {found:?}"));
        }
        for (dot, (value, expires_ms)) in &self.written {
            let Some(entry) = after.live.get(dot) else { continue };
            if entry.value() != value || entry.expires_ms() != *expires_ms {
                return Err(format!("{dot:?} holds another value or expiry than was written"));
            }
        }
        let minted = after.seen.minus(&self.before.seen).filter(|dot| dot.actor == self.own).count() as u64;
        let expected = self.next - self.first;
        if minted != expected {
            return Err(format!("the commit minted {minted} dots, not {expected}"));
        }
        Ok(())
    }
}

/// Whether a batch that was accepted may have been: a write to an absent key finds none.
pub fn was_acceptable(before: &State, batch: &Batch, wall_ms: u64) -> Result<(), String> {
    // Later writes of a batch see the earlier ones.
    let Some(write) = batch.writes.first().filter(|write| write.check == Some(Check::Absent)) else {
        return Ok(());
    };
    let place = place(&write.keyspace, &write.key, Kind::Register as u8, &[]);
    let visible = |entry: &super::Entry| entry.expires_ms().is_none_or(|expires| wall_ms < expires);
    match before.live.iter().find(|(_, entry)| entry.place == place && visible(entry)) {
        Some((dot, _)) => Err(format!("a write to an absent key was accepted over {dot:?}")),
        None => Ok(()),
    }
}

/// At the end: what any live replica ever showed of acknowledged writes, since its disk was lost last, it
/// and all others hold.
pub fn check_held(memories: &[&Memory], replicas: &[(usize, &State)]) -> Result<(), String> {
    for (holder, _) in replicas {
        for (node, state) in replicas {
            if let Some(dot) = memories[*holder].held.minus(&state.seen).next() {
                return Err(format!("{dot:?}, held by live node {holder}, is missing on node {node}"));
            }
        }
    }
    Ok(())
}
