//! Reads of records: at the latest revision or at an older one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use starling_kv::engine::{Family, View};
use starling_kv::{Engine, Error};

use super::Machine;
use super::hot::Hot;
use super::room::Room;
use super::rows::{PREFIX_BYTES, Prefix, Record, past_parts};
use crate::api::{Keys, Revision};

/// Rows of `StrongNow` that are about to be written (`None`: removed), by their row keys.
pub(super) type Staged = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The function that a scan calls with each key and its record's row.
pub(super) type RowVisitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'v;

/// What is visited for one piece of a range at an old revision in each of `StrongPast` and `StrongNow`, about, at
/// most. A guess.
const PIECE: Room = Room { rows: 4096, bytes: 1 << 20 };
/// Records of one key that are skipped one by one before the scan seeks beyond them. A guess: a seek costs about as
/// much.
const PASSED_MAX: usize = 16;

/// The sources of records for a read, the newest first: staged rows, the last row read, the cache, the engine.
pub(super) struct Source<'a, E> {
    pub engine: &'a E,
    pub rows: Prefix,
    /// The cache of the engine's latest rows.
    pub hot: &'a Hot,
    /// Rows that are not in the engine yet.
    pub staged: &'a Staged,
    pub last: &'a Last,
    pub visited: &'a Visited,
}

/// Rows of the engine that were visited, and their bytes.
pub(super) type Visited = Cell<Room>;

/// Adds a row to those that were visited.
pub(super) fn count(visited: &Visited, bytes: usize) {
    let Room { rows, bytes: before } = visited.get();
    visited.set(Room { rows: rows + 1, bytes: before.saturating_add(bytes) });
}

/// The row that was last read from the engine, with its row key: a transaction often writes the key that its
/// condition reads.
pub(super) type Last = RefCell<Option<(Vec<u8>, Option<Vec<u8>>)>>;

impl<E: Engine> Machine<E> {
    /// The keyspace's records in the engine and in `staged`.
    pub(super) fn source<'a>(
        &'a self,
        staged: &'a Staged,
        last: &'a Last,
        visited: &'a Visited,
    ) -> Source<'a, E> {
        Source { engine: &self.engine, rows: self.rows, hot: &self.hot, staged, last, visited }
    }
}

impl<E: Engine> Source<'_, E> {
    /// The latest row of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row_key = self.rows.now(key);
        if let Some(staged) = self.staged.get(&row_key) {
            return Ok(staged.clone());
        }
        if let Some((last, row)) = self.last.take()
            && last == row_key
        {
            return Ok(row);
        }
        if let Some(row) = self.hot.get(&row_key) {
            return Ok(row.clone());
        }
        let row = self.engine.get(Family::StrongNow, &row_key)?;
        count(self.visited, row.as_ref().map_or(0, Vec::len));
        Ok(row)
    }

    /// Visits the latest rows of a range in ascending order of their keys.
    pub fn scan(&self, keys: &Keys, visit: &mut RowVisitor<'_>) -> Result<(), Error> {
        if let Keys::One(key) = keys {
            let row = self.get(key)?;
            if let Some(row) = &row {
                visit(key, row).map(drop)?;
            }
            self.last.replace(Some((self.rows.now(key), row)));
            return Ok(());
        }
        let (from, to) = self.rows.now_range(keys);
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(());
        }
        let end = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut ours = self.staged.range::<[u8], _>((Bound::Included(&from[..]), end)).peekable();
        let mut flow = ControlFlow::Continue(());
        let mut see = |row_key: &[u8], row: Option<&[u8]>| -> Result<ControlFlow<()>, Error> {
            if let (Some(row), ControlFlow::Continue(())) = (row, flow) {
                flow = visit(&row_key[PREFIX_BYTES..], row)?;
            }
            Ok(flow)
        };
        self.engine.view().scan(Family::StrongNow, &from, to.as_deref(), &mut |row_key, row| {
            count(self.visited, row.len());
            while let Some((earlier, staged)) = ours.next_if(|(ours, _)| ours.as_slice() < row_key) {
                if see(earlier, staged.as_deref())?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            match ours.next_if(|(ours, _)| ours.as_slice() == row_key) {
                Some((_, staged)) => see(row_key, staged.as_deref()),
                None => see(row_key, Some(row)),
            }
        })?;
        for (row_key, staged) in ours {
            if see(row_key, staged.as_deref())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the rows of the first piece of a range as of `revision`, and returns the rest of the range. Staged rows
    /// are newer than any such revision. Visits about as much as `room` allows, or a few rows of one key, and reduces
    /// `room` by it.
    pub fn scan_piece(
        &self,
        keys: &Keys,
        revision: Revision,
        room: &mut Room,
        visit: &mut RowVisitor<'_>,
    ) -> Result<Option<Keys>, Error> {
        let piece = Piece::collect(&self.engine.view(), self.rows, keys, revision, room.within(PIECE))?;
        room.use_up(piece.seen);
        count(self.visited, piece.seen.bytes);
        for (key, row) in &piece.rows {
            if !row.is_empty() && visit(key, row)?.is_break() {
                return Ok(None);
            }
        }
        Ok(match (piece.next, keys) {
            (Some(from), Keys::Range { to, .. }) => Some(Keys::Range { from, to: to.clone() }),
            _ => None,
        })
    }
}

/// The rows of the first keys of a range at an old revision; empty rows are deletions.
struct Piece {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The key at which the next piece begins.
    next: Option<Vec<u8>>,
    /// What was visited.
    seen: Room,
}

impl Piece {
    fn collect(
        view: &impl View,
        rows: Prefix,
        keys: &Keys,
        revision: Revision,
        room: Room,
    ) -> Result<Self, Error> {
        let mut piece = Self { rows: BTreeMap::new(), next: None, seen: Room { rows: 0, bytes: 0 } };
        piece.collect_past(view, rows, keys, revision, room)?;
        piece.collect_latest(view, rows, keys, revision, room)?;
        Ok(piece)
    }

    fn see(&mut self, row: &[u8], room: &mut Room) -> bool {
        self.seen.rows += 1;
        self.seen.bytes += row.len();
        room.take(row.len())
    }

    /// Collects the records of keys that were written or deleted since `revision`. Without room it ends at the next
    /// key, and skips what is left of this one.
    fn collect_past(
        &mut self,
        view: &impl View,
        rows: Prefix,
        keys: &Keys,
        revision: Revision,
        mut room: Room,
    ) -> Result<(), Error> {
        let (mut from, to) = rows.past_range(keys);
        let mut first = None;
        loop {
            let (mut seek, mut passed) = (None, 0);
            // A key's records are in descending order of revisions: the first one up to `revision` is the right one.
            view.scan(Family::StrongPast, &from, to.as_deref(), &mut |row_key, row| {
                let has_room = self.see(row, &mut room);
                let (key, modified) = past_parts(row_key)?;
                // A piece has at least one key, so that the next one makes progress.
                let is_taken = self.rows.last_key_value().is_some_and(|(last, _)| *last == key);
                let first = first.get_or_insert_with(|| key.clone());
                if !has_room && !is_taken && *first != key {
                    self.next = Some(key);
                    return Ok(ControlFlow::Break(()));
                }
                if modified > revision || is_taken {
                    passed += 1;
                    if passed < PASSED_MAX && !room.is_used_up() {
                        return Ok(ControlFlow::Continue(()));
                    }
                    seek = if is_taken { rows.past_after(&key) } else { Some(rows.past(&key, revision)) };
                    return Ok(ControlFlow::Break(()));
                }
                passed = 0;
                self.rows.insert(key, row.to_vec());
                Ok(ControlFlow::Continue(()))
            })?;
            match seek {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Collects the records of keys that were not written since `revision`.
    fn collect_latest(
        &mut self,
        view: &impl View,
        rows: Prefix,
        keys: &Keys,
        revision: Revision,
        mut room: Room,
    ) -> Result<(), Error> {
        let (from, mut to) = rows.now_range(keys);
        if let Some(next) = &self.next {
            to = Some(rows.now(next));
        }
        let mut full = None;
        view.scan(Family::StrongNow, &from, to.as_deref(), &mut |row_key, row| {
            let key = row_key[PREFIX_BYTES..].to_vec();
            if !self.see(row, &mut room) {
                full = Some(key);
                return Ok(ControlFlow::Break(()));
            }
            if Record::decode(row)?.modified <= revision {
                self.rows.insert(key, row.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(next) = full {
            drop(self.rows.split_off(&next));
            self.next = Some(next);
        }
        Ok(())
    }
}
