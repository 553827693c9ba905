//! Ranges: filters, order, limits, and answers of bounded size.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use starling_kv::{Engine, Error};

use super::limits::{ANSWER_BYTES_MAX, WRITE_KEYS_MAX};
use super::room::Room;
use super::rows::Record;
use super::source::Source;
use super::stage::Stop;
use crate::api::{Found, KeyValue, Range, Refusal, SortBy, SortOrder};

/// Encoded bytes of a [`KeyValue`] beyond key and value, rounded up.
const KEY_VALUE_BYTES: usize = 48;

/// Bytes that a key and its value take in an answer.
pub(super) fn answer_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + KEY_VALUE_BYTES
}

/// What remains of the bounds on one write.
pub(super) struct Budget {
    /// Bytes that the answer may still take.
    pub bytes: usize,
    /// Keys that the write may still visit.
    keys: usize,
}

impl Budget {
    /// The whole bounds, for a write that begins.
    pub fn new() -> Self {
        Self { bytes: ANSWER_BYTES_MAX, keys: WRITE_KEYS_MAX }
    }

    /// Counts visited keys; fails if they exceed the bound.
    pub fn look_at(&mut self, keys: usize) -> Result<(), Refusal> {
        let max = WRITE_KEYS_MAX as u64;
        let left = self.keys.checked_sub(keys);
        self.keys = left.ok_or_else(|| Refusal::TooMany { what: "keys in one write".into(), max })?;
        Ok(())
    }

    /// Whether a scan that has visited `keys` continues: up to one key beyond the bound.
    pub fn has_room(&self, keys: usize) -> ControlFlow<()> {
        if keys <= self.keys { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Reads a range whose revision has been checked, with at most the budget's bytes (or one key), and reduces the
/// budget. `revision` is that of the state in `source`.
pub(super) fn range<E: Engine>(
    source: &Source<'_, E>,
    range: &Range,
    revision: u64,
    budget: &mut Budget,
) -> Result<Found, Stop> {
    let mut answer = Collected::new(range, budget.bytes);
    let mut seen = 0;
    let mut visit = |key: &[u8], row: &[u8]| {
        seen += 1;
        answer.visit(key, row)?;
        Ok(budget.has_room(seen))
    };
    if range.revision == 0 || range.revision == revision {
        source.scan(&range.keys, &mut visit)?;
        budget.look_at(seen)?;
    } else {
        let mut rest = Some(range.keys.clone());
        while let Some(keys) = rest {
            let mut room = Room::ALL;
            rest = source.scan_piece(&keys, range.revision, &mut room, &mut |key, row| {
                answer.visit(key, row)?;
                Ok(ControlFlow::Continue(()))
            })?;
            budget.look_at(usize::MAX - room.rows)?;
        }
    }
    let found = answer.finish();
    budget.bytes = budget.bytes.saturating_sub(found.kvs.iter().map(answer_bytes).sum());
    Ok(found)
}

/// What keys are sorted by; keys with equal places are sorted by themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Rising(Field),
    Falling(std::cmp::Reverse<Field>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The first keys of a range in the requested order, as many as fit.
pub(super) struct Collected {
    range: Range,
    /// Keys, at most.
    limit: usize,
    /// Bytes, at most, but for one key.
    budget: usize,
    bytes: usize,
    kvs: BTreeMap<(Place, Vec<u8>), KeyValue>,
    /// The first place that was left out. Nothing from it on is added, even if it fits, so that the result has no
    /// gaps.
    ceiling: Option<(Place, Vec<u8>)>,
    more: bool,
    /// Keys in the range.
    count: u64,
}

impl Collected {
    pub fn new(range: &Range, budget: usize) -> Self {
        let limit =
            if range.limit == 0 { usize::MAX } else { usize::try_from(range.limit).unwrap_or(usize::MAX) };
        let (range, kvs) = (range.clone(), BTreeMap::new());
        Self { range, limit, budget, bytes: 0, kvs, ceiling: None, more: false, count: 0 }
    }

    /// Adds the next key of the range.
    pub fn visit(&mut self, key: &[u8], row: &[u8]) -> Result<(), Error> {
        self.count += 1;
        if !self.range.count_only && !self.is_full() {
            self.see(key, Record::decode(row)?);
        }
        Ok(())
    }

    /// Whether no later key of the range can be among the result.
    fn is_full(&self) -> bool {
        self.more && matches!(self.range.sort, None | Some((SortBy::Key, SortOrder::Ascending)))
    }

    fn wants(&self, record: &Record<'_>) -> bool {
        let Range { min_mod_revision, max_mod_revision, min_create_revision, max_create_revision, .. } =
            self.range;
        let within = |number: u64, min: u64, max: u64| number >= min && (max == 0 || number <= max);
        within(record.modified, min_mod_revision, max_mod_revision)
            && within(record.create, min_create_revision, max_create_revision)
    }

    fn place(&self, key: &[u8], record: &Record<'_>) -> Place {
        let (by, order) = self.range.sort.unwrap_or((SortBy::Key, SortOrder::Ascending));
        let field = match by {
            SortBy::Key => Field::Bytes(key.to_vec()),
            SortBy::Version => Field::Number(record.version),
            SortBy::CreateRevision => Field::Number(record.create),
            SortBy::ModRevision => Field::Number(record.modified),
            SortBy::Value => Field::Bytes(record.value.to_vec()),
        };
        match order {
            SortOrder::Ascending => Place::Rising(field),
            SortOrder::Descending => Place::Falling(std::cmp::Reverse(field)),
        }
    }

    fn see(&mut self, key: &[u8], record: Record<'_>) {
        if !self.wants(&record) {
            return;
        }
        let place = (self.place(key, &record), key.to_vec());
        if self.ceiling.as_ref().is_some_and(|ceiling| place >= *ceiling) {
            return;
        }
        let value = if self.range.keys_only { &[] } else { record.value };
        let kv = Record { value, ..record }.key_value(key);
        self.bytes += answer_bytes(&kv);
        self.kvs.insert(place, kv);
        while self.kvs.len() > self.limit || (self.bytes > self.budget && self.kvs.len() > 1) {
            let Some((place, kv)) = self.kvs.pop_last() else { break };
            self.bytes -= answer_bytes(&kv);
            self.ceiling = Some(place);
            self.more = true;
        }
    }

    pub fn finish(self) -> Found {
        Found { kvs: self.kvs.into_values().collect(), more: self.more, count: self.count }
    }
}
