//! The keyspace as a read finds it: at the latest revision or at an older one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use starling_kv::engine::{Family, View};
use starling_kv::{Engine, Error};

use super::Machine;
use super::hot::Hot;
use super::rows::{PREFIX_BYTES, Prefix, Record, past_parts};
use crate::api::{Keys, Revision};

/// Rows of `StrongNow` that are about to be written (`None`: removed), by their keys.
pub(super) type Staged = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a scan calls for each key, with its record's row.
pub(super) type RowVisitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'v;

/// Rows of a range at an old revision are collected in pieces of so many and so many bytes.
const PIECE_ROWS: usize = 1024;
/// See [`PIECE_ROWS`].
const PIECE_BYTES: usize = 1 << 20;
/// Rows looked at for one piece, about, in either place.
const PIECE_SEEN: usize = 4096;
/// So many records of one key are passed over one by one; then it is sought beyond them.
const PASSED_MAX: usize = 16;

/// Where reads find records.
pub(super) struct Source<'a, E> {
    pub engine: &'a E,
    pub rows: Prefix,
    /// What the engine holds of some keys.
    pub hot: &'a Hot,
    /// What is written, but not in the engine yet.
    pub staged: &'a Staged,
    pub last: &'a Last,
}

/// The row of the engine that was read last, by its key: what an entry compares it mostly writes.
pub(super) type Last = RefCell<Option<(Vec<u8>, Option<Vec<u8>>)>>;

impl<E: Engine> Machine<E> {
    /// The keyspace as it is in the engine, with what is not there yet.
    pub(super) fn source<'a>(&'a self, staged: &'a Staged, last: &'a Last) -> Source<'a, E> {
        Source { engine: &self.engine, rows: self.rows, hot: &self.hot, staged, last }
    }
}

impl<E: Engine> Source<'_, E> {
    /// The latest row of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row_key = self.rows.now(key);
        if let Some(staged) = self.staged.get(&row_key) {
            return Ok(staged.clone());
        }
        match self.last.take() {
            Some((last, row)) if last == row_key => Ok(row),
            _ => match self.hot.get(&row_key) {
                Some(row) => Ok(row.clone()),
                None => self.engine.get(Family::StrongNow, &row_key),
            },
        }
    }

    /// Visits the latest rows of a range in the order of keys.
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

    /// Visits the rows of the first piece of a range as of `revision`, and answers what is left of it. What is
    /// staged is younger. Rows that were looked at are taken from `room`.
    pub fn scan_piece(
        &self,
        keys: &Keys,
        revision: Revision,
        room: &mut usize,
        visit: &mut RowVisitor<'_>,
    ) -> Result<Option<Keys>, Error> {
        let piece = Piece::collect(&self.engine.view(), self.rows, keys, revision)?;
        *room = room.saturating_sub(piece.seen);
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

/// The rows of the first keys of a range at an old revision; those of no bytes are deletions.
struct Piece {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the next piece begins.
    next: Option<Vec<u8>>,
    /// Rows looked at.
    seen: usize,
}

impl Piece {
    fn collect(view: &impl View, rows: Prefix, keys: &Keys, revision: Revision) -> Result<Self, Error> {
        let mut piece = Self { rows: BTreeMap::new(), next: None, seen: 0 };
        piece.collect_past(view, rows, keys, revision)?;
        piece.collect_latest(view, rows, keys, revision)?;
        Ok(piece)
    }

    /// What was superseded since, or is gone.
    fn collect_past(
        &mut self,
        view: &impl View,
        rows: Prefix,
        keys: &Keys,
        revision: Revision,
    ) -> Result<(), Error> {
        let mut room = Room { rows: PIECE_ROWS, bytes: PIECE_BYTES };
        let (mut from, to) = rows.past_range(keys);
        loop {
            let (mut seek, mut passed) = (None, 0);
            // Newest first: the first one that is old enough is the one.
            view.scan(Family::StrongPast, &from, to.as_deref(), &mut |row_key, row| {
                self.seen += 1;
                let (key, modified) = past_parts(row_key)?;
                let is_taken = self.rows.last_key_value().is_some_and(|(last, _)| *last == key);
                if modified > revision && !is_taken && self.seen > PIECE_SEEN {
                    self.next = Some(key);
                    return Ok(ControlFlow::Break(()));
                }
                if modified > revision || is_taken {
                    passed += 1;
                    if passed < PASSED_MAX {
                        return Ok(ControlFlow::Continue(()));
                    }
                    seek = if is_taken { rows.past_after(&key) } else { Some(rows.past(&key, revision)) };
                    return Ok(ControlFlow::Break(()));
                }
                passed = 0;
                if self.seen > PIECE_SEEN || !room.take(row) {
                    self.next = Some(key);
                    return Ok(ControlFlow::Break(()));
                }
                self.rows.insert(key, row.to_vec());
                Ok(ControlFlow::Continue(()))
            })?;
            match seek {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// What has not been written since.
    fn collect_latest(
        &mut self,
        view: &impl View,
        rows: Prefix,
        keys: &Keys,
        revision: Revision,
    ) -> Result<(), Error> {
        let mut room = Room { rows: PIECE_ROWS, bytes: PIECE_BYTES };
        let (from, mut to) = rows.now_range(keys);
        if let Some(next) = &self.next {
            to = Some(rows.now(next));
        }
        let (mut full, mut seen) = (None, 0);
        view.scan(Family::StrongNow, &from, to.as_deref(), &mut |row_key, row| {
            seen += 1;
            let is_old = Record::decode(row)?.modified <= revision;
            let key = || row_key[PREFIX_BYTES..].to_vec();
            if seen > PIECE_SEEN || (is_old && !room.take(row)) {
                full = Some(key());
                return Ok(ControlFlow::Break(()));
            }
            if is_old {
                self.rows.insert(key(), row.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.seen += seen;
        if let Some(next) = full {
            drop(self.rows.split_off(&next));
            self.next = Some(next);
        }
        Ok(())
    }
}

/// What a piece still takes; the first row always fits.
struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, row: &[u8]) -> bool {
        if self.rows == 0 || self.bytes == 0 {
            return false;
        }
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(row.len());
        true
    }
}
