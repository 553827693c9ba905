//! A journal: rows in append-only, checksummed segments, for rows that are written and removed in about the same order, as
//! the entries of logs are. A write costs no more than its bytes, once: nothing is merged or sorted.
//!
//! Every write is one record of a segment, so after a crash all or none of it is there. Where the rows are is kept in
//! memory. Segments are released from the first one on, once they have no live row and what replaced their rows is
//! durable. Removals therefore need no record of their own life: they lie behind the rows that they remove. If dead rows
//! take too much space, the live rows of the first segment are appended again, a few with each write.

mod files;
mod memory;
mod record;
mod segments;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use files::Files;
pub use memory::MemoryFiles;
pub use segments::{LostRecords, Position, SEGMENT_BYTES};

use crate::Error;
use segments::{Segments, SyncPoint};

/// Segments beyond twice the live rows, at most, before live rows are appended again. A guess.
const SPARE_SEGMENTS: u64 = 4;
/// Bytes of a segment that are looked through with each write while its live rows are appended again, about. A write is
/// as large only with large values, so the live rows move faster than new ones come.
const MOVED_BYTES: u64 = 256 << 10;

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'o> {
    /// Writes the row.
    Put(&'o [u8], &'o [u8]),
    /// Removes the row, if it exists.
    Delete(&'o [u8]),
}

/// The place of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u64,
    offset: u64,
    bytes: u32,
}

struct Inner<F> {
    segments: Segments<F>,
    index: Index,
    /// Where the search for live rows in the first segment continues.
    moving: Option<(u64, u64)>,
    lost: Option<LostRecords>,
}

/// A journal. Clones are handles of the same one.
pub struct Journal<F> {
    files: F,
    inner: Arc<Mutex<Inner<F>>>,
}

impl<F: Clone> Clone for Journal<F> {
    fn clone(&self) -> Self {
        Self { files: self.files.clone(), inner: Arc::clone(&self.inner) }
    }
}

/// The function that a scan calls with each row; it may end the scan.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'v;

impl<F: Files + Clone> Journal<F> {
    /// Opens the journal, and reads all of it.
    pub fn open(files: F) -> Result<Self, Error> {
        let mut index = Index::default();
        let mut is_sound = true;
        let (segments, lost) = Segments::open(files.clone(), &mut |segment, offset, body| {
            is_sound &= index.record(segment, offset, body);
        })?;
        if !is_sound {
            return Err(Error::corrupt("a record of the journal does not decode"));
        }
        let inner = Inner { segments, index, moving: None, lost };
        Ok(Self { files, inner: Arc::new(Mutex::new(inner)) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<F>> {
        // A panic elsewhere leaves no partial state: rows are indexed after their record was written.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was durable and is damaged or missing, if anything: the journal has the rows as of the first damaged record.
    /// Returned until something is written and synced, and the journal is opened again.
    pub fn lost(&self) -> Option<LostRecords> {
        self.lock().lost
    }

    /// Applies all of `ops` in order and atomically. They survive a crash of the process; see [`Journal::sync`]. On an
    /// error nothing is applied.
    pub fn write(&self, ops: &[Op<'_>]) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.write(ops)?;
        // What was written is written, whatever becomes of older rows.
        if inner.move_rows().is_err() {
            inner.moving = None;
        }
        Ok(())
    }

    /// The row under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let place = self.lock().index.places.get(key).copied();
        place.map(|place| self.read(place)).transpose()
    }

    /// Visits rows in order from `from` (inclusive) up to `to` (exclusive; `None`: to the end).
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), Error> {
        let mut next = (from.to_vec(), Bound::Included(()));
        loop {
            let begin = match next.1 {
                Bound::Included(()) => Bound::Included(next.0.as_slice()),
                _ => Bound::Excluded(next.0.as_slice()),
            };
            let end = to.map_or(Bound::Unbounded, Bound::Excluded);
            if to.is_some_and(|to| to <= next.0.as_slice()) {
                return Ok(());
            }
            let found = self
                .lock()
                .index
                .places
                .range::<[u8], _>((begin, end))
                .next()
                .map(|(key, at)| (key.clone(), *at));
            let Some((key, place)) = found else { return Ok(()) };
            let row = self.read(place)?;
            if visit(&key, &row)?.is_break() {
                return Ok(());
            }
            next = (key, Bound::Excluded(()));
        }
    }

    fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        let row = self.files.read(place.segment, place.offset, place.bytes as usize)?;
        if row.len() != place.bytes as usize {
            return Err(Error::corrupt(format!("segment {} of the journal is too short", place.segment)));
        }
        Ok(row)
    }

    /// Makes everything written so far survive a crash of the machine, and gives space back. Called on a thread that
    /// may wait for the disk.
    pub fn sync(&self) -> Result<(), Error> {
        let point = self.begin_sync();
        let numbers: Vec<u64> = point.0.segments.iter().map(|(number, _)| *number).collect();
        if !numbers.is_empty() || point.0.names {
            self.files.sync(&numbers, point.0.names)?;
        }
        self.end_sync(&point)
    }

    /// What a sync that begins now covers.
    pub fn begin_sync(&self) -> Syncing {
        let inner = self.lock();
        Syncing(inner.segments.begin_sync(), inner.dead())
    }

    /// Ends a sync: notes how far the journal is durable, and releases segments.
    ///
    /// # Errors
    /// Fails if a segment could not be removed; it is removed after a later sync.
    pub fn end_sync(&self, point: &Syncing) -> Result<(), Error> {
        let Syncing(point, dead) = point;
        let synced = self.lock().segments.end_sync(point);
        if !point.segments.is_empty() {
            // Without the note, damage to what this sync covered may not be noticed; nothing else depends on it.
            let _ = self.files.note(synced.0);
        }
        for number in dead {
            let mut inner = self.lock();
            if inner.segments.first() != Some(*number) {
                break;
            }
            inner.segments.release_first();
            inner.index.live.remove(number);
            drop(inner);
            // Only then the next one: of several, the last ones may be gone after a crash and the first ones not.
            self.files.remove(*number)?;
        }
        Ok(())
    }

    /// Bytes of the live rows with their keys, and the number of segments.
    pub fn figures(&self) -> (u64, usize) {
        let inner = self.lock();
        (inner.index.bytes, inner.segments.len())
    }
}

/// A sync under way: what it makes durable, and the segments that can be released after it.
#[derive(Clone, Debug, Default)]
pub struct Syncing(SyncPoint, Vec<u64>);

/// Where the live rows are.
#[derive(Default)]
struct Index {
    places: BTreeMap<Vec<u8>, Place>,
    /// How many live rows each segment has.
    live: BTreeMap<u64, u64>,
    /// Bytes of all live rows with their keys.
    bytes: u64,
}

impl Index {
    /// Takes over the rows of a record. Returns whether it is well-formed.
    fn record(&mut self, segment: u64, offset: u64, body: &[u8]) -> bool {
        record::rows(body, &mut |key, row| {
            let offset = |row: &Range<usize>| offset + row.start as u64;
            let place = row.map(|row| Place { segment, offset: offset(&row), bytes: row.len() as u32 });
            self.set(key, place);
        })
    }

    /// Records where a row is now; `None`: it is removed.
    fn set(&mut self, key: &[u8], place: Option<Place>) {
        let bytes = |place: &Place| key.len() as u64 + u64::from(place.bytes);
        let before = match place {
            Some(place) => {
                *self.live.entry(place.segment).or_default() += 1;
                self.bytes += bytes(&place);
                match self.places.get_mut(key) {
                    Some(before) => Some(std::mem::replace(before, place)),
                    None => self.places.insert(key.to_vec(), place),
                }
            }
            None => self.places.remove(key),
        };
        let Some(before) = before else { return };
        self.bytes -= bytes(&before);
        if let Some(live) = self.live.get_mut(&before.segment) {
            *live -= 1;
        }
    }
}

impl<F: Files> Inner<F> {
    fn write(&mut self, ops: &[Op<'_>]) -> Result<(), Error> {
        let bytes = |op: &Op<'_>| match op {
            Op::Put(key, row) => 7 + key.len() + row.len(),
            Op::Delete(key) => 3 + key.len(),
        };
        let mut body = Vec::with_capacity(ops.iter().map(bytes).sum());
        let mut places = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Put(key, row) => {
                    let at = record::put_row(&mut body, key, row);
                    places.push((*key, Some((at, row.len() as u32))));
                }
                Op::Delete(key)
                    if self.index.places.contains_key(*key) || places.iter().any(|(put, _)| put == key) =>
                {
                    record::put_removal(&mut body, key);
                    places.push((*key, None));
                }
                Op::Delete(_) => {}
            }
        }
        if body.is_empty() {
            return Ok(());
        }
        let (segment, offset) = self.segments.append(&body)?;
        for (key, row) in places {
            let place = row.map(|(at, bytes)| Place { segment, offset: offset + at as u64, bytes });
            self.index.set(key, place);
        }
        Ok(())
    }

    /// Segments without live rows, from the first one on.
    fn dead(&self) -> Vec<u64> {
        let is_dead = |number: &u64| self.index.live.get(number).is_none_or(|live| *live == 0);
        let last = self.segments.position().0 >> 32;
        self.segments.numbers().take_while(|number| *number != last && is_dead(number)).collect()
    }

    /// Appends live rows of the first segment again, if dead rows take too much space.
    fn move_rows(&mut self) -> Result<(), Error> {
        let dead = self.dead().len() as u64;
        let kept = (self.segments.len() as u64).saturating_sub(dead);
        if kept <= SPARE_SEGMENTS + 2 * self.index.bytes.div_ceil(SEGMENT_BYTES) {
            self.moving = None;
            return Ok(());
        }
        let Some(number) = self.segments.numbers().nth(dead as usize) else { return Ok(()) };
        let from = self.moving.filter(|(at, _)| *at == number).map_or(0, |(_, from)| from);
        let (mut moved, places) = (Vec::new(), &self.index.places);
        let next = self.segments.records(number, from, MOVED_BYTES, &mut |segment, offset, body| {
            record::rows(body, &mut |key, row| {
                let Some(row) = row else { return };
                let place = Place { segment, offset: offset + row.start as u64, bytes: row.len() as u32 };
                if places.get(key) == Some(&place) {
                    moved.push((key.to_vec(), body[row].to_vec()));
                }
            });
        })?;
        let ops: Vec<Op<'_>> = moved.iter().map(|(key, row)| Op::Put(key, row)).collect();
        self.write(&ops)?;
        self.moving = next.map(|next| (number, next));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
